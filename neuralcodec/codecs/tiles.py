"""Still pictures in tiles: each is entropy-coded by itself, and transformed together with what lies around it, so that there are no seams.

::

    source with margin --analysis--> latent --crop--> tile --hyper analysis, entropy coder--> payload
    payloads --parse--> latents of the tiles, side by side --window with margin--> synthesis --crop--> samples

What depthwise convolutions read ends a known number of positions away. A window that reaches so far over what is wanted of it gives what the whole
picture would give: to the bit, where pictures are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, FlagshipCoder, Parsed, Planes
from neuralcodec.codecs.intra import in_steps
from neuralcodec.codecs.prior import LATENT_LIMIT, MEAN_FRAC
from neuralcodec.entropy import FrameEncoder
from neuralcodec.entropy.corrections import CorrectionState, CorrectionStatistics
from neuralcodec.entropy.filters import FilterState
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import ALIGN, UNIT


@dataclass(frozen=True)
class Span:
    """Rows or columns of a picture: ``begin`` and ``end``, and those of the window that networks must see, in luma samples."""

    begin: int
    end: int
    outer_begin: int
    outer_end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


def spans(size: int, tile: int, margin: int) -> list[Span]:
    """The rows or columns of tiles of ``tile`` luma samples (a multiple of 64; 0: one tile) in ``size`` of them, with ``margin`` latent positions around."""
    step = tile or size
    return [Span(a, min(a + step, size), max(a - margin * ALIGN, 0), min(a + step + margin * ALIGN, size)) for a in range(0, size, step)]


class TileCoder(FlagshipCoder):
    """Codes tiles of intra pictures, or whole ones. ``encoder_margin`` and ``decoder_margin``: latent positions around a tile that its transforms read."""

    @property
    def encoder_margin(self) -> int:
        return -(-self.model.config.intra.encoder_blocks // 2)

    @property
    def decoder_margin(self) -> int:
        return -(-self.model.config.intra.decoder_blocks // 2)

    @torch.inference_mode()
    def encode_tile(self, window: Planes, rows: Span, columns: Span, quality: int) -> tuple[tuple[int, ...], bytes, Parsed]:
        """``window``: padded planes of the outer spans, which are the inner ones where loop filters are on. Returns mask modes, payload and what a decoder
        reads in it."""
        q = torch.tensor([quality], device=self.device)
        intra = self.model.intra
        with self._precision():
            around = intra.gain.scale(intra.analysis(self.model.layers.pack(window.y, window.uv), q), q)
            y = _inner(around, rows, columns, ALIGN).contiguous(memory_format=torch.channels_last)
            z = intra.hyper_analysis(y, q)
        if self.effort.shares:
            surround = _surround(torch.round(around), rows, columns)
            # Without loop filters: pictures' searches that saw them gained nothing in the mean (models/flagship.md).
            y, z = self.searcher.intra(window.y, window.uv, y, z, q, self.effort, self.lambdas[CONTEXTUAL], None, surround)
        encoder = FrameEncoder()
        worth = self._worth(None, y, bool(self.effort.shares))
        (latent, mask, _), modes = self._write(encoder, "I", CONTEXTUAL, y, z, quality, (rows.size, columns.size), {}, None, worth)
        parsed = Parsed({CONTEXTUAL: latent}, {CONTEXTUAL: mask})
        if self.loop_filter:
            real, _ = self._picture("I", parsed, quality, None, None)
            parsed.filters = self._write_filters(encoder, real, window, quality, None, True)
            parsed.corrections = self._write_corrections(encoder, real, window, quality, (rows.size, columns.size), parsed.filters, CorrectionStatistics())
        payload = encoder.finish()
        parsed.bits = dict(encoder.bits)
        return modes, payload, parsed

    def parse_tile(self, payload: bytes, modes: tuple[int, ...], quality: int, size: tuple[int, int]) -> Parsed:
        """Latents of a tile of ``size`` (height, width). Raises StreamError."""
        return self.parse("I", payload, modes, quality, size, None)

    @torch.inference_mode()
    def synthesise_tile(self, latent: np.ndarray, rows: Span, columns: Span, quality: int, filters: FilterState | None = None,
                        corrections: CorrectionState | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``latent`` (C, h, w) int16 of the outer spans -> uint8 planes of the inner ones. ``filters``, ``corrections``: those of a picture in one tile."""
        picture = self.reconstruct("I", Parsed({CONTEXTUAL: as_fixed(latent)}, {}, filters=filters, corrections=corrections), quality, None)
        y = _inner(picture.y[0, 0], rows, columns, 1).to(torch.uint8).cpu().numpy()
        u, v = _inner(picture.uv[0], rows, columns, 2).to(torch.uint8).cpu().numpy()
        return y, u, v

    @torch.inference_mode()
    def thumbnail_tile(self, latent: np.ndarray, rows: Span, columns: Span, quality: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As ``synthesise_tile``, at an eighth of the size and Y, U, V all of it: means of 8x8 luma and 4x4 chroma samples, by a head that gives
        only these. Not rounded as the picture's samples are, so not exact."""
        q = torch.tensor([quality], device=self.device)
        intra = self.model.intra
        synthesis = intra.synthesis
        with self._precision():
            y = intra.gain.unscale(as_fixed(latent).values.to(self.device), q).contiguous(memory_format=torch.channels_last)
            x = self.model.layers.real(in_steps(synthesis.units, synthesis.trunk, synthesis.up(y), q)).float()
        groups = [64, 16, 16]
        weight, bias = (torch.stack([part.float().mean(0) for part in p.split(groups)]) for p in (synthesis.head.weight, synthesis.head.bias))
        means = F.conv2d(x, weight, bias)[0]
        if synthesis.chroma is not None:
            means[1:] += self.model.layers.unit / UNIT * synthesis.chroma(y)[0].unflatten(0, (2, -1)).mean(1)
        samples = (means * UNIT + 127.5 + 0.5).clamp_(0, 255)
        y, u, v = _inner(samples, rows, columns, 8).to(torch.uint8).cpu().numpy()
        return y, u, v


def as_fixed(latent: np.ndarray) -> Fixed:
    """int16 (C, h, w) in sixteenths -> a latent of one picture."""
    return Fixed(torch.from_numpy(latent[None]).float() * 2.0**-MEAN_FRAC, MEAN_FRAC, LATENT_LIMIT)


def as_int16(parsed: Parsed) -> np.ndarray:
    """The latent (C, h, w) in sixteenths."""
    return parsed.latents[CONTEXTUAL].integers[0].numpy().astype(np.int16)


def _surround(around: Tensor, rows: Span, columns: Span) -> Callable[[Tensor], Tensor]:
    """Puts the latents of a tile into those of its window, ``around``, which stand for what is decoded of its neighbours."""
    around = around.detach()
    edges = [((s.begin - s.outer_begin) // ALIGN, -(-(s.outer_end - s.end) // ALIGN)) for s in (rows, columns)]
    if not any(map(any, edges)):
        return lambda y: y
    (top, bottom), (left, right) = edges
    inside = F.pad(torch.ones_like(_inner(around, rows, columns, ALIGN)[:, :1]), (left, right, top, bottom))
    outside = around * (1 - inside)
    return lambda y: outside + F.pad(y, (left, right, top, bottom))


def _inner(x: Tensor, rows: Span, columns: Span, step: int) -> Tensor:
    """The inner spans of x (.., H, W) on the outer ones, with one position for ``step`` luma samples."""
    (top, bottom), (left, right) = (((s.begin - s.outer_begin) // step, -(-(s.end - s.outer_begin) // step)) for s in (rows, columns))
    return x[..., top:bottom, left:right]
