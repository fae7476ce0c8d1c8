"""Calibration of the quality scale at export: its upper end is placed where more rate still brings more PSNR."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuralcodec.codecs.intra import HyperEncoder
from neuralcodec.codecs.motion import MotionEncoder
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.quality import ANCHORS, QualityBias, QualityGain


@torch.no_grad()
def set_top_quality(model: nn.Module, top: float) -> None:
    """Resample everything that depends on quality, so that quality 100 is what ``top`` was in training, 0 stays, and the rest is linear.

    Raises UsageError unless 0 < top <= 100."""
    if not 0 < top <= 100:
        raise UsageError(f"top quality {top:g}: choose above 0 to 100")
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
            table.copy_(_resample(table, top / 100))


def _resample(table: Tensor, share: float) -> Tensor:
    """(A, C) anchors -> the values at ``share`` of each anchor's position."""
    position = torch.arange(ANCHORS, dtype=torch.float64) * share
    low = position.floor().long().clamp_max(ANCHORS - 2)
    t = (position - low)[:, None]
    return (table[low].double() * (1 - t) + table[low + 1].double() * t).to(table.dtype)
