"""Small models of pictures in which nothing is the same by symmetry, a picture for them, and a count of their work; shared by the tests of codecs and of their chapters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from neuralcodec.codecs.adanic import AdaNIC
from neuralcodec.codecs.coding import Planes
from neuralcodec.codecs.slimcae import SlimCAE


def disturbed(make: Callable[[], SlimCAE | AdaNIC], seed: int, amount: float = 0.02) -> SlimCAE | AdaNIC:
    """What ``make`` gives, in evaluation mode, all parameters disturbed by up to ``amount``, tables that depend on the quality by more."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(amount * torch.rand_like(p))
            for table in (model.prior.up1_bias.anchors, model.prior.scale_bias.anchors, model.prior.hyper_scale):
                table.add_(torch.randn_like(table))
    return model


def waves(height: int, width: int) -> Planes:
    """Planes of a picture with even sides."""
    row, column = np.mgrid[:height, :width]
    y = 128 + 60 * np.sin(row / 7 + column / 11) + 20 * np.cos(column / 3)
    uv = np.stack([128 + 40 * np.sin(column[::2, ::2] / 9), 128 + 40 * np.cos(row[::2, ::2] / 8)])
    return Planes(*(torch.from_numpy(np.round(p)).float().reshape(1, -1, *p.shape[-2:]) for p in (y, uv)))


class Count(TorchFunctionMode):
    """Multiplications of all convolutions, from the shapes that they are called with."""

    macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "").startswith("conv"):
            positions = args[0] if func.__name__ == "conv_transpose2d" else result
            self.macs += positions.numel() * args[1][0].numel()
        return result
