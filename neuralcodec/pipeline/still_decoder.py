"""A stream of a still picture to its samples, its opacity and what is attached to it; a row of tiles at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from neuralcodec.bitstream import (
    AlphaPacket,
    Attachment,
    ChromaPacket,
    Damage,
    FramePacket,
    Packet,
    StreamReader,
    TilePacket,
    TilePart,
)
from neuralcodec.codecs.coders import coder_for
from neuralcodec.codecs.coding import FlagshipCoder, Parsed
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.tiles import Span, TileCoder, as_int16, spans
from neuralcodec.core.errors import NcodecError, StreamError, UsageError
from neuralcodec.core.types import Frame
from neuralcodec.nn.layout import ALIGN, tensors_to_planes
from neuralcodec.pipeline.decoder import DecodeOptions, StreamDecoder, complete_header
from neuralcodec.pipeline.device import core_count
from neuralcodec.pipeline.stills import CHROMA, SAMPLE_TO_ALPHA

PARSE_AHEAD = 2
"""Packets for each worker that may be parsed before they are wanted."""
THUMBNAIL_SHRINK = 8


@dataclass(frozen=True)
class Part:
    """What a frame, tile, alpha or chroma packet says: the latents of one tile, or of the picture."""

    packet: FramePacket | TilePart
    number: int
    quality: int
    parsed: Parsed


@dataclass
class Still:
    """A decoded picture. ``frame``: its planes, not rotated; of a thumbnail, and in 4:4:4, all three have one size. ``alpha`` (H, W) uint8, None for an opaque picture.
    ``attachments`` by kind. ``damage``: what could not be used; samples there are a guess."""

    frame: Frame
    alpha: np.ndarray | None = None
    attachments: dict[int, bytes] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)


class StillDecoder:
    """Decodes the stream of a still picture; raises as StreamDecoder does, and UsageError for a stream of a video.

    With ``thumbnail`` the picture comes at an eighth of its size where the model can give that (then the object's ``thumbnail`` is true), and at the
    lowest complexity that the stream allows."""

    def __init__(self, reader: StreamReader, loaded: LoadedModel, options: DecodeOptions, device: torch.device, *, thumbnail: bool = False) -> None:
        header = reader.header
        if not header.video.still:
            raise UsageError("a video, not a still picture")
        if header.tile_size and not isinstance(loaded.model, Flagship):
            raise StreamError("a picture in tiles, which its model cannot have")
        if thumbnail and options.level is None and not header.level_locked:
            options = replace(options, level=complete_header(header, loaded).levels)
        self.level = StreamDecoder(reader, loaded, options, device).level
        self.reader, self.loaded, self.options, self.device = reader, loaded, options, device
        self.size = header.video.height, header.video.width
        self.tiles = isinstance(loaded.model, Flagship)
        self.thumbnail = thumbnail and self.tiles
        margin = self._coder().decoder_margin if self.tiles else 0
        self.rows, self.columns = (spans(n, header.tile_size, margin) for n in self.size)
        cores = core_count() if device.type == "cpu" else 2
        self.workers = max(1, min(options.workers or cores, len(self.rows) * len(self.columns)))
        self._threads = options.threads or max(1, cores // self.workers)

    def _coder(self) -> FlagshipCoder:
        coder = TileCoder(self.loaded.model, self.device) if self.tiles else coder_for(self.loaded.model, self.device)
        header = self.reader.header
        coder.follow(header.hypotheses, header.sparse, header.loop_filter, header.directed, header.adaptive, header.corrected)
        return coder

    # -- parsing ---------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[Part | Attachment | Damage]:
        """Latents, attachments and damage in the order of the stream. Little is parsed ahead of who takes it."""
        waiting: deque[Future | Attachment | Damage] = deque()
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            for item, quality in self._packets():
                content = item.content if isinstance(item, Packet) else item
                waiting.append(content if isinstance(content, Attachment | Damage) else pool.submit(self._parse, item, quality))
                if len(waiting) > PARSE_AHEAD * self.workers:
                    yield _settled(waiting.popleft())
            while waiting:
                yield _settled(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _packets(self) -> Iterator[tuple[Packet | Damage, int]]:
        """What matters, with the quality of the frame before it; without the empty frame packet of a picture in tiles."""
        quality = self.reader.header.quality
        for item in self.reader:
            content = item.content if isinstance(item, Packet) else item
            if isinstance(content, FramePacket):
                quality = content.quality
                if self.reader.header.tile_size and not content.payload:
                    continue
            if isinstance(content, FramePacket | TilePart | Attachment | Damage):
                yield item, quality

    def _parse(self, item: Packet, quality: int) -> Part | Damage:
        try:
            return self._part(self._coder(), item.content, quality, bool(self.reader.header.tile_size))
        except NcodecError as error:
            if self.reader.strict:
                raise StreamError(f"at byte {item.offset}: {error}") from error
            return Damage(item.offset, item.size, str(error), True)

    def _part(self, coder: FlagshipCoder, content: FramePacket | TilePart, quality: int, tiled: bool) -> Part:
        number = 0 if isinstance(content, FramePacket) else content.number
        if number >= len(self.rows) * len(self.columns) or isinstance(content, TilePacket) is not tiled and not isinstance(content, AlphaPacket | ChromaPacket):
            raise StreamError(f"a packet for tile {number}, which the picture does not have")
        if isinstance(content, AlphaPacket):
            quality = content.quality
        row, column = divmod(number, len(self.columns))
        size = self.rows[row].size, self.columns[column].size
        return Part(content, number, quality, coder.parse("I", content.payload, content.modes, quality, size, None))

    # -- samples ---------------------------------------------------------------------------------------------------

    def run(self, on_row: Callable[[int, int], None] = lambda done, count: None) -> Still:
        """The picture; ``on_row(done, count)`` is called after each row of tiles. Raises StreamError where no part of it can be decoded."""
        video = self.reader.header.video
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(self._threads,)) as pool, closing(self.parts()) as parts:
            colour = _Assembly(self, pool, 128, chroma=not (video.gray or video.full_chroma))
            alpha, chroma = None, {plane: _Assembly(self, pool, 128, chroma=False) for plane in CHROMA.values() if video.full_chroma}
            still = Still(Frame((), 0))
            for part in parts:
                if isinstance(part, Attachment):
                    still.attachments.setdefault(part.kind, part.data)
                elif isinstance(part, Damage):
                    still.damage.append(part)
                else:
                    if isinstance(part.packet, AlphaPacket):
                        alpha = alpha or _Assembly(self, pool, 255, chroma=False)
                    target = {AlphaPacket: alpha, ChromaPacket: chroma.get(getattr(part.packet, "plane", 0))}.get(type(part.packet), colour)
                    try:
                        target.put(part)
                    except StreamError as error:
                        if self.reader.strict:
                            raise
                        still.damage.append(Damage(0, 0, str(error), True))
                    on_row(colour.done, len(self.rows))
            if not colour.used:
                raise StreamError("the stream has no part of the picture that can be decoded")
            still.frame.planes = colour.finish()
            if chroma:
                still.frame.planes = (still.frame.planes[0], *(c.finish()[0] for c in chroma.values()))
            on_row(len(self.rows), len(self.rows))
            if alpha is not None:
                still.alpha = SAMPLE_TO_ALPHA[alpha.finish()[0]]
        return still


def _settled(item: Future | Attachment | Damage) -> Part | Attachment | Damage:
    return item.result() if isinstance(item, Future) else item


class _Assembly:
    """Latents of tiles that come in rising order become planes, each row of tiles as soon as the row below it is there. Tiles that never come are ``fill``
    in luma, and hold no latent for their neighbours."""

    def __init__(self, decoder: StillDecoder, pool: ThreadPoolExecutor, fill: int, chroma: bool) -> None:
        self._decoder, self._pool, self._fill, self._chroma = decoder, pool, fill, chroma
        self._coder = decoder._coder()
        self._latents: dict[int, dict[int, np.ndarray]] = {}
        self._last = -1
        self._parsed: Parsed | None = None
        self.done, self._quality = 0, -1
        shrink = THUMBNAIL_SHRINK
        self._steps = (shrink,) * 3 if decoder.thumbnail else (1, 2, 2)
        self._planes = tuple(np.empty([-(-n // step) for n in decoder.size], np.uint8) for step in self._steps)

    @property
    def used(self) -> bool:
        return self._quality >= 0

    def put(self, part: Part) -> None:
        """The next tile. Raises StreamError for one that is out of its place."""
        if part.number <= self._last:
            raise StreamError(f"tile {part.number} out of its place")
        if self.used and part.quality != self._quality:
            raise StreamError(f"tile {part.number} has another quality than the tiles before")
        self._last, self._quality, self._parsed = part.number, part.quality, part.parsed
        row, column = divmod(part.number, len(self._decoder.columns))
        self._latents.setdefault(row, {})[column] = as_int16(part.parsed)
        self._make(row - 1)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The planes."""
        self._make(len(self._decoder.rows))
        return self._planes

    def _make(self, end: int) -> None:
        """Rows of tiles up to, but without, ``end``."""
        while self.done < end:
            self._make_row(self.done)
            self.done += 1
            self._latents.pop(self.done - 2, None)

    def _make_row(self, row: int) -> None:
        rows, columns = self._decoder.rows, self._decoder.columns
        tiles = self._latents.get(row, {})
        for number, planes in zip(tiles, self._pool.map(lambda n: self._samples(self._window(row, columns[n]), rows[row], columns[n]), tiles), strict=True):
            self._store(rows[row], columns[number], planes)
        for number in set(range(len(columns))) - set(tiles):
            self._store(rows[row], columns[number], (np.uint8(self._fill), np.uint8(128), np.uint8(128)))

    def _window(self, row: int, columns: Span) -> np.ndarray:
        """The latent (C, h, w) of a tile with what is around it, 0 where nothing came."""
        decoder = self._decoder
        rows = decoder.rows[row]
        channels = next(iter(self._latents[row].values())).shape[0]
        top, left = rows.outer_begin // ALIGN, columns.outer_begin // ALIGN
        window = np.zeros((channels, -(-rows.outer_end // ALIGN) - top, -(-columns.outer_end // ALIGN) - left), np.int16)
        for r in (row - 1, row, row + 1):
            for c, latent in self._latents.get(r, {}).items():
                target, source = zip(*(_overlap(begin, size, low, high) for begin, size, low, high in (
                    (decoder.rows[r].begin // ALIGN, latent.shape[1], top, top + window.shape[1]),
                    (decoder.columns[c].begin // ALIGN, latent.shape[2], left, left + window.shape[2]))), strict=True)
                window[:, target[0], target[1]] = latent[:, source[0], source[1]]
        return window

    def _samples(self, window: np.ndarray, rows: Span, columns: Span) -> tuple[np.ndarray, ...]:
        decoder, coder = self._decoder, self._coder
        if not decoder.tiles:
            picture = coder.reconstruct("I", self._parsed, self._quality, None)
            return tensors_to_planes(picture.y, picture.uv, *decoder.size)
        if decoder.thumbnail:
            return coder.thumbnail_tile(window, rows, columns, self._quality)
        return coder.synthesise_tile(window, rows, columns, self._quality, self._parsed.filters, self._parsed.corrections)

    def _store(self, rows: Span, columns: Span, planes: Sequence[np.ndarray]) -> None:
        for target, samples, step in zip(self._planes, planes, self._steps, strict=True):
            where = slice(rows.begin // step, -(-rows.end // step)), slice(columns.begin // step, -(-columns.end // step))
            target[where] = samples if self._chroma or target is self._planes[0] else 128


def _overlap(begin: int, size: int, low: int, high: int) -> tuple[slice, slice]:
    """Where ``size`` positions from ``begin`` on lie in the window from ``low`` to ``high``, and which of them these are."""
    first, last = max(begin, low), max(min(begin + size, high), max(begin, low))
    return slice(first - low, last - low), slice(first - begin, last - begin)
