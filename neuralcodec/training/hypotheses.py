"""Predictions by cell in training: what nn.hypotheses is to a stream, for batches whose samples have long-term references at times of their own.

An encoder's choice counts bits as well; here a cell takes what predicts it best by more than a fixed price. Gradient runs through the first prediction,
alone or in a mean; other pictures count as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.motion_search import quantiser_step
from neuralcodec.codecs.prediction_choice import WORTH
from neuralcodec.nn.compensation import GRID_FRAC, compensate
from neuralcodec.nn.hypotheses import follow, in_sixteenths
from neuralcodec.nn.layout import CHROMA_CHANNELS, LUMA_CHANNELS

PRICE = 5.0
"""Bits that a choice other than the first takes."""

Planes = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Way:
    """Vectors (B, 2, h, w), int32 in sixteenths, and the planes y, uv that they point into."""

    vectors: Tensor
    planes: Planes

    def further(self, on: Way) -> Way:
        return Way(follow(self.vectors, on.vectors), on.planes)

    def where(self, samples: Tensor, other: Way) -> Way:
        """This one for ``samples`` (B,), bool, the other for the rest."""
        at = samples.view(-1, 1, 1, 1)
        return Way(torch.where(at, self.vectors, other.vectors), tuple(torch.where(at, a, b) for a, b in zip(self.planes, other.planes, strict=True)))


@dataclass(frozen=True)
class History:
    """Of a decoded picture, all without gradient: its ``steps`` back, two at most, and its ways to two long-term references, None after an intra frame.
    ``lasting`` (B,): which samples are such references themselves."""

    steps: tuple[Way, ...] = ()
    long: tuple[Way, Way] | None = None
    lasting: Tensor | None = None

    def ways(self, vectors: Tensor, reference: Planes) -> list[Way]:
        """From a picture with these vectors in luma samples, this being its reference's history: first, second, third, long and longer."""
        first = Way(in_sixteenths(vectors.detach()), tuple(p.detach() for p in reference))
        second = first.further(self.steps[0]) if self.steps else first
        third = second.further(self.steps[1]) if len(self.steps) > 1 else second
        if self.long is None:
            return [first, second, third, first, first]
        long, longer = (first.further(way) for way in self.long)
        return [first, second, third, first.where(self.lasting, long), long.where(self.lasting, longer)]

    def after(self, ways: list[Way], lasting: Tensor) -> History:
        """The picture's own."""
        return History((ways[0], *self.steps[:1]), (ways[3], ways[4]), lasting)


def choose_cells(prediction: Tensor, current: Tensor, ways: list[Way], pack: Callable[..., Tensor], quality: Tensor, unit: float) -> Tensor:
    """Packed prediction by cells (B, 96, h, w), from the first one ``prediction`` and the packed source ``current``; ``unit``: samples in one of theirs."""
    with torch.no_grad():
        made = {id(way): pack(*compensate(*way.planes, way.vectors.float() / (1 << GRID_FRAC))) for way in ways[1:]}
        second, third, long, longer = (made[id(way)] for way in ways[1:])
        still = pack(*ways[0].planes)
        others = torch.stack([second, second, still, still, (second + third) / 2, long, long, longer, longer])
        shares = others.new_tensor([0.5, 0.0, 0.0, 0.5, 0.5, 0.0, 0.5, 0.0, 0.5]).view(-1, 1, 1, 1, 1)  # of the first prediction
        candidates = torch.cat([prediction[None], shares * prediction + (1 - shares) * others])
        cells = torch.stack([_cell_errors((c - current) * unit) for c in candidates])  # (K, B, 1, h/2, w/2)
        bits = cells * (WORTH * LAMBDAS[CONTEXTUAL] / quantiser_step(quality) ** 2)
        bits[1:] += PRICE
        best = bits.argmin(0).repeat_interleave(2, -1).repeat_interleave(2, -2)  # (B, 1, h, w)
        other = torch.gather(others, 0, (best - 1).clamp_min(0)[None].expand(1, *prediction.shape))[0]
        share = torch.where(best == 0, 1.0, shares.flatten()[(best - 1).clamp_min(0)])
    return share * prediction + (1 - share) * other


def _cell_errors(error: Tensor) -> Tensor:
    """Packed (B, 96, h, w), in samples -> weighted as the distortion (6 Y + U + V) / 8 of each cell of 16x16 luma samples: (B, 1, h/2, w/2)."""
    luma, chroma = (part.square().sum(1, keepdim=True) for part in error.split([LUMA_CHANNELS, CHROMA_CHANNELS], 1))
    return F.avg_pool2d((6 * luma + 4 * chroma) / 8, 2) * 4
