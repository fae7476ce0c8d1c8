"""Generalised divisive normalisation, and its forms for several widths (SlimCAE, paper 004).

::

    GDN:          y[i] = x[i] / sqrt(beta[i] + sum_j gamma[i, j] x[j]^2)          beta > 0, gamma >= 0
    inverse GDN:  y[i] = x[i] * sqrt(beta[i] + sum_j gamma[i, j] x[j]^2)          one step of a fixed-point inversion

    switch:     each width has a beta and a gamma of its own
    slim:       width n has the leading n entries of beta, the leading n x n of gamma
    slim-plus:  the same, modulated by four numbers of each width: s beta + b and t gamma + c, all of them >= 0

The paper's slides name the three forms and draw them without formulas. GDN is that of Ballé et al. ("Density modeling of images using a generalized
normalization transformation", ICLR 2016); that the modulation is an affine one with non-negative scalars is taken from the authors' published
program (github.com/FireFYF/SlimCAE, named by the slides).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError
from neuralcodec.nn import mixed
from neuralcodec.nn.likelihood import lower_bound

KINDS = ("switch", "slim", "slim-plus")
BETA_MIN = 1e-6
GAMMA_START = 0.01
"""gamma starts as this multiple of the identity: nearly linear, so that transforms that start as orthonormal ones stay invertible."""
_PEDESTAL = 2.0**-36
"""A parameter is the root of its value and of this, so that its gradient does not vanish at a value of 0."""


def normalise(x: Tensor, beta: Tensor, gamma: Tensor, inverse: bool) -> Tensor:
    """x (B, n, H, W), beta (n,), gamma (n, n) -> (B, n, H, W)."""
    pool = mixed.conv2d(x.square(), gamma[:, :, None, None], beta).to(x.dtype)
    return x * (pool.sqrt() if inverse else pool.rsqrt())


class NonNegative(nn.Module):
    """A learned tensor of values >= ``minimum``."""

    def __init__(self, start: Tensor, minimum: float = 0.0) -> None:
        super().__init__()
        self.bound = math.sqrt(minimum + _PEDESTAL)
        self.root = nn.Parameter(torch.sqrt(start.clamp_min(minimum) + _PEDESTAL))

    def forward(self) -> Tensor:
        return lower_bound(self.root, self.bound).square() - _PEDESTAL


class SlimGDN(nn.Module):
    """``widths``: channels of each option, the widest first. ``forward`` takes x (B, widths[option], H, W)."""

    def __init__(self, widths: tuple[int, ...], inverse: bool = False) -> None:
        super().__init__()
        self.widths, self.inverse = widths, inverse
        self.beta = NonNegative(torch.ones(widths[0]), BETA_MIN)
        self.gamma = NonNegative(GAMMA_START * torch.eye(widths[0]))

    def parameters_at(self, option: int) -> tuple[Tensor, Tensor]:
        """beta (n,), gamma (n, n) of a width."""
        n = self.widths[option]
        return self.beta()[:n], self.gamma()[:n, :n]

    def forward(self, x: Tensor, option: int) -> Tensor:
        return normalise(x, *self.parameters_at(option), self.inverse)

    def channels(self, option: int) -> tuple[int, int]:
        """Of input and output."""
        return self.widths[option], self.widths[option]

    def macs(self, option: int) -> int:
        """Multiply-accumulates for a position."""
        return self.widths[option] ** 2

    def stored(self, option: int) -> int:
        """Parameters that a width reads."""
        return self.widths[option] * (self.widths[option] + 1)


class SlimGDNPlus(SlimGDN):
    """SlimGDN with the modulation of each width."""

    def __init__(self, widths: tuple[int, ...], inverse: bool = False) -> None:
        super().__init__(widths, inverse)
        count = len(widths)
        self.beta_scale, self.gamma_scale = NonNegative(torch.ones(count)), NonNegative(torch.ones(count))
        self.beta_shift, self.gamma_shift = NonNegative(torch.zeros(count)), NonNegative(torch.zeros(count))

    def parameters_at(self, option: int) -> tuple[Tensor, Tensor]:
        beta, gamma = super().parameters_at(option)
        beta = lower_bound(beta * self.beta_scale()[option] + self.beta_shift()[option], BETA_MIN)
        return beta, gamma * self.gamma_scale()[option] + self.gamma_shift()[option]

    def stored(self, option: int) -> int:
        return super().stored(option) + 4


class SwitchGDN(nn.Module):
    """A GDN for each width; called as the slim ones are."""

    def __init__(self, widths: tuple[int, ...], inverse: bool = False) -> None:
        super().__init__()
        self.widths, self.inverse = widths, inverse
        self.each = nn.ModuleList(SlimGDN((n,), inverse) for n in widths)

    def parameters_at(self, option: int) -> tuple[Tensor, Tensor]:
        return self.each[option].parameters_at(0)

    def forward(self, x: Tensor, option: int) -> Tensor:
        return self.each[option](x, 0)

    def channels(self, option: int) -> tuple[int, int]:
        """Of input and output."""
        return self.widths[option], self.widths[option]

    def macs(self, option: int) -> int:
        return self.each[option].macs(0)

    def stored(self, option: int) -> int:
        return self.each[option].stored(0)


def make_gdn(kind: str, widths: tuple[int, ...], inverse: bool = False) -> nn.Module:
    """One of KINDS. Raises UsageError for another name."""
    types = dict(zip(KINDS, (SwitchGDN, SlimGDN, SlimGDNPlus), strict=True))
    if kind not in types:
        raise UsageError(f"unknown form of GDN {kind!r}; choose {', '.join(KINDS)}")
    return types[kind](widths, inverse)
