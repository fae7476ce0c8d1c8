"""ELF-VC's loss modulator (paper 002, supplement, section D): the reconstruction of P frames that fall behind their intra frame weighs more.

Over quality levels l and P frames t the loss is the sum of mu * (L_rec + lambda / mu * R), equation 1: a factor mu for each of them multiplies the distortion,
and the rate stays as it is. It starts at 1, is clipped to [1, 10], and is to grow where PSNR is more than 1.76 dB below the intra frame's, MSE_P > 1.5 MSE_I.

The supplement does not say how fast mu moves, and its levels and frames are other than ours. Decided here:

- mu is multiplied by STEP where P frames of a step are behind in the mean of their PSNR, else divided by it: 117 times lead from 1 to 10.
- Levels are the quality anchors; a P frame belongs to the one that its own quality index is nearest to.
- Frames are counted from the intra frame, along all steps of a chain too; those from POSITIONS on share one factor. The cascade of qualities begins anywhere, so
  that a position meets all of its places.
- MSE_I is at like quality. Our intra frames are coded up to 90 quality indexes better than the P frames after them, by design, which is some 9 dB: against these
  most P frames would be behind. So the intra model codes the same picture again at the lowest and at the highest index that P frames of the chain can have, and the
  logarithm of its error is interpolated to a P frame's own index (on training clips, within 0.1 dB in the mean, 0.35 dB at most). No other allowance is made.
  Both errors are (6 Y + U + V) / 8, before samples are rounded, at the same widths.

Of the seventh weights (models/flagship.md), the first P frame was 2.1 dB better than that, the seventh one 0.3 dB worse; 6 and 21 % of them were behind, and 38 %
of all from quality index 150 on (96 samples of training clips). So from such a start mu is near 1 for most, and what the paper describes, that it soon is 10
and comes down late, is for models that know nothing yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralcodec.nn.quality import ANCHORS, SPAN

THRESHOLD = 1.5
"""f(delta), for delta = 1.76 dB."""
LIMITS = (1.0, 10.0)
STEP = 1.02
POSITIONS = 16


@dataclass(frozen=True)
class IntraErrors:
    """Mean squared errors (B,) of the intra model on a picture at two quality indexes (B,), ``low`` < ``high``."""

    low: Tensor
    high: Tensor
    low_error: Tensor
    high_error: Tensor

    def at(self, quality: Tensor) -> Tensor:
        """The error at indexes (B,) between the two: (B,)."""
        share = (quality - self.low) / (self.high - self.low)
        return torch.exp(torch.lerp(_log(self.low_error), _log(self.high_error), share))


class LossModulator:
    """``mu`` (POSITIONS, ANCHORS): the factors."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.mu = torch.ones(POSITIONS, ANCHORS, device=device)

    def factors(self, position: int, quality: Tensor) -> Tensor:
        """Of P frames at ``position`` (1 for the first one) with quality indexes (B,): (B,)."""
        return self._row(position)[_level(quality)]

    @torch.no_grad()
    def observe(self, position: int, quality: Tensor, error: Tensor, intra: Tensor) -> Tensor:
        """Move the factors of P frames as above by their errors and what the intra model's would be, all (B,). Returns which ones are behind, bool (B,)."""
        row, level = self._row(position), _level(quality)
        behind = _log(error) - _log(intra)
        total = torch.zeros_like(row).index_add_(0, level, behind)
        count = torch.zeros_like(row).index_add_(0, level, torch.ones_like(behind))
        moved = (row * torch.where(total > count * math.log(THRESHOLD), STEP, 1 / STEP)).clamp(*LIMITS)
        row.copy_(torch.where(count > 0, moved, row))
        return behind > math.log(THRESHOLD)

    def _row(self, position: int) -> Tensor:
        return self.mu[min(position, POSITIONS) - 1]


def _level(quality: Tensor) -> Tensor:
    return torch.div(quality + SPAN // 2, SPAN, rounding_mode="floor").clamp(0, ANCHORS - 1)


def _log(error: Tensor) -> Tensor:
    return error.clamp_min(1e-10).log()
