"""Adaptive loop filters: linear filters of decoded planes, found by the encoder and sent (bitstream_spec/pictures.md, section 12).

What a decoder network makes of a latent is the best for its training clips, not for this one. A small symmetric filter of 5x5 samples, whose coefficients
minimise the squared error of the frames at hand, takes some percent of it away, in chroma more than in luma (models/flagship.md). It is the adaptive loop filter of VVC (Karczewicz et al., "VVC in-loop
filters", IEEE TCSVT 2021) with blocks of 4x4 in four classes by their activity, in streams that say so also by their direction, with differences clipped, and with luma's differences in chroma. The filtered picture is the next frame's reference.

All numbers are integers in float carriers, and sums stay below 2^24: exact in float32, whatever their order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.types import PlaneCorrections, PlaneFilter
from neuralcodec.nn.corrections import correction_plane
from neuralcodec.nn.layout import round_to_samples

TAPS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (1, 2), (1, -2), (2, 1), (2, -1), (2, 2), (2, -2))
"""Row and column of the samples that a coefficient weighs, beside a sample; it weighs those on the other side too."""
TURNED = (1, 0, 2, 3, 5, 4, 8, 9, 6, 7, 10, 11)
"""Which coefficient weighs a tap's samples once rows and columns have changed places."""
COEFFICIENT_FRAC = 6
"""Coefficients, -31..31, count 64ths of the mean of a pair."""
SAMPLE_FRAC = 4
"""Fractional bits of the samples that are filtered."""
ACTIVITIES, DIRECTED = 4, 8
"""Most classes, without and with directions."""
THRESHOLDS = (2048, 5120, 10240)
"""Of the activity of a block: as many as it exceeds is its class."""
BLOCK = 4
STRIP = 1 << 16
"""Samples that are filtered at a time."""
CLIPS = (None, 32, 16, 8)
"""Where differences are clipped, in sixteenths of a sample, by ``PlaneFilter.clip``."""
_AROUND = 2
"""Samples around a block whose activity counts too."""
_HALF = 1 << SAMPLE_FRAC + COEFFICIENT_FRAC
"""Half a sample where sums are."""


def to_sixteenths(x: Tensor) -> Tensor:
    """Samples, multiples of 2^-14 -> integers in sixteenths of a sample, 0..4080, rounded half up."""
    return torch.floor(x * (1 << SAMPLE_FRAC) + 0.5).clamp_(0, 255 << SAMPLE_FRAC)


def block_classes(n: Tensor) -> tuple[Tensor, Tensor]:
    """n (1, 1, H, W) in sixteenths, H and W multiples of 4 -> class of activity 0..3 and direction of each block of 4x4, int64 (H/4, W/4).

    The activity is the sum, over 8x8 samples around a block (and inside the picture), of how far samples are from the means of their neighbours, in both directions. A block whose
    rows change by more than one and a half times what its columns do has direction 1, the other way round 2, any other 0."""
    p = F.pad(n, (1, 1, 1, 1), mode="replicate")
    twice = n + n
    rough = torch.cat([(twice - p[..., 1:-1, :-2] - p[..., 1:-1, 2:]).abs_(), (twice - p[..., :-2, 1:-1] - p[..., 2:, 1:-1]).abs_()])
    along, across = F.avg_pool2d(rough, BLOCK + 2 * _AROUND, BLOCK, _AROUND, divisor_override=1)[:, 0]
    activity = sum((along + across > t).long() for t in THRESHOLDS)
    return activity, (2 * along > 3 * across).long() + 2 * (2 * across > 3 * along).long()


def filters_of_blocks(plane_filter: PlaneFilter, n: Tensor) -> tuple[Tensor, Tensor | None]:
    """n (1, 1, H, W) as in ``block_classes`` -> all filters that its blocks have (K, 12), and which of them each block has, (H/4, W/4), None where all have the one."""
    weights = torch.from_numpy(plane_filter.coefficients).to(n)
    if len(weights) == 1:
        return weights, None
    activity, direction = block_classes(n)
    if len(weights) < DIRECTED:
        return weights, activity * len(weights) // ACTIVITIES
    weights = torch.cat([weights[::2], weights[1::2], weights[1::2, TURNED]])  # of direction 0, 1 and 2
    return weights, activity + ACTIVITIES * direction


def halved_luma(y: Tensor) -> Tensor:
    """y (1, 1, H, W) before it is rounded -> means of 2x2 samples in sixteenths (1, 1, H/2, W/2), rounded half up."""
    return torch.floor(F.avg_pool2d(to_sixteenths(y), 2) + 0.5)


def filter_samples(x: Tensor, plane_filter: PlaneFilter, luma: Tensor | None = None, corrections: Tensor | None = None, rounded: bool = True) -> Tensor:
    """A plane (1, 1, H, W), before it is rounded to samples -> filtered and rounded samples 0..255. H is a multiple of 4. ``luma``: ``halved_luma``, which a
    filter of chroma may read; ``corrections`` (H, W): what is added after the filter, in sixteenths of a sample. Not ``rounded``: filtered samples as they are, in sixteenths."""
    n = to_sixteenths(x)
    height, width = n.shape[2:]
    (weights, rows), clip = filters_of_blocks(plane_filter, n), CLIPS[plane_filter.clip]
    own = torch.full_like(weights[:, :1], 2 << COEFFICIENT_FRAC)
    weights = torch.cat([weights, own if clip else own - 2 * weights.sum(1, keepdim=True)], 1)  # (K, 13), the sample's own last
    padded, beside = _bordered(n), None
    if plane_filter.luma is not None:
        of_luma = torch.from_numpy(plane_filter.luma).to(n)
        weights, beside = torch.cat([of_luma, -2 * of_luma.sum(1, keepdim=True), weights], 1), _bordered(luma)  # (K, 26)
    # In strips, which stay in a processor's cache.
    strip = min(height, max(BLOCK, STRIP // width // BLOCK * BLOCK))
    out, pairs = torch.empty_like(n), n.new_empty(weights.shape[1], strip, width)
    other = n.new_empty(strip, width) if clip else None
    for top in range(0, height, strip):
        lines = min(strip, height - top)
        everything = pairs[:, :lines]
        read, centre = everything[-len(TAPS) - 1 :], _from(padded, top, 0, lines)
        if beside is not None:
            for i, (dy, dx) in enumerate(TAPS):
                torch.add(_from(beside, top + dy, dx, lines), _from(beside, top - dy, -dx, lines), out=everything[i])
            everything[len(TAPS)].copy_(_from(beside, top, 0, lines))
        for i, (dy, dx) in enumerate(TAPS):
            first, second = _from(padded, top + dy, dx, lines), _from(padded, top - dy, -dx, lines)
            if clip:
                torch.sub(first, centre, out=read[i]).clamp_(-clip, clip)
                read[i] += torch.sub(second, centre, out=other[:lines]).clamp_(-clip, clip)
            else:
                torch.add(first, second, out=read[i])
        read[-1].copy_(centre)
        filtered = (weights @ everything.reshape(len(pairs), -1)).view(-1, lines, width)
        filtered = filtered[0] if rows is None else _by_class(filtered, rows[top // BLOCK : (top + lines) // BLOCK])
        if corrections is not None:
            filtered = filtered + corrections[top : top + lines] * (2 << COEFFICIENT_FRAC)
        out[0, 0, top : top + lines] = torch.floor((filtered + _HALF) * (0.5 / _HALF)).clamp_(0, 255) if rounded else filtered * (0.5 / (1 << COEFFICIENT_FRAC))
    return out


def _bordered(n: Tensor) -> Tensor:
    """(1, 1, H, W) -> (H + 4, W + 4)."""
    return F.pad(n, (2, 2, 2, 2), mode="replicate")[0, 0]


def _from(padded: Tensor, row: int, column: int, rows: int) -> Tensor:
    """Rows of a plane with a border of 2, from a row and a column on."""
    return padded[row + 2 : row + 2 + rows, column + 2 : column + 2 + padded.shape[1] - 4]


def _by_class(filtered: Tensor, rows: Tensor) -> Tensor:
    """filtered (K, H, W), rows (H/4, W/4), 0..K - 1 -> (H, W)."""
    h, w = rows.shape
    blocks = filtered.view(-1, h, BLOCK, w, BLOCK)
    found, where = blocks[0], rows[:, None, :, None]
    for i in range(1, len(blocks)):
        found = torch.where(where == i, blocks[i], found)
    return found.reshape(BLOCK * h, BLOCK * w)


def apply_filters(y: Tensor, uv: Tensor, filters: tuple[PlaneFilter | None, ...], corrections: tuple[PlaneCorrections | None, ...] = (None,) * 3) -> tuple[Tensor, Tensor]:
    """Planes y (1, 1, H, W), uv (1, 2, H/2, W/2) before they are rounded -> samples 0..255 as float carriers. ``filters``, ``corrections``: of Y, U and V, None for a plane
    without."""
    luma = halved_luma(y) if any(f is not None and f.luma is not None for f in filters) else None
    done = [decoded_plane(p, f, luma, c) for p, f, c in zip(three_planes(y, uv), filters, corrections, strict=True)]
    return done[0], torch.cat(done[1:], 1)


def decoded_plane(x: Tensor, plane_filter: PlaneFilter | None, luma: Tensor | None = None, corrections: PlaneCorrections | None = None) -> Tensor:
    """A plane before it is rounded -> its samples: filtered, or without a filter rounded half up, with ``corrections``. ``luma``: see ``filter_samples``."""
    if corrections is None:
        return round_to_samples(x) if plane_filter is None else filter_samples(x, plane_filter, luma)
    added = correction_plane(corrections, *x.shape[2:]).to(x.device)
    if plane_filter is not None:
        return filter_samples(x, plane_filter, luma, added)
    return torch.floor((to_sixteenths(x) + added + (1 << SAMPLE_FRAC - 1)) * 2.0**-SAMPLE_FRAC).clamp_(0, 255)


def filtered_sixteenths(x: Tensor, plane_filter: PlaneFilter | None, luma: Tensor | None = None) -> Tensor:
    """What corrections are added to: a plane (1, 1, H, W) before it is rounded -> filtered, in sixteenths of a sample. For encoders."""
    return to_sixteenths(x) if plane_filter is None else filter_samples(x, plane_filter, luma, rounded=False)


def three_planes(y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Y, U and V, each (1, 1, H, W) or (1, 1, H/2, W/2)."""
    return y, uv[:, :1], uv[:, 1:]
