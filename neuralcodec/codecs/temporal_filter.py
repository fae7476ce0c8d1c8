"""Motion-compensated temporal filter of pictures that many others refer to, ahead of coding (encoder only; after P. Wennersten et al., "Encoder-only GOP-based
temporal filter", JVET-O0549, 2019).

What such a picture has in common with its neighbours is worth its bits many times over; grain is coded once and predicts nothing. The picture becomes a
mean of itself and of its neighbours, brought to it by motion compensation, each the less the less it is like the picture there.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.estimation import flow_between
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.layout import to_samples

REACH = 6
"""Neighbours in each direction."""
NEXT, DECAY = 0.8, 0.85
"""Weight of the next neighbour where it is as the picture is, and by how much that falls from one to the next."""
DEVIATION = 0.4
"""Root of the mean squared difference around a sample, in quantiser steps, at which a neighbour's weight has fallen to 61 % (a Gaussian's)."""
LASTING = 0.5
"""log2 of how many frames a picture serves, from which on it is filtered in full, see codecs.lookahead. These were found by trial on training clips."""
_WINDOW = 5


@torch.inference_mode()
def filter_picture(y: Tensor, uv: Tensor, neighbours: Iterable[tuple[int, Tensor, Tensor]], step: float, lasting: float) -> tuple[Tensor, Tensor]:
    """Planes y (1, 1, H, W), uv (1, 2, H/2, W/2), samples 0..255, and neighbours as (distance in frames from 1 on, y, uv) -> planes of that kind.

    ``step``: of the picture's quantiser, in 8-bit samples; ``lasting``: Lookahead.lasting of the picture."""
    strength = NEXT * min(1.0, lasting / LASTING)
    if strength <= 0:
        return y, uv
    luma, chroma = y.clone(), uv.clone()
    weight, chroma_weight = torch.ones_like(y), torch.ones_like(uv[:, :1])
    for distance, other, other_uv in neighbours:
        # Of source pictures: a search by the compensation's error, as in coding, gained nothing here (a trial).
        there, there_uv = compensate(other, other_uv, flow_between(y, other))
        difference = F.avg_pool2d((there - y).square_(), _WINDOW, 1, _WINDOW // 2)
        w = difference.mul_(-0.5 / (DEVIATION * step) ** 2).exp_().mul_(strength * DECAY ** (distance - 1))
        luma, weight = luma.addcmul_(w, there), weight.add_(w)
        w = F.avg_pool2d(w, 2)
        chroma, chroma_weight = chroma.addcmul_(w, there_uv), chroma_weight.add_(w)
    return to_samples(luma / weight, chroma / chroma_weight)
