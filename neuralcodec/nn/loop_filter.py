"""Adaptive loop filters: linear filters of decoded planes, found by the encoder and sent (bitstream_spec/pictures.md, section 12).

What a decoder network makes of a latent is the best for its training clips, not for this one. A small symmetric filter of 5x5 samples, whose coefficients
minimise the squared error of the frames at hand, takes some percent of it away, in chroma more than in luma (models/flagship.md). It is the adaptive loop filter of VVC (Karczewicz et al., "VVC in-loop
filters", IEEE TCSVT 2021) with blocks of 4x4 in four classes by their activity. The filtered picture is the next frame's reference.

All numbers are integers in float carriers, and sums stay below 2^24: exact in float32, whatever their order.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.nn.layout import round_to_samples

TAPS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (1, 2), (1, -2), (2, 1), (2, -1), (2, 2), (2, -2))
"""Row and column of the samples that a coefficient weighs, beside a sample; it weighs those on the other side too."""
COEFFICIENT_FRAC = 6
"""Coefficients, -31..31, count 64ths of the mean of a pair."""
SAMPLE_FRAC = 4
"""Fractional bits of the samples that are filtered."""
CLASSES = 4
THRESHOLDS = (2048, 5120, 10240)
"""Of the activity of a block: as many as it exceeds is its class."""
BLOCK = 4
STRIP = 1 << 16
"""Samples that are filtered at a time."""
_AROUND = 2
"""Samples around a block whose activity counts too."""
_HALF = 1 << SAMPLE_FRAC + COEFFICIENT_FRAC
"""Half a sample where sums are."""


def to_sixteenths(x: Tensor) -> Tensor:
    """Samples, multiples of 2^-14 -> integers in sixteenths of a sample, 0..4080, rounded half up."""
    return torch.floor(x * (1 << SAMPLE_FRAC) + 0.5).clamp_(0, 255 << SAMPLE_FRAC)


def activity_classes(n: Tensor) -> Tensor:
    """n (1, 1, H, W) in sixteenths, H and W multiples of 4 -> class 0..3 of each block of 4x4, int64 (H/4, W/4).

    The activity is the sum, over 8x8 samples around a block (and inside the picture), of how far samples are from the means of their neighbours, in both directions."""
    p = F.pad(n, (1, 1, 1, 1), mode="replicate")
    twice = n + n
    rough = (twice - p[..., 1:-1, :-2] - p[..., 1:-1, 2:]).abs_() + (twice - p[..., :-2, 1:-1] - p[..., 2:, 1:-1]).abs_()
    sums = F.avg_pool2d(rough, BLOCK + 2 * _AROUND, BLOCK, _AROUND, divisor_override=1)[0, 0]
    return sum((sums > t).long() for t in THRESHOLDS)


def filter_samples(x: Tensor, coefficients: np.ndarray) -> Tensor:
    """A plane (1, 1, H, W), before it is rounded to samples -> filtered and rounded samples 0..255. H is a multiple of 4; ``coefficients`` (1, 2 or 4, 12)."""
    n = to_sixteenths(x)
    height, width = n.shape[2:]
    weights = torch.from_numpy(coefficients).to(n)
    weights = torch.cat([weights, (2 << COEFFICIENT_FRAC) - 2 * weights.sum(1, keepdim=True)], 1)  # (K, 13), the sample's own last
    classes = activity_classes(n) * len(weights) // CLASSES if len(weights) > 1 else None
    padded = F.pad(n, (2, 2, 2, 2), mode="replicate")[0, 0]
    # In strips, which stay in a processor's cache.
    strip = min(height, max(BLOCK, STRIP // width // BLOCK * BLOCK))
    out, pairs = torch.empty_like(n), n.new_empty(len(TAPS) + 1, strip, width)
    for top in range(0, height, strip):
        rows = min(strip, height - top)
        read = pairs[:, :rows]
        for i, (dy, dx) in enumerate(TAPS):
            torch.add(_from(padded, top + dy, dx, rows), _from(padded, top - dy, -dx, rows), out=read[i])
        read[-1].copy_(_from(padded, top, 0, rows))
        filtered = (weights @ read.reshape(len(pairs), -1)).view(1, -1, rows, width)
        if classes is not None:
            filtered = _by_class(filtered, classes[top // BLOCK : (top + rows) // BLOCK])
        out[:, :, top : top + rows] = torch.floor((filtered + _HALF) * (0.5 / _HALF)).clamp_(0, 255)
    return out


def _from(padded: Tensor, row: int, column: int, rows: int) -> Tensor:
    """Rows of a plane with a border of 2, from a row and a column on."""
    return padded[row + 2 : row + 2 + rows, column + 2 : column + 2 + padded.shape[1] - 4]


def _by_class(filtered: Tensor, classes: Tensor) -> Tensor:
    """filtered (1, K, H, W), classes (H/4, W/4) -> (1, 1, H, W)."""
    h, w = classes.shape
    blocks = filtered.view(-1, h, BLOCK, w, BLOCK)
    found, where = blocks[0], classes[:, None, :, None]
    for i in range(1, len(blocks)):
        found = torch.where(where == i, blocks[i], found)
    return found.reshape(1, 1, BLOCK * h, BLOCK * w)


def apply_filters(y: Tensor, uv: Tensor, filters: tuple[np.ndarray | None, ...]) -> tuple[Tensor, Tensor]:
    """Planes y (1, 1, H, W), uv (1, 2, H/2, W/2) before they are rounded -> samples 0..255 as float carriers. ``filters``: coefficients of Y, U and V, None
    for a plane without."""
    done = [decoded_plane(p, c) for p, c in zip(three_planes(y, uv), filters, strict=True)]
    return done[0], torch.cat(done[1:], 1)


def decoded_plane(x: Tensor, coefficients: np.ndarray | None) -> Tensor:
    """A plane before it is rounded -> its samples: filtered, or without coefficients rounded half up."""
    return round_to_samples(x) if coefficients is None else filter_samples(x, coefficients)


def three_planes(y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Y, U and V, each (1, 1, H, W) or (1, 1, H/2, W/2)."""
    return y, uv[:, :1], uv[:, 1:]
