"""The container: stream header, packets, index, checks. The only room that knows bytes.

``StreamWriter`` and ``StreamReader`` are its two doors; ``bitstream_spec/container.md`` describes the format.
"""

from neuralcodec.bitstream.header import Arithmetic, Chapter, StreamHeader
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import (
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    IndexEntry,
    StreamIndex,
    UnknownPacket,
)
from neuralcodec.bitstream.reader import StreamReader
from neuralcodec.bitstream.walk import Damage, Packet
from neuralcodec.bitstream.writer import StreamWriter

__all__ = [
    "Arithmetic",
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
    "UnknownPacket",
]
