"""The container of container.md, read strictly (its section 6.6): the first breach or damage raises StreamError.

Finding the place again after damage is left out; so is reading from the index, which is only checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from .rans import StreamError

SIGNATURE = bytes.fromhex("894E56430D0A1A0A")
GOP_MARKER = bytes.fromhex("D3A1F58B0CE692B7")
END_MARKER = bytes.fromhex("9C17E6DA835FB22E")
GOP, FRAME_I, FRAME_P, SIDE, INDEX, END, HEADER_COPY, TILE, ALPHA, ATTACHMENT, CHROMA, FRAMES = range(1, 13)
KNOWN_FLAGS = {GOP: 0, FRAME_I: 15, FRAME_P: 15, SIDE: 7, INDEX: 0, END: 0, HEADER_COPY: 0, TILE: 0, ALPHA: 0, ATTACHMENT: 0, CHROMA: 0, FRAMES: 0}
TILES, FULL_CHROMA, HYPOTHESES, SPARSE, LOOP_FILTER, DIRECTED, BARE, ADAPTIVE, CORRECTED = 1, 2, 4, 8, 16, 32, 64, 128, 256
"""The features of pictures in tiles and in 4:4:4, of predictions by cell, of sparse latents, of loop filters, of directed ones, of bare pictures, of
tables that adapt, and of corrections."""


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # 0x1EDC6F41 with its bits reflected
    return byte


_CRC_TABLE = [_crc_entry(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """Section 1."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


class Cursor:
    """Reads the types of section 1 from bytes, front to back."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data, self.position = data, position

    def take(self, count: int) -> bytes:
        """``count`` bytes."""
        if count > len(self.data) - self.position:
            raise StreamError(f"{count} bytes wanted at {self.position}, {len(self.data) - self.position} are there")
        self.position += count
        return self.data[self.position - count : self.position]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self.data) - self.position)

    def unsigned(self, size: int, low: int, high: int) -> int:
        """u8, u32, u64 within a range."""
        return _within(int.from_bytes(self.take(size), "little"), low, high)

    def uvar(self, low: int = 0, high: int = 2**63 - 1) -> int:
        """An unsigned integer of 1 to 9 bytes within a range."""
        value = 0
        for i in range(9):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                if i and byte == 0:
                    raise StreamError("a uvar is longer than it need be")
                return _within(value, low, high)
        raise StreamError("a uvar has more than nine bytes")

    def svar(self, low: int, high: int) -> int:
        """A signed integer within a range."""
        n = self.uvar()
        return _within(-(n + 1) // 2 if n & 1 else n // 2, low, high)

    def ratio(self, low: int = 1) -> tuple[int, int]:
        """Numerator from ``low`` on, and denominator."""
        return self.uvar(low, 2**31 - 1), self.uvar(1, 2**31 - 1)

    def blob(self, high: int) -> bytes:
        """At most ``high`` bytes."""
        return self.take(self.uvar(0, high))

    def text(self, low: int, high: int) -> str:
        """``low`` to ``high`` bytes of UTF-8."""
        try:
            return self.take(self.uvar(low, high)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise StreamError("a text is not UTF-8") from error

    def map(self) -> dict[str, str]:
        """Texts by their keys."""
        pairs = [(self.text(0, 256), self.text(0, 2**20)) for _ in range(self.uvar(0, 1024))]
        if len(dict(pairs)) != len(pairs):
            raise StreamError("a key stands twice in a map")
        return dict(pairs)


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise StreamError(f"{value} is outside {low}..{high}")
    return value


@dataclass
class Frame:
    """One coded frame. ``number`` counts from the start of the stream in decode order; ``masks`` are mask bytes."""

    number: int
    kind: str
    order: int
    pts: int
    duration: int
    display: int
    references: list[int]
    quality: int
    masks: list[int]
    payload: bytes


@dataclass
class Part:
    """A tile of a still picture, or alpha or a chroma plane (of a tile); ``quality`` is alpha's."""

    number: int
    quality: int
    masks: list[int]
    payload: bytes


@dataclass
class Stream:
    """A whole stream: header fields by name, frames in decode order, side packets by their fields; of a still picture its tiles, alpha,
    chroma in 4:4:4 by plane (1: U, 2: V) and, by kind, attachments. ``tile_size`` is 0 without tiles."""

    header: dict[str, Any]
    frames: list[Frame] = field(default_factory=list)
    sides: list[dict[str, Any]] = field(default_factory=list)
    tiles: list[Part] = field(default_factory=list)
    alpha: list[Part] = field(default_factory=list)
    chroma: dict[int, list[Part]] = field(default_factory=lambda: {1: [], 2: []})
    attachments: dict[int, bytes] = field(default_factory=dict)

    @property
    def tile_size(self) -> int:
        return 64 * self.header.get("tile_units", 0)


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Section 3: the header's fields, and how many bytes it takes."""
    if data[:8] != SIGNATURE or len(data) < 14:
        raise StreamError("not an nvc stream")
    major, _, length = struct.unpack_from("<BBI", data, 8)
    if length > 2**26 or len(data) < 18 + length or struct.unpack_from("<I", data, 14 + length)[0] != crc32c(
        data[: 14 + length]
    ):
        raise StreamError("the header is damaged")
    if major != 1:
        raise StreamError(f"version {major} of the format")
    c = Cursor(data[14 : 14 + length])
    features = c.uvar()
    if features & ~(TILES | FULL_CHROMA | HYPOTHESES | SPARSE | LOOP_FILTER | DIRECTED | BARE | ADAPTIVE | CORRECTED):
        raise StreamError(f"required features {features:#x}")
    if features & BARE:
        return _bare_header(features, c), 18 + length
    h: dict[str, Any] = {"width": c.uvar(1, 65535), "height": c.uvar(1, 65535), "pixel_format": c.unsigned(1, 0, 2)}
    h |= {"time_base": c.ratio(), "frame_rate": c.ratio(0)}
    highest = {"primaries": 255, "transfer": 255, "matrix": 255, "full_range": 2, "chroma_location": 15}
    h |= {name: c.unsigned(1, 0, high) for name, high in highest.items()}
    h |= {"sample_aspect_ratio": c.ratio(0), "rotation": c.unsigned(1, 0, 3), "still": c.unsigned(1, 0, 1)}
    h |= {"model_id": c.take(32), "model_name": c.text(1, 64), "arithmetic": c.unsigned(1, 0, 1)}
    h |= {"level": c.unsigned(1, 1, 16), "level_locked": c.unsigned(1, 0, 1), "width_tables": _width_tables(c)}
    h |= {"gop_size": c.uvar(0, 2**31 - 1), "quality": c.unsigned(1, 0, 200)}
    h |= {"side_streams": [_side_stream(c) for _ in range(c.uvar(0, 256))], "metadata": c.map()}
    h |= {"chapters": [_chapter(c) for _ in range(c.uvar(0, 4096))], "encoder": c.text(0, 256)}
    h |= _features(features)
    if features & FULL_CHROMA:
        _within(h["still"], 1, 1)
    if features & LOOP_FILTER and features & TILES:
        raise StreamError("loop filters in a picture in tiles")
    if features & DIRECTED and not features & LOOP_FILTER:
        raise StreamError("directed loop filters without loop filters")
    if features & CORRECTED and not features & LOOP_FILTER:
        raise StreamError("corrections without loop filters")
    if features & (HYPOTHESES | SPARSE | ADAPTIVE):
        _within(h["still"], 0, 0)
    if bool(features & FULL_CHROMA) != (h["pixel_format"] == 2):
        raise StreamError("4:4:4 without its feature, or the other way round")
    if features & TILES:
        h |= {"tile_units": c.unsigned(1, 1, 32)}
        _within(h["still"], 1, 1)
    _within(h["level"], 1, len(h["width_tables"]))
    return h, 18 + length


def _features(features: int) -> dict[str, bool]:
    named = {"hypotheses": HYPOTHESES, "sparse": SPARSE, "loop_filter": LOOP_FILTER, "directed": DIRECTED, "bare": BARE, "adaptive": ADAPTIVE, "corrected": CORRECTED}
    return {name: bool(features & bit) for name, bit in named.items()}


def _bare_header(features: int, c: Cursor) -> dict[str, Any]:
    """Section 3, bare_header; ``model_name`` and ``width_tables`` are empty: who has the model fills them in."""
    if features & (TILES | FULL_CHROMA | HYPOTHESES | SPARSE | ADAPTIVE) or (features & (DIRECTED | CORRECTED) and not features & LOOP_FILTER):
        raise StreamError(f"features {features:#x} in a bare picture")
    h: dict[str, Any] = {"width": c.uvar(1, 65535), "height": c.uvar(1, 65535), "pixel_format": c.unsigned(1, 0, 1)}
    highest = {"primaries": 255, "transfer": 255, "matrix": 255, "full_range": 2, "chroma_location": 15, "rotation": 3}
    h |= {name: c.unsigned(1, 0, high) for name, high in highest.items()}
    h |= {"model_key": c.take(8), "model_name": "", "width_tables": [], "arithmetic": c.unsigned(1, 0, 1)}
    h |= {"level": c.unsigned(1, 1, 16), "level_locked": c.unsigned(1, 0, 1), "quality": c.unsigned(1, 0, 200)}
    h |= {"time_base": (1, 25), "frame_rate": (0, 1), "sample_aspect_ratio": (1, 1), "still": 1, "gop_size": 1}
    return h | {"side_streams": [], "metadata": {}, "chapters": [], "encoder": ""} | _features(features)


def _width_tables(c: Cursor) -> list[list[int]]:
    levels, count = c.unsigned(1, 1, 16), c.uvar(0, 4096)
    tables = []
    for _ in range(levels):
        packed = c.take(-(-count // 4))
        entries = [packed[i // 4] >> 2 * (i % 4) & 3 for i in range(4 * len(packed))]
        if any(entries[count:]):
            raise StreamError("unused bits of a width table are not 0")
        tables.append(entries[:count])
    return tables


def _side_stream(c: Cursor) -> dict[str, Any]:
    stream = {"kind": c.text(1, 32), "codec": c.text(0, 64), "time_base": c.ratio(), "extradata": c.blob(2**24)}
    return stream | {"disposition": c.uvar(0, 2**32 - 1), "parameters": c.map(), "metadata": c.map()}


def _chapter(c: Cursor) -> dict[str, Any]:
    chapter = {"time_base": c.ratio(), "start": c.svar(-(2**60), 2**60 - 1), "end": c.svar(-(2**60), 2**60 - 1)}
    return chapter | {"metadata": c.map()}


class Group:
    """Section 4, gop: what the frames of a group are coded against."""

    def __init__(self, c: Cursor | None, quality: int = 0) -> None:
        self.frames = 0
        if c is None:  # a bare picture's, section 6.8
            self.first_frame = self.predicted = self.step = self.duration = 0
            self.quality = quality
            return
        if len(c.data) >= 128 or c.take(8) != GOP_MARKER:
            raise StreamError("a group start that is none")
        self.first_frame = c.uvar(0, 2**48 - 1)
        self.predicted = c.svar(-(2**60), 2**60 - 1)
        self.step, self.duration = c.uvar(0, 2**48 - 1), c.uvar(0, 2**48 - 1)
        self.quality = c.unsigned(1, 0, 200)

    def frame(self, kind: str, flags: int, c: Cursor) -> Frame:
        """Section 4, frame: the next one of the group."""
        order = self.frames
        if c.unsigned(1, 0, 255) != order % 256 or (kind == "I") != (order == 0):
            raise StreamError("a frame out of its place")
        pts, duration, display, references, quality = self.predicted, self.duration, order, [1][:order], self.quality
        if flags & 1:
            pts += c.svar(-(2**62), 2**62 - 1)
            duration += c.svar(-(2**62), 2**62 - 1)
        if flags & 2:
            display += c.svar(-(2**31), 2**31 - 1)
            references = [c.uvar(1, 2**31 - 1) for _ in range(c.uvar(0, 16))]
        if flags & 4:
            quality = c.unsigned(1, 0, 200)
        if flags & 8:
            c.blob(65536)
        _within(pts, -(2**60), 2**60 - 1)
        _within(duration, 0, 2**60 - 1)
        if display < 0 or any(distance > order for distance in references):
            raise StreamError("a display order or a reference before the group")
        masks = _modes(c)
        self.frames += 1
        self.predicted = pts + self.step
        return Frame(
            self.first_frame + order, kind, order, pts, duration, display, references, quality, masks, c.rest()
        )


def _modes(c: Cursor) -> list[int]:
    head = c.unsigned(1, 0, 255)
    count = head & 3
    if head >> 2 + 2 * count:
        raise StreamError("unused bits of the modes are not 0")
    modes = [head >> 2 + 2 * i & 3 for i in range(count)]
    return [64 * mode + (c.unsigned(1, 0, 63) if mode else 0) for mode in modes]


def _side(flags: int, c: Cursor, streams: int) -> dict[str, Any]:
    side: dict[str, Any] = {"stream": c.uvar(0, min(255, streams - 1)), "pts": None, "dts": None}
    if flags & 2:
        side["pts"] = c.svar(-(2**60), 2**60 - 1)
    if flags & 4:
        side["dts"] = _within(c.svar(-(2**62), 2**62 - 1) + (side["pts"] or 0), -(2**60), 2**60 - 1)
    return side | {"duration": c.uvar(0, 2**60 - 1), "data": c.rest(), "keyframe": bool(flags & 1)}


def _attachment(data: bytes) -> bytes:
    if len(data) > 2**24:
        raise StreamError("an attachment is too long")
    return data


def _check_index(c: Cursor, position: int, copy_at: int | None, groups: list[tuple[int, int, int]], due: int) -> None:
    count, _, header_distance = c.uvar(0, 2**48 - 1), c.uvar(0, 2**62 - 1), c.uvar()
    found, entry = [], (0, 0, 0)
    for _ in range(c.uvar(0, 2**28)):
        entry = (entry[0] + c.uvar(1), entry[1] + c.uvar(0, 2**48 - 1), entry[2] + c.svar(-(2**62), 2**62 - 1))
        found.append(entry)
    if count != due or found != groups or header_distance != (position - copy_at if copy_at is not None else 0):
        raise StreamError("the index does not describe the stream")


def read_stream(data: bytes) -> Stream:
    """Sections 2 to 4 and 6.2: a whole, undamaged stream."""
    header, position = read_header(data)
    stream, group, due = Stream(header), Group(None, header["quality"]) if header["bare"] else None, 0
    groups: list[tuple[int, int, int]] = []  # offset, first frame, presentation time
    copy_at = index_at = None
    while True:
        start = position
        c = Cursor(data, start)
        first = c.unsigned(1, 1, 255)
        kind, flags = first >> 4, first & 15
        body = c.take(c.uvar(0, 2**31 - 1))
        if crc32c(data[start : c.position]) != int.from_bytes(c.take(4), "little"):
            raise StreamError(f"the packet at byte {start} is damaged")
        position = c.position
        if header["bare"]:
            if kind != FRAME_I:
                raise StreamError(f"a packet of type {kind} where a bare picture is due")
            stream.frames.append(group.frame("I", flags, Cursor(body)))
            return stream
        if kind == 0 or kind > FRAMES:
            raise StreamError(f"a packet of type {kind} at byte {start}")
        if (HEADER_COPY < kind < FRAMES and not header["still"]) or (kind == CHROMA and header["pixel_format"] != 2):
            continue
        if flags & ~KNOWN_FLAGS[kind]:
            raise StreamError(f"unknown flags of a packet of type {kind}")
        c = Cursor(body)
        if kind == GOP:
            if group and not group.frames:
                raise StreamError("a group without a frame")
            group = Group(c)
            if group.first_frame != due:
                raise StreamError(f"a group that starts with frame {group.first_frame} where frame {due} is due")
            groups.append((start, due, group.predicted))
        elif kind in (FRAME_I, FRAME_P):
            if group is None:
                raise StreamError("a frame before the first group")
            stream.frames.append(group.frame("I" if kind == FRAME_I else "P", flags, c))
            due += 1
        elif kind == FRAMES:
            if group is None or not group.frames:
                raise StreamError("frames before the first group, or before its intra frame")
            order, number = c.unsigned(1, 0, 255), 0
            while c.position < len(c.data) or not number:
                length, flags = divmod(c.uvar(), 16)
                record = Cursor(bytes([(order + number) % 256]) + c.take(length))
                stream.frames.append(group.frame("P", flags, record))
                number += 1
            due += number
        elif kind in (TILE, ALPHA):
            if group is None or not group.frames:
                raise StreamError("a part of a picture before its frame packet")
            number = c.uvar(0, 2**20 - 1)
            quality = c.unsigned(1, 0, 200) if kind == ALPHA else stream.frames[0].quality
            (stream.tiles if kind == TILE else stream.alpha).append(Part(number, quality, _modes(c), c.rest()))
        elif kind == CHROMA:
            if group is None or not group.frames:
                raise StreamError("a part of a picture before its frame packet")
            number, plane = c.uvar(0, 2**20 - 1), c.unsigned(1, 1, 2)
            stream.chroma[plane].append(Part(number, stream.frames[0].quality, _modes(c), c.rest()))
        elif kind == ATTACHMENT:
            stream.attachments.setdefault(c.unsigned(1, 0, 255), _attachment(c.rest()))
        elif kind == SIDE:
            stream.sides.append(_side(flags, c, len(header["side_streams"])))
        elif kind == HEADER_COPY:
            copy_at = start
            if body != data[: len(body)]:
                raise StreamError("the copy of the header is another one")
        elif kind == INDEX:
            index_at = start
            _check_index(c, start, copy_at, groups, due)
        else:
            distance = c.unsigned(8, 0, 2**63 - 1) if c.take(8) == END_MARKER else -1
            if distance not in (0, start - index_at if index_at is not None else 0) or (group and not group.frames):
                raise StreamError("the end packet does not find the index, or follows a group without a frame")
            return stream
