"""Stage "intra": the intra model on single frames, random quality for each sample, all widths.

Each step trains the full width, on a share of the steps also random widths (paper 000, section 3.4, stage 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.intra import IntraModel
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.training.data import Sampler
from neuralcodec.training.loss import (
    distortion,
    draw_quality,
    packed_mse,
    psnr,
    quality_lambda,
    quality_weight,
    relative_cost,
)
from neuralcodec.training.widths import randomise_widths


@dataclass
class IntraStage:
    """One training step of an intra model."""

    model: IntraModel
    sampler: Sampler
    size: int = 192
    batch: int = 8
    skip_from: float = 0.6
    """Progress from which the mode prediction skips (Gumbel temperature falling to the end)."""
    prior_first: float = 0.03
    """Progress up to which only the entropy model learns: with an untrained one, rate would push the transform out of its good start."""
    slim_share: float = 0.3
    """Share of steps at random widths."""

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        device = next(self.model.parameters()).device
        data = self.sampler.batch(self.size, self.batch, 1)
        x = self.model.layers.pack(data.y[0].to(device).float(), data.uv[0].to(device).float())
        quality = draw_quality(self.batch, device)
        randomise_widths(self.model, self.slim_share)
        temperature = None if progress < self.skip_from else max(0.2, 2 * (1 - progress) / (1 - self.skip_from))
        y, z = self.model.analyse(x, quality)
        if progress < self.prior_first:
            y = y.detach()
            z = self.model.hyper_analysis(y, quality)
        latent = soft_latent(self.model.prior, y, z, [], quality, skip=temperature, lam=LAMBDAS[CONTEXTUAL])
        decoded = self.model.synthesise(latent.value, quality)
        pixels = self.size**2
        rate = (latent.bits + latent.hyper_bits) / pixels
        errors = packed_mse(decoded, x)
        cost = rate if progress < self.prior_first else rate + quality_lambda(quality) * distortion(decoded, x)
        cost = cost * quality_weight(quality)
        return relative_cost(cost), {"cost": float(cost.detach().mean()), "bpp": float(rate.detach().mean()),
                      "bpp_hyper": float(latent.hyper_bits.detach().mean()) / pixels, "psnr_y": float(psnr(errors[0].detach()).mean()), "psnr_u": float(psnr(errors[1].detach()).mean()),
                      "skipped": float(latent.skipped)}

