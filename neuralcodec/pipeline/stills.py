"""A still picture to a stream: whole, or in tiles that are coded beside each other; alpha, and chroma in 4:4:4, as gray pictures of their own.

::

    source rows --feeder--> tile with margin --workers--> payload --consumer--> packets of a row of tiles, then of its chroma and alpha
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from neuralcodec.bitstream import (
    AlphaPacket,
    Arithmetic,
    Attachment,
    ChromaPacket,
    FramePacket,
    Limits,
    Packet,
    StreamHeader,
    StreamReader,
    StreamWriter,
    TilePacket,
    TilePart,
)
from neuralcodec.codecs.coders import check_route, coder_for, place
from neuralcodec.codecs.coding import Parsed, Planes
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.latent_search import EFFORTS
from neuralcodec.codecs.tiles import Span, TileCoder, spans
from neuralcodec.core.errors import UsageError, VerifyError
from neuralcodec.core.types import QUALITY_STEPS, VideoProperties
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.device import core_count, prepare_exact
from neuralcodec.pipeline.encoder import WHOLE_PIXELS, EncodeOptions
from neuralcodec.pipeline.jobs import Job, JobRunner

TILE_SIZE = 1024
ALPHA_BOOST = 48
"""Quality indexes by which alpha is better than the picture: its edges show."""
ALPHA_LOW, ALPHA_HIGH = 24, 232
"""Samples that stand for fully transparent and fully opaque; the range in between begins and ends 4 further in (bitstream_spec/container.md)."""
_OPACITY = np.arange(256)
ALPHA_TO_SAMPLE = np.where(_OPACITY == 0, ALPHA_LOW, np.where(_OPACITY == 255, ALPHA_HIGH, 28 + (400 * _OPACITY + 255) // 510)).astype(np.uint8)
SAMPLE_TO_ALPHA = np.clip((51 * (_OPACITY - 28) + 20) // 40, 0, 255).astype(np.uint8)

PICTURE, ALPHA = "picture", "alpha"
CHROMA = {"U": 1, "V": 2}
"""Kinds of parts; those of chroma with their numbers in packets."""
YuvPlanes = tuple[np.ndarray, np.ndarray, np.ndarray]


class StillSource(Protocol):
    """A picture that can be read row by row. ``attachments``: pairs of an AttachmentKind's number and bytes."""

    name: str
    properties: VideoProperties
    has_alpha: bool
    attachments: list[tuple[int, bytes]]

    def planes(self, top: int, bottom: int) -> YuvPlanes:
        """8-bit 4:2:0 planes of the rows from ``top``, an even number, up to but without ``bottom``."""
        ...

    def chroma(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """U and V of these rows at the size of Y; only asked for where ``properties.full_chroma`` is true."""
        ...

    def alpha(self, top: int, bottom: int) -> np.ndarray:
        """Opacity 0..255 of these rows."""
        ...


@dataclass
class StillStream:
    """An encoded picture. ``verified``: its latents were read again and compared."""

    data: bytes
    picture_bytes: int
    tiles: int
    verified: bool


@dataclass(frozen=True)
class _Tile:
    number: int
    rows: Span
    columns: Span
    planes: YuvPlanes
    kind: str
    """PICTURE, or what is coded as a gray picture: ALPHA, or a chroma plane."""


class StillEncoder:
    """Encodes pictures one after another with one model, at one level and quality. Raises UsageError for options that cannot be honoured."""

    def __init__(self, loaded: LoadedModel, options: EncodeOptions, device: torch.device, program: str = "", *, tile_size: int = TILE_SIZE,
                 whole_pixels: int = WHOLE_PIXELS) -> None:
        if not 1 <= options.level <= loaded.levels:
            raise UsageError(f"level {options.level}: model {loaded.name!r} has levels {', '.join(map(str, range(1, loaded.levels + 1)))}")
        check_route(loaded.model, options.route, options.level)
        self.loaded, self.options, self.device, self.program = loaded, options, device, program
        self.tile_size, self.whole_pixels = tile_size, whole_pixels
        self.quality = options.quality_index()
        self.tiles = isinstance(loaded.model, Flagship)
        self.effort = EFFORTS[options.search_effort(loaded, still=True)]
        apply_widths(loaded.model, loaded.widths[options.level - 1])
        place(loaded.model, device)
        prepare_exact(device)

    def encode(self, source: StillSource, verify: bool = True, on_tile: Callable[[int, int], None] = lambda done, count: None) -> StillStream:
        """A whole stream. ``on_tile(done, count)`` is called after each tile. Raises UsageError for a picture that is too large, VerifyError where other
        latents are read than were written."""
        video = replace(source.properties, still=True)
        tiled = self.tiles and video.width * video.height > self.whole_pixels
        limits = Limits()
        if video.width * video.height > (limits.max_tiled_pixels if tiled else limits.max_pixels):
            raise UsageError(f"{source.name}: {video.width}x{video.height} samples are more than a decoder takes")
        size = self.tile_size if tiled else 0
        file = io.BytesIO()
        bare = not (tiled or source.attachments or source.has_alpha or video.full_chroma or video.sample_aspect_ratio != 1)
        writer = StreamWriter(file, self._header(video, size, bare))
        for kind, data in source.attachments:
            writer.write_attachment(Attachment(kind, data))
        writer.start_gop(0)
        if tiled:
            writer.write_frame(FramePacket(True, 0, b""))
        workers = self.options.workers or (core_count() if self.device.type == "cpu" else 2)
        runner: JobRunner = JobRunner(self._worker(verify, self._loop_filter(size)), workers=workers if tiled else 1, budget=2 * workers, cost=lambda item: 1)
        count = len(spans(video.height, size, 0)) * len(spans(video.width, size, 0)) * (1 + source.has_alpha + len(CHROMA) * video.full_chroma)
        digest, picture_bytes = hashlib.md5(usedforsecurity=False), 0
        for done, (tile, modes, payload) in enumerate(runner.run(self._feed(source, size)), 1):
            part = self._packet(tile, modes, payload, tiled)
            picture_bytes += writer.write_frame(part) if isinstance(part, FramePacket) else writer.write_tile(part)
            digest.update(bytes(modes) + payload)
            on_tile(done, count)
        writer.finish()
        if verify:
            _check_packets(file, digest.digest())
        return StillStream(file.getvalue(), picture_bytes, count if tiled else 0, verify)

    def _packet(self, tile: _Tile, modes: tuple[int, ...], payload: bytes, tiled: bool) -> FramePacket | TilePart:
        if tile.kind in CHROMA:
            return ChromaPacket(tile.number, CHROMA[tile.kind], payload, modes)
        if tile.kind == ALPHA:
            return AlphaPacket(tile.number, payload, modes, self._alpha_quality)
        return TilePacket(tile.number, payload, modes) if tiled else FramePacket(True, 0, payload, modes)

    @property
    def _alpha_quality(self) -> int:
        return min(QUALITY_STEPS, self.quality + ALPHA_BOOST)

    def _header(self, video: VideoProperties, tile_size: int, bare: bool) -> StreamHeader:
        loaded = self.loaded
        header = StreamHeader(
            video=video, model_id=loaded.identity, model_name=loaded.name, width_tables=loaded.widths, level=self.options.level,
            arithmetic=Arithmetic.EXACT if loaded.exact else Arithmetic.FLOAT_PICTURES, level_locked=loaded.level_locked, gop_size=1,
            quality=self.quality, encoder=self.program, tile_size=tile_size, loop_filter=self._loop_filter(tile_size),
            directed=self._loop_filter(tile_size), corrected=self._loop_filter(tile_size) and self.options.corrections)
        return header.as_bare() if bare else header

    def _loop_filter(self, tile_size: int) -> bool:
        # Tiles have no filters: each would have to be filtered by those of its neighbours too, in part.
        return self.options.loop_filter and self.tiles and not tile_size

    def _feed(self, source: StillSource, size: int) -> Callable:
        video = source.properties
        margin = TileCoder(self.loaded.model, self.device).encoder_margin if self.tiles else 0
        columns = spans(video.width, size, margin)

        def feed(start: Callable[[], None], add: Callable[[_Tile], None]) -> None:
            for row, rows in enumerate(spans(video.height, size, margin)):
                for kind, planes in _rows(source, rows):
                    for column, span in enumerate(columns):
                        start()
                        add(_Tile(row * len(columns) + column, rows, span, _cut(planes, span), kind))

        return feed

    def _worker(self, verify: bool, loop_filter: bool) -> Callable[[Job], None]:
        def work(job: Job[_Tile, tuple[_Tile, tuple[int, ...], bytes]]) -> None:
            torch.set_num_threads(self.options.threads)
            coder = TileCoder(self.loaded.model, self.device) if self.tiles else coder_for(self.loaded.model, self.device, self.options.route)
            coder.follow(False, False, loop_filter, loop_filter, corrected=loop_filter and self.options.corrections)
            coder.effort, coder.searcher.on_step = self.effort, job.go_on
            for tile in job:
                window = Planes(*planes_to_tensors(tile.planes, self.device))
                quality, shape = self._alpha_quality if tile.kind == ALPHA else self.quality, (tile.rows.size, tile.columns.size)
                if self.tiles:
                    modes, payload, parsed = coder.encode_tile(window, tile.rows, tile.columns, quality)
                else:
                    coded = coder.encode_intra(window, quality, shape)
                    modes, payload, parsed = coded.modes, coded.payload, coded.parsed
                if verify and not _same(parsed, coder.parse("I", payload, modes, quality, shape, None)):
                    raise VerifyError("verification failed: the picture decodes to other latents than the encoder's")
                job.put((replace(tile, planes=()), modes, payload))

        return work


def _rows(source: StillSource, rows: Span) -> Iterator[tuple[str, YuvPlanes]]:
    top, bottom = rows.outer_begin, rows.outer_end
    planes = source.planes(top, bottom)
    if source.properties.full_chroma:
        yield PICTURE, _gray(planes[0])
        for kind, plane in zip(CHROMA, source.chroma(top, bottom), strict=True):
            yield kind, _gray(plane)
    else:
        yield PICTURE, planes
    if source.has_alpha:
        yield ALPHA, _gray(ALPHA_TO_SAMPLE[source.alpha(top, bottom)])


def _gray(luma: np.ndarray) -> YuvPlanes:
    neutral = np.full((-(-luma.shape[0] // 2), -(-luma.shape[1] // 2)), 128, np.uint8)
    return luma, neutral, neutral


def _cut(planes: YuvPlanes, columns: Span) -> YuvPlanes:
    # Copies: what waits for a worker must not hold the whole row.
    y, u, v = planes
    left, right = columns.outer_begin // 2, -(-columns.outer_end // 2)
    return y[:, columns.outer_begin : columns.outer_end].copy(), u[:, left:right].copy(), v[:, left:right].copy()


def _same(a: Parsed, b: Parsed) -> bool:
    return a.digest_parts() == b.digest_parts()


def _check_packets(file: io.BytesIO, digest: bytes) -> None:
    file.seek(0)
    found = hashlib.md5(usedforsecurity=False)
    for item in StreamReader(file, strict=True):
        content = item.content if isinstance(item, Packet) else None
        if isinstance(content, FramePacket | TilePart):
            found.update(bytes(content.modes) + content.payload)
    if found.digest() != digest:
        raise VerifyError("verification failed: the stream holds other packets than were written")
