"""Pictures to payloads and back with SlimCAE: the flagship's entropy coding of one intra latent, around other transforms.

Planes are brought to one resolution inside (4:2:0 by repeating chroma samples, back by their mean), so that 4:4:4 goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, Coded, FlagshipCoder, Parsed, Planes
from neuralcodec.codecs.slimcae_prior import PriorAt
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import FrameEncoder, MaskMode, unpack_mask_mode
from neuralcodec.nn.layout import ALIGN, UNIT, to_samples

BAND_POSITIONS = 1 << 13
"""Latent positions of a band, margins not counted: 1080p is one."""
MARGIN = 2
"""Latent positions that transforms read around theirs."""
MASK_MODES = (MaskMode.SENT, MaskMode.THRESHOLD)
"""Without a mode prediction network no mask is derived."""


def to_picture(y: Tensor, uv: Tensor) -> Tensor:
    """y (B, 1, H, W), uv (B, 2, H, W) or (B, 2, H/2, W/2), samples 0..255 -> (B, 3, H, W) of (sample - 127.5) / 255."""
    if uv.shape[-2:] != y.shape[-2:]:
        uv = F.interpolate(uv, scale_factor=2, mode="nearest")
    return (torch.cat([y, uv], 1) - 127.5) / UNIT


def to_planes(x: Tensor, subsampled: bool) -> tuple[Tensor, Tensor]:
    """The inverse, not rounded or clamped; with ``subsampled`` chroma (B, 2, H/2, W/2)."""
    x = x * UNIT + 127.5
    uv = x[:, 1:]
    return x[:, :1], F.avg_pool2d(uv, 2) if subsampled else uv


def in_bands(run: Callable[[Tensor, int, int], Tensor], x: Tensor, before: int, after: int) -> Tensor:
    """``run(x, 0, rows)`` for x (1, C, H, W) in bands of rows with what lies around them, so that large pictures take bounded memory; equal but for
    rounding.

    ``run`` gets the part of x that belongs to the latent's rows from the second up to but without the third argument. ``before`` and ``after``: rows of
    x and of the result for one latent position."""
    rows, width = x.shape[2] // before, x.shape[3] // before
    step = max(MARGIN, BAND_POSITIONS // width)
    parts = []
    for begin in range(0, rows, step):
        end, first = min(begin + step, rows), max(begin - MARGIN, 0)
        last = min(end + MARGIN, rows)
        part = run(x[:, :, first * before : last * before], first, last)
        parts.append(part[:, :, (begin - first) * after : (end - first) * after])
    return torch.cat(parts, 2)


class SlimCAECoder(FlagshipCoder):
    """Codes pictures with a frozen SlimCAE at the width that is applied to it. One object serves one thread at a time."""

    latents_by_kind: ClassVar = {"I": (CONTEXTUAL,)}

    @property
    def mask_modes(self) -> tuple[MaskMode, ...]:
        """What the encoder chooses a mask from, of MASK_MODES; without any mode everything is coded."""
        return self._mask_modes

    @mask_modes.setter
    def mask_modes(self, modes: tuple[MaskMode, ...]) -> None:
        self._mask_modes = tuple(m for m in modes if m in MASK_MODES)

    def _prior(self, kind: str, name: str) -> PriorAt:
        return self.model.prior.at(self.model.option)

    def parse(self, kind: str, payload: bytes, modes: tuple[int, ...], quality: int, size: tuple[int, int], previous: Parsed | None) -> Parsed:
        """See FlagshipCoder. Raises StreamError for a P frame and for a derived mask as well, which this system has not."""
        if kind != "I":
            raise StreamError("the model has no P frames")
        if any(unpack_mask_mode(m)[0] not in MASK_MODES for m in modes):
            raise StreamError("a derived mask in a stream whose model has no mode prediction")
        return super().parse(kind, payload, modes, quality, size, None)

    @torch.inference_mode()
    def reconstruct(self, kind: str, parsed: Parsed, quality: int, reference: Planes | None = None, predicted: None = None) -> Planes:
        """Latents to a picture of whole latent positions, 4:2:0 (crop it to the true size)."""
        y = parsed.latents[CONTEXTUAL].values.to(self.device)
        q = torch.tensor([quality], device=self.device)
        picture = in_bands(lambda part, *_: self.model.synthesise(part, q, self.model.option), y, 1, ALIGN)
        return Planes(*to_samples(*to_planes(picture, subsampled=True)))

    @torch.inference_mode()
    def encode_intra(self, source: Planes, quality: int, size: tuple[int, int], importance: None = None) -> Coded:
        """``source``: padded planes of the picture; ``importance``: as there are no P frames, None."""
        encoder, q = FrameEncoder(), torch.tensor([quality], device=self.device)
        latent = in_bands(lambda part, *_: self.model.analysis(part, self.model.option), to_picture(source.y, source.uv), ALIGN, 1)
        y, z = self.model.in_steps(latent, q, self.model.option)
        parsed, modes = self._write(encoder, "I", CONTEXTUAL, y, z, quality, size, {}, None)
        return self._coded("I", encoder, {CONTEXTUAL: parsed}, modes, quality, size)

    def encode_inter(self, *_: object, **__: object) -> Coded:
        """Raises UsageError: there are no P frames."""
        raise UsageError("the model has no P frames")
