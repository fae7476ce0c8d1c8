"""Mixed precision of training: the large products of networks in bfloat16, everything else in float32.

Rounded are what enters the convolutions of residual branches, of the stages between a picture and its latent and of GDN, and what leaves them: a
relative error of 2**-9, far below that of quantised latents. The sums of residual trunks, convolutions that read or give samples of pictures,
depthwise ones, priors and rates are not. Autocasting by the operator (torch.autocast) would round those as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.errors import UsageError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}

_rounded: torch.dtype | None = None


def use_precision(name: str) -> None:
    """For this process: one of PRECISIONS; at first float32. Raises UsageError."""
    global _rounded
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}; choose {', '.join(PRECISIONS)}")
    _rounded = PRECISIONS[name]


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """The convolution of torch.nn.functional; its result has the type of products."""
    if _rounded is None:
        return F.conv2d(x, weight, bias, stride, padding)
    return F.conv2d(x.to(_rounded), weight.to(_rounded), bias.to(_rounded), stride, padding)


def conv_transpose2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Tensor:
    """See ``conv2d``."""
    if _rounded is None:
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    return F.conv_transpose2d(x.to(_rounded), weight.to(_rounded), bias.to(_rounded), stride, padding, output_padding)
