"""Gains of exact pictures: multiplications by powers of two with ten fractional bits, in integers (bitstream_spec/exact_pictures.md, section 3).

A gain's exponents are integers in 1024ths of log2 at the anchor qualities, interpolated as integers; 2**(i/1024) comes from a table of 16 bits.
Products stay below 2**53, so that float64 computes them exactly.
"""

from __future__ import annotations

import functools
from math import isqrt

import torch
from torch import Tensor

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.carriers import WIDE_FRAC, WIDE_LIMIT, add_wide, from_real, is_observing, quantise, replace
from neuralcodec.nn.exact_filters import rounding_shift
from neuralcodec.nn.quality import QualityGain, interpolate, interpolate_integers

STEPS = 1024
"""Exponents count 1/STEPS of log2."""
EXPONENT_LIMIT = 16 * STEPS
MANTISSA_BITS = 15
POSITIONS = 1536
"""Worked on at a time, so that temporaries stay in the cache."""
KEPT = 512
"""So many factors at most are kept by a gain: more than a stream has qualities."""


def _root(n: int) -> int:
    for _ in range(10):
        n = isqrt(n)
    return n


TABLE = torch.tensor([(_root(1 << (16 * STEPS + i)) + 1) >> 1 for i in range(STEPS)])
"""round(2**(15 + i/1024)), i = 0..1023."""


@functools.cache
def _table_on(device: torch.device) -> Tensor:
    return TABLE.to(device)


class ExactGain(QualityGain):
    """A QualityGain whose tables in ``exact`` work on carriers. The others, if any, are the encoder's and stay real."""

    exact: tuple[str, ...] = ("encode", "decode")

    def __init__(self, channels: int, low: float, high: float, offset: Tensor | None = None) -> None:
        super().__init__(channels, low, high, offset)
        self._fix({})

    def _fix(self, tables: dict[str, Tensor]) -> None:
        self._frozen, self._factors = tables, {}

    def tables(self) -> dict[str, Tensor]:
        """The exact tables by name, (9, C) int64."""
        return {name: self._integers(name) for name in self.exact}

    def freeze(self) -> None:
        """Fix the integers for deployment. Raises UsageError for an exponent out of range."""
        self._fix({})
        self.load_integers(self.tables())

    def load_integers(self, tables: dict[str, Tensor]) -> None:
        """Take the exact tables (from a model file); the real parameters follow. Raises UsageError for a wrong shape or value."""
        tables = {name: t.to(torch.int64) for name, t in tables.items()}
        for name, table in tables.items():
            parameter = getattr(self, name)
            if table.shape != parameter.shape or int(table.min()) < -EXPONENT_LIMIT or int(table.max()) > EXPONENT_LIMIT:
                raise UsageError(f"exact gain {tuple(table.shape)} has another shape than {tuple(parameter.shape)} or exponents out of range")
            with torch.no_grad():
                parameter.copy_(table.double() / STEPS)
        self._fix(tables)

    def train(self, mode: bool = True) -> ExactGain:
        if mode:
            self._fix({})
        return super().train(mode)

    def _load_from_state_dict(self, *args) -> None:
        super()._load_from_state_dict(*args)
        self._fix({})

    def _integers(self, name: str) -> Tensor:
        if name in self._frozen:
            table = self._frozen[name]
            if table.device != self.encode.device:
                table = self._frozen[name] = table.to(self.encode.device)
            return table
        return torch.round(getattr(self, name).detach().double() * STEPS).long()

    def _scale(self, name: str, n: Tensor, quality: Tensor, frac_in: int) -> Tensor:
        """Carrier (B, C, H, W) with ``frac_in`` fractional bits -> wide."""
        if not n.is_floating_point():
            mantissa, shift = self._multiplier(name, quality, frac_in)
            return rounding_shift(n * mantissa, shift).clamp(-WIDE_LIMIT, WIDE_LIMIT)
        factor, parameter = self._factor(name, quality, frac_in), getattr(self, name)
        if is_observing() or n.requires_grad or (parameter.requires_grad and torch.is_grad_enabled()):
            soft = torch.exp2(interpolate(parameter, quality).double() + (WIDE_FRAC - frac_in))[..., None, None]
            return quantise(n.double() * replace(soft, factor), -WIDE_LIMIT, WIDE_LIMIT).to(torch.float32)
        out = torch.empty_like(n)
        rows = max(1, POSITIONS // n.shape[3])
        for some, result in zip(n.split(rows, 2), out.split(rows, 2), strict=True):
            result.copy_(some.double().mul_(factor).add_(0.5).floor_())  # what float32 does not hold exactly lies beyond the limit, and stays there
        return out.clamp_(-WIDE_LIMIT, WIDE_LIMIT)

    def _multiplier(self, name: str, quality: Tensor, frac_in: int) -> tuple[Tensor, Tensor]:
        """Mantissas and shifts, (B, C, 1, 1) int64."""
        e = interpolate_integers(self._integers(name), quality)[..., None, None]
        return _table_on(e.device)[e & (STEPS - 1)], MANTISSA_BITS + frac_in - WIDE_FRAC - (e >> 10)

    def _factor(self, name: str, quality: Tensor, frac_in: int) -> Tensor:
        """What a carrier is multiplied by, (B, C, 1, 1) float64. Of fixed tables it is kept: to find it takes as long as to use it on a small picture. On a
        GPU it is not, for the CPU would have to wait for the quality."""
        keep = name in self._frozen and quality.device.type == "cpu"
        key = (name, frac_in, *quality.tolist()) if keep else None
        if key in self._factors:
            return self._factors[key]
        with torch.inference_mode(False):  # it outlives the call that needs it first
            mantissa, shift = self._multiplier(name, quality, frac_in)
            factor = mantissa.double() * torch.exp2(-shift.double())
        if keep:
            if len(self._factors) >= KEPT:
                self._factors = {}
            self._factors[key] = factor
        return factor


class ExactUnits(ExactGain):
    """Change of units inside a transform, wide to wide."""

    def scale(self, y: Tensor, quality: Tensor) -> Tensor:
        return self._scale("encode", y, quality, WIDE_FRAC)

    def unscale(self, y: Tensor, quality: Tensor) -> Tensor:
        return self._scale("decode", y, quality, WIDE_FRAC)

    def correct(self, x: Tensor, delta: Tensor, quality: Tensor) -> Tensor:
        return add_wide(x, self.unscale(delta, quality))


class ExactContextUnits(ExactUnits):
    """As above, one way only."""

    exact = ("encode",)


class ExactLatentGain(ExactGain):
    """Quantiser steps of a latent: real numbers in the encoder, a carrier in the decoder."""

    exact = ("decode",)
    LATENT_FRAC = 4

    def unscale(self, y: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent (B, C, H, W) in steps, multiples of 1/16 -> wide."""
        return self._scale("decode", from_real(y, self.LATENT_FRAC), quality, self.LATENT_FRAC)
