"""Corrections: small blocks of samples added to a decoded plane, sent as levels of a cosine transform or of the samples themselves
(bitstream_spec/pictures.md, section 13).

A decoder network makes most pictures well, but not what its training clips hardly had: coloured letters, thin lines that someone has drawn over a picture. There few blocks hold much of the error, and a
block transform, as H.265 codes residuals (4x4, with transform skip: Sze, Budagavi, Sullivan, "High Efficiency Video Coding", 2014, chapter 6), takes it away for fewer bits than latents.

All numbers are integers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuralcodec.core.types import CORRECTION_BLOCK as BLOCK
from neuralcodec.core.types import CORRECTION_STEPS, PlaneCorrections

COSINES = np.array([[64, 64, 64, 64], [83, 36, -36, -83], [64, -64, -64, 64], [36, -83, 83, -36]], np.int64)
"""Rows are 128 times an orthonormal transform's, about."""
COSINE_FRAC = 14
"""Fractional bits of what two of them make."""
STEP_SIZES = np.array([int(16 * 2 ** (i / 4) + 0.5) for i in range(CORRECTION_STEPS)], np.int64)
"""Quantiser steps in sixteenths of a sample."""
LIMIT = 4080
"""Largest correction, in sixteenths of a sample."""


def block_samples(corrections: PlaneCorrections) -> np.ndarray:
    """What is added to each block in sixteenths of a sample, int64 (n, 4, 4)."""
    coefficients = corrections.levels * STEP_SIZES[corrections.step]
    transformed = (COSINES.T @ coefficients @ COSINES + (1 << COSINE_FRAC - 1)) >> COSINE_FRAC
    return np.where(corrections.plain[:, None, None], coefficients, transformed).clip(-LIMIT, LIMIT)


def correction_plane(corrections: PlaneCorrections, height: int, width: int) -> Tensor:
    """What is added to a plane in sixteenths of a sample, float32 (height, width), which are multiples of 4."""
    rows, columns = height // BLOCK, width // BLOCK
    plane = np.zeros((rows * columns, BLOCK, BLOCK), np.float32)
    plane[corrections.where] = block_samples(corrections)
    return torch.from_numpy(plane.reshape(rows, columns, BLOCK, BLOCK).transpose(0, 2, 1, 3).reshape(height, width))
