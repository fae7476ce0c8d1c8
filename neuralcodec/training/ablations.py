"""Ablations: P frames trained with an element of the design switched off, to say what it is worth.

An element is switched off by weights alone: some elements of parameters are set to values that disable it, get no gradient, and are set again after every
step. So the state of such a run is a model of the usual architecture, which ``export`` writes and the unmodified codec runs. The control is the same
command without ablations; a stage that starts from such a run (``--init``) has to be told the same ones.

``temporal``
    Priors read no latents of the frame before. That of contextual latents goes on reading the frame's own motion latent.
``parts``
    Means and scales in one pass: later parts of motion and contextual latents are coded by what the first one knows, hyper latent and temporal
    latents. The direct channels of the motion prior, which hand the neighbours' mean through, are spatial features too and are off with them; so its parts
    that code sums of cells begin as the first one of these. Intra frames keep their parts: the stages that take ablations do not train them.
``motion``
    No explicit motion: vectors are zero, a prediction is the frame before. Motion latents and hyper latents are zero, at next to no bits, so decoders
    have only learned constants as motion features.
``grid``
    One vector for 16x16 luma samples in place of 8x8: of the Hadamard transform of 2x2 vectors only the two sums are coded, its six differences are zero.
    Decoder and refinement may still vary vectors within a cell, by what they see in neighbouring cells and in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch
from torch import nn

from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.motion import MotionModel
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.training.runs import find_record, keep_record

RECORD = "ablations.json"
"""In a run's folder: names, where it has ablations."""
SMALLEST_GAIN = -16.0
"""log2 of an encoder's gain at which no vector reaches half of a step (VECTOR_LIMIT is 2**9), and worth is still a finite number in float32."""
SKIPPED = -2.0
"""Logit of a mode."""

Held = tuple[nn.Parameter, object, float]
"""A parameter, an index into it, the value that it has there."""


def _temporal(model: Flagship) -> Iterator[Held]:
    for prior in (model.motion.prior, model.inter.prior):
        yield prior.temporal_in.weight, (slice(None), slice(prior.channels)), 0.0  # latents of the frame before come first


def _parts(model: Flagship) -> Iterator[Held]:
    for prior in (model.motion.prior, model.inter.prior):
        for part in _later(prior):
            yield part.fuse.weight, (slice(None), slice(prior.fuse.cin, None)), 0.0  # spatial features come last


def _motion(model: Flagship) -> Iterator[Held]:
    motion = model.motion
    yield from _silence(motion, slice(None))
    for layer in (motion.decoder.head, motion.refinement.head, motion.hyper_analysis.down2):
        yield from _rows(layer, slice(None))
    yield motion.prior.hyper_scale, slice(None), 0.0


def _grid(model: Flagship) -> Iterator[Held]:
    prior = model.motion.prior
    yield from _silence(model.motion, [i for i in range(prior.channels) if i % (prior.channels // 2)])  # as in codecs.parts.Division


def _silence(motion: MotionModel, channels: slice | list[int]) -> Iterator[Held]:
    """Channels of the motion latent become zero: mean zero, the smallest scale, skipped. The encoder gives zero for them, and what MotionModel.refine adds
    afterwards rounds to zero."""
    prior, encoder = motion.prior, motion.encoder
    for part in (prior, *_later(prior)):
        yield from _rows(part.mean_head, channels)
        yield from _rows(part.scale_head, channels)
        yield part.scale_quality.anchors, (slice(None), channels), 0.0
    yield prior.mode.leave.weight, channels, 0.0
    yield prior.mode.leave.bias, channels, SKIPPED
    for layer in (encoder.down, encoder.last.inner.spatial, encoder.last.inner.project):
        yield from _rows(layer, channels)
    yield motion.gain.encode, (slice(None), channels), SMALLEST_GAIN


def _later(prior: LatentPrior) -> list[nn.Module]:
    return [prior.later[i] for i in range(prior.parts - 1)]


def _rows(layer: nn.Module, channels: slice | list[int]) -> Iterator[Held]:
    """Nothing comes out of a convolution at these channels."""
    yield layer.weight, channels, 0.0
    yield layer.bias, channels, 0.0


ABLATIONS: dict[str, Callable[[Flagship], Iterator[Held]]] = {"temporal": _temporal, "parts": _parts, "motion": _motion, "grid": _grid}


@torch.no_grad()
def _begin_parts(model: Flagship) -> None:
    """Of vectors, later parts have hardly any other mean than that of the direct channels: without it, motion in six frames of the demo clip at quality 50 took
    49 kbit in place of 9, and 19 from this beginning. (Contextual latents took the 95 kbit that they had taken.)"""
    prior, own = model.motion.prior, model.motion.prior.fuse.cout
    for part in _later(prior)[:2]:
        if not part.fuse.weight[:, prior.fuse.cin :].any():  # it was off before
            continue
        part.start_from(prior)
        part.mean_head.weight[:, :own] = prior.mean_head.weight
        part.mean_head.bias.copy_(prior.mean_head.bias)
        for head in (part.mean_head, part.scale_head):
            head.weight[:, own:] = 0


class Ablations:
    """What of a model's parameters is held, for some of ABLATIONS by name. Raises UsageError for an unknown one."""

    def __init__(self, model: Flagship, names: Collection[str]) -> None:
        for name in names:
            if name not in ABLATIONS:
                raise UsageError(f"unknown ablation {name!r}; there are {', '.join(ABLATIONS)}")
        self._model, self._names = model, frozenset(names)
        self._held: list[tuple[nn.Parameter, torch.Tensor, float]] = []
        for parameter, index, value in (held for name in names for held in ABLATIONS[name](model)):
            where = torch.zeros_like(parameter, dtype=torch.bool)
            where[index] = True
            self._held.append((parameter, where, value))

    def begin(self) -> None:
        """Hold what is held from the start, and give what depended on it another start."""
        if "parts" in self._names:
            _begin_parts(self._model)
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Set the values."""
        for parameter, where, value in self._held:
            parameter.masked_fill_(where, value)

    def hold_through(self, optimiser: torch.optim.Optimizer) -> None:
        """Set the values now and after every step; no gradients there, which would reach other elements through the optimiser's averages and the norm."""
        self.hold()
        for parameter, where, _ in self._held:
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient, where=where: gradient.masked_fill(where, 0.0))
        optimiser.register_step_post_hook(lambda *_: self.hold())


def settle_record(run: Path, names: Collection[str], resumed: bool) -> None:
    """Keep the names in a run's folder. Raises UsageError where a run is ``resumed`` with other ones: its weights would not stay what they were held at."""
    names, kept = sorted(set(names)), find_record(run, RECORD) or []
    if resumed and names != kept:
        raise UsageError(f"{run} is a run with {'--ablate ' + ' --ablate '.join(kept) if kept else 'no ablations'}; it goes on as it began")
    if names != kept:
        keep_record(run, RECORD, names)
