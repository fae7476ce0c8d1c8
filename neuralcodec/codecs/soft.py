"""Training's view of one latent: rounding with straight-through gradients, rate as a differentiable estimate.

The same priors as in coding run here; what differs is that symbols are not entropy coded but their bits are estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralcodec.codecs.prior import LATENT_LIMIT, MEAN_FRAC, SYMBOL_LIMIT, LatentPrior
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.likelihood import add_noise, gaussian_bits, round_ste, scale_of_index


@dataclass
class SoftLatent:
    """``value`` (B, C, h, w) decoded latent with gradient; ``fixed`` the same without, for priors; ``bits`` and ``hyper_bits`` (B,)
    per sample; ``skipped`` share of elements not coded, 0..1 (a scalar tensor)."""

    value: Tensor
    fixed: Fixed
    bits: Tensor
    hyper_bits: Tensor
    skipped: Tensor


def soft_latent(prior: LatentPrior, y: Tensor, z: Tensor, temporal: list[Fixed], quality: Tensor, *, noise: bool = True,
                skip: float | None = None, lam: float | Tensor = math.inf) -> SoftLatent:
    """y (B, C, h, w) in quantiser steps, z (B, Cz, h/4, w/4) -> decoded latent and rate.

    The rate is that of the rounded symbols, and so is its gradient in the scales: with uniform noise in place of rounding, as usual, all that is rounded
    to zero looks as wide as the noise, and scales below it cannot be learned. With ``noise`` the gradient in y and the means is that of the
    relaxation (after Guo et al., "Soft then hard", ICML 2021), else straight through the rounding; hyper latents have noise in all.
    ``lam``: bits for a squared step, one number or (B, C, h, w), by which symbols are rounded, see entropy.quantisation. ``skip`` is the Gumbel-softmax
    temperature of the mode prediction, 0 for its decision, None for no skipping (paper 000, section 3.3).
    """
    z_round = round_ste(z).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    z_scale = scale_of_index(prior.hyper_scale_real(quality))
    hyper_bits = gaussian_bits(add_noise(z) if noise else z_round, z_scale)
    features = prior.features(Fixed(z_round, 0, SYMBOL_LIMIT), temporal, quality, y.shape[-2:])
    mean = scale = coded = done = None
    symbols, known = torch.zeros_like(y.detach()), torch.zeros_like(y.detach())
    for part in range(prior.division.parts):
        own = prior.statistics(features, quality, part, latent_of(known) if part else None)
        modes = None if skip is None else _modes(own.mode.values, skip)
        if part:
            mean, scale = torch.where(done, mean, own.mean.values), torch.where(done, scale, own.scale)
            coded = None if coded is None else torch.where(done, coded, modes)
        else:
            mean, scale, coded = own.mean.values, own.scale, modes
        where = prior.division.elements(part, *y.shape[-2:]).to(y.device)
        with torch.no_grad():
            found = round_by_cost((y - mean)[:, where], scale[:, where], lam[:, where] if isinstance(lam, Tensor) else lam)
            symbols[:, where] = found
            known[:, where] = mean[:, where] + (found if coded is None else found * coded[:, where])
        done = where if done is None else done | where
    residual, deviation = y - mean, scale_of_index(scale)
    if noise:
        relaxed = gaussian_bits(add_noise(residual), deviation.detach())
        bits = gaussian_bits(symbols, deviation) + (relaxed - relaxed.detach())
    symbols = residual + (symbols - residual).detach()  # straight through
    if not noise:
        bits = gaussian_bits(symbols, deviation)
    skipped = torch.zeros((), device=y.device)
    if coded is not None:
        skipped = 1 - coded.detach().mean()
        bits = bits * coded
    value = mean + (symbols if coded is None else symbols * coded)
    return SoftLatent(value, latent_of(value.detach()), bits.flatten(1).sum(1), hyper_bits.flatten(1).sum(1), skipped)


def round_by_cost(residual: Tensor, scale: Tensor, lam: float | Tensor) -> Tensor:
    """The nearest integer or its neighbour towards zero, whichever has the lower bits + lam * squared error; no gradient."""
    nearest = torch.floor(residual + 0.5)
    if not isinstance(lam, Tensor) and not math.isfinite(lam):
        return nearest
    where = nearest.nonzero(as_tuple=True)  # few: the rest has nothing to choose
    high, deviation, real = nearest[where], scale_of_index(scale[where]), residual[where]
    low = high - torch.sign(high)
    bits = lam[where] if isinstance(lam, Tensor) else lam
    saved = gaussian_bits(high, deviation) - gaussian_bits(low, deviation)
    worse = (real - low).square() - (real - high).square()
    nearest[where] = torch.where(saved > bits * worse, low, high)
    return nearest


def latent_of(value: Tensor) -> Fixed:
    """Decoded values (B, C, h, w), multiples of 1/16, as a latent that priors read."""
    limit = LATENT_LIMIT / 2**MEAN_FRAC
    return Fixed(value.clamp(-limit, limit), MEAN_FRAC, LATENT_LIMIT)


def _modes(logits: Tensor, temperature: float) -> Tensor:
    """1 where coded, 0 where skipped: a hard Gumbel-softmax sample over the two modes, straight-through."""
    hard = (logits > 0).to(logits.dtype)
    if temperature <= 0:
        return hard
    u = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((logits + torch.log(u) - torch.log1p(-u)) / temperature)
    return soft + ((soft > 0.5).to(logits.dtype) - soft).detach()
