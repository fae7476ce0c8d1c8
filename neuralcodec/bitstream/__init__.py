"""The container: stream header, packets, index, checks. The only room that knows bytes.

``StreamWriter`` and ``StreamReader`` are its two doors; ``bitstream_spec/container.md`` describes the format.
"""

from neuralcodec.bitstream.header import Arithmetic, Chapter, StreamHeader, model_key
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import (
    AlphaPacket,
    Attachment,
    ChromaPacket,
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    IndexEntry,
    StreamIndex,
    TilePacket,
    TilePart,
    UnknownPacket,
)
from neuralcodec.bitstream.reader import StreamReader
from neuralcodec.bitstream.syntax import AttachmentKind
from neuralcodec.bitstream.walk import Damage, Packet
from neuralcodec.bitstream.writer import BUNDLE, StreamWriter

__all__ = [
    "BUNDLE",
    "AlphaPacket",
    "Arithmetic",
    "Attachment",
    "AttachmentKind",
    "ChromaPacket",
    "Chapter",
    "Damage",
    "EndOfStream",
    "FramePacket",
    "GopStart",
    "HeaderCopy",
    "IndexEntry",
    "Limits",
    "Packet",
    "StreamHeader",
    "StreamIndex",
    "StreamReader",
    "StreamWriter",
    "TilePacket",
    "TilePart",
    "UnknownPacket",
    "model_key",
]
