"""Quantisers and rate estimates for training: what the entropy coder will spend, as a differentiable number of bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuralcodec.entropy.tables import SCALES

_LOG_MIN = math.log(float(SCALES[0]))
_LOG_STEP = (math.log(float(SCALES[-1])) - _LOG_MIN) / (len(SCALES) - 1)


def scale_of_index(index: Tensor) -> Tensor:
    """Standard deviation for a (possibly fractional) scale index 0..63."""
    return torch.exp(_LOG_MIN + _LOG_STEP * index)


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), with a gradient below the bound as well where it would raise x."""
    return _LowerBound.apply(x, bound)


def gaussian_bits(value: Tensor, scale: Tensor) -> Tensor:
    """Bits of the unit interval around ``value`` under a zero-mean Gaussian, elementwise (>= 0, at most 24)."""
    v = value.abs()
    root = scale * math.sqrt(2.0)
    p = 0.5 * (torch.erfc((v - 0.5) / root) - torch.erfc((v + 0.5) / root))
    return -torch.log2(lower_bound(p, 2.0**-24))


def round_ste(x: Tensor) -> Tensor:
    """Round half up with a straight-through gradient."""
    return x + (torch.floor(x + 0.5) - x).detach()


def add_noise(x: Tensor) -> Tensor:
    """Additive uniform noise in [-1/2, 1/2): the relaxation of rounding for the rate term."""
    return x + (torch.rand_like(x) - 0.5)
