"""A flagship in floating point and its exact form: the same parameters, but for the units of packed planes."""

from __future__ import annotations

import torch

from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.nn.layout import DYADIC_UNIT, PACKED_CHANNELS, UNIT


def fold(model: Flagship) -> ExactFlagship:
    """The exact model with a floating-point one's weights, in formats that fit nothing yet. Raises UsageError for sizes that exact models lack."""
    exact = ExactFlagship(model.config)
    own = exact.state_dict()
    exact.load_state_dict(own | {n: t.to(own[n].dtype) for n, t in model.state_dict().items()})
    _scale_readers(exact, DYADIC_UNIT / UNIT)
    return exact.eval()


def to_float(model: ExactFlagship) -> Flagship:
    """The inverse of ``fold``: the floating-point model that computes in real numbers what an exact one computes in integers."""
    twin = Flagship(model.config)
    names = twin.state_dict().keys()
    twin.load_state_dict({n: t for n, t in model.state_dict().items() if n in names})
    _scale_readers(twin, UNIT / DYADIC_UNIT)
    return twin.eval()


@torch.no_grad()
def _scale_readers(model: Flagship, ratio: float) -> None:
    """Multiply the weights that read packed planes, for planes that are smaller by as much."""
    model.intra.analysis.enter.weight.mul_(ratio)
    for analysis in (model.intra.analysis, model.inter.analysis):
        if analysis.chroma is not None:
            analysis.chroma.weight.mul_(ratio)
    model.motion.encoder.enter.weight[:, 2:4].mul_(ratio)  # errors of cells
    model.motion.refinement.enter.conv.weight[:, -PACKED_CHANNELS:].mul_(ratio)
    model.inter.extraction.enter.conv.weight.mul_(ratio)
    model.inter.analysis.enter.weight[:, : 2 * PACKED_CHANNELS].mul_(ratio)
