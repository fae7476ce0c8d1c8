"""The stream header: what a decoder must know before the first packet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fractions import Fraction
from typing import Any

from neuralcodec.bitstream import syntax
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.layout import Layout
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.varint import Cursor
from neuralcodec.core.errors import LimitError, StreamError, VersionError
from neuralcodec.core.types import ColourTags, SideStream, VideoProperties

FIXED_SIZE = 14
"""Bytes before the body: signature (8), version (2), length of the body (4)."""


class Arithmetic(IntEnum):
    """How exactly two decoders agree: always on the latents, on the pictures only with EXACT (DESIGN D1)."""

    FLOAT_PICTURES = 0
    EXACT = 1


@dataclass(frozen=True)
class Chapter:
    """A chapter from ``start`` to ``end`` (``end`` excluded), in units of ``time_base``; its title is in ``metadata``."""

    start: int
    end: int
    time_base: Fraction
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamHeader:
    """What a stream says of itself. Ranges are those of ``syntax.HEADER``, checked when it is written and when it is read.

    ``model_id`` is 32 bytes; of a ``bare`` picture, whose file has one packet, its ``model_key``: then ``model_name`` is empty and ``width_tables`` are
    the model's own, none here. ``width_tables`` has one ``bytes`` object for each level, level 1 first, all of one length,
    each entry the width option (0..3) of one slimmable unit. ``level`` counts from 1. ``quality`` is the quality index
    (0..200). ``gop_size`` is the encoder's aim, 0 for a single intra frame. ``tile_size``: width and height of the tiles
    of a still picture in luma samples, a multiple of 64; 0 without tiles. ``hypotheses``: P frames say for each cell what it is predicted from.
    ``sparse``: nearly certain elements of latents are coded in groups.
    ``loop_filter``: frames say how they are filtered; ``directed``: their filters may have directions, clipped
    differences, and luma's in chroma. ``adaptive``: tables of P frames follow what has been coded.
    ``corrected``: frames may have corrections of their planes.
    """

    video: VideoProperties
    model_id: bytes
    model_name: str
    width_tables: tuple[bytes, ...]
    level: int = 1
    arithmetic: Arithmetic = Arithmetic.FLOAT_PICTURES
    level_locked: bool = False
    gop_size: int = 0
    quality: int = 0
    side_streams: tuple[SideStream, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    encoder: str = ""
    tile_size: int = 0
    hypotheses: bool = False
    sparse: bool = False
    loop_filter: bool = False
    directed: bool = False
    bare: bool = False
    adaptive: bool = False
    corrected: bool = False

    @property
    def levels(self) -> int:
        """The number of levels that the stream has width tables for; 0 in a bare picture."""
        return len(self.width_tables)

    def as_bare(self) -> StreamHeader:
        """The same of a bare picture: without what that leaves to its model, and without the encoder's name."""
        return replace(self, bare=True, model_id=model_key(self.model_id, self.width_tables), model_name="", width_tables=(), encoder="")


def model_key(model_id: bytes, width_tables: tuple[bytes, ...]) -> bytes:
    """By which a bare picture names a model and its width tables. Raises StreamError for tables that a header cannot hold."""
    return hashlib.sha256(model_id + syntax.WidthTables().write(width_tables)).digest()[: syntax.MODEL_KEY_SIZE]


_FULL_RANGE = (None, False, True)
_FULL_CHROMA = 2
"""Of pixel_format."""
_BARE: dict[str, Any] = {
    "time_base": Fraction(1, 25), "frame_rate": Fraction(0), "sample_aspect_ratio": Fraction(1), "still": 1, "model_name": "", "width_tables": (), "gop_size": 1,
    "side_streams": [], "metadata": {}, "chapters": [], "encoder": ""}
"""What a bare picture's header leaves out."""
_PLAIN = ("model_id", "model_name", "width_tables", "level", "gop_size", "quality", "metadata", "encoder")


def _values(header: StreamHeader) -> dict[str, Any]:
    video, colour = header.video, header.video.colour
    if video.rotation not in (0, 90, 180, 270):
        raise StreamError(f"header.rotation: {video.rotation} is not 0, 90, 180 or 270")
    if not header.bare and not 1 <= header.level <= header.levels:
        raise StreamError(f"header.level: {header.level} is outside 1..{header.levels}")
    if header.tile_size and (not video.still or header.tile_size % syntax.TILE_UNIT):
        raise StreamError(f"header.tile_units: tiles are for stills, and multiples of {syntax.TILE_UNIT} luma samples")
    if video.full_chroma and (video.gray or not video.still):
        raise StreamError("header.pixel_format: 4:4:4 is for stills in colour")
    if video.still and (header.hypotheses or header.sparse or header.adaptive):
        raise StreamError("header.required_features: a still picture has no predictions, no sparse latents and no tables that adapt")
    if header.tile_size and header.loop_filter:
        raise StreamError("header.required_features: a picture in tiles has no loop filters")
    if header.directed and not header.loop_filter:
        raise StreamError("header.required_features: there are no directed loop filters without loop filters")
    if header.corrected and not header.loop_filter:
        raise StreamError("header.required_features: there are no corrections without loop filters")
    features = {syntax.Feature.TILES: header.tile_size, syntax.Feature.FULL_CHROMA: video.full_chroma, syntax.Feature.HYPOTHESES: header.hypotheses,
                syntax.Feature.SPARSE: header.sparse, syntax.Feature.LOOP_FILTER: header.loop_filter,
                syntax.Feature.DIRECTED: header.directed, syntax.Feature.BARE: header.bare,
                syntax.Feature.ADAPTIVE: header.adaptive, syntax.Feature.CORRECTED: header.corrected}
    values = {
        "required_features": sum(feature for feature, needed in features.items() if needed),
        "width": video.width,
        "height": video.height,
        "pixel_format": _FULL_CHROMA if video.full_chroma else int(video.gray),
        "time_base": video.time_base,
        "frame_rate": video.frame_rate or Fraction(0),
        "primaries": colour.primaries,
        "transfer": colour.transfer,
        "matrix": colour.matrix,
        "full_range": _FULL_RANGE.index(colour.full_range),
        "chroma_location": colour.chroma_location,
        "sample_aspect_ratio": video.sample_aspect_ratio,
        "rotation": video.rotation // 90,
        "still": int(video.still),
        "arithmetic": header.arithmetic,
        "level_locked": int(header.level_locked),
        "side_streams": [vars(stream) for stream in header.side_streams],
        "chapters": [vars(chapter) for chapter in header.chapters],
        "tile_units": header.tile_size // syntax.TILE_UNIT,
        **{name: getattr(header, name) for name in _PLAIN},
    }
    if header.bare:
        if other := [name for name, value in _BARE.items() if values[name] != value]:
            raise StreamError(f"header.{other[0]}: a bare picture cannot have another than {_BARE[other[0]]!r}")
        if header.tile_size or video.full_chroma:
            raise StreamError("header.required_features: a bare picture has no tiles, and no 4:4:4")
        values["model_key"] = header.model_id
    return values


def _layout(features: int) -> Layout:
    return syntax.BARE_HEADER if features & syntax.Feature.BARE else syntax.HEADER


def write_header(header: StreamHeader) -> bytes:
    """The whole header, from signature to CRC. Raises StreamError, naming the field, for a value out of range."""
    values = _values(header)
    body = _layout(values["required_features"]).write(values, values["required_features"])
    if len(body) > syntax.HEADER_MAX:
        raise StreamError(f"header of {len(body)} bytes, at most {syntax.HEADER_MAX}")
    data = syntax.SIGNATURE + bytes(syntax.VERSION) + len(body).to_bytes(4, "little") + body
    return data + crc32c(data).to_bytes(4, "little")


def header_size(start: bytes, limits: Limits) -> int:
    """Bytes of the whole header, from its first ``FIXED_SIZE`` ones.

    Raises StreamError for another signature or too few bytes, LimitError for a longer header than ``limits`` allow.
    """
    if start[:8] != syntax.SIGNATURE[: len(start)] or not start:
        raise StreamError("not an .nvc stream: the signature is missing")
    if len(start) < FIXED_SIZE:
        raise StreamError("the stream ends within its header")
    body = int.from_bytes(start[10:14], "little")
    if body > min(limits.max_header, syntax.HEADER_MAX):
        raise LimitError(f"a header of {body} bytes is above the reader's limit max_header = {limits.max_header}")
    return FIXED_SIZE + body + 4


def read_header(data: bytes, limits: Limits) -> StreamHeader:
    """Parses a whole header, from signature to CRC.

    Raises StreamError for damage or a value out of range, VersionError for a version, feature or pixel format that this
    reader does not know, LimitError for one that asks for more than ``limits``.
    """
    if header_size(data[:FIXED_SIZE], limits) != len(data):
        raise StreamError("the stream ends within its header")
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise StreamError("the stream header is damaged: its CRC is wrong")
    if data[8] != syntax.VERSION[0]:
        raise VersionError(
            f"stream of format version {data[8]}.{data[9]}; this reader knows version {syntax.VERSION[0]}"
        )
    cursor = Cursor(data[:-4], FIXED_SIZE, limits)
    # Looked at first: a feature may change what follows.
    features = syntax.HEADER.fields[0].type.read(cursor)
    if unknown := features & ~syntax.KNOWN_FEATURES:
        raise VersionError(f"the stream needs features that this reader does not know (bits {unknown:#x})")
    cursor.position = FIXED_SIZE
    bare = bool(features & syntax.Feature.BARE)
    values = _layout(features).read(cursor, features)
    if bare:
        values |= _BARE | {"model_id": values["model_key"], "metadata": {}}
    tile_size = values.get("tile_units", 0) * syntax.TILE_UNIT
    if tile_size and not values["still"]:
        raise StreamError("header.tile_units: tiles in a stream that is no still picture")
    full_chroma = values["pixel_format"] == _FULL_CHROMA
    if full_chroma != bool(features & syntax.Feature.FULL_CHROMA) or (full_chroma and not values["still"]):
        raise StreamError("header.pixel_format: 4:4:4 needs feature 2, and is for still pictures")
    if bare and features & syntax.Feature.TILES:
        raise StreamError("header.required_features: a bare picture in tiles")
    flags = {name: bool(features & syntax.Feature[name.upper()]) for name in ("hypotheses", "sparse", "loop_filter", "directed", "adaptive", "corrected")}
    if (flags["hypotheses"] or flags["sparse"] or flags["adaptive"]) and values["still"]:
        raise StreamError("header.required_features: predictions by cell, sparse latents or tables that adapt in a still picture")
    if flags["loop_filter"] and tile_size:
        raise StreamError("header.required_features: loop filters in a picture in tiles")
    if flags["directed"] and not flags["loop_filter"]:
        raise StreamError("header.required_features: directed loop filters without loop filters")
    if flags["corrected"] and not flags["loop_filter"]:
        raise StreamError("header.required_features: corrections without loop filters")
    most = limits.max_tiled_pixels if tile_size else limits.max_pixels
    if values["width"] * values["height"] > most:
        raise LimitError(f"{values['width']}x{values['height']} pixels, above the reader's limit {most}")
    if not bare and values["level"] > len(values["width_tables"]):
        raise StreamError(f"header.level: {values['level']} is outside 1..{len(values['width_tables'])}")
    return StreamHeader(
        video=VideoProperties(
            width=values["width"],
            height=values["height"],
            time_base=values["time_base"],
            frame_rate=values["frame_rate"] or None,
            sample_aspect_ratio=values["sample_aspect_ratio"],
            rotation=90 * values["rotation"],
            colour=ColourTags(
                values["primaries"],
                values["transfer"],
                values["matrix"],
                _FULL_RANGE[values["full_range"]],
                values["chroma_location"],
            ),
            still=bool(values["still"]),
            gray=values["pixel_format"] == 1,
            full_chroma=full_chroma,
        ),
        tile_size=tile_size,
        bare=bare,
        **flags,
        arithmetic=Arithmetic(values["arithmetic"]),
        level_locked=bool(values["level_locked"]),
        side_streams=tuple(SideStream(**stream) for stream in values["side_streams"]),
        chapters=tuple(Chapter(**chapter) for chapter in values["chapters"]),
        **{name: values[name] for name in _PLAIN},
    )
