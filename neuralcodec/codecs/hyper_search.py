"""Encoder only: hyper latents searched by what they and their latent cost, in place of the hyper analysis transform's alone.

A hyper latent tells the prior what the latent is like. Where the transform's guess, rounded, tells it badly, another symbol saves more bits of the latent than it
costs itself, or brings means nearer to what is to be coded. Its rate and error are known exactly without decoding a picture, as the prior and the rounding by cost
give them. So in each round the gradient names a change by one at each position, the one of its channels that promises most; changes so far apart that they hardly
touch each other are made at once, and each of them is kept where it lowers the cost around it. (Campos et al., "Content Adaptive Optimization for Neural Image
Compression", CVPR Workshops 2019, and others descend by gradients alone.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.prior import SCALE_FRAC, SYMBOL_LIMIT, LatentPrior
from neuralcodec.codecs.soft import latent_of, round_by_cost
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.likelihood import gaussian_bits, scale_of_index

SPACING = 3
"""Positions of the hyper latent between changes that are made at once. A change reaches 5 positions of the latent beyond its own 4x4, of which windows of 12x12 hold nearly all."""
CELL = 4
"""Positions of the latent for one of the hyper latent, in each direction."""


class HyperSearch:
    """Of the hyper latent of y (1, C, h, w), in quantiser steps. ``temporal``, ``quality``: as the prior takes them; ``worth`` (1, C, h, w): bits that a squared
    quantiser step is worth. All of it on the CPU, where priors are."""

    def __init__(self, prior: LatentPrior, y: Tensor, temporal: list[Fixed], quality: Tensor, worth: Tensor) -> None:
        self.prior, self.y, self.temporal, self.quality = prior, y, temporal, quality
        self.deviation = scale_of_index(prior.hyper_scale_index(quality).float())[..., None, None]
        places = [torch.from_numpy(prior.division.places(part, *y.shape[-2:])) for part in range(prior.division.parts)]
        self.parts = [(where, y.reshape(-1)[where], worth.reshape(-1)[where]) for where in places]

    def search(self, z: Tensor, rounds: int, on_step: Callable[[], None] = lambda: None) -> Tensor:
        """From z (1, Cz, ceil(h/4), ceil(w/4)), integers, to one that costs less as far as sums over windows tell, or the same; ``on_step`` is called before each round."""
        failed = torch.zeros_like(z, dtype=torch.bool)
        for _ in range(rounds):
            on_step()
            cells, slope = self._slope(z)
            up, down = (self.bits(z) - self.bits(z + change) - change * slope for change in (1, -1))
            change = torch.where(up > down, 1.0, -1.0)
            promise = torch.maximum(up, down).masked_fill_(failed | ((z + change).abs() > SYMBOL_LIMIT), 0)
            best, channel = promise.max(1, keepdim=True)
            change = torch.zeros_like(z).scatter_(1, channel, change.gather(1, channel))
            for row in range(SPACING):
                for column in range(SPACING):
                    tried = torch.zeros_like(best, dtype=torch.bool)
                    tried[..., row::SPACING, column::SPACING] = best[..., row::SPACING, column::SPACING] > 0
                    if not tried.any():
                        continue
                    other = z + change * tried
                    found = self.cost(other)
                    kept = tried & (_around(cells - found) + (self.bits(z) - self.bits(other)).sum(1, keepdim=True) > 0)
                    failed.scatter_(1, channel, failed.gather(1, channel) | (tried & ~kept))
                    z = torch.where(kept, other, z)
                    cells = torch.where(F.max_pool2d(kept.float(), SPACING, 1, SPACING // 2) > 0, found, cells)
        return z

    def bits(self, z: Tensor) -> Tensor:
        """Of each symbol."""
        return gaussian_bits(z, self.deviation)

    @torch.no_grad()
    def cost(self, z: Tensor) -> Tensor:
        """Of the latent, errors included, z itself not: (1, 1, ceil(h/4), ceil(w/4)), of 4x4 positions each."""
        return self._code(z)[0]

    def _slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The cost, and about what it grows by for a step of z."""
        with torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            cells, bits = self._code(z, smooth=True)
            return cells, torch.autograd.grad(bits, z)[0]

    def _code(self, z: Tensor, smooth: bool = False) -> tuple[Tensor, Tensor]:
        """The cost, and, where it is to be ``smooth``, a sum whose gradient says how it changes."""
        size = self.y.shape[-2:]
        features = self.prior.features(Fixed(z, 0, SYMBOL_LIMIT), self.temporal, self.quality, size)
        known, cost, bits = torch.zeros_like(self.y), torch.zeros_like(self.y), torch.zeros(())
        for part, (where, y, worth) in enumerate(self.parts):
            mean, scale = self.prior.mean_and_scale(features, self.quality, part, latent_of(known) if part else None)
            mean, index = mean.values.reshape(-1)[where], scale.values.reshape(-1)[where] * 2**SCALE_FRAC
            residual, deviation = y - mean, scale_of_index(index)
            with torch.no_grad():
                symbols = round_by_cost(residual, index, worth)
                known.view(-1)[where] = mean + symbols
                cost.view(-1)[where] = gaussian_bits(symbols, deviation) + worth * (residual - symbols).square()
            if smooth:
                # Scales change the bits of symbols. Means change the errors of symbols that are 0, which stay so; of others the bits, as if they were not rounded,
                # for another symbol follows a mean that moves, and the error is on the whole the same.
                relaxed = torch.where(symbols == 0, worth * residual.square(), gaussian_bits(residual, deviation.detach()))
                bits = bits + gaussian_bits(symbols, deviation).sum() + (relaxed - relaxed.detach()).sum()
        return _cells(cost), bits


def _cells(x: Tensor) -> Tensor:
    """Sums over channels and 4x4 positions of x (1, C, h, w)."""
    x = x.sum(1, keepdim=True)
    return F.avg_pool2d(F.pad(x, (0, -x.shape[-1] % CELL, 0, -x.shape[-2] % CELL)), CELL) * CELL**2


def _around(cells: Tensor) -> Tensor:
    """Sums over 3x3 cells."""
    return F.avg_pool2d(cells, SPACING, 1, SPACING // 2) * SPACING**2
