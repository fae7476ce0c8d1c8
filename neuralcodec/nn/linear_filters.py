"""Loop filters as a search for latents sees them: in real numbers, so that gradients pass. Differences are not clipped, samples not rounded, and the classes
of blocks stay those of one picture (nn.loop_filter says what decoders do)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.types import PlaneFilter
from neuralcodec.nn.loop_filter import ACTIVITIES, BLOCK, COEFFICIENT_FRAC, DIRECTED, TAPS, TURNED, block_classes, three_planes, to_sixteenths

_BORDER = 2


class LinearFilters:
    """``filters`` of Y, U and V, with the classes that blocks of y (1, 1, H, W), samples 0..255, have."""

    def __init__(self, y: Tensor, filters: tuple[PlaneFilter | None, ...]) -> None:
        self._own = [None if f is None else _kernels(f.coefficients, y) for f in filters]
        self._of_luma = [None if f is None or f.luma is None else _kernels(f.luma, y) for f in filters]
        self._classes: Tensor | None = None
        luma = filters[0]
        if luma is not None and len(luma.coefficients) > 1:
            self._own[0], classes = _by_class(luma.coefficients, y)
            self._classes = classes.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[None, None]

    def __call__(self, y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Planes y (1, 1, H, W), uv (1, 2, H/2, W/2), samples -> filtered, with gradients."""
        halved, found = F.avg_pool2d(y, 2), []
        for index, plane in enumerate(three_planes(y, uv)):
            own, of_luma = self._own[index], self._of_luma[index]
            added = 0.0 if own is None else _convolve(plane, own)
            if index == 0 and self._classes is not None:
                added = added.gather(1, self._classes)
            if of_luma is not None:
                added = added + _convolve(halved, of_luma)
            found.append(plane + added)
        return found[0], torch.cat(found[1:], 1)


def _convolve(plane: Tensor, kernels: Tensor) -> Tensor:
    return F.conv2d(F.pad(plane, (_BORDER,) * 4, mode="replicate"), kernels)


def _kernels(coefficients: np.ndarray, like: Tensor) -> Tensor:
    """(K, 12) -> (K, 1, 5, 5): what is added to a sample."""
    w = torch.from_numpy(np.ascontiguousarray(coefficients)).to(like) / (2 << COEFFICIENT_FRAC)
    kernels = w.new_zeros(len(w), 1, 2 * _BORDER + 1, 2 * _BORDER + 1)
    for i, (dy, dx) in enumerate(TAPS):
        kernels[:, 0, _BORDER + dy, _BORDER + dx] = kernels[:, 0, _BORDER - dy, _BORDER - dx] = w[:, i]
    kernels[:, 0, _BORDER, _BORDER] = -2 * w.sum(1)
    return kernels


def _by_class(coefficients: np.ndarray, y: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels, and which of them each block of 4x4 has: int64 (H/4, W/4)."""
    activity, direction = block_classes(to_sixteenths(y))
    if len(coefficients) != DIRECTED:
        return _kernels(coefficients, y), activity * len(coefficients) // ACTIVITIES
    straight, along = coefficients[::2], coefficients[1::2]
    return _kernels(np.concatenate([straight, along, along[:, list(TURNED)]]), y), activity + ACTIVITIES * direction
