"""Slimmable layers by leading channels (DESIGN D3; paper 000, section 3.2 and Figure 1c).

At width r a layer reads its first r * C_in channels and computes its first r * C_out. Channels that are not computed take the
input's value at the same channel; where the counts differ, the first min(C_in, C_out) are copied, the rest are zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.nn import mixed
from neuralcodec.nn.selection import WIDTHS, SlimmableUnit


def leading(channels: int, width: float) -> int:
    """Number of channels computed at a width: at least one."""
    return max(1, round(channels * width))


def copy_through(computed: Tensor, x: Tensor, channels: int) -> Tensor:
    """(B, n, H, W) computed -> (B, channels, H, W): channels n.. are those of x where x has them, else zero."""
    n = computed.shape[1]
    if n == channels:
        return computed
    parts = [computed]
    copied = min(x.shape[1], channels)
    if copied > n:
        parts.append(x[:, n:copied])
    if channels > max(copied, n):
        parts.append(x.new_zeros(x.shape[0], channels - max(copied, n), *x.shape[2:]))
    return torch.cat(parts, 1)


class SlimmableConv2d(SlimmableUnit):
    """Slimmable convolution, stride 1, size kept: pointwise (kernel 1), dense (kernel 3) or depthwise (``depthwise``)."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, depthwise: bool = False, levels: int = 3) -> None:
        super().__init__(levels)
        if depthwise and cin != cout:
            raise ValueError("a depthwise convolution keeps its channel count")
        self.cin, self.cout, self.kernel, self.depthwise = cin, cout, kernel, depthwise
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=cin if depthwise else 1)

    def compute(self, x: Tensor, width: float) -> Tensor:
        """The computed channels alone: (B, leading(cout), H, W)."""
        n, m = leading(self.cin, width), leading(self.cout, width)
        w = self.conv.weight[:m] if self.depthwise else self.conv.weight[:m, :n]
        return F.conv2d(x[:, :n], w, self.conv.bias[:m], padding=self.kernel // 2, groups=m if self.depthwise else 1)

    def run(self, x: Tensor, width: float) -> Tensor:
        return copy_through(self.compute(x, width), x, self.cout)

    def macs_per_position(self, width: float) -> int:
        n, m = leading(self.cin, width), leading(self.cout, width)
        return self.kernel**2 * m * (1 if self.depthwise else n)


class SlimmableSubpixel(SlimmableUnit):
    """Slimmable sub-pixel convolution: pointwise to 4 * cout channels, then depth-to-space by 2.

    (B, cin, H, W) -> (B, cout, 2H, 2W). The weights of output channel c are rows 4c..4c+3, so leading output channels are leading
    rows. Channels that are not computed take the input's value, repeated to the finer grid.
    """

    def __init__(self, cin: int, cout: int, *, levels: int = 3) -> None:
        super().__init__(levels)
        self.cin, self.cout = cin, cout
        self.conv = nn.Conv2d(cin, 4 * cout, 1)

    def run(self, x: Tensor, width: float) -> Tensor:
        n, m = leading(self.cin, width), leading(self.cout, width)
        y = F.conv2d(x[:, :n], self.conv.weight[: 4 * m, :n], self.conv.bias[: 4 * m])
        y = F.pixel_shuffle(y, 2)
        if m == self.cout:
            return y
        return copy_through(y, F.interpolate(x[:, : self.cout], scale_factor=2, mode="nearest"), self.cout)

    def macs_per_position(self, width: float) -> int:
        return leading(self.cin, width) * 4 * leading(self.cout, width)


class Subpixel(nn.Module):
    """Sub-pixel convolution without slimming: (B, cin, H, W) -> (B, cout, 2H, 2W)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, 4 * cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class SlimmableBlock(SlimmableUnit):
    """Residual block with one width for all of its convolutions (paper 000, section 3.5)::

        x (B, C, H, W)
        |-- first r*C -- 1x1 -- ReLU -- 3x3 depthwise --+       at width r both branches read and add to the
        x = x + ---------------------------------------+       first r*C channels; the others pass unchanged
        |-- first r*C -- 1x1 to 2C -- ReLU -- 1x1 to C -+
        x = x + ---------------------------------------+
    """

    def __init__(self, channels: int, *, levels: int = 3) -> None:
        super().__init__(levels)
        self.channels = channels
        _add_branches(self, channels)

    def run(self, x: Tensor, width: float) -> Tensor:
        return _residual(self, x, leading(self.channels, width))

    def macs_per_position(self, width: float) -> int:
        n = leading(self.channels, width)
        return n * n + 9 * n + 4 * n * n


class Block(nn.Module):
    """The same residual block without slimming: for encoders, which run on one side only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.inner = nn.Module()
        _add_branches(self.inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        return _residual(self.inner, x, self.channels)


def _add_branches(module: nn.Module, c: int) -> None:
    module.mix = nn.Conv2d(c, c, 1)
    module.spatial = nn.Conv2d(c, c, 3, padding=1, groups=c)
    module.expand = nn.Conv2d(c, 2 * c, 1)
    module.project = nn.Conv2d(2 * c, c, 1)
    # A residual branch starts at zero: a deep stack is then the identity, which the transforms' start (nn.dct) counts on.
    for last in (module.spatial, module.project):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def _residual(m: nn.Module, x: Tensor, n: int) -> Tensor:
    """Both branches on the first n channels of x (B, C, H, W)."""
    if n == x.shape[1]:
        return _branches(m, x, n)
    return torch.cat([_branches(m, x[:, :n], n), x[:, n:]], 1)


def _branches(m: nn.Module, h: Tensor, n: int) -> Tensor:
    """h (B, n, H, W) -> (B, n, H, W)."""
    a = F.relu(mixed.conv2d(h, m.mix.weight[:n, :n], m.mix.bias[:n])).to(h.dtype)
    h = h + F.conv2d(a, m.spatial.weight[:n], m.spatial.bias[:n], padding=1, groups=n)
    a = F.relu(mixed.conv2d(h, m.expand.weight[: 2 * n, :n], m.expand.bias[: 2 * n]))
    return h + mixed.conv2d(a, m.project.weight[:n, : 2 * n], m.project.bias[:n])


class SlimmableTrunk(nn.Sequential):
    """Slimmable blocks in a row. Without gradients, narrow blocks write into one copy of the input instead of making a new one each:
    the channels that pass through are then not touched at all."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or any(block.mixture is not None for block in self):
            return super().forward(x)
        own = False
        for block in self:
            n = leading(block.channels, WIDTHS[block.option])
            if n == block.channels:
                x, own = block(x), True
                continue
            if not own:
                x, own = x.clone(), True
            x[:, :n] = _branches(block, x[:, :n], n)
        return x
