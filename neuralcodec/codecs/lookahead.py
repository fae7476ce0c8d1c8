"""What an encoder looks for ahead of coding: where scenes begin, and how far what an intra frame shows lasts; the longer, the better it should be.

The latter as x264's macroblock tree (J. Garrett-Glaser, "A novel macroblock-tree algorithm for high-performance optimization of dependent video coding in
H.264/AVC", 2009) estimates it on small pictures before anything is coded, but without following the blocks: each block of a frame hands on the share of
it that motion compensation predicts, 1 - (cost with prediction / cost without), and what reaches a frame counts once more there.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.estimation import CELL, flow_between, shrink
from neuralcodec.nn.compensation import double_size, sample_doubled
from neuralcodec.nn.dct import dct_matrix

OCTAVES, OCTAVES_PER_DOUBLING = 0.67, 0.32
"""By how many octaves of the quantiser step an intra frame is better than the frames after it: at least, and for each doubling of how often it counts.
Found by trial on training clips, as what follows is."""
P_USUAL, P_OCTAVES_PER_DOUBLING = 1.5, 0.13
"""P frames are better by so much for each doubling beyond P_USUAL of them, or worse: at the end of a group they serve few."""

IMPORTANCE, MOST_IMPORTANT = 0.3, 4.0
"""An error counts as the number of frames that see it to this power (x264's tree: about 0.7, by its quantiser), and so many times as usual at most. Twice the power
gained on some clips and lost on others."""

THUMBNAIL = 8
CUT_DIFFERENCE, CUT_CONTRAST, CUT_SHARE = 6.0, 0.5, 0.15
"""A scene begins where a picture at an eighth of the size differs from the one before by so many 8-bit steps in the mean, by so much of its own mean
deviation from grey, and motion compensation predicts no more than this share of it."""


def octaves_better(lasting: float, intra: bool = True) -> float:
    """Of the quantiser step, for what Lookahead.lasting gives."""
    return OCTAVES + OCTAVES_PER_DOUBLING * lasting if intra else P_OCTAVES_PER_DOUBLING * (lasting - P_USUAL)


class Lookahead:
    """Looks from one frame of a group at those after it: takes the luma of the frame and of what follows, and moves on by ``drop``."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._seen: deque[tuple[Tensor, Tensor]] = deque()
        """Of each frame after the first: the share of each block that is predicted, and its cost without."""

    @torch.inference_mode()
    def add(self, luma: Tensor) -> None:
        """(1, 1, H, W) in 0..255, H and W multiples of 16."""
        picture = F.avg_pool2d(luma.cpu(), 2)
        if self._before is not None:
            self._seen.append(_predicted(self._before, picture))
        self._before = picture

    def drop(self) -> None:
        """Go on to the next frame."""
        if self._seen:
            self._seen.popleft()
        else:
            self._before = None

    def lasting(self) -> float:
        """log2 of how many frames what the first one shows serves, itself included: the mean over blocks of 16x16 samples, weighted by what they cost.
        From 0 to log2 of the number of frames."""
        if not self._seen:
            return 0.0
        cost = self._seen[0][1]  # of the frame after it: nearly its own
        return float((cost * torch.log2(self._served())).sum() / cost.sum())

    def importance(self) -> Tensor | None:
        """What errors of each block (1, 1, H/16, W/16) count beside those of the picture's others, since they last: 1 in the mean of its logarithm. None when
        nothing is ahead."""
        if not self._seen:
            return None
        octaves = torch.log2(self._served())
        relative = torch.exp2(IMPORTANCE * (octaves - octaves.mean())).clamp(1 / MOST_IMPORTANT, MOST_IMPORTANT)
        return (torch.round(relative * 16) / 16)[None, None]  # a coarse grid: sums come out the same in any order

    def _served(self) -> Tensor:
        """How many frames each block (h, w) of the first one serves."""
        served = torch.ones_like(self._seen[0][1])
        for share, _ in reversed(self._seen):
            served = 1 + share * served
        return served


class SceneCuts:
    """Takes all pictures of a video in turn."""

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, luma: np.ndarray) -> bool:
        """Luma (H, W) uint8 -> whether a scene begins with this picture; False for the first one, and for pictures under 16 samples in either direction."""
        if min(luma.shape) < 2 * THUMBNAIL:
            return False
        small = shrink(luma, THUMBNAIL).astype(np.float32)
        before, self._before = self._before, (luma, small)
        if before is None or before[1].shape != small.shape:
            return False
        difference = np.abs(small - before[1]).mean()
        if difference < max(CUT_DIFFERENCE, CUT_CONTRAST * np.abs(small - small.mean()).mean()):
            return False
        share, cost = _predicted(*(_half(p) for p in (before[0], luma)))
        return float((share * cost).sum() / cost.sum()) < CUT_SHARE


def _half(luma: np.ndarray) -> Tensor:
    """The part of a picture whose size is a multiple of 16, at half the size."""
    height, width = (n // 16 * 16 for n in luma.shape)
    return F.avg_pool2d(torch.from_numpy(luma[:height, :width].astype(np.float32))[None, None], 2)


@torch.inference_mode()
def _predicted(before: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each block (h, w) that motion compensation predicts, and the block's cost without it."""
    residual = _transformed(picture - sample_doubled(double_size(before), flow_between(picture, before), CELL)).sum((-1, -2))
    own = _transformed(picture)
    cost = own.sum((-1, -2)) - own[..., 0, 0] + 1.0  # but for the mean, which neighbours predict
    return (1 - residual / cost).clamp(0, 1), cost


def _transformed(x: Tensor) -> Tensor:
    """Magnitudes of the DCT of blocks of (1, 1, H, W) -> (H / 8, W / 8, 8, 8)."""
    blocks = x[0, 0].unfold(0, CELL, CELL).unfold(1, CELL, CELL)  # (h, w, 8, 8)
    matrix = dct_matrix(CELL).float()
    return (matrix @ blocks @ matrix.T).abs()
