"""Integer-valued carriers: what travels within an exact picture (bitstream_spec/exact_pictures.md, sections 1 and 2).

A carrier is a tensor (B, C, H, W) of integers n that stand for n * 2**-F; its format is the layer's business and is not stored with it. Its
element type says which execution computes: int64 is the definition, slow; float32 (inside wide convolutions and gains float64, inside narrow ones
that round their sums bfloat16 where the hardware has it) is what runs everywhere. Both give the same integers, and so does training, which is the float32 execution with gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

WIDE_FRAC, WIDE_LIMIT = 12, (1 << 22) - 1
"""Between units: features, skip paths, packed planes."""
NARROW_LIMIT = 4095
"""What enters a narrow convolution."""
FRACS = range(-4, 13)
"""Fractional bits that a narrow format may have."""

_mode: ContextVar[str] = ContextVar("mode", default="")


@contextmanager
def int64_execution() -> Iterator[None]:
    """Exact pictures are computed by the definition, in int64."""
    token = _mode.set("int64")
    try:
        yield
    finally:
        _mode.reset(token)


@contextmanager
def observing() -> Iterator[None]:
    """For calibration: nothing is rounded or clamped but for the ReLUs, and narrow layers count the sizes of what enters them."""
    token = _mode.set("observe")
    try:
        yield
    finally:
        _mode.reset(token)


def is_observing() -> bool:
    return _mode.get() == "observe"


def from_real(x: Tensor, frac: int) -> Tensor:
    """Real values that are multiples of 2**-frac -> a carrier of the execution at hand."""
    n = x * 2.0**frac
    return n.detach().double().round().long() if _mode.get() == "int64" else n


def wide_from_real(x: Tensor, frac: int) -> Tensor:
    """Real values that are multiples of 2**-frac, frac at least 12 -> wide."""
    shift = frac - WIDE_FRAC
    if _mode.get() == "int64" or x.requires_grad or is_observing():
        return requantise(from_real(x, frac), shift, -WIDE_LIMIT, WIDE_LIMIT)
    return torch.add(_HALF, x, alpha=2.0**WIDE_FRAC).floor_().clamp_(-WIDE_LIMIT, WIDE_LIMIT)


def to_real(n: Tensor, frac: int) -> Tensor:
    """A carrier -> real values, float32."""
    return n * 2.0**-frac if n.is_floating_point() else (n.double() * 2.0**-frac).float()


def requantise(n: Tensor, shift: int, low: int, high: int) -> Tensor:
    """A carrier in another format: clamp(n * 2**-shift, low, high), rounded half up; ``shift`` may be 0 or negative. Gradients as in ``quantise``."""
    if not n.is_floating_point():
        return ((n + (1 << (shift - 1))) >> shift if shift > 0 else n << -shift).clamp(low, high)
    if n.requires_grad or is_observing():
        return quantise(n * 2.0**-shift, low, high)
    if shift <= 0:
        return (n * 2.0**-shift).clamp_(low, high) if shift else n.clamp(low, high)
    # One pass for scale and sum. Both are exact: formats leave the carrier one bit for the 1/2.
    return torch.add(_HALF, n, alpha=2.0**-shift).floor_().clamp_(low, high)


_HALF = torch.tensor(0.5)


def quantise(x: Tensor, low: int, high: int, *, revive: bool = True) -> Tensor:
    """Real values in units of a format -> its carrier: clamp(floor(x + 1/2), low, high).

    Gradients pass straight through inside the range; outside of it only those that lead back in, at the lower end with ``revive`` only (not
    after a ReLU). While observing, values stay as they are but for the ReLU."""
    if is_observing():
        return x if revive else x.clamp_min(low)
    return _Quantise.apply(x, low, high, revive)


class _Quantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: int, high: int, revive: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high, ctx.revive = low, high, revive
        return (x + 0.5).floor_().clamp_(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        inside = x >= ctx.low
        passes = ((x <= ctx.high) | (grad > 0)) & (inside | (grad < 0) if ctx.revive else inside)
        return grad * passes, None, None, None


def add_wide(x: Tensor, delta: Tensor) -> Tensor:
    """clamp(x + delta) in the wide format."""
    total = x + delta
    return quantise(total, -WIDE_LIMIT, WIDE_LIMIT) if total.requires_grad else total.clamp_(-WIDE_LIMIT, WIDE_LIMIT)


class _Replace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, soft: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


def replace(soft: Tensor, exact: Tensor) -> Tensor:
    """The values of ``exact`` with the gradient of ``soft``."""
    return _Replace.apply(soft, exact)
