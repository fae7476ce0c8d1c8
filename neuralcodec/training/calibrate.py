"""The quality scale's upper end: placed at export where more rate still brings more PSNR, or raised before training goes on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.intra import HyperEncoder
from neuralcodec.codecs.motion import MotionEncoder
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.quality import ANCHORS, QualityBias, QualityGain

_SLOPE_SPAN = 3
"""Anchors over which the slope is taken that tables have beyond their end."""


@torch.no_grad()
def set_top_quality(model: nn.Module, top: float) -> None:
    """Resample everything that depends on quality, so that quality 100 is what ``top`` was in training, 0 stays, and the rest is linear.

    Beyond 100 tables go on as they went before, and want training there. Raises UsageError unless 0 < top <= 200."""
    if not 0 < top <= 200:
        raise UsageError(f"top quality {top:g}: choose above 0 to 200")
    if isinstance(model, Flagship):
        low, high = model.config.step_gain
        model.config = replace(model.config, step_gain=(low, low + (high - low) * top / 100))
    for module in model.modules():
        if isinstance(module, QualityGain):
            tables = [module.encode, module.decode]
        elif isinstance(module, QualityBias):
            tables = [module.anchors]
        elif isinstance(module, HyperEncoder):
            tables = [module.hyper_gain]
        elif isinstance(module, LatentPrior):
            tables = [module.hyper_scale]
        elif isinstance(module, MotionEncoder) and module.reads_quality:
            module.enter.weight[:, -1] *= top / 100
            continue
        else:
            continue
        for table in tables:
            table.copy_(_resample(table, top / 100, alike=isinstance(module, QualityGain)))


def match_scale(model: nn.Module, other: nn.Module) -> None:
    """Where both are flagships: give the first one's quality scale (FlagshipConfig.step_gain) the other's upper end. Raises UsageError where the lower
    ends differ."""
    if not (isinstance(model, Flagship) and isinstance(other, Flagship)):
        return
    own, wanted = model.config.step_gain, other.config.step_gain
    if own[0] != wanted[0]:
        raise UsageError(f"quality scales from {own[0]:g} and {wanted[0]:g} do not fit together")
    if own != wanted:
        set_top_quality(model, 100 * (wanted[1] - wanted[0]) / (own[1] - own[0]))


def _resample(table: Tensor, share: float, alike: bool) -> Tensor:
    """(A, C) anchors -> the values at ``share`` of each anchor's position. ``alike``: beyond the end all channels have the median slope, so that what
    an encoder multiplies by and what a decoder does stay inverse to each other."""
    position = torch.arange(ANCHORS, dtype=torch.float64) * share
    low = position.floor().long().clamp_max(ANCHORS - 2)
    t, beyond = (position - low).clamp_max(1)[:, None], (position - (ANCHORS - 1)).clamp_min(0)[:, None]
    table = table.double()
    slope = (table[-1] - table[-1 - _SLOPE_SPAN]) / _SLOPE_SPAN
    slope = slope.median() if alike else slope
    return table[low] * (1 - t) + table[low + 1] * t + slope * beyond
