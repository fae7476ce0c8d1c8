"""Motion search against the decoded reference (encoder only; decoders never see it).

Classical flow between source pictures says where things went. What a codec wants are the vectors whose prediction, made from the *decoded* reference by
its own compensation, costs the fewest bits in all. Two steps, on the grid of one vector for 8x8 luma samples:

1. for each cell the best of several candidate vectors,
2. some iterations of Gauss-Newton over all cells at once (Lucas and Kanade 1981, with the bilinear interpolation of vectors as its window), each after
   one for the region around each cell: what was decoded lies a little off what was shot, and differently from region to region. Few of
   them: four predicted luma better (by 0.3 to 0.4 dB on two of three clips) and took up to 2 % more bits, in a trial.

Both minimise: squared luma error + ``mu`` * squared distance to the mean of the neighbouring vectors, which stands for the bits of a vector; for
larger distances it grows as the logarithm, as bits do. ``mu`` grows with the square of the quantiser's step, as the price of a bit does, and is larger where
the classical flow is smooth and small (``_smoothness``).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.estimation import CELL
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.compensation import GRID_FRAC, double_size, round_vectors, sample_doubled
from neuralcodec.nn.quality import STEP_GAIN

RESTLESS = (1e-4, 2e-3)
"""What stands still and what moves freely, by squared luma samples of ``_restlessness``; in between by its logarithm."""
STILL, MOVING = (2.5, 1.8, 2.5, 24.0), (1.4, 0.4, 1.25, 24.0)
"""``mu`` in squared quantiser steps there: at MIDDLE_STEP, the power of MIDDLE_STEP / step that it grows by, and its limits. What stands still has true vectors alike,
and what the search finds besides is noise, which blurs a still texture from frame to frame: the less a step hides of that, the more it costs. At low quality vectors
also have to make up for what coding did to those before. Found by trial on clips of both kinds: (4.0, 2.0, 2.5, 60.0) was better still where nothing moves at
all, and without the steps of regions 22 % worse at quality 46 on a clip that moves slowly."""
MIDDLE_STEP = 39.0
"""8-bit samples: the flagship's at quality 27."""
ITERATIONS = 2
LARGEST_STEP = 1.0
"""Luma samples by which an iteration moves a vector at most: beyond that a linear model of the picture says nothing."""
CORRECTED = 0.06
"""Squared error of the prediction, in squared quantiser steps, at which another error costs half as much: where there is much to correct anyway, bits grow as
the logarithm of the error. Of a coefficient of variance v, by 1 / (2 ln 2 v) for a unit; where there is nothing to correct, an error is worth about
10 bits for a squared step (coding.LAMBDAS): as much as with v = 0.07."""
_RIDGE = 1.0
_DISPLACED = 1e-3
_WINDOW = 5
REGION = 7
"""Width and height in cells of what the step of a region is found from."""
_LOG_DISTANCE = 1.0


def quantiser_step(quality: Tensor, gain: tuple[float, float] = STEP_GAIN) -> Tensor:
    """Step of the picture's latents at the start of training, in 8-bit samples of an orthonormal transform: (B,) indexes -> (B, 1, 1, 1). ``gain``:
    the model's quality scale (FlagshipConfig)."""
    low, high = gain
    return (255 / torch.exp2(low + (high - low) * quality.float() / QUALITY_STEPS)).view(-1, 1, 1, 1)


class MotionSearch:
    """The search for one picture: current and reference luma (B, 1, H, W) in 0..255, ``step`` of the quantiser (B, 1, 1, 1) in 8-bit samples."""

    @torch.no_grad()
    def __init__(self, current: Tensor, reference: Tensor, step: Tensor) -> None:
        self.current, self.doubled, self.step = current, double_size(reference), step

    @torch.no_grad()
    def search(self, candidates: list[Tensor], iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
        """Candidates (B, 2, H/8, W/8) in luma samples, the likeliest first -> vectors of that shape, and what an error of them does to the prediction:
        squared luma error for a squared sample of error in x and in y, of that shape too (taken before the last iteration), less where the prediction has
        large errors already (CORRECTED)."""
        mu = _smoothness(candidates[0], self.step) * self.step**2
        vectors = _best(self.current, self.doubled, candidates, mu)
        for _ in range(iterations):
            step, sensitivity, error = _step(self.current, self.doubled, vectors, mu, CORRECTED * self.step**2)
            vectors = vectors + step
        return vectors, sensitivity / (1 + error / (CORRECTED * self.step**2))

    @torch.no_grad()
    def prediction(self, vectors: Tensor) -> Tensor:
        """Luma (B, 1, H, W) that decoders would make of these vectors of the grid."""
        return sample_doubled(self.doubled, round_vectors(vectors, 1 << GRID_FRAC), CELL)


def _smoothness(flow: Tensor, step: Tensor) -> Tensor:
    """``mu`` in squared quantiser steps (B, 1, H/8, W/8), for classical flow (B, 2, H/8, W/8) and steps (B, 1, 1, 1)."""
    still, moving = (torch.log(at * (MIDDLE_STEP / step) ** power).clamp(math.log(low), math.log(high)) for at, power, low, high in (STILL, MOVING))
    low, high = RESTLESS
    share = (torch.log(_restlessness(flow).clamp_min(low) / low) / math.log(high / low)).clamp_max(1.0)
    return torch.exp(still + share * (moving - still))


def _restlessness(flow: Tensor) -> Tensor:
    """Squared distance of vectors to the mean of their neighbours, and a little of their squared length, in the mean around each: (B, 1, H/8, W/8)."""
    own = (flow - _neighbours(flow)).square().sum(1, keepdim=True) + _DISPLACED * flow.square().sum(1, keepdim=True)
    return _around(own, _WINDOW)


def _best(current: Tensor, doubled: Tensor, candidates: list[Tensor], mu: Tensor) -> Tensor:
    around = _neighbours(candidates[0])
    best = least = None
    for v in candidates:
        error = current - sample_doubled(doubled, v, CELL)
        distance = (v - around).square().sum(1, keepdim=True)
        cost = _gather(error * error) + mu * _LOG_DISTANCE**2 * torch.log1p(distance / _LOG_DISTANCE**2)
        if least is None:
            best, least = v, cost
        else:
            best, least = torch.where(cost < least, v, best), torch.minimum(cost, least)
    return best


def _step(current: Tensor, doubled: Tensor, vectors: Tensor, mu: Tensor, large: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step of each cell, squared luma error for a squared sample of error in x and y, and mean squared error of the prediction (B, 1, H/8, W/8). Cells
    whose error is ``large`` (B, 1, 1, 1) count half in the steps of their regions."""
    prediction = sample_doubled(doubled, vectors, CELL)
    error = current - prediction
    gx, gy = _gradients(prediction)
    xx, xy, yy, xe, ye, ee = _gather(torch.cat([gx * gx, gx * gy, gy * gy, gx * error, gy * error, error * error], 1)).split(1, 1)
    ee = ee / CELL**2
    weight = 1 / (1 + ee / large)
    around = _around(torch.cat([xx, xy, yy, xe, ye, torch.ones_like(xx)], 1) * weight, REGION)
    around = around[:, :5] / around[:, 5:]
    region = _solve(*around.split(1, 1), mu / REGION**2)
    moved = vectors + region
    xe, ye = xe - xx * region[:, :1] - xy * region[:, 1:], ye - xy * region[:, :1] - yy * region[:, 1:]  # what is left of the error then
    away = _neighbours(moved) - moved
    pull = mu / (1 + away.square().sum(1, keepdim=True) / _LOG_DISTANCE**2)  # the logarithm's slope over the square's
    own = _solve(xx, xy, yy, xe + pull * away[:, :1], ye + pull * away[:, 1:], pull)
    return region + own, torch.cat([xx, yy], 1), ee


def _solve(xx: Tensor, xy: Tensor, yy: Tensor, xe: Tensor, ye: Tensor, pull: Tensor) -> Tensor:
    """The step (B, 2, h, w) that a linear model of the picture asks for, held back by ``pull`` to where it is."""
    xx, yy = xx + pull + _RIDGE, yy + pull + _RIDGE
    step = torch.cat([yy * xe - xy * ye, xx * ye - xy * xe], 1) / (xx * yy - xy * xy)
    return step.clamp_(-LARGEST_STEP, LARGEST_STEP)


def _around(x: Tensor, window: int) -> Tensor:
    """Mean of ``window`` x ``window`` cells around each: (B, C, h, w) -> the same."""
    return F.avg_pool2d(F.pad(x, (window // 2,) * 4, mode="replicate"), window, 1)


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of (B, 1, H, W) in x and y."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (p[..., 1:-1, 2:] - p[..., 1:-1, :-2]) / 2, (p[..., 2:, 1:-1] - p[..., :-2, 1:-1]) / 2


def _gather(x: Tensor) -> Tensor:
    """Sums over what each cell's vector takes part in, with its share: (B, C, H, W) -> (B, C, H/8, W/8). The transpose of bilinear interpolation,
    but for the borders."""
    b, c, height, width = x.shape
    half = torch.arange(1, 2 * CELL, 2, dtype=x.dtype, device=x.device) / (2 * CELL)
    tent = torch.cat([half, half.flip(0)])
    x = F.pad(x.reshape(b * c, 1, height, width), (CELL // 2,) * 4)
    x = F.conv2d(x, tent.view(1, 1, 1, -1), stride=(1, CELL))
    return F.conv2d(x, tent.view(1, 1, -1, 1), stride=(CELL, 1)).view(b, c, height // CELL, width // CELL)


def _neighbours(v: Tensor) -> Tensor:
    """Mean of the eight neighbours, those at the corners with half the weight: (B, 2, h, w) -> the same."""
    kernel = v.new_tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]]).div_(12).expand(2, 1, 3, 3)
    return F.conv2d(F.pad(v, (1, 1, 1, 1), mode="replicate"), kernel, groups=2)
