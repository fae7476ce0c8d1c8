"""Loop filters as a search for latents sees them: in real numbers, so that gradients pass. Differences are not clipped, samples not rounded, and the classes
of blocks stay those of one picture (nn.loop_filter says what decoders do)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.types import PlaneFilter
from neuralcodec.nn.loop_filter import BLOCK, COEFFICIENT_FRAC, TAPS, filters_of_blocks, three_planes, to_sixteenths

_BORDER = 2


class LinearFilters:
    """``filters`` of Y, U and V, with the classes that blocks of y (1, 1, H, W), samples 0..255, have."""

    def __init__(self, y: Tensor, filters: tuple[PlaneFilter | None, ...]) -> None:
        n = to_sixteenths(y)
        own = [None if f is None else filters_of_blocks(f, n) for f in filters]
        self._own = [None if o is None else _kernels(o[0]) for o in own]
        self._of_luma = [None if f is None or f.luma is None else _kernels(torch.from_numpy(f.luma).to(y)) for f in filters]
        self._classes: Tensor | None = None
        if own[0] is not None and own[0][1] is not None:
            self._classes = own[0][1].repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[None, None]

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


def _kernels(coefficients: Tensor) -> Tensor:
    """(K, 12) -> (K, 1, 5, 5): what is added to a sample."""
    w = coefficients / (2 << COEFFICIENT_FRAC)
    kernels = w.new_zeros(len(w), 1, 2 * _BORDER + 1, 2 * _BORDER + 1)
    for i, (dy, dx) in enumerate(TAPS):
        kernels[:, 0, _BORDER + dy, _BORDER + dx] = kernels[:, 0, _BORDER - dy, _BORDER - dx] = w[:, i]
    kernels[:, 0, _BORDER, _BORDER] = -2 * w.sum(1)
    return kernels

