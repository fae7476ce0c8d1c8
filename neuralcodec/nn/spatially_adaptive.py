"""Spatially-adaptive operators (AdaNIC, paper 003, section 3.3): slimmable layers whose width changes from block to block, by a capacity map.

Together they are the paper's transform unit: SA-Conv or SA-TConv, and SA-GDN on the tiles before they are put together::

    features -crop tiles with what is around them, of equal capacity and size-> batch -convolution, GDN at that width-> tiles -merge-> features

A tile reads the first ``cins[o]`` channels (equation 3) of its block and of the rows and columns that its filters reach around it: zeros beyond the
picture, and in channels that a neighbour does not have. So a map with one option everywhere gives what the plain layer gives. With windows of 5 and a
stride of 2 a block sees two rows above and one below; the paper, which does not state its windows, speaks of neighbours above and to the left only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d


class SAConv2d(StageConv2d):
    """SA-Conv: (B, C, H, W) -> (B, C', H/stride, W/stride) by the map of the output's grid, which all samples share.

    C is at least ``cins[o]`` of the widest option in the map, C' is its ``couts[o]``. ``gdn`` is called with tiles and their option. A uniform map is
    computed in one piece by the plain layer, which gives the same."""

    def forward(self, x: Tensor, tcm: CapacityMap, gdn: nn.Module | None = None) -> Tensor:
        option = tcm.uniform
        if option is not None:
            return _normalised(super().forward(x[:, : self.cins[option]], option), option, gdn)
        return self.forward_tiles(x, tcm, gdn)

    def forward_tiles(self, x: Tensor, tcm: CapacityMap, gdn: nn.Module | None = None) -> Tensor:
        """The same tile by tile, for any map."""
        s, kernel, before = self.stride, self.weight.shape[-1], self.padding
        after = kernel - s - before
        padded = F.pad(x, (before, after, before, after))

        def cut(option: int, top: int, left: int, height: int, width: int) -> Tensor:
            return padded[:, : self.cins[option], s * top : s * (top + height) + kernel - s, s * left : s * (left + width) + kernel - s]

        def convolve(tiles: Tensor, option: int) -> Tensor:
            n, m = self.cins[option], self.couts[option]
            return _normalised(self.convolve(tiles, n, m, 0), option, gdn)

        return _by_tiles(x, tcm, self.couts, cut, convolve)


class SATConv2d(StageTranspose2d):
    """SA-TConv, the adjoint: (B, C, H, W) -> (B, C', H stride, W stride) by the map of the output's grid. See SAConv2d."""

    def forward(self, x: Tensor, tcm: CapacityMap, gdn: nn.Module | None = None) -> Tensor:
        option = tcm.uniform
        if option is not None:
            return _normalised(super().forward(x[:, : self.cins[option]], option), option, gdn)
        return self.forward_tiles(x, tcm, gdn)

    def forward_tiles(self, x: Tensor, tcm: CapacityMap, gdn: nn.Module | None = None) -> Tensor:
        """The same tile by tile, for any map whose blocks are multiples of the stride."""
        s, kernel = self.stride, self.weight.shape[-1]
        # Inputs before and after a tile's whose windows, which begin ``padding`` samples before their cells, reach into it.
        before, after = (kernel - 1 - self.padding) // s, (self.padding - 1) // s + 1
        # What the operator gives before and after a tile; as padding it is not computed.
        outside = s * before + self.padding
        lacking = max(s * (1 + before - after) + 2 * self.padding - kernel, 0)
        padded = F.pad(x, (before, after, before, after))

        def cut(option: int, top: int, left: int, height: int, width: int) -> Tensor:
            top, left, height, width = (n // s for n in (top, left, height, width))
            return padded[:, : self.cins[option], top : top + height + before + after, left : left + width + before + after]

        def convolve(tiles: Tensor, option: int) -> Tensor:
            n, m = self.cins[option], self.couts[option]
            height, width = (s * (size - before - after) for size in tiles.shape[-2:])
            return _normalised(self.convolve(tiles, n, m, outside, lacking)[..., :height, :width], option, gdn)

        return _by_tiles(x, tcm, self.couts, cut, convolve)


def _normalised(x: Tensor, option: int, gdn: nn.Module | None) -> Tensor:
    return x if gdn is None else gdn(x, option)


def _by_tiles(x: Tensor, tcm: CapacityMap, couts: tuple[int, ...], cut: Callable[[int, int, int, int, int], Tensor],
              compute: Callable[[Tensor, int], Tensor]) -> Tensor:
    """``cut(option, top, left, height, width)`` gives what a tile of the output reads, ``compute(tiles, option)`` the tiles."""
    batch = x.shape[0]
    # Convolutions, transposed ones above all, take longer in the other format.
    out = torch.empty((batch, couts[tcm.widest], *tcm.size), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for (option, height, width), corners in tcm.groups().items():
        parts = [cut(option, top, left, height, width) for top, left in corners]
        tiles = compute((parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous(memory_format=torch.channels_last), option)
        for tile, (top, left) in zip(tiles.split(batch), corners, strict=True):
            place = out[..., top : top + height, left : left + width]
            place[:, : couts[option]] = tile
            place[:, couts[option] :] = 0
    return out
