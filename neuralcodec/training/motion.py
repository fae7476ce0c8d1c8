"""Stage "motion": the motion codec alone, taught by classical flow (DESIGN D7).

Loss: rate + lambda_m * error of the compensated prediction + a flow regression whose weight falls. The figures that say whether it
learned its part are printed: PSNR of its prediction beside copying the reference and beside the teacher's own flow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS, MOTION
from neuralcodec.codecs.flagship import Flagship, Reference
from neuralcodec.codecs.motion import VECTOR_UNIT, MotionModel, cell_error, motion_worth
from neuralcodec.codecs.motion_search import MotionSearch, quantiser_step
from neuralcodec.codecs.soft import SoftLatent, soft_latent
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.fixed import Fixed
from neuralcodec.training.data import Sampler
from neuralcodec.training.loss import draw_quality, psnr, quality_lambda, quality_weight, weighted_mse
from neuralcodec.training.widths import randomise_widths

PREDICTION_SHARE = 0.2
"""Share of lambda given to the prediction's error: the contextual codec corrects the rest."""


def code_motion(model: MotionModel, flow: Tensor, luma: Tensor, reference: Reference, previous: Fixed, quality: Tensor, *,
                skip: float | None, prior_only: bool = False) -> SoftLatent:
    """Training forward of the motion latent: flow (B, 2, H/8, W/8), the current picture's luma (B, 1, H, W).

    The encoder's motion search runs here too, on the reference as it is, and so do its corrections and its rounding.

    ``prior_only``: the encoder waits for its entropy model, see training.intra."""
    with torch.no_grad():
        step = quantiser_step(quality)
        search = MotionSearch(luma, reference.y, step)
        flow, sensitivity = search.search([flow, torch.zeros_like(flow)])
        worth = motion_worth(model, sensitivity, step, quality, LAMBDAS[CONTEXTUAL])
        still, moved = (cell_error(luma, p, model.layers.unit) for p in (reference.y, search.prediction(flow)))
    m, z = model.analyse(flow, still, moved, quality)
    if worth is not None:
        refined = model.refine(m, flow, worth, quality, model.layers.pack(reference.y, reference.uv))
        m = m + (refined - m).detach()
        z = model.hyper_analysis(m, quality)
    if prior_only:
        m = m.detach()
        z = model.hyper_analysis(m, quality)
    return soft_latent(model.prior, m, z, [previous], quality, skip=skip, lam=LAMBDAS[MOTION] if worth is None else worth)


def flow_loss(vectors: Tensor, flow: Tensor) -> Tensor:
    """Robust distance of vectors to the teacher's, in units of VECTOR_UNIT, (B,): large errors of the teacher count linearly."""
    d = ((vectors - flow) / VECTOR_UNIT).square().sum(1)
    return ((d + 1e-4).sqrt()).flatten(1).mean(1)


@dataclass
class MotionStage:
    """One training step of the motion codec on pairs of source frames."""

    model: Flagship
    sampler: Sampler
    size: int = 128
    batch: int = 6
    slim_share: float = 0.3
    skip_from: float = 0.6

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        device = next(self.model.parameters()).device
        data = self.sampler.batch(self.size, self.batch, 3, flow=True)
        y, uv, flow = data.y.to(device).float(), data.uv.to(device).float(), data.flow.to(device)
        quality = draw_quality(self.batch, device)
        randomise_widths(self.model.motion, self.slim_share)
        skip = None if progress < self.skip_from else max(0.2, 2 * (1 - progress) / (1 - self.skip_from))
        flow_weight = 1.0 * (1 - progress) + 0.05
        reference, pack = Reference(y[0], uv[0]), self.model.layers.pack
        loss = torch.zeros((), device=device)
        metrics: dict[str, float] = {}
        for t in (1, 2):  # the second frame has a temporal prior
            current = pack(y[t], uv[t])
            previous = self.model.previous(reference)[1]
            latent = code_motion(self.model.motion, flow[t - 1], y[t], reference, previous, quality, skip=skip)
            prediction, _, vectors = self.model.predict(latent.value, quality, reference)
            rate = (latent.bits + latent.hyper_bits) / self.size**2
            error = weighted_mse(prediction, current)
            lam = quality_lambda(quality) * PREDICTION_SHARE
            loss = loss + ((rate + lam * error) * quality_weight(quality) + flow_weight * flow_loss(vectors, flow[t - 1])).mean()
            with torch.no_grad():
                copy = weighted_mse(pack(reference.y, reference.uv), current)
                taught = weighted_mse(pack(*compensate(reference.y, reference.uv, flow[t - 1])), current)
                for name, v in (("prediction", error.detach()), ("copy", copy), ("teacher", taught)):
                    metrics[f"psnr_{name}"] = metrics.get(f"psnr_{name}", 0.0) + float(psnr(v).mean()) / 2
                metrics["bpp_motion"] = metrics.get("bpp_motion", 0.0) + float(rate.mean()) / 2
                metrics["skipped"] = metrics.get("skipped", 0.0) + float(latent.skipped) / 2
            reference = Reference(y[t], uv[t], Fixed(torch.zeros_like(current[:, : self.model.config.inter.latent, ::2, ::2]), 4, 1), latent.fixed)
        return loss / 2, metrics
