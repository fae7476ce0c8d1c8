"""Slimmable stages that change the resolution, for models with one width at a time (SlimCAE, paper 004; after Yu et al., "Slimmable neural
networks", ICLR 2019).

At option o a layer reads its first ``cins[o]`` channels and gives its first ``couts[o]``, and no others: unlike those of nn.slimmable, nothing is
copied past it, so activations take less memory as well. Weights and biases are shared by all widths.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.nn import mixed

SAMPLES = 4
"""A stage with so few channels on one side reads or gives samples of pictures: it is never rounded."""


class StageConv2d(nn.Module):
    """Convolution with zero padding: (B, cins[o], H, W) -> (B, couts[o], H/stride, W/stride), H and W multiples of the stride.

    The window of an output position begins ``(kernel - stride + 1) // 2`` samples before its stride x stride cell. ``depthwise`` needs
    cins == couts."""

    def __init__(self, cins: tuple[int, ...], couts: tuple[int, ...], kernel: int, stride: int = 1, *, depthwise: bool = False) -> None:
        super().__init__()
        self.cins, self.couts, self.stride, self.depthwise = cins, couts, stride, depthwise
        self.padding = (kernel - stride + 1) // 2
        plain = nn.Conv2d(cins[0], couts[0], kernel, groups=cins[0] if depthwise else 1)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x: Tensor, option: int) -> Tensor:
        n, m = self.cins[option], self.couts[option]
        if self.depthwise:
            return F.conv2d(x, self.weight[:m], self.bias[:m], self.stride, self.padding, groups=m)
        return self.convolve(x, n, m, self.padding)

    def convolve(self, x: Tensor, n: int, m: int, padding: int) -> Tensor:
        """The first m channels from the first n."""
        w, b = _leading(self.weight, m, n), self.bias[:m]
        if min(n, m) <= SAMPLES:
            return F.conv2d(x, w, b, self.stride, padding)
        return mixed.conv2d(x, w, b, self.stride, padding).to(x.dtype)

    def channels(self, option: int) -> tuple[int, int]:
        """Of input and output."""
        return self.cins[option], self.couts[option]

    def macs(self, option: int) -> int:
        """Multiply-accumulates for a position of the output."""
        return self.weight[0, 0].numel() * self.couts[option] * (1 if self.depthwise else self.cins[option])

    def stored(self, option: int) -> int:
        """Parameters that a width reads."""
        return self.macs(option) + self.couts[option]


class StageTranspose2d(nn.Module):
    """Transposed convolution, the adjoint of StageConv2d of the same kernel and stride: (B, cins[o], H, W) -> (B, couts[o], H stride, W stride)."""

    def __init__(self, cins: tuple[int, ...], couts: tuple[int, ...], kernel: int, stride: int) -> None:
        super().__init__()
        self.cins, self.couts, self.stride = cins, couts, stride
        self.padding = (kernel - stride + 1) // 2
        self.output_padding = stride + 2 * self.padding - kernel
        plain = nn.ConvTranspose2d(cins[0], couts[0], kernel, stride)
        self.weight, self.bias = plain.weight, plain.bias  # weight (cins[0], couts[0], kernel, kernel)

    def forward(self, x: Tensor, option: int) -> Tensor:
        n, m = self.cins[option], self.couts[option]
        return self.convolve(x, n, m, self.padding, self.output_padding)

    def convolve(self, x: Tensor, n: int, m: int, padding: int = 0, output_padding: int = 0) -> Tensor:
        """The first m channels from the first n."""
        w, b = _leading(self.weight, n, m), self.bias[:m]
        if min(n, m) <= SAMPLES:
            return F.conv_transpose2d(x, w, b, self.stride, padding, output_padding)
        return mixed.conv_transpose2d(x, w, b, self.stride, padding, output_padding).to(x.dtype)

    def channels(self, option: int) -> tuple[int, int]:
        """Of input and output."""
        return self.cins[option], self.couts[option]

    def macs(self, option: int) -> int:
        """Multiply-accumulates for a position of the input."""
        return self.weight[0, 0].numel() * self.couts[option] * self.cins[option]

    def stored(self, option: int) -> int:
        return self.macs(option) + self.couts[option]


def _leading(weight: Tensor, rows: int, columns: int) -> Tensor:
    """The first channels of a kernel, in the format in which convolutions are fastest."""
    return weight[:rows, :columns].contiguous(memory_format=torch.channels_last)


def kept(channels: int, widths: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of a layer that no width slims, for each of the widths."""
    return (channels,) * len(widths)


def share(widths: tuple[int, ...], divisor: int) -> tuple[int, ...]:
    """A ``divisor``-th of each width, rounded up."""
    return tuple(-(-n // divisor) for n in widths)
