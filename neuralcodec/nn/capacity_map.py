"""Transform capacity maps (AdaNIC, paper 003, section 3.3): which capacity each block of a picture gets.

A map belongs to a grid of positions. That of a grid of twice the resolution is the same map with blocks of twice the size: position (x, y) has there
what position (x // 2, y // 2) has here, which is the paper's equation 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from neuralcodec.core.errors import UsageError


@dataclass(frozen=True)
class CapacityMap:
    """``options`` by block row and column, 0 being the largest capacity; ``heights`` and ``widths`` of the rows and columns of blocks, in positions."""

    options: tuple[tuple[int, ...], ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]

    @staticmethod
    def of_blocks(options: np.ndarray, block: int, height: int, width: int) -> CapacityMap:
        """Blocks of ``block`` x ``block`` positions on a grid of height x width, those at the lower and right edge cut off. Raises UsageError for options
        (rows, columns) that are not as many."""
        if options.shape != map_shape(block, height, width):
            raise UsageError(f"a capacity map of {options.shape} blocks for a grid of {height}x{width}")
        heights, widths = (tuple(min(block, n - at) for at in range(0, n, block)) for n in (height, width))
        return CapacityMap(tuple(tuple(map(int, row)) for row in options), heights, widths)

    @property
    def uniform(self) -> int | None:
        """The option of all blocks, None where they differ."""
        found = {option for row in self.options for option in row}
        return found.pop() if len(found) == 1 else None

    @property
    def widest(self) -> int:
        return min(min(row) for row in self.options)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return sum(self.heights), sum(self.widths)

    def doubled(self) -> CapacityMap:
        """That of the grid of twice the resolution (equation 2)."""
        return CapacityMap(self.options, tuple(2 * n for n in self.heights), tuple(2 * n for n in self.widths))

    def halved(self) -> CapacityMap:
        """The inverse. Raises UsageError where a block has an odd size."""
        if any(n % 2 for n in self.heights + self.widths):
            raise UsageError("a capacity map with blocks of odd size cannot be halved")
        return CapacityMap(self.options, tuple(n // 2 for n in self.heights), tuple(n // 2 for n in self.widths))

    def rows(self, first: int, last: int) -> CapacityMap:
        """That of the grid's rows from ``first`` up to but without ``last``."""
        begins = accumulate(self.heights, initial=0)
        kept = [(row, min(begin + n, last) - max(begin, first)) for row, begin, n in zip(self.options, begins, self.heights, strict=False)]
        kept = [(row, n) for row, n in kept if n > 0]
        return CapacityMap(tuple(row for row, _ in kept), tuple(n for _, n in kept), self.widths)

    def positions(self) -> Tensor:
        """Option of each position, int64 (H, W)."""
        rows = torch.tensor(self.options).repeat_interleave(torch.tensor(self.heights), 0)
        return rows.repeat_interleave(torch.tensor(self.widths), 1)

    def present(self, channels: tuple[int, ...]) -> Tensor:
        """bool (C, H, W): where the channels of a layer are that has ``channels[o]`` of them at option o; C is the largest number."""
        return torch.arange(channels[0])[:, None, None] < torch.tensor(channels)[self.positions()]

    def groups(self) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
        """Tiles that can be computed together: (option, height, width) -> the top left corners. Neighbours of one option are one tile, for each tile
        reads what is around it: runs along a row of blocks, and such runs below each other that begin and end alike."""
        tiles: dict[tuple[int, int, int], list[int]] = {}  # (option, left, width) of the row above -> top, height
        found: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

        def close(kept: set[tuple[int, int, int]]) -> None:
            for run in [run for run in tiles if run not in kept]:
                (option, left, width), (top, height) = run, tiles.pop(run)
                found.setdefault((option, height, width), []).append((top, left))

        for row, top, height in zip(self.options, accumulate(self.heights, initial=0), self.heights, strict=False):
            runs, left = [], 0
            for option, same in groupby(zip(row, self.widths, strict=True), key=itemgetter(0)):
                width = sum(width for _, width in same)
                runs.append((option, left, width))
                left += width
            close(set(runs))
            for run in runs:
                tiles.setdefault(run, [top, 0])[1] += height
        close(set())
        return found


def map_shape(block: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks on a grid."""
    return -(-height // block), -(-width // block)
