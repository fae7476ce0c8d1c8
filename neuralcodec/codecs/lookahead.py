"""How far what an intra frame shows lasts (encoder only): the better it lasts, the better the intra frame should be.

As x264's macroblock tree (J. Garrett-Glaser, "A novel macroblock-tree algorithm for high-performance optimization of dependent video coding in
H.264/AVC", 2009) estimates it on small pictures before anything is coded, but without following the blocks: each block of a frame hands on the share of
it that motion compensation predicts, 1 - (cost with prediction / cost without), and what reaches a frame counts once more there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.estimation import CELL, estimate_flow
from neuralcodec.nn.compensation import double_size, sample_doubled
from neuralcodec.nn.dct import dct_matrix

OCTAVES, OCTAVES_PER_DOUBLING = 0.25, 0.32
"""By how many octaves of the quantiser step an intra frame is better than the frames after it: at least, and for each doubling of how often it counts.
Found by trial on training clips."""


def octaves_better(lasting: float) -> float:
    """For what Lookahead.lasting gives."""
    return OCTAVES + OCTAVES_PER_DOUBLING * lasting


class Lookahead:
    """Takes the luma of a group's frames, from the intra frame on."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._shares: list[Tensor] = []
        self._cost: Tensor | None = None

    @torch.inference_mode()
    def add(self, luma: Tensor) -> None:
        """(1, 1, H, W) in 0..255, H and W multiples of 16."""
        picture = F.avg_pool2d(luma.cpu(), 2)
        if self._before is not None:
            share, cost = _predicted(self._before, picture)
            self._shares.append(share)
            self._cost = cost if self._cost is None else self._cost  # of the first of them: nearly that of the intra frame
        self._before = picture

    def lasting(self) -> float:
        """log2 of how many frames what the first one shows serves, itself included: the mean over blocks of 16x16 samples, weighted by what they cost.
        From 0 to log2 of the number of frames."""
        if self._cost is None:
            return 0.0
        served = torch.ones_like(self._cost)
        for share in reversed(self._shares):
            served = 1 + share * served
        return float((self._cost * torch.log2(served)).sum() / self._cost.sum())


def _predicted(before: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each block (h, w) that motion compensation predicts, and the block's cost without it."""
    a, b = (p[0, 0].round().to(torch.uint8).numpy() for p in (before, picture))
    flow = torch.from_numpy(estimate_flow(b, a)).permute(2, 0, 1)[None]
    residual = _transformed(picture - sample_doubled(double_size(before), flow, CELL)).sum((-1, -2))
    own = _transformed(picture)
    cost = own.sum((-1, -2)) - own[..., 0, 0] + 1.0  # but for the mean, which neighbours predict
    return (1 - residual / cost).clamp(0, 1), cost


def _transformed(x: Tensor) -> Tensor:
    """Magnitudes of the DCT of blocks of (1, 1, H, W) -> (H / 8, W / 8, 8, 8)."""
    blocks = x[0, 0].unfold(0, CELL, CELL).unfold(1, CELL, CELL)  # (h, w, 8, 8)
    matrix = dct_matrix(CELL).float()
    return (matrix @ blocks @ matrix.T).abs()
