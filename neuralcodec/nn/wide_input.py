"""What a wide convolution reads (nn.exact_convs): positions by rows, in float64, on a CPU without the channels that are zero in all of a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

ROW = 2048
"""Positions that are worked on at a time, so that temporaries stay in the cache."""
SPARSE_CHANNELS = 192
"""From so many input channels on it pays to look for those that are zero; on a GPU it never does, for the CPU would have to wait."""
SPARSE_ROW = 128
"""Then positions are fewer at a time: the fewer, the more channels are zero in all of them, and the more often weights are gathered."""
SPARSE_SHARE = 0.9
"""Of the channels; where more are left, all are taken."""


@dataclass(eq=False)
class WideInput:
    """A wide tensor ``x`` (B, C, H, W) for more than one convolution: what is zero is looked for once."""

    x: Tensor
    _channels: list[Tensor | None] | None = field(default=None, init=False, repr=False)

    def rows(self, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """With weights (C, M): rows of positions (n, c) and what they are multiplied by (c, M), both in the weights' type. What is left out adds nothing,
        exactly. Most of a P frame's latents are zero."""
        flat = self.x.permute(0, 2, 3, 1).reshape(-1, self.x.shape[1])
        if self.x.is_cuda or self.x.shape[1] < SPARSE_CHANNELS:
            for row in flat.split(ROW):
                yield row.to(weight.dtype), weight
            return
        rows = flat.split(SPARSE_ROW)
        self._channels = self._channels or [_not_zero(row) for row in rows]
        for row, channels in zip(rows, self._channels, strict=True):
            if channels is None:
                yield row.to(weight.dtype), weight
            else:
                yield row.index_select(1, channels).to(weight.dtype), weight.index_select(0, channels)


def _not_zero(row: Tensor) -> Tensor | None:
    """Indexes of the channels of a row (n, C) that are not zero everywhere; None where they are too many to choose them."""
    channels = row.abs().amax(0).nonzero()[:, 0]
    return None if len(channels) > SPARSE_SHARE * row.shape[1] else channels
