"""Sizes of what enters a layer, counted while calibrating."""

from __future__ import annotations

import torch
from torch import Tensor

_EXPONENTS = 64
"""Magnitudes are counted by their power of two, 2**-40 to 2**23."""
_FIRST_EXPONENT = -40
_BIAS = 126
"""Of the exponent in a float32 beyond that of torch.frexp."""


class Magnitudes:
    """How many values have which power of two next above their magnitude."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_EXPONENTS, dtype=torch.int64)

    def clear(self) -> None:
        self._counts.zero_()

    def add(self, x: Tensor, frac: int) -> None:
        """Count float32 values, which stand for x * 2**-frac."""
        found = torch.bincount((x.detach().view(torch.int32) >> 23).bitwise_and_(255).flatten(), minlength=256).cpu()
        where = (torch.arange(256) - (_BIAS + frac + _FIRST_EXPONENT)).clamp_(0, _EXPONENTS - 1)
        where[0] = 0  # zeros
        self._counts.index_add_(0, where, found)

    def largest(self, share: float) -> int | None:
        """The least exponent e so that all values but for a share are below 2**e in magnitude; None when nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return None
        above = total - self._counts.cumsum(0)
        return _FIRST_EXPONENT + int((above <= share * total).nonzero()[0])
