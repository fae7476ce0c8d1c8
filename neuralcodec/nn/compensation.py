"""Motion compensation on decoded planes at full resolution (DESIGN D2).

The reference is brought to twice its size by the 6-tap filter (1, -5, 20, 20, -5, 1) / 32 in each direction and sampled there
bilinearly at eighth-pel positions of the original grid. All weights are dyadic: with integer samples 0..255 the result is
n / 2**14 with |n| < 2**24, exact in float32 whatever the order of summation.

Vectors live on a grid of one for 8x8 luma samples and are brought up bilinearly (weights in sixteenths), then rounded half up to
eighths of a sample (luma) or of a chroma sample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1.0, -5.0, 20.0, 20.0, -5.0, 1.0)
TAP_SUM = 32.0
VECTOR_STEPS = 8
"""Vectors are rounded to 1/8 of a sample."""
VECTOR_LIMIT = 512.0
STRIP, STRIP_SAMPLES = 64, 1 << 16
"""Rows worked on at a time, so that temporaries stay in the cache; more of them where they are short, for each strip takes some time whatever its size."""
GRID_FRAC = 4
"""Vectors on the coarse grid are rounded to 1/16 of a luma sample, so that their interpolation is exact."""


def double_size(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): even positions are the samples, odd ones the 6-tap half-sample values; edges repeat."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _double_rows(_double_columns(x))
    b, c, h, w = x.shape
    out = x.new_empty(b, c, 2 * h, 2 * w)
    rows = torch.arange(-2, h + 3, device=x.device).clamp_(0, h - 1)
    strip = _strip(w)
    for top in range(0, h, strip):
        n = min(strip, h - top)
        wide = _double_columns(x[:, :, rows[top : top + n + 5]])  # (B, C, n + 5, 2W)
        out[:, :, 2 * top : 2 * (top + n) : 2] = wide[:, :, 2 : 2 + n]
        out[:, :, 2 * top + 1 : 2 * (top + n) : 2] = _half_samples([wide[:, :, i : i + n] for i in range(6)])
    return out


def _strip(width: int) -> int:
    return max(STRIP, STRIP_SAMPLES // width)


def _half_samples(taps: list[Tensor]) -> Tensor:
    # Sums of integers times a power of two: exact in any order. The pairing halves the multiplications.
    return (taps[2] + taps[3]).mul_(20).sub_(taps[1] + taps[4], alpha=5).add_(taps[0] + taps[5]).mul_(1 / TAP_SUM)


def _double_columns(x: Tensor) -> Tensor:
    n = x.shape[-1]
    p = torch.cat([x[..., :1], x[..., :1], x, x[..., -1:], x[..., -1:], x[..., -1:]], -1)
    return torch.stack([x, _half_samples([p[..., i : i + n] for i in range(6)])], -1).flatten(-2)


def _double_rows(x: Tensor) -> Tensor:
    return _double_columns(x.transpose(-1, -2)).transpose(-1, -2)


def upsample_vectors(vectors: Tensor, factor: int) -> Tensor:
    """(B, 2, h, w) -> (B, 2, h * factor, w * factor): bilinear between cell centres, edges repeat; same units."""
    return F.interpolate(vectors, scale_factor=factor, mode="bilinear", align_corners=False)


def round_vectors(vectors: Tensor, steps: int) -> Tensor:
    """Round half up to 1/steps, straight-through, and clamp to VECTOR_LIMIT."""
    v = vectors.clamp(-VECTOR_LIMIT, VECTOR_LIMIT)
    return v + (torch.floor(v.detach() * steps + 0.5) / steps - v.detach())


def compensate(y: Tensor, uv: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Predict a picture from a reference.

    y (B, 1, H, W), uv (B, 2, H/2, W/2) in 0..255; vectors (B, 2, H/8, W/8) as (x, y) in luma samples, pointing from the picture into the
    reference. Returns planes of the same shapes, not rounded. Differentiable in all three.
    """
    v = round_vectors(vectors, 1 << GRID_FRAC)
    if torch.is_grad_enabled() and (vectors.requires_grad or y.requires_grad):
        luma = round_vectors(upsample_vectors(v, 8), VECTOR_STEPS)
        chroma = round_vectors(upsample_vectors(v * 0.5, 4), VECTOR_STEPS)
        return _sample_smooth(double_size(y), luma), _sample_smooth(double_size(uv), chroma)
    return sample_doubled(double_size(y), v, 8), sample_doubled(double_size(uv), v * 0.5, 4)


def sample_doubled(doubled: Tensor, vectors: Tensor, factor: int) -> Tensor:
    """doubled (B, C, 2H, 2W) of ``double_size``, vectors (B, 2, H / factor, W / factor) in samples -> (B, C, H, W). Works in strips that stay in the
    cache. No gradients."""
    out = doubled.new_empty(*doubled.shape[:2], doubled.shape[2] // 2, doubled.shape[3] // 2)
    cells, step = vectors.shape[2], max(1, _strip(out.shape[3]) // factor)
    for top in range(0, cells, step):
        end = min(top + step, cells)
        first, last = max(top - 1, 0), min(end + 1, cells)  # interpolation looks one cell up and down
        dense = upsample_vectors(vectors[:, :, first:last], factor)[:, :, (top - first) * factor : (end - first) * factor]
        out[:, :, top * factor : end * factor] = _sample_exact(doubled, round_vectors(dense, VECTOR_STEPS), top * factor)
    return out


def _sample_smooth(doubled: Tensor, vectors: Tensor) -> Tensor:
    """Bilinear sampling with gradients: doubled (B, C, 2H, 2W), vectors (B, 2, H, W) in samples of the original grid."""
    _, _, h2, w2 = doubled.shape
    gx = torch.arange(0, w2, 2, device=vectors.device, dtype=vectors.dtype) + 2 * vectors[:, 0]
    gy = torch.arange(0, h2, 2, device=vectors.device, dtype=vectors.dtype)[:, None] + 2 * vectors[:, 1]
    grid = torch.stack([gx * (2 / max(w2 - 1, 1)) - 1, gy * (2 / max(h2 - 1, 1)) - 1], -1)
    return F.grid_sample(doubled, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _sample_exact(doubled: Tensor, vectors: Tensor, top: int) -> Tensor:
    """The same by integer gathers, for the rows from ``top`` on: positions in eighths of a sample are quarters of the doubled grid."""
    _, _, h2, w2 = doubled.shape
    rows, columns = vectors.shape[2:]
    quarters = (vectors * VECTOR_STEPS).to(torch.int32)  # (B, 2, rows, W), in quarters of the doubled grid
    device, kind = vectors.device, torch.int32
    px = quarters[:, 0].add_(torch.arange(0, 8 * columns, 8, device=device, dtype=kind)).clamp_(0, 4 * (w2 - 1))
    py = quarters[:, 1].add_(torch.arange(8 * top, 8 * (top + rows), 8, device=device, dtype=kind)[:, None]).clamp_(0, 4 * (h2 - 1))
    return torch.stack([sample_quarters(*of_one) for of_one in zip(doubled, px, py, strict=True)])


def sample_quarters(planes: Tensor, px: Tensor, py: Tensor) -> Tensor:
    """Bilinear samples of planes (C, H, W) at int32 positions in quarters of a sample, 0 .. 4 (W - 1) and 0 .. 4 (H - 1), of one shape -> (C, *shape)."""
    c, h, w = planes.shape
    fx, fy = (px & 3).to(planes.dtype).mul_(0.25), (py & 3).to(planes.dtype).mul_(0.25)
    x0, y0 = px >> 2, py >> 2
    right = (x0 < w - 1).to(px.dtype)
    index = (y0 * w).add_(x0)
    below = index + (y0 < h - 1).to(px.dtype).mul_(w)
    corners = [i.flatten() for i in (index, index + right, below, below + right)]
    out = planes.new_empty(c, *px.shape)
    for plane, result in zip(planes, out, strict=True):
        flat = plane.reshape(-1)
        a, r, d, e = (flat.index_select(0, corner).view(px.shape) for corner in corners)
        a.add_((r - a).mul_(fx))
        d.add_((e - d).mul_(fx))
        torch.add(a, (d - a).mul_(fy), out=result)
    return out
