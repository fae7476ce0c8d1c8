"""Continuous quality in one model (ELF-VC's level embedding and interpolation, paper 002): learned values at anchor qualities,
interpolated between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.exact import ExactConv2d, ExactModule

ANCHORS = 9
SPAN = QUALITY_STEPS // (ANCHORS - 1)
"""Quality indexes between two neighbouring anchors (25)."""

STEP_GAIN = (1.3, 6.5)
"""log2 of quantiser steps in a unit at quality 0 and 100: of sqrt(0.75 lambda / 8.66). A uniform quantiser of step s has the distortion D = s^2 / 12 at
high rate and spends 1 / (2 ln 2 D) = 8.66 / s^2 bits for a unit of it; this is the step at which that equals luma's weight."""
LAMBDA_LOW, LAMBDA_HIGH = 64.0, 64.0 * 4 ** (STEP_GAIN[1] - STEP_GAIN[0])
"""Weights of the squared error of samples in 0..1 against one bit per pixel, at quality 0 and 100; geometric in between."""


def quality_lambda(quality: Tensor) -> Tensor:
    """Lagrangian weight for quality indexes (B,) 0..200 -> (B,)."""
    span = math.log(LAMBDA_HIGH / LAMBDA_LOW)
    return torch.exp(math.log(LAMBDA_LOW) + span * quality.float() / QUALITY_STEPS)


def _position(quality: Tensor) -> tuple[Tensor, Tensor]:
    q = quality.clamp(0, QUALITY_STEPS).long()
    low = torch.div(q, SPAN, rounding_mode="floor").clamp_max(ANCHORS - 2)
    return low, q - low * SPAN


def interpolate(anchors: Tensor, quality: Tensor) -> Tensor:
    """Linear interpolation: anchors (A, C) real, quality (B,) integer indexes 0..200 -> (B, C)."""
    low, rest = _position(quality)
    t = (rest.to(anchors.dtype) / SPAN)[:, None]
    return anchors[low] * (1 - t) + anchors[low + 1] * t


def interpolate_integers(anchors: Tensor, quality: Tensor) -> Tensor:
    """floor((a * (25 - r) + b * r + 12) / 25) over int64 anchors (A, C), quality (B,) -> (B, C)."""
    low, rest = _position(quality)
    total = anchors[low] * (SPAN - rest)[:, None] + anchors[low + 1] * rest[:, None] + SPAN // 2
    return torch.div(total, SPAN, rounding_mode="floor")


class QualityGain(nn.Module):
    """Per-channel quantiser scale by quality: log2 gain (A, C), the encoder multiplies by it, the decoder divides.

    Also the change of units inside a transform: networks see their input counted in quantiser steps, and what they add is brought back, so
    that what they do at one quality does no harm at another."""

    def __init__(self, channels: int, low: float, high: float, offset: Tensor | None = None) -> None:
        """The gain starts linear in the quality index, ``low`` at 0 and ``high`` at 100 %; ``offset`` (C,) is added."""
        super().__init__()
        start = torch.linspace(low, high, ANCHORS)[:, None].repeat(1, channels)
        if offset is not None:
            start = start + offset
        self.encode = nn.Parameter(start.clone())
        self.decode = nn.Parameter(-start)

    def scale(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, C, H, W) in network units -> in units of the quantiser step."""
        return y * torch.exp2(interpolate(self.encode, quality))[..., None, None]

    def unscale(self, y: Tensor, quality: Tensor) -> Tensor:
        """Inverse direction, with its own learned table."""
        return y * torch.exp2(interpolate(self.decode, quality))[..., None, None]

    def correct(self, x: Tensor, delta: Tensor, quality: Tensor) -> Tensor:
        """x (B, C, H, W) in network units, corrected by delta in units of the quantiser step."""
        return x + self.unscale(delta, quality)


class QualityBias(ExactModule):
    """Quality-dependent integer bias for an exact convolution: real anchors while training, integers once frozen."""

    LIMIT = 1 << 21
    """Bound of the integer bias; with the exponents' rule it keeps every sum below 2**24."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.anchors = nn.Parameter(torch.zeros(ANCHORS, channels))
        self._frozen: Tensor | None = None

    def freeze(self, conv: ExactConv2d) -> None:
        """Fix the integers for deployment, after those of ``conv``. Raises UsageError when the sums would reach 2**24."""
        self._frozen = None
        self.load_integers(self.integers(conv), conv)

    def load_integers(self, table: Tensor, conv: ExactConv2d) -> None:
        """Take integers (from a model file), after ``conv`` has its own. Raises UsageError when they do not fit."""
        if table.shape != self.anchors.shape:
            raise UsageError(f"quality table {tuple(table.shape)} does not fit {tuple(self.anchors.shape)}")
        table = table.to(torch.int64)
        if int(table.abs().max()) > self.LIMIT:
            raise UsageError(f"quality table beyond {self.LIMIT}")
        conv.check_extra(table)
        self._frozen = table
        with torch.no_grad():
            self.anchors.copy_(self._frozen.double() / self._unit(conv))

    def integers(self, conv: ExactConv2d) -> Tensor:
        """(A, C) int64 in units of the accumulator of ``conv``."""
        if self._frozen is not None:
            return self._frozen
        return conv.bias_to_integers(self.anchors).clamp(-self.LIMIT, self.LIMIT)

    def forward(self, conv: ExactConv2d, quality: Tensor) -> Tensor:
        """quality (B,) -> (B, C): int64 when frozen, else a real tensor that equals the integers, with a gradient."""
        table = self.integers(conv)
        if table.device != quality.device:
            table = table.to(quality.device)
        n = interpolate_integers(table, quality)
        if self._frozen is not None and not self.training:
            return n
        soft = interpolate(self.anchors, quality)
        return soft + ((n.double() / self._unit(conv)).to(soft.dtype) - soft).detach()

    @staticmethod
    def _unit(conv: ExactConv2d) -> Tensor:
        return torch.exp2(conv.exponents().double()) * 2.0**conv.frac_in
