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
GRID_FRAC = 4
"""Vectors on the coarse grid are rounded to 1/16 of a luma sample, so that their interpolation is exact."""


def double_size(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): even positions are the samples, odd ones the 6-tap half-sample values; edges repeat."""
    return _double_last(_double_last(x).transpose(-1, -2)).transpose(-1, -2)


def _double_last(x: Tensor) -> Tensor:
    n = x.shape[-1]
    p = torch.cat([x[..., :1], x[..., :1], x, x[..., -1:], x[..., -1:], x[..., -1:]], -1)
    half = sum(t * p[..., i : i + n] for i, t in enumerate(TAPS)) * (1 / TAP_SUM)
    return torch.stack([x, half], -1).flatten(-2)


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
    luma = round_vectors(upsample_vectors(v, 8), VECTOR_STEPS)
    chroma = round_vectors(upsample_vectors(v * 0.5, 4), VECTOR_STEPS)
    sample = _sample_smooth if torch.is_grad_enabled() and (vectors.requires_grad or y.requires_grad) else _sample_exact
    return sample(double_size(y), luma), sample(double_size(uv), chroma)


def _sample_smooth(doubled: Tensor, vectors: Tensor) -> Tensor:
    """Bilinear sampling with gradients: doubled (B, C, 2H, 2W), vectors (B, 2, H, W) in samples of the original grid."""
    _, _, h2, w2 = doubled.shape
    gx = torch.arange(0, w2, 2, device=vectors.device, dtype=vectors.dtype) + 2 * vectors[:, 0]
    gy = torch.arange(0, h2, 2, device=vectors.device, dtype=vectors.dtype)[:, None] + 2 * vectors[:, 1]
    grid = torch.stack([gx * (2 / max(w2 - 1, 1)) - 1, gy * (2 / max(h2 - 1, 1)) - 1], -1)
    return F.grid_sample(doubled, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _sample_exact(doubled: Tensor, vectors: Tensor) -> Tensor:
    """The same by integer gathers: positions in eighths of a sample are quarters of the doubled grid."""
    b, c, h2, w2 = doubled.shape
    quarters = (vectors * VECTOR_STEPS).to(torch.int32)  # (B, 2, H, W), in quarters of the doubled grid
    px = (quarters[:, 0] + 8 * torch.arange(w2 // 2, device=vectors.device, dtype=torch.int32)).clamp_(0, 4 * (w2 - 1))
    py = (quarters[:, 1] + 8 * torch.arange(h2 // 2, device=vectors.device, dtype=torch.int32)[:, None]).clamp_(0, 4 * (h2 - 1))
    x0, y0 = px >> 2, py >> 2
    fx, fy = (px & 3).to(doubled.dtype)[:, None] * 0.25, (py & 3).to(doubled.dtype)[:, None] * 0.25
    right = (x0 < w2 - 1).to(torch.int32)
    down = (y0 < h2 - 1).to(torch.int32) * w2
    index = (y0 * w2 + x0).flatten(1)  # (B, H * W)
    right, down = right.flatten(1), down.flatten(1)
    flat = doubled.flatten(2)

    def take(at: Tensor) -> Tensor:
        if b == 1:
            return flat.index_select(2, at[0]).view(b, c, h2 // 2, w2 // 2)
        return flat.gather(2, at.long()[:, None].expand(-1, c, -1)).view(b, c, h2 // 2, w2 // 2)

    top = take(index) * (1 - fx) + take(index + right) * fx
    bottom = take(index + down) * (1 - fx) + take(index + down + right) * fx
    return top * (1 - fy) + bottom * fy
