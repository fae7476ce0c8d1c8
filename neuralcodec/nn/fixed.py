"""Fixed-point tensors: the only values that may travel on the exact path (DESIGN D1).

A :class:`Fixed` holds integers times a power of two in a floating-point carrier. All operations here map such integers to
such integers without rounding that depends on the order of evaluation, so their results are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.errors import UsageError

CARRIER_BITS = 24
"""float32 represents every integer of magnitude up to 2**24 exactly."""


@dataclass(frozen=True)
class Fixed:
    """``values`` (B, C, H, W) float carrier, equal to n * 2**-frac with integers |n| <= ``limit``.

    ``signed`` False promises n >= 0.
    """

    values: Tensor
    frac: int
    limit: int
    signed: bool = True

    @staticmethod
    def from_integers(n: Tensor, frac: int, limit: int, signed: bool = True) -> Fixed:
        """Wrap an integer tensor (any dtype holding integers), clamped to [-limit, limit] (or [0, limit])."""
        if limit <= 0 or limit > 1 << CARRIER_BITS:
            raise UsageError(f"fixed-point limit {limit} does not fit a float32 carrier")
        n = n.to(torch.float32)
        if not n.requires_grad and not torch.equal(n, torch.round(n)):
            raise UsageError("a fixed-point tensor is made from integers only")
        return Fixed(n.clamp(-limit if signed else 0, limit) * 2.0**-frac, frac, limit, signed)

    @property
    def integers(self) -> Tensor:
        """The integers n as int64 (B, C, H, W)."""
        return (self.values.detach().double() * 2.0**self.frac).round().to(torch.int64)

    def requantise(self, frac: int, limit: int) -> Fixed:
        """Round (half up) to a grid of 2**-frac and clamp to ``limit``; gradients pass straight through inside it."""
        low = -limit if self.signed else 0
        return Fixed(quantise_ste(self.values, frac, low, limit), frac, limit, self.signed)

    def crop(self, height: int, width: int) -> Fixed:
        return Fixed(self.values[..., :height, :width], self.frac, self.limit, self.signed)

    def depth_to_space(self, factor: int = 2) -> Fixed:
        return Fixed(F.pixel_shuffle(self.values, factor), self.frac, self.limit, self.signed)


def concatenate(parts: list[Fixed]) -> Fixed:
    """Join along channels; all parts must share ``frac``; the limit is the largest one."""
    if len({p.frac for p in parts}) != 1:
        raise UsageError("fixed-point tensors of different scales cannot be concatenated")
    values = torch.cat([p.values for p in parts], 1)
    return Fixed(values, parts[0].frac, max(p.limit for p in parts), any(p.signed for p in parts))


class _Quantise(torch.autograd.Function):
    """Forward: round half up to the grid and clamp. Backward: straight through inside the range; outside it only a gradient
    that leads back in passes, when ``revive`` is set (a clipped scale index must be able to grow again)."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float, low: int, high: int, revive: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range, ctx.revive = (low / scale, high / scale), revive
        return _quantise(x, scale, low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        passes = (x >= low) & (x <= high)
        if ctx.revive:
            passes = passes | ((x < low) & (grad < 0)) | ((x > high) & (grad > 0))
        return grad * passes, None, None, None, None


def _quantise(x: Tensor, scale: float, low: int, high: int) -> Tensor:
    # Rounds half up, unlike torch.round. The clamp comes first, so that the addition of 1/2 stays within what the carrier holds exactly.
    return (x * scale).clamp_(low, high).add_(0.5).floor_().mul_(1.0 / scale)


def quantise_ste(x: Tensor, frac: int, low: int, high: int, revive: bool = False) -> Tensor:
    """Values on the grid 2**-frac within [low, high] * 2**-frac, with a straight-through gradient."""
    if x.requires_grad:
        return _Quantise.apply(x, 2.0**frac, low, high, revive)
    return _quantise(x, 2.0**frac, low, high)
