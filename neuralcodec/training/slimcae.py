"""Stage "slimcae": all widths of a SlimCAE on every step, on single frames, with random quality for each sample; and the run that carries it out.

After a while at one lambda for all widths the schedule of training.slimcae_lambdas lowers those of the narrow ones; then they stay. A step's crops
are 4:2:0, or 4:4:4 by halving luma.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.files import save_model
from neuralcodec.codecs.slimcae import WIDTHS, SlimCAE, SlimCAEConfig
from neuralcodec.codecs.slimcae_coding import to_picture, to_planes
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.core.errors import UsageError
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.training.data import Sampler
from neuralcodec.training.loop import Loop
from neuralcodec.training.loss import CHROMA_FACTOR, draw_quality, psnr, quality_lambda, quality_weight
from neuralcodec.training.runs import RunOptions, find_record, keep_record
from neuralcodec.training.slimcae_lambdas import LambdaSchedule, Point
from neuralcodec.training.stages import load_initial

log = logging.getLogger(__name__)

RECORD = "slimcae.json"
"""In a run's folder: the model's sizes, and the state of the schedule."""
VALIDATION_SEED, VALIDATION_CROPS = 7, 16


@dataclass(frozen=True, kw_only=True)
class SlimCAEOptions(RunOptions):
    """``gdn``: one of nn.gdn.KINDS; ``width``: a model of this width alone; ``one_lambda``: no schedule, all
    widths have the same tradeoff (several complexities at one rate); ``lambda_share``: of the quality scale's lambda, where the schedule starts."""

    gdn: str = "slim-plus"
    width: int | None = None
    one_lambda: bool = False
    lambda_share: float = 1.0

    def config(self) -> SlimCAEConfig:
        """Raises UsageError for a width that cannot be."""
        return SlimCAEConfig((self.width,) if self.width is not None else WIDTHS, self.gdn)


@dataclass
class SlimCAEStage:
    """One training step of a SlimCAE."""

    model: SlimCAE
    sampler: Sampler
    schedule: LambdaSchedule
    size: int = 128
    batch: int = 8
    scheduled: tuple[float, float] | None = (0.3, 0.8)
    """Progress between which lambdas are lowered; None: never."""
    run: Path | None = None
    """Folder in which the schedule is kept over resumptions."""
    prior_first: float = 0.03
    """Progress up to which only the entropy model learns, as in training.intra."""
    full_chroma: float = 0.5
    """Share of steps on 4:4:4, where clips are large enough."""
    crops: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Fixed crops that the schedule measures on."""

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        device = next(self.model.parameters()).device
        metrics = self._follow_schedule(progress, device)
        y, uv = self._draw(device)
        quality = draw_quality(self.batch, device)
        weight, x = quality_weight(quality), to_picture(y, uv)
        loss = torch.zeros((), device=device)
        for option, (width, share) in enumerate(zip(self.model.config.widths, self.schedule.shares, strict=True)):
            waiting = progress < self.prior_first
            rate, errors = self._code(x, y, uv, quality, option, prior_only=waiting)
            cost = rate if waiting else rate + share * quality_lambda(quality) * plane_distortion(errors)
            loss = loss + (cost * weight).mean() / self.model.options
            luma = psnr(errors[0].detach())
            metrics |= {f"bpp_{width}": float(rate.detach().mean()), f"psnr_y_{width}": float(luma.mean()), f"share_{width}": share}
        return loss, metrics

    def _code(self, x: Tensor, y: Tensor, uv: Tensor, quality: Tensor, option: int, *, prior_only: bool = False,
              noise: bool = True) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Bits for a luma sample (B,), and squared errors of Y, U, V for samples in 0..1, each (B,)."""
        latent, z = self.model.analyse(x, quality, option)
        if prior_only:
            latent = latent.detach()
            z = self.model.hyper_analysis(latent, quality, option)
        soft = soft_latent(self.model.prior.at(option), latent, z, [], quality, noise=noise, lam=LAMBDAS[CONTEXTUAL])
        errors = plane_errors(self.model.synthesise(soft.value, quality, option), y, uv)
        return (soft.bits + soft.hyper_bits) / y[0, 0].numel(), errors

    def _draw(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return draw_crops(self.sampler, self.size, self.batch, self.full_chroma, device)

    def _follow_schedule(self, progress: float, device: torch.device) -> dict[str, float]:
        if self.scheduled is None or self.schedule.done:
            return {}
        start, end = self.scheduled
        if progress < start + (end - start) * self.schedule.measured / self.schedule.most_measurements:
            return {}
        points = self.measure(device)
        self.schedule.advance(points)
        log.info("shares of lambda: %s", ", ".join(f"{s:.3f}" for s in self.schedule.shares))
        if self.run is not None:
            write_record(self.run, self.model.config, self.schedule)
        named = zip(self.model.config.widths, points, strict=True)
        return {f"point_{name}_{width}": value for width, point in named for name, value in zip(("bpp", "psnr"), point, strict=True)}

    @torch.no_grad()
    def measure(self, device: torch.device) -> list[Point]:
        """What each width reaches on fixed crops at quality 50: bits per pixel, and (6 Y + U + V) / 8 of mean PSNRs."""
        if not self.crops:
            data = Sampler(self.sampler.packs, VALIDATION_SEED, gamma=0.0).batch(self.size, VALIDATION_CROPS, 1)
            self.crops = list(zip(data.y[0].float().split(self.batch), data.uv[0].float().split(self.batch), strict=True))
        points = []
        for option in range(self.model.options):
            rates, levels = [], []
            for y, uv in ((y.to(device), uv.to(device)) for y, uv in self.crops):
                quality = torch.full((len(y),), QUALITY_STEPS // 2, device=device)
                rate, errors = self._code(to_picture(y, uv), y, uv, quality, option, noise=False)
                rates.append(rate)
                levels.append(sum(w * psnr(e) for w, e in zip((6, 1, 1), errors, strict=True)) / 8)
            points.append((float(torch.cat(rates).mean()), float(torch.cat(levels).mean())))
        return points


def draw_crops(sampler: Sampler, size: int, batch: int, full_chroma: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """y (B, 1, S, S), uv (B, 2, S/2, S/2) or, in a share ``full_chroma`` of calls where clips are large enough, (B, 2, S, S)."""
    smallest = min(min(p.height, p.width) for p in sampler.packs)
    full = 2 * size <= smallest and float(torch.rand(())) < full_chroma
    data = sampler.batch(size * (2 if full else 1), batch, 1)
    y, uv = data.y[0].to(device).float(), data.uv[0].to(device).float()
    return (F.avg_pool2d(y, 2), uv) if full else (y, uv)


def plane_errors(picture: Tensor, y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors of Y, U, V for samples in 0..1, each (B,), of a decoded picture (B, 3, H, W)."""
    decoded = to_planes(picture, subsampled=uv.shape[-1] != y.shape[-1])
    luma, chroma = ((d - s).square().mean((2, 3)) / 255**2 for d, s in zip(decoded, (y, uv), strict=True))
    return luma[:, 0], chroma[:, 0], chroma[:, 1]


def plane_distortion(errors: tuple[Tensor, ...]) -> Tensor:
    """As training.loss.distortion, from the planes' errors."""
    y, u, v = errors
    factors = [(y / c.clamp_min(1e-8)).detach().clamp(*CHROMA_FACTOR) for c in (u, v)]
    return (6 * y + factors[0] * u + factors[1] * v) / 8


def write_record(run: Path, config: SlimCAEConfig, schedule: LambdaSchedule) -> None:
    """Keep a run's sizes and schedule in its folder."""
    keep_record(run, RECORD, {"config": config.to_dict(), "schedule": asdict(schedule)})


def read_record(run: Path) -> tuple[SlimCAEConfig, LambdaSchedule] | None:
    """What ``write_record`` kept in a run's folder; None where there is none."""
    record = find_record(run, RECORD)
    if record is None:
        return None
    return SlimCAEConfig.from_dict(record["config"]), LambdaSchedule(**record["schedule"])


def run_slimcae(options: SlimCAEOptions, config: SlimCAEConfig | None = None) -> SlimCAE:
    """Train until the minutes or steps are over or the run is interrupted; the state is saved either way. ``config``: other sizes than the options'.

    Raises UsageError, InputError."""
    config = config or options.config()
    if not 0 < options.lambda_share <= 1:
        raise UsageError(f"lambda share {options.lambda_share:g}: choose above 0 to 1")
    kept = read_record(options.run)
    if kept is not None and kept[0] != config:
        raise UsageError(f"{options.run} is the run of a model with widths {', '.join(map(str, kept[0].widths))} and {kept[0].gdn} GDN")
    schedule = kept[1] if kept else LambdaSchedule([options.lambda_share] * len(config.widths))
    seed = options.begin()
    model = SlimCAE(config)
    for source in options.init:
        load_initial(model, source)
    model.to(torch.device(options.device), memory_format=torch.channels_last).train()
    write_record(options.run, config, schedule)
    stage = SlimCAEStage(model, Sampler(options.load_clips(), seed), schedule, options.size or 128, options.batch or 8, run=options.run)
    if options.one_lambda:
        stage.scheduled = None
    groups = {"analysis": model.analysis, "hyper": model.hyper_analysis, "prior": model.prior, "gain": model.gain, "synthesis": model.synthesis}
    loop = Loop(options.run, model, groups, options.schedule(3e-4))
    loop.resume()
    loop.run(stage.step)
    return model


def export_slimcae(run: Path, output: Path) -> tuple[bytes, SlimCAE]:
    """Write a run's weights as a model file; returns its identity and the model. Raises InputError, UsageError."""
    kept = read_record(run)
    if kept is None:
        raise UsageError(f"{run} is no run of the stage slimcae")
    config, schedule = kept
    model = SlimCAE(config)
    load_initial(model, run)
    shares = ", ".join(f"{w}: {s:.3f}" for w, s in zip(config.widths, schedule.shares, strict=True))
    return save_model(output, model.eval(), model.width_tables(), {"lambda shares": shares}), model
