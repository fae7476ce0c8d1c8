"""Quantisers and rate estimates for training: what the entropy coder will spend, as a differentiable number of bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuralcodec.entropy.tables import SCALES

_LOG_MIN = math.log(float(SCALES[0]))
_LEAST = 2.0**-24
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


class _GaussianBits(torch.autograd.Function):
    """The gradient is written out, since much of a step of training goes into such elementwise work: fewer passes over the latents."""

    @staticmethod
    def forward(ctx, value: Tensor, scale: Tensor) -> Tensor:
        v, root = value.abs(), scale * math.sqrt(2.0)
        low, high = (v - 0.5) / root, (v + 0.5) / root
        p = (torch.erfc(low) - torch.erfc(high)).mul_(0.5)
        ctx.save_for_backward(value, scale, low, high, p)
        return p.clamp_min(_LEAST).log2_().neg_()

    @staticmethod
    def backward(ctx, grad: Tensor):
        value, scale, low, high, p = ctx.saved_tensors
        at_low, at_high = low.square().neg_().exp_(), high.square().neg_().exp_()
        # d bits / d p, and no way further down where p is at its bound already.
        grad = grad * (-1 / math.log(2.0)) / p.clamp_min(_LEAST)
        grad = torch.where((p < _LEAST) & (grad >= 0), 0.0, grad) / scale
        by_value = by_scale = None
        if ctx.needs_input_grad[0]:
            by_value = grad * (at_high - at_low).mul_(1 / math.sqrt(2 * math.pi)) * value.sign()
        if ctx.needs_input_grad[1]:
            by_scale = grad * (low * at_low - high * at_high).mul_(1 / math.sqrt(math.pi))
        return by_value, by_scale


def gaussian_bits(value: Tensor, scale: Tensor) -> Tensor:
    """Bits of the unit interval around ``value`` under a zero-mean Gaussian, elementwise (>= 0, at most 24)."""
    return _GaussianBits.apply(*torch.broadcast_tensors(value, scale))


def round_ste(x: Tensor) -> Tensor:
    """Round half up with a straight-through gradient."""
    return x + (torch.floor(x + 0.5) - x).detach()


def add_noise(x: Tensor) -> Tensor:
    """Additive uniform noise in [-1/2, 1/2): the relaxation of rounding for the rate term."""
    return x + (torch.rand_like(x) - 0.5)
