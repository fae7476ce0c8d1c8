"""Planes to tensors and back (DESIGN D2): native 4:2:0 as 96 channels at an eighth of the resolution."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PACKED_CHANNELS = 96
LUMA_CHANNELS = 64
CHROMA_CHANNELS = PACKED_CHANNELS - LUMA_CHANNELS
UNIT, DYADIC_UNIT = 255.0, 256.0
"""Samples in a unit of packed planes: of the floating-point models, and of those whose packed planes must be multiples of a power of two."""
ALIGN = 16
"""Pictures are padded to multiples of this many luma samples (one latent position)."""


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Height and width rounded up to whole latent positions."""
    return -(-height // ALIGN) * ALIGN, -(-width // ALIGN) * ALIGN


def pad_plane(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Repeat the last row and column of a plane up to a size."""
    return np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])), mode="edge")


def planes_to_tensors(planes: tuple[np.ndarray, np.ndarray, np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 planes Y (H, W), U, V (H/2, W/2) -> padded float Y (1, 1, H', W') and UV (1, 2, H'/2, W'/2), samples 0..255."""
    height, width = padded_size(*planes[0].shape)
    y = torch.from_numpy(pad_plane(planes[0], height, width))
    uv = torch.from_numpy(np.stack([pad_plane(p, height // 2, width // 2) for p in planes[1:]]))
    return y[None, None].to(device).float(), uv[None].to(device).float()


def tensors_to_planes(y: Tensor, uv: Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse of planes_to_tensors for one picture of integer-valued samples: crops and casts to uint8."""
    ch, cw = -(-height // 2), -(-width // 2)
    luma = y[0, 0, :height, :width].to(torch.uint8).cpu().numpy()
    chroma = uv[0, :, :ch, :cw].to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(luma), np.ascontiguousarray(chroma[0]), np.ascontiguousarray(chroma[1])


def pack(y: Tensor, uv: Tensor, unit: float = UNIT) -> Tensor:
    """Y (B, 1, H, W), UV (B, 2, H/2, W/2) in 0..255 -> (B, 96, H/8, W/8), (sample - 127.5) / unit; channels: 64 Y, 16 U, 16 V."""
    packed = torch.cat([F.pixel_unshuffle(y, 8), F.pixel_unshuffle(uv, 4)], 1)
    return packed.mul(1 / unit).sub(127.5 / unit).contiguous(memory_format=torch.channels_last)


def unpack(x: Tensor, unit: float = UNIT) -> tuple[Tensor, Tensor]:
    """Inverse of pack, not rounded or clamped: Y (B, 1, H, W), UV (B, 2, H/2, W/2) in units of 8-bit samples."""
    x = (x + 127.5 / unit) * unit
    return F.pixel_shuffle(x[:, :64], 8), F.pixel_shuffle(x[:, 64:], 4)


def to_samples(y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
    """Both planes as ``round_to_samples``."""
    return round_to_samples(y), round_to_samples(uv)


def round_to_samples(x: Tensor) -> Tensor:
    """Round half up and clamp to 8-bit samples, still as float carriers."""
    return torch.floor(x + 0.5).clamp_(0, 255)
