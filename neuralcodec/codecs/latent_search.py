"""Encoder only: latents searched by what they cost and decode to, in place of the analysis transform's alone.

Two searches through a decoder in floating point (an exact model's twin), by the bits of symbols and the weighted squared error of the picture:

- Symbols that are decided go up or down by one where that lowers the cost as a quadratic model has it: its gradient is computed, its curvature is estimated once for
  each channel. Of those that would gain, some move at a time, for they change each other's gains. (Iterated conditional modes: Besag, "On the Statistical Analysis of
  Dirty Pictures", 1986.) A latent's parts are searched one after another, since the means and scales of later ones follow from those before.
- Before it, with the highest effort, stochastic Gumbel annealing (Yang, Bamler, Mandt, "Improving Inference for Neural Image Compression", NeurIPS 2020, section
  3.2): each element is rounded up or down at random, in a relaxed way through which gradients pass, the more surely the lower the temperature. It finds better
  latents, and takes many more steps.

Loop filters of the picture that a search has come to can be part of the decoder that it goes on with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.hyper_search import HyperSearch
from neuralcodec.codecs.prior import SYMBOL_LIMIT, LatentPrior
from neuralcodec.codecs.soft import latent_of, round_by_cost
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import CHROMA_CHANNELS, LUMA_CHANNELS
from neuralcodec.nn.likelihood import gaussian_bits, scale_of_index
from neuralcodec.nn.quality import quality_lambda

ROUNDING = 16.0
"""A squared quantiser step counts so many times as much as otherwise when what was found is coded: the choice between bits and errors is made by then."""
LEAST_SCALE = 4
"""Elements with a lower scale index and nothing to code are left alone: a symbol there costs more than any error that it could avoid."""
CHROMA_FACTOR = (1.0, 16.0)
"""Errors of a chroma plane count the more, between these, the smaller they are beside luma's, for what is measured is the mean of decibels."""
PROBES, PROBE = 2, 0.5
"""Random changes, and their size in quantiser steps, by which curvatures are estimated (Hutchinson's estimator of a diagonal)."""
LEAST_CURVATURE = 1.0
"""Bits for a squared step. The estimate of a channel that hardly reaches the picture can be anything."""
HOT, COLD = 0.5, 0.2
"""Temperature of annealing at the beginning and the end."""
LAST_RATE = 1 / 6
"""Of the first steps' size, the last ones' of annealing: where those at the end are as large as the first, what was found is lost again in their noise."""
MOMENTS, EPSILON = (0.9, 0.999), 1e-8
"""Of Adam, which takes annealing's steps."""
RENEWAL = 10
"""Steps of annealing for which the prior's statistics are kept. With new ones in each step it took a third longer and gained nothing."""


@dataclass(frozen=True)
class Effort:
    """``shares``: of the symbols that would gain, how many move in each step of a part. ``annealing``: steps before that, the first of ``rate`` quantiser steps or so.
    ``worth``: how much more errors count than in training; the longer the search, the coarser the best quantiser for the same worth of errors. ``filtered``: it
    sees loop filters. ``hyper``: rounds in which hyper latents are searched first."""

    shares: tuple[float, ...] = ()
    annealing: int = 0
    rate: float = 0.06
    worth: float = 1.0
    filtered: bool = False
    hyper: int = 0


_LONG = Effort((0.6, 0.5, 0.5, 0.5, 0.5, 0.4), worth=1.6, filtered=True, hyper=8)
EFFORTS = (Effort(), Effort((0.8, 0.6), worth=1.6), _LONG, replace(_LONG, annealing=200))
"""What the encoder's option ``effort`` means; 0 searches nothing."""


@dataclass(frozen=True)
class Target:
    """What a latent is to decode to: ``packed`` planes (1, 96, H/8, W/8), the decoder's ``synthesise`` from (1, C, h, w) to such planes, and what errors count at
    each position of the latent, ``importance`` (1, 1, h, w). ``find_filter`` makes of such planes the filter that they would have: a function of such planes."""

    packed: Tensor
    synthesise: Callable[[Tensor], Tensor]
    importance: Tensor | None = None
    find_filter: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None


def search_latent(prior: LatentPrior, y: Tensor, z: Tensor, temporal: list[Fixed], quality: Tensor, target: Target, effort: Effort, worth: float,
                  on_step: Callable[[], None] = lambda: None) -> tuple[Tensor, Tensor]:
    """A better latent than y (1, C, h, w), in quantiser steps: multiples of a step from the means that the prior will say, on the device of y; and its hyper
    latent, which is integers. ``z`` (1, Cz, h/4, w/4): the hyper latent to begin with; ``worth``: bits that a squared step is worth where elements are rounded first; ``on_step`` is called
    before each step, and may end the search by an error. The same input gives the same result."""
    with torch.inference_mode(False):
        search = _Search(prior, y.detach().float().clone(), z, temporal, quality, target, effort.worth)
        if effort.hyper:
            search.renew(worth)
            search.measure()
            search.find_hyper(effort.hyper, on_step)
        for step in range(effort.annealing):
            on_step()
            if step % RENEWAL == 0:
                search.renew(worth)
            if effort.filtered and step == effort.annealing // 2:
                search.find_filter()
            done = step / max(effort.annealing - 1, 1)
            search.anneal(step + 1, effort.rate * _cosine(done), HOT * (COLD / HOT) ** done)
        search.renew(worth)
        search.settle()
        if effort.filtered:
            search.find_filter()
        for part in range(prior.division.parts):
            if part:
                search.renew()
            for share in effort.shares:
                on_step()
                search.move(part, share)
        return search.y, search.z


def _cosine(done: float) -> float:
    """From 1 to LAST_RATE (after Loshchilov and Hutter, "SGDR", ICLR 2017)."""
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


class _Search:
    def __init__(self, prior: LatentPrior, y: Tensor, z: Tensor, temporal: list[Fixed], quality: Tensor, target: Target,
                 worth: float) -> None:
        self.prior, self.y, self.target, self.temporal = prior, y.contiguous(), target, temporal
        self.packed = target.packed.detach().clone()
        self.random = torch.Generator(y.device).manual_seed(0)
        self.slope: Tensor | None = None
        """Of y, where it is known."""
        self.filter: Callable[[Tensor], Tensor] | None = None
        self.first, self.second = torch.zeros(y.numel(), device=y.device), torch.zeros(y.numel(), device=y.device)
        with torch.no_grad():
            self.quality = quality.cpu()
            self.use_hyper(torch.floor(z.detach().float().cpu() + 0.5).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT))
        # Training's objective, but for a luma sample each: bits for a squared error of samples in 0..1, means over a plane's samples.
        self.weights = worth * quality_lambda(quality) / 8 * torch.tensor([6.0, 4.0, 4.0], device=y.device)
        self.importance = None if target.importance is None else target.importance.detach().float().clone()

    def use_hyper(self, z: Tensor) -> None:
        self.z = z
        self.features = self.prior.features(Fixed(z, 0, SYMBOL_LIMIT), self.temporal, self.quality, self.y.shape[-2:])

    @torch.no_grad()
    def find_hyper(self, rounds: int, on_step: Callable[[], None]) -> None:
        """Go on with a better hyper latent for what y is now."""
        y, curvature = self.y.cpu(), self.curvature.cpu().view_as(self.y)
        self.use_hyper(HyperSearch(self.prior, y, self.temporal, self.quality, curvature).search(self.z, rounds, on_step))

    @torch.no_grad()
    def renew(self, worth: float = math.inf) -> None:
        """Means, deviations and decisions, from part to part, and which elements there is something to decide of. Decisions go by bits and squared errors of the
        latent, or to the nearest."""
        shape, division = self.y.shape, self.prior.division
        y = self.y.cpu()
        mean, scale, known = torch.zeros_like(y), torch.zeros_like(y), torch.zeros_like(y)
        for part in range(division.parts):
            own = self.prior.statistics(self.features, self.quality, part, latent_of(known) if part else None)
            where = division.elements(part, *shape[-2:])
            mean[:, where], scale[:, where] = own.mean.values[:, where], own.scale[:, where]
            known[:, where] = mean[:, where] + round_by_cost((y - mean)[:, where], scale[:, where], worth)
        self.decided = known.to(self.y.device)
        active = (scale >= LEAST_SCALE) | ((y - mean).abs() > 0.5)
        self.active = active.reshape(-1).nonzero()[:, 0].to(self.y.device)
        self.mean, self.deviation = (t.to(self.y.device).reshape(-1)[self.active] for t in (mean, scale_of_index(scale)))
        if worth == math.inf:
            self.y = self.decided.clone()

    @torch.no_grad()
    def find_filter(self) -> None:
        """Go on with the filter of what is decided."""
        if self.target.find_filter is not None:
            self.filter, self.slope = self.target.find_filter(self.target.synthesise(self.decided)), None

    def settle(self) -> None:
        """Go on with what is decided."""
        self.y, self.filter = self.decided.clone(), None
        self.slope = self.measure()

    def measure(self) -> Tensor:
        """Estimate curvatures, in bits for a squared step: half of the second derivatives of the error's worth. They are those without a filter: one that smooths
        makes the mean over a channel far too small for where it does not. Returns the slope of what is decided."""
        still, weights = self._slope(self.decided)
        total = torch.zeros_like(self.y)
        for _ in range(PROBES):
            probe = PROBE * (2.0 * torch.randint(0, 2, self.y.shape, generator=self.random, device=self.y.device) - 1)
            total += (self._slope(self.decided + probe, weights)[0] - still) * probe
        importance = torch.ones_like(self.y[:, :1]) if self.importance is None else self.importance
        by_channel = (total / importance).mean((0, 2, 3), keepdim=True) / (2 * PROBES * PROBE**2)
        self.curvature = (by_channel * importance).clamp_min(LEAST_CURVATURE).reshape(-1)
        return still

    @torch.no_grad()
    def move(self, part: int, share: float) -> None:
        """One step: a share of the symbols of a part that would gain by it goes up or down by one."""
        slope = (self._slope(self.y)[0] if self.slope is None else self.slope).reshape(-1)[self.active]
        self.slope = None
        own = self.prior.division.elements(part, *self.y.shape[-2:]).to(self.y.device).reshape(-1)[self.active]
        flat, curvature = self.y.reshape(-1), self.curvature[self.active]
        symbols = flat[self.active] - self.mean
        now, up, down = (gaussian_bits(symbols + change, self.deviation) for change in (0, 1, -1))
        by_up, by_down = up - now + slope + curvature, down - now - slope + curvature
        moves = own & (torch.minimum(by_up, by_down) < 0) & (torch.rand(own.shape, generator=self.random, device=own.device) < share)
        flat[self.active] += moves * torch.where(by_up < by_down, 1.0, -1.0)

    def anneal(self, step: int, rate: float, temperature: float) -> None:
        """One step of annealing, from 1."""
        with torch.enable_grad():
            y = self.y.reshape(-1)[self.active].requires_grad_()
            value = soft_round(y - self.mean, temperature, self.random)
            decoded = self.decided.reshape(-1).index_put((self.active,), self.mean + value).view_as(self.y)
            cost = gaussian_bits(value, self.deviation).sum() + self._worth_of_error(decoded)[0]
            (gradient,) = torch.autograd.grad(cost, y)
        with torch.no_grad():
            first = self.first[self.active].lerp_(gradient, 1 - MOMENTS[0])
            second = self.second[self.active].lerp_(gradient.square(), 1 - MOMENTS[1])
            self.first[self.active], self.second[self.active] = first, second
            low, high = (1 - moment**step for moment in MOMENTS)
            self.y.view(-1)[self.active] -= rate * (first / low) / ((second / high).sqrt_() + EPSILON)

    def _slope(self, y: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the error's worth grows by for a step, and the weights that planes had in it."""
        with torch.enable_grad():
            y = y.detach().clone().requires_grad_()
            cost, weights = self._worth_of_error(y, weights)
            return torch.autograd.grad(cost, y)[0], weights

    def _worth_of_error(self, y: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of what a latent decodes to, in bits, and the weights of Y, U and V in it: where none are given, chroma's follow from its error."""
        decoded = self.target.synthesise(y)
        errors = ((decoded if self.filter is None else self.filter(decoded)) - self.packed).square()
        if self.importance is not None:
            errors = errors * F.interpolate(self.importance, scale_factor=2, mode="nearest")
        sums = torch.stack([part.sum() for part in errors.split([LUMA_CHANNELS, CHROMA_CHANNELS // 2, CHROMA_CHANNELS // 2], 1)])
        if weights is None:
            with torch.no_grad():
                weights = self.weights.clone()
                weights[1:] *= (sums[0] / (4 * sums[1:]).clamp_min(1e-8)).clamp(*CHROMA_FACTOR)
        return (weights * sums).sum(), weights


def soft_round(x: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """x, any shape, between its floor and its ceiling: where a sample of the relaxed choice lies whose odds follow from the distances to both (Yang et
    al., section 3.2)."""
    floor = torch.floor(x.detach())
    rest = (x - floor).clamp(1e-4, 1 - 1e-4)
    u = torch.rand(x.shape, generator=random, device=x.device).clamp_(1e-6, 1 - 1e-6)
    return floor + torch.sigmoid(((torch.atanh(rest) - torch.atanh(1 - rest)) / temperature + torch.logit(u)) / temperature)
