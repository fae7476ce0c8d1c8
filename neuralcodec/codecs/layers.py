"""The two families of layers that the picture side of the flagship's decoder is built from: floating point, and exact (DESIGN D1).

Both have the same parameter names and shapes, so that a model of one family takes the weights of the other. What enters the decoder are
latents in steps and packed planes, real numbers in both families; what leaves it are packed planes and vectors, again real. In between a tensor is
what its family makes of it: real numbers, or the integer-valued carriers of nn.carriers. Encoders read such a tensor through ``real``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuralcodec.nn.carriers import WIDE_FRAC, WIDE_LIMIT, to_real, wide_from_real
from neuralcodec.nn.exact_convs import ExactHead, ExactSubpixelHead
from neuralcodec.nn.exact_gain import ExactContextUnits, ExactLatentGain, ExactUnits
from neuralcodec.nn.exact_slimmable import ExactBlock, ExactPointwise, ExactSubpixel, ExactTrunk
from neuralcodec.nn.layout import CHROMA_CHANNELS, DYADIC_UNIT, LUMA_CHANNELS, PACKED_CHANNELS, UNIT, pack, unpack
from neuralcodec.nn.quality import QualityGain
from neuralcodec.nn.slimmable import SlimmableBlock, SlimmableConv2d, SlimmableTrunk, Subpixel
from neuralcodec.nn.wide_input import WideInput

VECTOR_UNIT = 8.0
"""Networks count vectors in units of this many luma samples, so that their values are of order one."""
PICTURE_FRAC, VECTOR_FRAC = 14, 8
"""Fractional bits of samples and of vectors, in luma samples, where they leave an exact decoder."""
VECTOR_LIMIT = 512 << VECTOR_FRAC


@dataclass(frozen=True)
class Layers:
    """A family. Modules are made by the fields of their names; ``add_chroma`` adds what a chroma head gives (B, 32, h, w) to packed planes; ``picture``
    maps packed planes to what networks read, ``shared`` a latent to what several layers read, ``real`` features to real numbers; ``unit`` is that of
    packed planes (nn.layout)."""

    exact: bool
    unit: float
    block: Callable[..., nn.Module]
    trunk: Callable[..., nn.Module]
    pointwise: Callable[..., nn.Module]
    subpixel: Callable[..., nn.Module]
    units: Callable[..., QualityGain]
    context_units: Callable[..., QualityGain]
    latent_gain: Callable[..., QualityGain]
    picture_head: Callable[[int], nn.Module]
    vector_head: Callable[[int], nn.Module]
    chroma_head: Callable[[int], nn.Module]
    add_chroma: Callable[[Tensor, Tensor], Tensor]
    picture: Callable[[Tensor], Tensor]
    shared: Callable[[Tensor], Any]
    real: Callable[[Tensor], Tensor]

    def pack(self, y: Tensor, uv: Tensor) -> Tensor:
        """Planes to packed planes of this family's unit."""
        return pack(y, uv, self.unit)

    def unpack(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse, see nn.layout."""
        return unpack(x, self.unit)


def _same(x: Tensor) -> Tensor:
    return x


def _float_head(outputs: int) -> Callable[[int], nn.Module]:
    return lambda channels: nn.Conv2d(channels, outputs, 1)


def _wide_picture(packed: Tensor) -> Tensor:
    # Predicted samples are multiples of 2**-14: dyadic packed planes hold them exactly, with 22 fractional bits.
    return wide_from_real(packed, PICTURE_FRAC + 8)


_PICTURE = {"frac_out": PICTURE_FRAC, "limit_out": WIDE_LIMIT, "unit": UNIT, "divisor": DYADIC_UNIT}


def _picture_head(channels: int) -> nn.Module:
    return ExactHead(channels, PACKED_CHANNELS, **_PICTURE)


def _chroma_head(latent: int) -> nn.Module:
    return ExactSubpixelHead(latent, CHROMA_CHANNELS, **_PICTURE)


def _with_chroma(picture: Tensor, chroma: Tensor) -> Tensor:
    return torch.cat([picture[:, :LUMA_CHANNELS], picture[:, LUMA_CHANNELS:] + chroma], 1)


def _with_limited_chroma(picture: Tensor, chroma: Tensor) -> Tensor:
    # Both lie below 2**22 steps, so float32 holds their sum; within the limit it also holds that with a prediction.
    limit = WIDE_LIMIT / (DYADIC_UNIT * 2**PICTURE_FRAC)
    return torch.cat([picture[:, :LUMA_CHANNELS], (picture[:, LUMA_CHANNELS:] + chroma).clamp(-limit, limit)], 1)


def _float_chroma_head(latent: int) -> nn.Module:
    return Subpixel(latent, CHROMA_CHANNELS)


def _vector_head(channels: int) -> nn.Module:
    return ExactHead(channels, 2, frac_out=VECTOR_FRAC, limit_out=VECTOR_LIMIT, unit=VECTOR_UNIT, divisor=VECTOR_UNIT)


FLOAT = Layers(False, UNIT, SlimmableBlock, SlimmableTrunk, SlimmableConv2d, Subpixel, QualityGain, QualityGain, QualityGain,
               _float_head(PACKED_CHANNELS), _float_head(2), _float_chroma_head, _with_chroma, _same, _same, _same)
EXACT = Layers(True, DYADIC_UNIT, ExactBlock, ExactTrunk, ExactPointwise, ExactSubpixel, ExactUnits, ExactContextUnits, ExactLatentGain,
               _picture_head, _vector_head, _chroma_head, _with_limited_chroma, _wide_picture, WideInput, partial(to_real, frac=WIDE_FRAC))
