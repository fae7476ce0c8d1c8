"""Routing agents of AdaNIC (paper 003, section 3.5): which capacity a block shall have, from its samples alone.

Inverted-residual blocks (Howard et al., "Searching for MobileNetV3", ICCV 2019, which the paper names), and heads of two fully connected layers with a
hard-swish between them. The paper gives its agents' work at 256x256, 297 and 77 million multiply-accumulates, which is about that of the large and the
small network of that paper; so these are their layers. Left out are batch normalisation, whose state training would have to carry into files, and
squeeze-and-excitation. The picture's quality enters the heads: the paper has a supernet and agents for each. A student may look at blocks of half the
size, which is a quarter of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.core.types import QUALITY_STEPS

Layout = tuple[tuple[int, int, int, int, bool], ...]
"""Kernel, expanded channels, output channels, stride of each block, and whether its activation is a hard-swish, as it is where the resolution is low, or ReLU."""
STUDENT: Layout = ((3, 16, 16, 2, False), (3, 72, 24, 2, False), (3, 88, 24, 1, False), (5, 96, 40, 2, True), (5, 240, 40, 1, True), (5, 240, 40, 1, True),
                   (5, 120, 48, 1, True), (5, 144, 48, 1, True), (5, 288, 96, 2, True), (5, 576, 96, 1, True), (5, 576, 96, 1, True))
TEACHER: Layout = ((3, 16, 16, 1, False), (3, 64, 24, 2, False), (3, 72, 24, 1, False), (5, 72, 40, 2, False), (5, 120, 40, 1, False), (5, 120, 40, 1, False),
                   (3, 240, 80, 2, True), (3, 200, 80, 1, True), (3, 184, 80, 1, True), (3, 184, 80, 1, True), (3, 480, 112, 1, True), (3, 672, 112, 1, True),
                   (5, 672, 160, 2, True), (5, 960, 160, 1, True), (5, 960, 160, 1, True))
STEM, HEAD = 16, 128
SURE = 0.8
"""What the most likely labels get wrong is dear: on the card of `adanic` its route loses 1.57 % with them, 0.57 % with choices that are so probable."""
QUALITY_WEIGHT = 4.0
"""The feature that says the quality goes from minus this to this, for beside hundreds of others it is learned too slowly from 0 to 1."""


class InvertedResidual(nn.Module):
    """1x1 to ``wide`` channels, unless the input has as many; depthwise; 1x1 to ``cout``. Added to the input where shapes are the same."""

    def __init__(self, cin: int, kernel: int, wide: int, cout: int, stride: int, hard_swish: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(cin, wide, 1) if wide != cin else None
        self.spatial = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide)
        self.project = nn.Conv2d(wide, cout, 1)
        self.residual = stride == 1 and cin == cout
        self.activation = F.hardswish if hard_swish else F.relu
        for conv in (self.expand, self.spatial):
            if conv is not None:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else _activated(self.activation, self.expand(x))
        y = self.project(_activated(self.activation, self.spatial(y)))
        return x + y if self.residual else y


def _activated(activation: Callable[..., Tensor], x: Tensor) -> Tensor:
    # Nobody else has x; where no gradient will need it, nothing is allocated.
    return activation(x, inplace=not torch.is_grad_enabled())


class RoutingAgent(nn.Module):
    """``layout`` of the backbone; K ``capacities``. With ``costs`` it has the second head of the teacher, which foretells the cost of each downgrade.
    What it gets are blocks of ``shrunk`` pictures, smaller by ``shrink``, a power of two."""

    def __init__(self, capacities: int, layout: Layout = STUDENT, costs: bool = False, shrink: int = 1) -> None:
        super().__init__()
        self.shrink = shrink
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1)
        cins = (STEM, *(block[2] for block in layout))
        self.blocks = nn.ModuleList(InvertedResidual(cin, *block) for cin, block in zip(cins, layout, strict=False))
        self.last = nn.Conv2d(cins[-1], layout[-1][1], 1)
        self.routing = _head(layout[-1][1], capacities)
        self.costs = _head(layout[-1][1], capacities) if costs else None

    def shrunk(self, x: Tensor) -> Tensor:
        """Picture (B, 3, H, W) -> (B, 3, H / shrink, W / shrink)."""
        return _halved(x, self.shrink)

    def shrunk_planes(self, y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Planes y (B, 1, H, W), uv (B, 2, H, W) or (B, 2, H/2, W/2) -> planes of the shrunk picture. Shrinking them is far less work than shrinking what they give."""
        return _halved(y, self.shrink), _halved(uv, self.shrink * uv.shape[-1] // y.shape[-1])

    def features(self, x: Tensor, quality: Tensor) -> Tensor:
        """Blocks of a shrunk picture (B, 3, H, W), and quality indexes (B,) -> (B, C + 1)."""
        x = _activated(F.hardswish, self.stem(x.contiguous(memory_format=torch.channels_last)))  # in which depthwise convolutions are faster
        for block in self.blocks:
            x = block(x)
        pooled = _activated(F.hardswish, self.last(x)).mean((2, 3))
        known = QUALITY_WEIGHT * (2 * quality.to(pooled.dtype)[:, None] / QUALITY_STEPS - 1)
        return torch.cat([pooled, known], 1)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Logits of the options (B, K) (equation 10)."""
        return self.routing(self.features(x, quality))

    def choose(self, x: Tensor, quality: Tensor) -> Tensor:
        """Options (B,): the narrowest that is SURE enough to cost no more than the tolerance, as all narrower labels say so too. (The paper takes the most
        likely label.)"""
        at_least = self(x, quality).softmax(1).flip(1).cumsum(1).flip(1)
        return narrowest(at_least >= SURE)

    def both(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and what each option costs more than the widest (B, K), in tolerances; of a teacher."""
        features = self.features(x, quality)
        return self.routing(features), self.costs(features)


def _halved(x: Tensor, factor: int) -> Tensor:
    """Means over ``factor`` x ``factor``, a power of two. (In a trial ``avg_pool2d`` took five times as long.)"""
    while factor > 1:
        x, factor = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4, factor // 2
    return x


def _head(channels: int, capacities: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels + 1, HEAD), nn.Hardswish(), nn.Linear(HEAD, capacities))


def narrowest(allowed: Tensor) -> Tensor:
    """The last option of each row that is allowed, bool (B, K) -> (B,); 0 where none is."""
    return (allowed * torch.arange(allowed.shape[1], device=allowed.device)).amax(1)


def picture_blocks(x: Tensor, size: int) -> Tensor:
    """Picture (1, 3, H, W) -> its blocks in raster order (N, 3, size, size). Those that the lower and right edge cut off are continued by mirror images of
    what there is of them, so that all can be looked at together."""
    whole = _continued(_continued(x, 2, size), 3, size)[0]  # (3, n size, m size)
    return whole.unflatten(2, (-1, size)).unflatten(1, (-1, size)).permute(1, 3, 0, 2, 4).flatten(0, 1)


def _continued(x: Tensor, dim: int, size: int) -> Tensor:
    """With mirror images of its last block behind it, so many that the block is ``size`` long."""
    length = x.shape[dim]
    own = (length - 1) % size + 1
    images = np.pad(np.arange(length - own, length), (0, size - own), mode="symmetric")[own:]
    return torch.cat([x, x.index_select(dim, torch.from_numpy(images).to(x.device))], dim)
