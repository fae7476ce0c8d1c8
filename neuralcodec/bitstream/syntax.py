"""The whole syntax of an .nvc file: every field with its type, range and meaning, in the order of its bytes.

The tables of ``bitstream_spec/container.md`` are these declarations; a test compares them. What the fields mean together
(prediction of time stamps, order of packets, what a reader does after damage) is in that document.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

from neuralcodec.bitstream.fields import (
    Blob,
    Const,
    FieldType,
    Pairs,
    Ratio,
    Raw,
    Rest,
    Sequence,
    Svar,
    Text,
    Uint,
    Uvar,
)
from neuralcodec.bitstream.layout import Field, Layout
from neuralcodec.bitstream.varint import Cursor, read_uvar, write_uvar
from neuralcodec.core.errors import LimitError, StreamError
from neuralcodec.core.types import QUALITY_STEPS

SIGNATURE = b"\x89NVC\r\n\x1a\n"
VERSION = (1, 0)

class Feature(IntFlag):
    """Bits of the header's ``required_features``."""

    TILES = 1
    FULL_CHROMA = 2
    HYPOTHESES = 4
    SPARSE = 8
    LOOP_FILTER = 16
    DIRECTED = 32
    BARE = 64
    ADAPTIVE = 128
    CORRECTED = 256


KNOWN_FEATURES = sum(Feature)
GOP_MARKER = bytes.fromhex("D3A1F58B0CE692B7")
"""Eight bytes that open the body of each GOP start packet, none in 0x40..0x4F (first bytes of side packets)."""
END_MARKER = bytes.fromhex("9C17E6DA835FB22E")
END_SIZE = 22
"""Bytes of the whole end packet, which is the last of a finished file."""

PACKET_LENGTH_MAX = (1 << 31) - 1
HEADER_MAX = 1 << 26
TIME_MIN, TIME_MAX = -(1 << 60), (1 << 60) - 1
"""Range of every time, so that the difference of two fits an svar."""
MAX_LEVELS = 16
MAX_MODES = 3
MAX_REFERENCES = 16
TILE_UNIT = 64
"""Luma samples; a hyper latent covers so many, so that the grids of tiles and picture agree."""
TILES_MAX = 1 << 20
MODEL_KEY_SIZE = 8
"""Bytes by which a bare picture names its model and that one's width tables."""
ATTACHMENT_MAX = 1 << 24


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte. 0 is never used; 8 to 11 are skipped, 12 to 15 refused by readers
    that do not know them. FRAMES are P frames that share a packet. TILE, ALPHA and ATTACHMENT are known in streams of a still picture only,
    CHROMA in those with feature 2."""

    GOP = 1
    FRAME_I = 2
    FRAME_P = 3
    SIDE = 4
    INDEX = 5
    END = 6
    HEADER_COPY = 7
    TILE = 8
    ALPHA = 9
    ATTACHMENT = 10
    CHROMA = 11
    FRAMES = 12


STILL_TYPES = (PacketType.TILE, PacketType.ALPHA, PacketType.ATTACHMENT, PacketType.CHROMA)
FIRST_CRITICAL_TYPE = 12


class AttachmentKind(IntEnum):
    """What an attachment is; readers pass over kinds that they do not know."""

    ICC = 1
    EXIF = 2
    XMP = 3


class FrameFlag(IntFlag):
    """Lower four bits of a frame packet's first byte: which optional fields are there."""

    TIMING = 1
    STRUCTURE = 2
    QUALITY = 4
    EXTENSION = 8


class SideFlag(IntFlag):
    """Lower four bits of a side packet's first byte. With both times, DTS is sent as its difference from PTS."""

    KEYFRAME = 1
    PTS = 2
    DTS = 4


KNOWN_FLAGS = {
    PacketType.GOP: 0,
    PacketType.FRAME_I: 15,
    PacketType.FRAME_P: 15,
    PacketType.SIDE: 7,
    PacketType.INDEX: 0,
    PacketType.END: 0,
    PacketType.HEADER_COPY: 0,
    PacketType.TILE: 0,
    PacketType.ALPHA: 0,
    PacketType.ATTACHMENT: 0,
    PacketType.CHROMA: 0,
    PacketType.FRAMES: 0,
}


class WidthTables:
    """u8, the number of levels (1..16); uvar, the entries of each table; then for each level, from level 1, its entries
    packed two bits each, the first in the lowest bits of the first byte, unused bits of the last byte zero."""

    text = "tables of 1..16 levels, 0..4096 entries of 2 bits each"
    high = 4096

    def write(self, value: Any) -> bytes:
        if not 1 <= len(value) <= MAX_LEVELS:
            raise StreamError(f"{len(value)} levels, not 1..{MAX_LEVELS}")
        count = len(value[0])
        if count > self.high or any(len(table) != count for table in value):
            raise StreamError(f"tables must have one length, at most {self.high}")
        out = bytearray([len(value)]) + write_uvar(count)
        for table in value:
            if any(entry > 3 for entry in table):
                raise StreamError("an entry is outside 0..3")
            packed = bytearray(-(-count // 4))
            for i, entry in enumerate(table):
                packed[i // 4] |= entry << 2 * (i % 4)
            out += packed
        return bytes(out)

    def read(self, cursor: Cursor) -> tuple[bytes, ...]:
        levels, count = cursor.byte(), read_uvar(cursor)
        if not 1 <= levels <= MAX_LEVELS or count > self.high:
            raise StreamError(f"{levels} levels of {count} entries, at most {MAX_LEVELS} of {self.high}")
        if count > cursor.limits.max_width_table:
            raise LimitError(f"{count} entries, above the reader's limit {cursor.limits.max_width_table}")
        tables = []
        for _ in range(levels):
            packed = cursor.take(-(-count // 4))
            if count % 4 and packed[-1] >> 2 * (count % 4):
                raise StreamError("unused bits are not zero")
            tables.append(bytes(packed[i // 4] >> 2 * (i % 4) & 3 for i in range(count)))
        return tuple(tables)


class Modes:
    """u8: the count (0..3) in bits 0-1, then two bits for the mode of each entry from bit 2, unused bits zero; then for
    each entry of a mode other than 0, in order, its parameter (u8, 0..63). A value is 64 * mode + parameter."""

    text = "count and modes of 2 bits each, 0..3 entries; u8, 0..63 for each mode but 0"

    def write(self, value: Any) -> bytes:
        if len(value) > MAX_MODES:
            raise StreamError(f"{len(value)} modes, at most {MAX_MODES}")
        head, parameters = len(value), bytearray()
        for i, entry in enumerate(value):
            if not 64 <= entry <= 255 and entry != 0:
                raise StreamError(f"{entry} is not a mask byte (64 * mode + parameter; mode 0 has no parameter)")
            head |= (entry >> 6) << 2 + 2 * i
            if entry:
                parameters.append(entry & 63)
        return bytes([head]) + parameters

    def read(self, cursor: Cursor) -> tuple[int, ...]:
        head = cursor.byte()
        count = head & 3
        if head >> 2 + 2 * count:
            raise StreamError("unused bits are not zero")
        modes = []
        for i in range(count):
            mode = head >> 2 + 2 * i & 3
            parameter = cursor.byte() if mode else 0
            if parameter > 63:
                raise StreamError(f"parameter {parameter} is outside 0..63")
            modes.append(64 * mode + parameter)
        return tuple(modes)


SIDE_STREAM = Layout(
    "side_stream",
    Field("kind", Text(1, 32), "media type: audio, subtitle, data, attachment, video"),
    Field("codec", Text(0, 64), "FFmpeg's name of the codec"),
    Field("time_base", Ratio(), "seconds in one unit of this stream's times"),
    Field("extradata", Blob(1 << 24, "max_extradata"), "the codec's global header"),
    Field("disposition", Uvar(0, (1 << 32) - 1), "FFmpeg's disposition bits"),
    Field("parameters", Pairs(), "what a muxer needs besides (sample_rate, layout, ...)"),
    Field("metadata", Pairs(), "the stream's metadata (language, title, ...)"),
)

CHAPTER = Layout(
    "chapter",
    Field("time_base", Ratio(), "seconds in one unit of start and end"),
    Field("start", Svar(TIME_MIN, TIME_MAX), "first moment"),
    Field("end", Svar(TIME_MIN, TIME_MAX), "first moment after"),
    Field("metadata", Pairs(), "the chapter's metadata; its title under `title`"),
)

HEADER = Layout(
    "header",
    Field("required_features", Uvar(), "bit field; a reader refuses a stream with a bit that it does not know"),
    Field("width", Uvar(1, 65535, "max_width"), "of the coded picture in luma samples, before rotation"),
    Field("height", Uvar(1, 65535, "max_height"), "of the coded picture in luma samples, before rotation"),
    Field(
        "pixel_format",
        Uint(1, 0, 2),
        "0: 8-bit 4:2:0, chroma planes of ceil(width / 2) x ceil(height / 2); "
        "1: the same of a gray picture, whose decoded chroma samples are all set to 128; "
        "2: 8-bit 4:4:4 of a still picture, with feature 2, chroma planes of the size of Y in chroma packets",
    ),
    Field("time_base", Ratio(), "seconds in one unit of the video's times"),
    Field("frame_rate", Ratio(0), "nominal frames per second, a hint; 0/1 unknown"),
    Field("primaries", Uint(1, 0, 255), "ITU-T H.273 ColourPrimaries"),
    Field("transfer", Uint(1, 0, 255), "ITU-T H.273 TransferCharacteristics"),
    Field("matrix", Uint(1, 0, 255), "ITU-T H.273 MatrixCoefficients"),
    Field("full_range", Uint(1, 0, 2), "0: not said, 1: limited (16..235), 2: full (0..255)"),
    Field("chroma_location", Uint(1, 0, 15), "as FFmpeg's AVChromaLocation; 0 not said"),
    Field("sample_aspect_ratio", Ratio(0), "width of a sample over its height; 0/1 unknown"),
    Field("rotation", Uint(1, 0, 3), "quarter turns clockwise that a player applies"),
    Field("still", Uint(1, 0, 1), "1: a single picture, not a video"),
    Field("model_id", Raw(32), "SHA-256 that identifies the model (models are described elsewhere)"),
    Field("model_name", Text(1, 64), "its short name, for people"),
    Field("arithmetic", Uint(1, 0, 1), "0: exact entropy path, pictures in floating point; 1: everything exact"),
    Field(
        "level", Uint(1, 1, 16), "the level the stream was made for, at most the number of levels; 1 the most complex"
    ),
    Field("level_locked", Uint(1, 0, 1), "1: the entropy path needs that level, others cannot play it"),
    Field("width_tables", WidthTables(), "the width option of each slimmable unit, for each level"),
    Field("gop_size", Uvar(0, (1 << 31) - 1), "frames between intra frames that the encoder aimed at; 0 only one"),
    Field("quality", Uint(1, 0, QUALITY_STEPS), "quality index that was asked for (half steps)"),
    Field("side_streams", Sequence(SIDE_STREAM, 256, "max_side_streams"), "streams that travel along, numbered from 0"),
    Field("metadata", Pairs(), "the file's metadata"),
    Field("chapters", Sequence(CHAPTER, 4096, "max_chapters"), "chapters"),
    Field("encoder", Text(0, 256), "program and version that wrote the stream"),
    Field("tile_units", Uint(1, 1, 32), "width and height of a tile in units of 64 luma samples", Feature.TILES),
)

def _header_field(name: str, type_: FieldType | None = None, meaning: str = "") -> Field:
    """The field of HEADER, with another type or meaning where they are given."""
    (field,) = (f for f in HEADER.fields if f.name == name)
    return Field(name, type_ or field.type, meaning or field.meaning)


BARE_HEADER = Layout(
    "bare_header",
    _header_field("required_features"),
    _header_field("width"),
    _header_field("height"),
    _header_field("pixel_format", Uint(1, 0, 1), "as in `header`"),
    *(_header_field(name) for name in ("primaries", "transfer", "matrix", "full_range", "chroma_location", "rotation")),
    Field("model_key", Raw(MODEL_KEY_SIZE), "the first bytes of the SHA-256 of `model_id` and, in the form of `header`, `width_tables`"),
    _header_field("arithmetic"),
    _header_field("level", meaning="the level the stream was made for, at most the number of the model's levels; 1 the most complex"),
    _header_field("level_locked"),
    _header_field("quality"),
)
"""Of a still picture of one packet, whose framing would be a large part of a small file."""

GOP = Layout(
    "gop",
    Field("marker", Const(GOP_MARKER), "by which a reader finds its place"),
    Field("first_frame", Uvar(0, (1 << 48) - 1), "number of frames in the groups before this one"),
    Field("pts", Svar(TIME_MIN, TIME_MAX), "presentation time that is predicted for the group's first packet"),
    Field("frame_step", Uvar(0, (1 << 48) - 1), "predicted difference of two successive presentation times"),
    Field("frame_duration", Uvar(0, (1 << 48) - 1), "predicted duration of a frame; 0 unknown"),
    Field("quality", Uint(1, 0, QUALITY_STEPS), "predicted quality index of the group's frames"),
)

FRAME = Layout(
    "frame",
    Field("decode_order", Uint(1, 0, 255), "number of frames decoded before this one in its group, modulo 256"),
    Field("pts_difference", Svar(), "presentation time less the predicted one", FrameFlag.TIMING),
    Field("duration_difference", Svar(), "duration less the group's", FrameFlag.TIMING),
    Field("display_difference", Svar(-(1 << 31), (1 << 31) - 1), "display order less decode order", FrameFlag.STRUCTURE),
    Field("references", Sequence(Uvar(1, (1 << 31) - 1), MAX_REFERENCES), "decode order less the reference's",
          FrameFlag.STRUCTURE),
    Field("quality", Uint(1, 0, QUALITY_STEPS), "quality index", FrameFlag.QUALITY),
    Field("extension", Blob(1 << 16), "for later versions; skipped", FrameFlag.EXTENSION),
    Field("modes", Modes(), "mask mode of each latent, or part of one, that can be skipped"),
    Field("payload", Rest(), "the entropy coder's payload"),
)  # fmt: skip

FRAMES = Layout(
    "frames",
    Field("decode_order", Uint(1, 0, 255), "as in a frame packet, of the first of them"),
    Field("records", Rest(), "one for each frame: uvar, 16 times its length plus its flags; then so many bytes, which are a frame packet's body without its "
          "`decode_order`"),
)  # fmt: skip

SIDE = Layout(
    "side",
    Field("stream", Uvar(0, 255), "index into the header's side_streams"),
    Field("pts", Svar(TIME_MIN, TIME_MAX), "presentation time in that stream's units", SideFlag.PTS),
    Field("dts", Svar(), "decoding time, less the presentation time if there is one", SideFlag.DTS),
    Field("duration", Uvar(0, TIME_MAX), "in that stream's units; 0 unknown"),
    Field("data", Rest(), "the packet of the source, unchanged"),
)

INDEX_ENTRY = Layout(
    "index_entry",
    Field("offset_difference", Uvar(1), "offset of the GOP packet less that of the entry before (first entry: less 0)"),
    Field("frames_before", Uvar(0, (1 << 48) - 1), "first_frame less that of the entry before (first entry: less 0)"),
    Field("pts_difference", Svar(), "the group's pts less that of the entry before (first entry: less 0)"),
)

INDEX = Layout(
    "index",
    Field("frame_count", Uvar(0, (1 << 48) - 1), "frames of the whole stream"),
    Field("duration", Uvar(0, (1 << 62) - 1), "latest end less earliest presentation time, in the video's time base"),
    Field("header_distance", Uvar(), "offset of this packet less that of the header copy packet; 0 no copy"),
    Field(
        "entries",
        Sequence(INDEX_ENTRY, 1 << 28, "max_index_entries", lambda entry: tuple(entry.values())),
        "one for each group of pictures",
    ),
)

END = Layout(
    "end",
    Field("marker", Const(END_MARKER), "by which the end packet is known from the end of the file"),
    Field(
        "index_distance", Uint(8, 0, (1 << 63) - 1), "offset of this packet less that of the index packet; 0 no index"
    ),
)

HEADER_COPY = Layout("header_copy", Field("header", Rest(), "the stream header, signature to CRC"))

TILE = Layout(
    "tile",
    Field("number", Uvar(0, TILES_MAX - 1), "of the tile, in raster order from 0"),
    Field("modes", Modes(), "as in a frame packet"),
    Field("payload", Rest(), "the entropy coder's payload"),
)

ALPHA = Layout(
    "alpha",
    Field("number", Uvar(0, TILES_MAX - 1), "of the tile that it covers, 0 in a picture without tiles"),
    Field("quality", Uint(1, 0, QUALITY_STEPS), "quality index"),
    Field("modes", Modes(), "as in a frame packet"),
    Field("payload", Rest(), "the entropy coder's payload"),
)

ATTACHMENT = Layout(
    "attachment",
    Field("kind", Uint(1, 0, 255), "1: ICC profile, 2: EXIF from its TIFF header on, 3: XMP in UTF-8; others are passed over"),
    Field("data", Rest(), "as the source had it; at most 2^24 bytes"),
)

CHROMA = Layout(
    "chroma",
    Field("number", Uvar(0, TILES_MAX - 1), "of the tile that it belongs to, 0 in a picture without tiles"),
    Field("plane", Uint(1, 1, 2), "1: U, 2: V"),
    Field("modes", Modes(), "as in a frame packet"),
    Field("payload", Rest(), "the entropy coder's payload"),
)

LAYOUTS = (HEADER, BARE_HEADER, SIDE_STREAM, CHAPTER, GOP, FRAME, FRAMES, SIDE, INDEX, INDEX_ENTRY, END, HEADER_COPY, TILE, ALPHA, ATTACHMENT, CHROMA)
BODIES = {
    PacketType.GOP: GOP,
    PacketType.FRAME_I: FRAME,
    PacketType.FRAME_P: FRAME,
    PacketType.SIDE: SIDE,
    PacketType.INDEX: INDEX,
    PacketType.END: END,
    PacketType.HEADER_COPY: HEADER_COPY,
    PacketType.TILE: TILE,
    PacketType.ALPHA: ALPHA,
    PacketType.ATTACHMENT: ATTACHMENT,
    PacketType.CHROMA: CHROMA,
}
