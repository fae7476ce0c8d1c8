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


CERTAIN, GROUP, USUAL, UNUSUAL, ELEMENT = 2, 64, 1, 2, 3
"""Section 7: scale indexes that are nearly certain, elements of a group, probability indexes."""


def read_latent(rans: Rans, scale_index: np.ndarray, mask: np.ndarray, sparse: bool = False) -> np.ndarray:
    """The residuals of a latent, int64 (C, H, W), 0 where ``mask`` skips; ``sparse``: the stream has feature 8."""
    residual = np.zeros(scale_index.size, dtype=np.int64)
    coded = [i for i, flag in enumerate(mask.reshape(-1)) if flag]
    if sparse:
        tables = scale_index.reshape(-1)
        _sparse(rans, residual, [i for i in coded if tables[i] < CERTAIN])
        coded = [i for i in coded if tables[i] >= CERTAIN]
    residual[coded] = read_group(rans, scale_index.reshape(-1)[coded])
    return residual.reshape(scale_index.shape)


def _sparse(rans: Rans, residual: np.ndarray, elements: list[int]) -> None:
    """Section 7, streams with feature 8: the elements that are nearly certain."""
    if not elements:
        return
    unusual = read_flags(rans, 1, UNUSUAL)[0]
    probability = rans.bits(4) if unusual else USUAL
    flags = read_flags(rans, -(-len(elements) // GROUP), probability)
    inside = [i for number, i in enumerate(elements) if flags[number // GROUP]]
    nonzero = [i for i, flag in zip(inside, read_flags(rans, len(inside), ELEMENT + int(unusual)), strict=True) if flag]
    magnitudes = [value + 1 for value in read_numbers(rans, len(nonzero), 0)]
    for i, magnitude in zip(nonzero, magnitudes, strict=True):
        residual[i] = -magnitude if rans.bits(1) else magnitude
