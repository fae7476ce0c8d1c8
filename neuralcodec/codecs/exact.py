"""The flagship with exact pictures: the same networks as ``flagship-1``, with a decoder in integers (bitstream_spec/exact_pictures.md).

Its encoder's networks, its training stages and its coder are those of the flagship; codecs.layers says where the two differ. A trained
floating-point model becomes one by codecs.conversion, and may be trained on.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.layers import EXACT
from neuralcodec.nn.exact_convs import NarrowConv2d, WideConv2d
from neuralcodec.nn.exact_gain import ExactGain
from neuralcodec.nn.exact_slimmable import ExactBlock, ExactTrunk


class ExactFlagship(Flagship):
    """A flagship whose pictures are the same on every machine."""

    architecture = "flagship-exact-1"
    layers = EXACT


def picture_convs(model: nn.Module) -> dict[str, NarrowConv2d | WideConv2d]:
    """All convolutions of exact pictures, by qualified name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, NarrowConv2d | WideConv2d)}


def picture_gains(model: nn.Module) -> dict[str, ExactGain]:
    """All gains of exact pictures, by qualified name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, ExactGain)}


def trunk_convs(model: nn.Module) -> tuple[str, ...]:
    """The pointwise layers of the blocks of all trunks, by qualified name: most of a decoder's work."""
    trunks = (n for n, m in model.named_modules() if isinstance(m, ExactTrunk))
    return tuple(f"{trunk}.{name}" for trunk in trunks for name, m in model.get_submodule(trunk).named_modules()
                 if isinstance(m, NarrowConv2d) and m.groups == 1)


def declare_rounding(model: nn.Module, names: Collection[str]) -> None:
    """Narrow layers of these qualified names round their sums to bfloat16, the others do not. Formats and filters are to be set after it."""
    for name, conv in picture_convs(model).items():
        if isinstance(conv, NarrowConv2d):
            conv.declare(name in names)
    for block in model.modules():
        if isinstance(block, ExactBlock):
            block.join_limits()


def set_formats(model: nn.Module, frac_in: dict[str, int]) -> None:
    """Give narrow layers, by qualified name, the fractional bits of their inputs. Raises UsageError, or KeyError for one that is missing."""
    inside = set()
    for name, module in model.named_modules():
        if isinstance(module, ExactBlock):
            names = [f"{name}.{layer}" for layer in ("mix", "spatial", "expand", "project")]
            module.set_formats(*(frac_in[n] for n in names))
            inside.update(names)
    for name, conv in picture_convs(model).items():
        if isinstance(conv, NarrowConv2d) and name not in inside:
            conv.set_format(frac_in[name], conv.frac_out)


def freeze_pictures(model: nn.Module) -> None:
    """Fix the integers of all layers of exact pictures. Raises UsageError when a bound fails."""
    for layer in (*picture_convs(model).values(), *picture_gains(model).values()):
        layer.freeze()
