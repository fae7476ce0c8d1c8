"""Stages "inter" and "levels": P frames over several unrolled frames, in closed loop, from a frozen intra model.

At first the prediction is detached from the contextual loss and motion keeps its own (DESIGN D7); then everything trains together.
Gradient runs through the decoded references of the unrolled frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuralcodec.codecs.coding import CASCADE, CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.flagship import Flagship, Reference
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.layout import to_samples
from neuralcodec.training.data import Sampler
from neuralcodec.training.hypotheses import History, choose_cells
from neuralcodec.training.loss import (
    distortion,
    draw_quality,
    psnr,
    quality_lambda,
    quality_weight,
    relative_cost,
    weighted_mse,
)
from neuralcodec.training.modulator import IntraErrors, LossModulator
from neuralcodec.training.motion import PREDICTION_SHARE, code_motion
from neuralcodec.training.widths import WidthPolicy


def intra_reference(model: Flagship, y: Tensor, uv: Tensor, quality: Tensor) -> Reference:
    """What a decoder has after the intra frame; no gradient."""
    with torch.no_grad():
        return Reference(*to_samples(*model.layers.unpack(_intra_decoded(model, model.layers.pack(y, uv), quality))))


def _intra_decoded(model: Flagship, x: Tensor, quality: Tensor) -> Tensor:
    """Packed planes -> packed planes."""
    latent, z = model.intra.analyse(x, quality)
    soft = soft_latent(model.intra.prior, latent, z, [], quality, noise=False, skip=0.0, lam=LAMBDAS[CONTEXTUAL])
    return model.intra.synthesise(soft.value, quality)


@torch.no_grad()
def intra_errors(model: Flagship, y: Tensor, uv: Tensor, low: Tensor, high: Tensor) -> IntraErrors:
    """Of pictures coded as intra frames at two quality indexes (B,)."""
    x = model.layers.pack(y, uv)
    return IntraErrors(low, high, *(weighted_mse(_intra_decoded(model, x, quality), x) for quality in (low, high)))


@dataclass
class Chain:
    """Samples that several steps work through, each where the one before ended. ``y`` to ``foreign`` as in Batch, on the device; ``quality``, and ``turn`` and
    ``strength`` of its cascade, (B,), are those of the whole chain; ``at``: the frame that ``reference`` shows; ``intra``: for a modulator."""

    y: Tensor
    uv: Tensor
    flow: Tensor
    foreign: Tensor | None
    quality: Tensor
    turn: Tensor
    strength: Tensor
    reference: Reference
    history: History = field(default_factory=History)
    at: int = 0
    intra: IntraErrors | None = None

    def left(self) -> int:
        """Frames that are still to be coded."""
        return len(self.y) - 1 - self.at


@dataclass
class InterStage:
    """One training step over ``frames(progress)`` frames; ``joint_from`` is the progress at which the prediction is no longer detached."""

    model: Flagship
    sampler: Sampler
    widths: WidthPolicy
    size: int = 128
    pixels: int = 6 * 2 * 128 * 128
    """Coded luma pixels of a step: the batch follows from it."""
    frames: Callable[[float], int] = field(default=lambda progress: 3)
    joint_from: float = 0.3
    skip_from: float = 0.5
    prior_first: float = 0.0
    """Progress up to which transforms wait for their entropy models, see training.intra."""
    lowest_temperature: float = 0.2
    intra_boost: int = 90
    """Most quality indexes by which the intra frame is better, drawn for each sample."""
    cascade: float = 1.5
    """Most that the encoder's usual differences between P frames are multiplied by, drawn for each sample."""
    chain: int = 1
    """Most steps that go on with the same samples, each from the frames that the one before decoded, without their gradient. What adds up over many
    frames, rounding among it, is so seen for what a few unrolled frames cost. Widths are drawn once for a chain: only for a policy without penalty."""
    modulator: LossModulator | None = None
    hypotheses: bool = False
    """Whether cells take the best of several predictions, see training.hypotheses."""
    _chain: Chain | None = field(default=None, init=False)

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        frames, pack = self.frames(progress), self.model.layers.pack
        penalty, metrics = torch.zeros(()), {}
        chain = self._chain
        if chain is None or chain.left() < frames - 1:
            penalty, metrics = self.widths.draw(self.model, progress)
            chain = self._chain = self._begin(frames)
        drawn, device, reference, history = chain.quality, chain.y.device, chain.reference, chain.history
        waiting = progress < self.prior_first
        skip = None
        if progress >= self.skip_from:
            skip = max(self.lowest_temperature, 2 * (1 - progress) / max(1e-6, 1 - self.skip_from))
        joint = progress >= self.joint_from
        cascade = torch.tensor(CASCADE, device=device)
        cost = torch.zeros(len(drawn), device=device)
        for t in range(chain.at + 1, chain.at + frames):
            better = cascade[(chain.turn + t) % len(CASCADE)]
            quality = (drawn + torch.round(chain.strength * better).long()).clamp(0, QUALITY_STEPS)
            lam, weight = quality_lambda(quality), quality_weight(quality)
            y, uv, flow = chain.y[t].float(), chain.uv[t].float(), chain.flow[t - 1]
            current = pack(y, uv)
            before = reference if joint else reference.detach()
            latent, motion = self.model.previous(before)
            m = code_motion(self.model.motion, flow, y, before, motion, quality, skip=skip, prior_only=waiting)
            prediction, hidden, vectors = self.model.predict(m.value, quality, before)
            if self.hypotheses:
                ways = history.ways(vectors, (before.y, before.uv))
                prediction = choose_cells(prediction, current, ways, pack, quality, self.model.layers.unit)
                history = history.after(ways, better == max(CASCADE))
            if chain.foreign is not None:
                # No vector can help there; their errors, the largest of all, would drown what motion can learn from (it collapsed within 600 steps).
                prediction = torch.where(chain.foreign[t - 1], prediction.detach(), prediction)
            motion_rate = (m.bits + m.hyper_bits) / self.size**2
            error = weighted_mse(prediction, current)
            cost = cost + motion_rate * weight
            if not joint:
                cost = cost + lam * PREDICTION_SHARE * error * weight
                prediction, hidden = prediction.detach(), hidden.detach()
            context = self.model.inter.context(prediction, hidden)
            latent_y, z = self.model.inter.analyse(current, prediction, context, quality)
            if waiting:
                latent_y = latent_y.detach()
                z = self.model.inter.hyper_analysis(latent_y, quality)
            c = soft_latent(self.model.inter.prior, latent_y, z, [latent, m.fixed], quality, skip=skip, lam=LAMBDAS[CONTEXTUAL])
            decoded = self.model.inter.synthesise(c.value, prediction, context, quality)
            rate = (c.bits + c.hyper_bits) / self.size**2
            mu = 1.0 if self.modulator is None else self.modulator.factors(t, quality)
            cost = cost + (rate + lam * mu * distortion(decoded, current)) * weight
            reference = Reference(*_samples_ste(self.model.layers.unpack(decoded)), c.fixed, m.fixed)
            with torch.no_grad():
                coded_error = weighted_mse(decoded, current)
                copy = weighted_mse(pack(before.y, before.uv), current)
                figures = {"bpp_motion": motion_rate, "bpp_contextual": rate, "psnr": psnr(coded_error), "psnr_prediction": psnr(error),
                           "psnr_copy": psnr(copy), "skipped_motion": m.skipped, "skipped_contextual": c.skipped}
                if self.modulator is not None:
                    behind = self.modulator.observe(t, quality, coded_error, chain.intra.at(quality))
                    figures |= {"mu": mu, "behind": behind.float()}
                for name, value in figures.items():
                    metrics[name] = metrics.get(name, 0.0) + float(value.mean()) / (frames - 1)
                if t == chain.at + frames - 1:
                    metrics["psnr_last"] = float(psnr(coded_error).mean())
        metrics["frame"] = chain.at + frames / 2  # after the intra frame, in the mean
        chain.at, chain.reference, chain.history = chain.at + frames - 1, reference.detach(), history
        mean = cost / (frames - 1)
        metrics["cost"] = float(mean.detach().mean())
        return relative_cost(mean) + penalty, metrics

    def _begin(self, frames: int) -> Chain:
        """New samples, after their intra frames, for up to ``chain`` steps of ``frames`` - 1 P frames."""
        device = next(self.model.parameters()).device
        batch = max(1, round(self.pixels / (self.size**2 * (frames - 1))))
        steps = 1 + torch.randint(self.chain, ()).item()
        data = self.sampler.batch(self.size, batch, 1 + steps * (frames - 1), flow=True)
        y, uv, flow = data.y.to(device), data.uv.to(device), data.flow.to(device)
        drawn = draw_quality(batch, device, 1.0)
        # The encoder may code intra frames better than those after them, which refer to them.
        boost = torch.randint(0, self.intra_boost + 1, (batch,), device=device)
        reference = intra_reference(self.model, y[0].float(), uv[0].float(), (drawn + boost).clamp_max(QUALITY_STEPS))
        turn, strength = torch.randint(len(CASCADE), (batch,), device=device), self.cascade * torch.rand(batch, device=device)
        chain = Chain(y, uv, flow, None if data.foreign is None else data.foreign.to(device), drawn, turn, strength, reference)
        if self.modulator is not None:
            ends = ((drawn + math.floor(self.cascade * min(CASCADE))).clamp_min(0), (drawn + math.ceil(self.cascade * max(CASCADE))).clamp_max(QUALITY_STEPS))
            chain.intra = intra_errors(self.model, y[0].float(), uv[0].float(), *ends)
        return chain


def _samples_ste(planes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Planes rounded to 8-bit samples, with a straight-through gradient."""
    rounded = to_samples(*(p.detach() for p in planes))
    return tuple(p + (r - p.detach()) for p, r in zip(planes, rounded))


@torch.no_grad()
def prediction_report(model: Flagship, sampler: Sampler, quality: int = 100, count: int = 16, size: int = 192) -> dict[str, float]:
    """The figure that says whether motion learned its part: PSNR of copy, prediction and teacher on source frames."""
    device = next(model.parameters()).device
    data, pack = sampler.batch(size, count, 2, flow=True), model.layers.pack
    y, uv, flow = data.y.to(device).float(), data.uv.to(device).float(), data.flow.to(device)
    q = torch.full((count,), quality, device=device)
    reference, current = Reference(y[0], uv[0]), pack(y[1], uv[1])
    m = code_motion(model.motion, flow[0], y[1], reference, model.previous(reference)[1], q, skip=0.0)
    prediction, _, _ = model.predict(m.value, q, reference)
    taught = pack(*compensate(y[0], uv[0], flow[0]))
    rows = {"copy": pack(y[0], uv[0]), "prediction": prediction, "teacher": taught}
    return {n: float(psnr(weighted_mse(p, current)).mean()) for n, p in rows.items()} | {"bpp": float((m.bits + m.hyper_bits).mean()) / size**2}
