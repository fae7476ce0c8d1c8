"""Rate-distortion objective: bits per luma pixel plus lambda times the (6 Y + U + V) / 8 mean squared error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.quality import LAMBDA_HIGH, LAMBDA_LOW, quality_lambda


def draw_quality(count: int, device: torch.device | None = None, power: float = 0.7) -> Tensor:
    """Random quality indexes (count,) 0..200: with ``power`` 1 all alike, below denser towards the top, where intra frames are coded that others refer
    to."""
    return torch.floor((QUALITY_STEPS + 1) * torch.rand(count, device=device) ** power).long().clamp_max(QUALITY_STEPS)


def quality_weight(quality: Tensor) -> Tensor:
    """Weight of a sample's loss by its quality (B,): rate grows about as lambda ** 0.5, and what counts is the relative rate."""
    return torch.sqrt(math.sqrt(LAMBDA_LOW * LAMBDA_HIGH) / quality_lambda(quality))


COST_FLOOR = 0.1
"""Where weighted costs are far below this, they count as they are: of a still picture's frames next to nothing is left to save."""


def relative_cost(cost: Tensor) -> Tensor:
    """Costs of samples (B,), weighted by ``quality_weight`` -> the mean of their logarithms.

    Results are compared by the share of the bits that is saved, clip by clip (BD-rate). Of plain costs a few samples full of detail, with ten times the bits
    of the others, would say nearly alone what is learned."""
    return torch.log(cost + COST_FLOOR).mean()


def packed_mse(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared error of packed planes (B, 96, h, w) for samples in 0..1, per sample: Y, U, V, each (B,). (Exact models pack samples in 256ths,
    not 255ths: their figures come out 0.8 %, or 0.03 dB, better.)"""
    e = (x - reference).square()
    return tuple(part.flatten(1).mean(1) for part in (e[:, :64], e[:, 64:80], e[:, 80:]))


def weighted_mse(x: Tensor, reference: Tensor) -> Tensor:
    """(6 Y + U + V) / 8 of packed_mse, (B,)."""
    y, u, v = packed_mse(x, reference)
    return (6 * y + u + v) / 8


CHROMA_FACTOR = (1.0, 4.0)


def distortion(x: Tensor, reference: Tensor) -> Tensor:
    """What training lowers: weighted_mse with a chroma plane weighted up, sample by sample, by how much smaller its error is than luma's, (B,).

    Results are compared by the (6 Y + U + V) / 8 mean of PSNR, whose slope in a plane's error is its weight over that error. With plain weights
    each chroma plane of ``flagship-1`` lies 0.8 to 5.7 dB below x264's at equal luma (models/flagship-1.tsv, level 1 against x264-medium-ld32), 0.3 to
    1.3 dB of that mean."""
    y, u, v = packed_mse(x, reference)
    factors = [(y / c.clamp_min(1e-8)).detach().clamp(*CHROMA_FACTOR) for c in (u, v)]
    return (6 * y + factors[0] * u + factors[1] * v) / 8


def psnr(mse: Tensor) -> Tensor:
    """Decibels for a mean squared error of samples in 0..1."""
    return -10 * torch.log10(mse.clamp_min(1e-10))
