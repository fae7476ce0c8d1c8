"""Slimmable units of exact pictures: the twins of nn.slimmable, with its parameter names, over integer-valued carriers.

Defined in bitstream_spec/exact_pictures.md, section 5. What enters and leaves a unit is wide; inside, a convolution reads a rounded copy.
"""

from __future__ import annotations

from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.nn.carriers import WIDE_LIMIT, add_wide
from neuralcodec.nn.exact_convs import NarrowConv2d, WideConv2d
from neuralcodec.nn.selection import WIDTHS, SlimmableUnit
from neuralcodec.nn.slimmable import copy_through, leading
from neuralcodec.nn.wide_input import WideInput


class ExactBlock(SlimmableUnit):
    """SlimmableBlock's twin: both branches on the first n channels of a wide x (B, C, H, W)."""

    def __init__(self, channels: int, *, levels: int = 3) -> None:
        super().__init__(levels)
        self.channels = channels
        self.mix = NarrowConv2d(channels, channels, relu=True)
        self.spatial = NarrowConv2d(channels, channels, 3, groups=channels)
        self.expand = NarrowConv2d(channels, 2 * channels, relu=True)
        self.project = NarrowConv2d(2 * channels, channels)
        for last in (self.spatial, self.project):  # as in the float twin
            nn.init.zeros_(last.weight)
        self.register_load_state_dict_post_hook(_join_limits)

    def join_limits(self) -> None:
        """After a layer's declaration has changed: what a layer with ReLU gives fits the next one."""
        for layer, following in ((self.mix, self.spatial), (self.expand, self.project)):
            layer.limit_out = following.limit_in
            layer.thaw()

    def set_formats(self, mix: int, spatial: int, expand: int, project: int) -> None:
        """``frac_in`` of each layer; what a layer with ReLU gives has the format of the next one."""
        for layer, frac_in, following in ((self.mix, mix, spatial), (self.spatial, spatial, None), (self.expand, expand, project),
                                          (self.project, project, None)):
            layer.set_format(frac_in, layer.frac_out if following is None else following)

    def run(self, x: Tensor, width: float) -> Tensor:
        n = leading(self.channels, width)
        h = x[:, :n]
        h = add_wide(h, self._spatial(h, n))
        h = add_wide(h, self._channelwise(h, n))
        return h if n == self.channels else torch.cat([h, x[:, n:]], 1)

    def run_(self, h: Tensor) -> None:
        """The same in place, without gradients, on the n channels alone."""
        n = h.shape[1]
        h.add_(self._spatial(h, n)).clamp_(-WIDE_LIMIT, WIDE_LIMIT)
        h.add_(self._channelwise(h, n)).clamp_(-WIDE_LIMIT, WIDE_LIMIT)

    def _spatial(self, h: Tensor, n: int) -> Tensor:
        return self.spatial(self.mix(self.mix.enter(h), n), n)

    def _channelwise(self, h: Tensor, n: int) -> Tensor:
        return self.project(self.expand(self.expand.enter(h), 2 * n), n)

    def macs_per_position(self, width: float) -> int:
        n = leading(self.channels, width)
        return n * n + 9 * n + 4 * n * n


def _join_limits(block: ExactBlock, _: object) -> None:
    block.join_limits()


class ExactTrunk(nn.Sequential):
    """Blocks in a row. Without gradients those of one width work on one copy of the channels that they change."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or any(block.mixture is not None for block in self):
            return super().forward(x)
        for n, blocks in groupby(self, lambda block: leading(block.channels, WIDTHS[block.option])):
            h = x[:, :n].clone(memory_format=torch.preserve_format)
            for block in blocks:
                block.run_(h)
            x = h if n == x.shape[1] else torch.cat([h, x[:, n:]], 1)
        return x


class ExactPointwise(SlimmableUnit):
    """SlimmableConv2d's twin, pointwise. Channels that are not computed copy the wide input."""

    def __init__(self, cin: int, cout: int, *, levels: int = 3) -> None:
        super().__init__(levels)
        self.cin, self.cout = cin, cout
        self.conv = NarrowConv2d(cin, cout)

    def run(self, x: Tensor, width: float) -> Tensor:
        n, m = leading(self.cin, width), leading(self.cout, width)
        return copy_through(self.conv(self.conv.enter(x[:, :n]), m), x, self.cout)

    def macs_per_position(self, width: float) -> int:
        return leading(self.cin, width) * leading(self.cout, width)


class ExactSubpixel(nn.Module):
    """Subpixel's twin: wide (B, cin, H, W) or WideInput -> wide (B, cout, 2H, 2W)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = WideConv2d(cin, 4 * cout)

    def forward(self, x: Tensor | WideInput) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)
