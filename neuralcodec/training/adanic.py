"""Stage "adanic": the supernet of AdaNIC (paper 003) on single frames, with random quality for each sample; and the run that carries it out.

The paper trains one "following the paradigm of SlimCAE", with one lambda for all capacities. A step here takes three maps: the largest capacity
everywhere, the least, and a random map, every other time a uniform one (the rule of Yu and Huang, "Universally slimmable networks and improved training
techniques", ICCV 2019, which the paper names). Maps of training have smaller blocks than those of streams, so that a crop has several.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.adanic import TABLE_2, AdaNIC, AdaNICConfig
from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.files import save_model
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.capacity_map import CapacityMap, map_shape
from neuralcodec.nn.layout import ALIGN
from neuralcodec.training.data import Sampler
from neuralcodec.training.loop import Loop
from neuralcodec.training.loss import draw_quality, psnr, quality_lambda, quality_weight
from neuralcodec.training.runs import RunOptions, find_record, keep_record
from neuralcodec.training.slimcae import draw_crops, plane_distortion, plane_errors
from neuralcodec.training.stages import load_initial

RECORD = "adanic.json"
"""In a run's folder: the model's sizes."""
TRAINING_BLOCK = 4
"""Latent positions of a block's side in maps of training: 64 luma samples."""


@dataclass(frozen=True, kw_only=True)
class AdaNICOptions(RunOptions):
    """``table``: one of codecs.adanic.TABLE_2."""

    table: str = "high"

    def config(self) -> AdaNICConfig:
        return AdaNICConfig(*TABLE_2[self.table])


@dataclass
class AdaNICStage:
    """One training step of a supernet."""

    model: AdaNIC
    sampler: Sampler
    size: int = 128
    batch: int = 8
    prior_first: float = 0.03
    """Progress up to which only the entropy model learns, as in training.intra."""
    full_chroma: float = 0.5
    """Share of steps on 4:4:4, where clips are large enough."""
    mixed: float = 0.5
    """Share of random maps whose blocks differ."""

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        device = next(self.model.parameters()).device
        y, uv = draw_crops(self.sampler, self.size, self.batch, self.full_chroma, device)
        quality = draw_quality(self.batch, device)
        weight, x, waiting = quality_weight(quality), to_picture(y, uv), progress < self.prior_first
        loss, metrics = torch.zeros((), device=device), {}
        for name, tcm in self.draw_maps().items():
            latent, z = self.model.analyse(x, quality, tcm)
            if waiting:
                latent = latent.detach()
                z = self.model.hyper_analysis(latent, quality, 0)
            soft = soft_latent(self.model.prior_at(tcm), latent, z, [], quality, lam=LAMBDAS[CONTEXTUAL])
            errors = plane_errors(self.model.synthesise(soft.value, quality, tcm), y, uv)
            rate = (soft.bits + soft.hyper_bits) / y[0, 0].numel()
            cost = rate if waiting else rate + quality_lambda(quality) * plane_distortion(errors)
            loss = loss + (cost * weight).mean() / 3
            metrics |= {f"bpp_{name}": float(rate.detach().mean()), f"psnr_y_{name}": float(psnr(errors[0].detach()).mean())}
        return loss, metrics

    def draw_maps(self) -> dict[str, CapacityMap]:
        """The three maps of a step, by name."""
        grid, last = self.size // ALIGN, self.model.options - 1
        shape = map_shape(TRAINING_BLOCK, grid, grid)
        random = torch.randint(0, last + 1, shape).numpy()
        if float(torch.rand(())) >= self.mixed:
            random = np.full(shape, random[0, 0])
        found = {"largest": np.zeros(shape, np.int64), "least": np.full(shape, last), "random": random}
        return {name: CapacityMap.of_blocks(options, TRAINING_BLOCK, grid, grid) for name, options in found.items()}


def read_record(run: Path) -> AdaNICConfig | None:
    """The sizes of a run's model; None for a folder without them."""
    record = find_record(run, RECORD)
    return None if record is None else AdaNICConfig.from_dict(record)


def run_adanic(options: AdaNICOptions, config: AdaNICConfig | None = None) -> AdaNIC:
    """Train until the minutes or steps are over or the run is interrupted; the state is saved either way. ``config``: other sizes than the options'.

    Raises UsageError, InputError."""
    config = config or options.config()
    kept = read_record(options.run)
    if kept is not None and kept != config:
        raise UsageError(f"{options.run} is the run of a model with channels {', '.join(map(str, kept.n))}")
    seed = options.begin()
    model = AdaNIC(config)
    for source in options.init:
        load_initial(model, source)
    model.to(torch.device(options.device), memory_format=torch.channels_last).train()
    keep_record(options.run, RECORD, config.to_dict())
    stage = AdaNICStage(model, Sampler(options.load_clips(), seed), options.size or 128, options.batch or 8)
    groups = {"analysis": model.analysis, "hyper": model.hyper_analysis, "prior": model.prior, "gain": model.gain, "synthesis": model.synthesis}
    loop = Loop(options.run, model, groups, options.schedule(3e-4))
    loop.resume()
    loop.run(stage.step)
    return model


def export_adanic(run: Path, output: Path) -> tuple[bytes, AdaNIC]:
    """Write a run's weights as a model file; returns its identity and the model. Raises InputError, UsageError."""
    config = read_record(run)
    if config is None:
        raise UsageError(f"{run} is no run of the stage adanic")
    model = AdaNIC(config)
    load_initial(model, run)
    return save_model(output, model.eval(), model.width_tables()), model
