"""The stages as one table: what each trains, on which data, with which defaults; and the run that carries one out.

A stage starts from the run's own state when there is one, else from ``init`` (another run's folder or a model file), else from random
weights. See ``ncodec train --help``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.folding import to_float
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.exact_slimmable import ExactTrunk
from neuralcodec.nn.slimmable import SlimmableTrunk
from neuralcodec.training.ablations import Ablations, settle_record
from neuralcodec.training.calibrate import match_scale
from neuralcodec.training.chroma import revive_intra_chroma, start_inter_chroma, start_intra_chroma
from neuralcodec.training.data import Sampler
from neuralcodec.training.exact import all_exact, source_file
from neuralcodec.training.flow import load_flow
from neuralcodec.training.inter import InterStage, prediction_report
from neuralcodec.training.intra import IntraStage
from neuralcodec.training.loop import Loop
from neuralcodec.training.modulator import LossModulator
from neuralcodec.training.motion import MotionStage
from neuralcodec.training.normalisation import ChannelNormalisation
from neuralcodec.training.runs import RunOptions
from neuralcodec.training.widths import LearnedWidths, RandomWidths, expected_complexity

log = logging.getLogger(__name__)

FRAME_SKIPS, FOREIGN_CHANCE = (0.8, 0.15, 0.05), 0.03
"""Of the stages that train P frames, see training.data."""
STAGES = ("intra", "motion", "inter", "long", "levels")


@dataclass(frozen=True, kw_only=True)
class StageOptions(RunOptions):
    """``stage``: one of STAGES; ``frames``: how many are unrolled, ``chain``: see InterStage, and ``freeze``: which of motion and inter is not trained (long, levels);
    ``saturation``, ``scale``, ``detail`` and ``graphics``: see training.data; ``revive_chroma``: see training.chroma (intra); ``ablate``: what is switched off, see training.ablations (long, levels); ``modulator``: see training.modulator (long);
    ``freeze_normalisation``: steps after which it does not change any more, see training.normalisation (long); None: none;
    ``floating``: train in floating point what starts from the file of an exact model (to be exported with ``--exact`` again)."""

    stage: str
    frames: int | None = None
    chain: int | None = None
    freeze: str | None = None
    saturation: float = 0.0
    scale: float = 0.0
    detail: float = 0.0
    graphics: float = 0.0
    revive_chroma: bool = False
    floating: bool = False
    ablate: tuple[str, ...] = ()
    modulator: bool = False
    freeze_normalisation: int | None = None
    hypotheses: bool = False


def run_stage(options: StageOptions) -> Flagship:
    """Train a stage until its minutes or steps are over or it is interrupted; the state is saved either way. Raises UsageError, InputError."""
    if options.stage not in STAGES:
        raise UsageError(f"unknown stage {options.stage!r}; stages: {', '.join(STAGES)}")
    if options.ablate and options.stage not in ("long", "levels"):
        raise UsageError(f"--ablate {options.ablate[0]}: of the stages long and levels")
    if options.hypotheses and options.stage not in ("long", "levels"):
        raise UsageError("--hypotheses: of the stages long and levels")
    if options.revive_chroma and options.stage != "intra":
        raise UsageError("--revive-chroma: of the stage intra")
    for name, given in (("--modulator", options.modulator), ("--freeze-normalisation", options.freeze_normalisation)):
        if given and options.stage != "long":
            raise UsageError(f"{name}: of the stage long")
    seed = options.begin()
    device = torch.device(options.device)
    resumed = [str(options.run)] if (options.run / "state.safetensors").exists() else []
    exact = all_exact([*resumed] if options.floating else [*options.init, *resumed])
    model = ExactFlagship() if exact else Flagship()
    # Later ones override what earlier ones hold. The run's own weights too, although they are read again with the rest of its state: what follows asks what
    # has been learned already.
    for source in [*options.init, *resumed]:
        load_initial(model, source)
    model.to(device, memory_format=torch.channels_last).train()
    ablations = Ablations(model, options.ablate)
    settle_record(options.run, options.ablate, bool(resumed))
    ablations.begin()
    packs = options.load_clips()
    if options.stage != "intra":
        for clips, folder in zip(packs, options.data, strict=True):
            clips.flow = np.array(load_flow(clips, options.cache, folder.name))
    inter = options.stage in ("inter", "long", "levels")
    sampler = Sampler(packs, seed, saturation=options.saturation, scale=options.scale, detail=options.detail, graphics=options.graphics,
                      skips=FRAME_SKIPS if inter else (1.0,), foreign=FOREIGN_CHANCE if inter else 0.0)
    if options.freeze not in (None, "motion", "inter") or (options.freeze and options.stage not in ("long", "levels")):
        raise UsageError(f"--freeze {options.freeze}: motion or inter, of the stages long and levels")
    if options.revive_chroma and not resumed:
        revive_intra_chroma(model, sampler)
    build = {"intra": _intra, "motion": _motion, "inter": _inter, "long": _long, "levels": _levels}[options.stage]
    stage, groups, rate, after = build(model, sampler, options)
    trained = {id(p) for m in groups.values() for p in m.parameters()}
    for p in model.parameters():
        p.requires_grad_(id(p) in trained)
    kept = {} if getattr(stage, "modulator", None) is None else {"modulator": stage.modulator.mu}
    if isinstance(policy := getattr(stage, "widths", None), LearnedWidths):
        kept |= policy.kept()
    normalisation = ChannelNormalisation(model, options.freeze_normalisation) if options.freeze_normalisation else None
    if normalisation is not None:
        kept |= normalisation.kept()
    loop = Loop(options.run, model, groups, options.schedule(rate), kept)
    loop.resume()
    if normalisation is not None:
        normalisation.attach(loop.optimiser)
    ablations.hold_through(loop.optimiser)
    loop.run(stage.step)
    after()
    return model


def load_initial(model: Flagship, source: str | Path) -> None:
    """Take weights from a run's folder or a model file; with ``source`` = "PATH#part,part" only of those parts (intra, motion, inter).

    What the source lacks, or holds in another shape, stays as it is. Raises InputError."""
    file, parts = source_file(source)
    with safe_open(file, "pt") as f:
        tensors = {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118 - not a dict
    if not any(n.startswith("model.") for n in tensors):
        loaded = load_model(file).model
        if loaded.layers.exact and not model.layers.exact:
            loaded = to_float(loaded)
        match_scale(loaded, model)
        tensors = {f"model.{n}": t for n, t in loaded.state_dict().items()}
    own = model.state_dict()
    wanted = tuple(f"{p}." for p in parts) if parts else ("",)
    taken = {n: tensors[f"model.{n}"] for n in own if n.startswith(wanted) and f"model.{n}" in tensors}
    # A selection that was never trained (all zero) says nothing and must not wipe out one that was.
    fitting = {n: t for n, t in taken.items() if (t.shape == own[n].shape or n.endswith(".format")) and not (n.endswith("selection.logits") and not t.any())}
    model.load_state_dict(fitting, strict=False)
    for name, prior in model.named_modules():
        if isinstance(prior, LatentPrior) and f"{name}.fuse.weight" in fitting:
            if f"{name}.later.0.fuse.weight" not in fitting:
                prior.start_later_parts()  # a model of before, whose latents have one part
            elif prior.parts == 4 and f"{name}.later.1.fuse.weight" not in fitting:
                prior.start_from_two_parts()
            elif prior.parts == 4 and f"{name}.later.2.fuse.weight" not in fitting:
                prior.start_later_parts(2)  # vectors in three parts
    _select_new_blocks(model)
    log.info("%s: %d of %d tensors taken", source, len(fitting), len(own))


def _select_new_blocks(model: nn.Module) -> None:
    """Blocks that a trunk has more than its source had are as wide as the one before them, at each level."""
    for trunk in model.modules():
        if isinstance(trunk, SlimmableTrunk | ExactTrunk):
            for block, before in zip(list(trunk)[1:], trunk, strict=False):
                if not block.selection.logits.any():
                    block.selection.logits.data.copy_(before.selection.logits)


Built = tuple[object, dict[str, nn.Module], float, Callable[[], None]]


def _nothing() -> None:
    pass


def _intra(model: Flagship, sampler: Sampler, options: StageOptions) -> Built:
    m = model.intra
    start_intra_chroma(model, sampler)
    groups = {"analysis": m.analysis, "hyper": m.hyper_analysis, "prior": m.prior, "gain": m.gain, "synthesis": m.synthesis}
    return IntraStage(m, sampler, options.size or 128, options.batch or 8), groups, 4e-4, _nothing


def _motion_groups(model: Flagship) -> dict[str, nn.Module]:
    m = model.motion
    return {"motion.encoder": m.encoder, "motion.hyper": m.hyper_analysis, "motion.prior": m.prior, "motion.gain": m.gain,
            "motion.decoder": m.decoder, "motion.refinement": m.refinement}


def _inter_groups(model: Flagship) -> dict[str, nn.Module]:
    m = model.inter
    motion = _motion_groups(model)
    # Training's estimate of the rate makes these steps coarser than pays: coding rounds by rate and by what a vector's error does there.
    del motion["motion.gain"]
    return motion | {
        "inter.extraction": m.extraction, "inter.refinement": m.refinement, "inter.analysis": m.analysis, "inter.hyper": m.hyper_analysis,
        "inter.prior": m.prior, "inter.gain": m.gain, "inter.decoder": m.decoder}


def _unfrozen(model: Flagship, options: StageOptions) -> dict[str, nn.Module]:
    return {n: m for n, m in _inter_groups(model).items() if options.freeze is None or not n.startswith(f"{options.freeze}.")}


def _motion(model: Flagship, sampler: Sampler, options: StageOptions) -> Built:
    stage = MotionStage(model, sampler, options.size or 128, options.batch or 6)

    def report() -> None:
        model.eval()
        for quality in (20, 100, 180):
            log.info("quality index %d: %s", quality, prediction_report(model, sampler, quality, size=stage.size))

    return stage, _motion_groups(model), 1.5e-3, report


def _growing(progress: float) -> int:
    return 3 if progress < 0.4 else 4 if progress < 0.75 else 6


def _inter(model: Flagship, sampler: Sampler, options: StageOptions) -> Built:
    stage = InterStage(model, sampler, RandomWidths(), options.size or 128, frames=_growing, joint_from=0.1, prior_first=0.05)
    if options.batch:
        stage.pixels = options.batch * 2 * stage.size**2
    return stage, _inter_groups(model), 5e-4, _nothing


def _long(model: Flagship, sampler: Sampler, options: StageOptions) -> Built:
    """More frames unrolled, everything joint from the start, no flow label in the loss."""
    start_inter_chroma(model, sampler)
    frames = options.frames or 8
    stage = InterStage(model, sampler, RandomWidths(), options.size or 128, frames=lambda _: frames, joint_from=0.0, skip_from=0.0,
                       lowest_temperature=0.2, prior_first=0.03, chain=options.chain or 1,
                       modulator=LossModulator(torch.device(options.device)) if options.modulator else None, hypotheses=options.hypotheses)
    if options.batch:
        stage.pixels = options.batch * (frames - 1) * stage.size**2
    return stage, _unfrozen(model, options), 3e-4, _nothing


def _levels(model: Flagship, sampler: Sampler, options: StageOptions) -> Built:
    """From a model whose widths were learned already the stage goes on with these."""
    frames = options.frames or 8
    policy = LearnedWidths() if LearnedWidths.initialise(model) else LearnedWidths(freeze_from=torch.tensor(0.0))
    if policy.freeze_from > 0 and (options.chain or 1) > 1:
        raise UsageError("--chain: widths that are still to be learned are drawn for every step")
    stage = InterStage(model, sampler, policy, options.size or 128, frames=lambda p: min(frames, 4 if p < 0.4 else 6 if p < 0.8 else 8),
                       joint_from=0.0, skip_from=0.0, lowest_temperature=0.2, chain=options.chain or 1, hypotheses=options.hypotheses)
    if options.batch:
        stage.pixels = options.batch * (frames - 1) * stage.size**2

    def report() -> None:
        for level in (1, 2, 3):
            log.info("level %d: %.1f %% of the full slimmable multiply-accumulates", level, 100 * expected_complexity(model, level))

    return stage, _unfrozen(model, options), 3e-4, report
