"""Masks and latents of entropy.md, sections 6 and 7."""

from __future__ import annotations

import numpy as np

from .rans import Rans, StreamError
from .tables import read_flags, read_group, read_numbers


def read_mask(rans: Rans, mode: int, parameter: int, scale_index: np.ndarray, derived: np.ndarray | None) -> np.ndarray:
    """The mask of a latent, bool (C, H, W); ``derived`` is None for a model without mode prediction."""
    if mode == 3:
        return scale_index >= parameter
    if mode == 2:
        return _sent(rans, parameter, scale_index.shape)
    if derived is None or (mode == 0 and parameter != 0) or (mode == 1 and parameter > 16):
        raise StreamError(f"mask mode {mode} with parameter {parameter} is not possible here")
    return derived.copy() if mode == 0 else _with_exceptions(rans, parameter, derived)


def _sent(rans: Rans, parameter: int, shape: tuple[int, int, int]) -> np.ndarray:
    channels, height, width = shape
    group = (1, 4, 16, channels)[parameter >> 4]
    mask = np.zeros(shape, dtype=bool)
    for c in range(0, channels, group):
        for y in range(0, height, 4):
            for x in range(0, width, 4):
                mask[c : c + group, y : y + 4, x : x + 4] = read_flags(rans, 1, parameter & 15)[0]
    return mask


def _with_exceptions(rans: Rans, order: int, derived: np.ndarray) -> np.ndarray:
    length = rans.bits(5)
    count = 0
    if length > 0:
        count = 2 ** (length - 1)
        if length - 1 > 16:
            count += rans.bits(length - 1 - 16) * 2**16
        count += rans.bits(min(length - 1, 16))
    skipped = [i for i, coded in enumerate(derived.reshape(-1)) if not coded]
    if count > len(skipped):
        raise StreamError(f"{count} exceptions among {len(skipped)} skipped elements")
    mask = derived.copy()
    position = -1
    for gap in read_numbers(rans, count, order):
        position += gap + 1
        if position >= len(skipped):
            raise StreamError(f"exception at {position} among {len(skipped)} skipped elements")
        mask.reshape(-1)[skipped[position]] = True
    return mask


def read_latent(rans: Rans, scale_index: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The residuals of a latent, int64 (C, H, W), 0 where ``mask`` skips."""
    residual = np.zeros(scale_index.size, dtype=np.int64)
    coded = [i for i, flag in enumerate(mask.reshape(-1)) if flag]
    residual[coded] = read_group(rans, scale_index.reshape(-1)[coded])
    return residual.reshape(scale_index.shape)
