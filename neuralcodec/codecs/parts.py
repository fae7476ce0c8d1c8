"""How a latent is divided into parts, which are coded one after the other, later ones from what is decoded by then (bitstream_spec/networks.md, section 4).

One part is all of it. Two and three divide positions (after He et al., "Checkerboard context model", CVPR 2021). Four divide positions and channels (after
Li et al., "Neural video compression with diverse contexts", CVPR 2023): every part has a quarter of the channels at each position, so that the first one
tells the others how much there is to code there. Four parts of vectors are something else: the sums of 2x2 cells in three parts as above, then all of the
cells' differences, which the sums around them predict.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralcodec.core.errors import UsageError


def part_positions(part: int, parts: int, height: int, width: int) -> Tensor:
    """bool (height, width): the positions of one part of one to three. Of two: row + column even, the others. Of three: both even, both odd, the others."""
    if parts == 1:
        return torch.ones(height, width, dtype=torch.bool)
    row, column = torch.arange(height)[:, None] % 2, torch.arange(width) % 2
    if parts == 2:
        return (row + column) % 2 == part
    return (row != column) if part == 2 else (row == part) & (column == part)


@dataclass(frozen=True)
class Division:
    """``parts`` 1 to 4 of a latent of ``channels``; ``vectors``: a latent of vectors (with four parts: channels 0 and C/2 are the sums of cells)."""

    parts: int
    channels: int
    vectors: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.parts <= 4 or (self.parts == 4 and self.vectors and self.channels % 2):
            raise UsageError(f"a latent of {self.channels} channels in {self.parts} parts")

    @property
    def mask_bytes(self) -> int:
        """Mask bytes in a packet: one for each part of two; one for the first and one for the other three of four; one for all of any other number."""
        return 2 if self.parts == 2 or (self.parts == 4 and not self.vectors) else 1

    def elements(self, part: int, height: int, width: int) -> Tensor:
        """bool (C, height, width): the elements of a part. Of four, with s = 0, 1, 2, 3 where row and column are both even, both odd, even and odd, odd and
        even, they are those with part = s xor (channel mod 4)."""
        shape = (self.channels, height, width)
        if self.parts < 4:
            return part_positions(part, self.parts, height, width).expand(shape)
        channel = torch.arange(self.channels)[:, None, None]
        if self.vectors:
            sums = channel % (self.channels // 2) == 0
            return (~sums).expand(shape) if part == 3 else sums & part_positions(part, 3, height, width)
        row, column = torch.arange(height)[:, None] % 2, torch.arange(width) % 2
        return (torch.where(row == column, row, 2 + row) ^ (channel % 4)) == part

    @functools.lru_cache(maxsize=8)  # noqa: B019 - divisions are few and live as long as their models
    def places(self, part: int, height: int, width: int) -> np.ndarray:
        """The same as indexes into (C, height, width) in raster order, ascending."""
        return np.flatnonzero(self.elements(part, height, width).numpy())

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def channels_of(self, part: int, height: int, width: int) -> np.ndarray:
        """The channel of each of them, int64."""
        return self.places(part, height, width) // (height * width)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of the array in which a part is coded, with -1 for the number of its positions or, of four, of its elements, in raster order."""
        return {1: (self.channels, height, width), 4: (1, 1, -1)}.get(self.parts, (self.channels, 1, -1))
