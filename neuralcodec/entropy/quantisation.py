"""The encoder's rounding of residuals by rate and distortion. Not part of the specification: a decoder takes whatever symbols it reads."""

from __future__ import annotations

import numpy as np

from neuralcodec.entropy.tables import cost_bits


def quantise(residual: np.ndarray, scale_index: np.ndarray, lam: float | np.ndarray) -> np.ndarray:
    """Symbols for real residuals, each the cheaper of the nearest integer, its neighbour towards zero, and zero.

    Cheaper is what has the lower bits + ``lam`` * squared error (as an encoder of H.264 or HEVC does, there called RDOQ). ``residual``: real,
    in quantiser steps; ``scale_index``: integers 0..63, both (C, H, W); ``lam``: bits for a squared step, one number or (C, H, W); infinity is plain rounding.
    Returns int32 of that shape. Raises UsageError when an index or a symbol is out of range.
    """
    nearest = np.ascontiguousarray(np.floor(residual + 0.5), np.int32)
    if np.ndim(lam) == 0 and not np.isfinite(lam):
        return nearest
    flat, where = nearest.reshape(-1), np.flatnonzero(nearest)
    real, tables, first = residual.reshape(-1)[where].astype(np.float64), scale_index.reshape(-1)[where], flat[where]
    weight = np.broadcast_to(lam, residual.shape).reshape(-1)[where]
    best, least = first, np.full(first.shape, np.inf)
    for symbols in (first, first - np.sign(first), np.zeros_like(first)):
        cost = cost_bits(symbols, tables) + weight * (real - symbols) ** 2
        better = cost < least
        best, least = np.where(better, symbols, best), np.minimum(cost, least)
    flat[where] = best
    return nearest
