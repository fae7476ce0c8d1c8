"""An exact model's twins, to measure what exactness costs: the same weights in floating point, wholly or but for one part.

A part that stays exact gets its inputs rounded to its formats where it begins, and hands on real numbers where it ends; what lies between
the parts (gains, sums, motion compensation) is in floating point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.files import LoadedModel, export_tensors, identity
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.folding import to_float
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.carriers import WIDE_FRAC, WIDE_LIMIT, quantise, to_real
from neuralcodec.nn.layout import DYADIC_UNIT, UNIT


def _same(x: Tensor) -> Tensor:
    return x


def _wide(x: Tensor) -> Tensor:
    return quantise(x * 2.0**WIDE_FRAC, -WIDE_LIMIT, WIDE_LIMIT)


def _dyadic(packed: Tensor) -> Tensor:
    return packed * (UNIT / DYADIC_UNIT)


def _packed(dyadic: Tensor) -> Tensor:
    return dyadic * (DYADIC_UNIT / UNIT)


_real = partial(to_real, frac=WIDE_FRAC)


def _vectors_and_features(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return found[0], _real(found[1])


_BORDERS: dict[str, tuple[tuple[Callable[[Tensor], Tensor], ...], Callable]] = {
    "intra.synthesis": ((_wide, _same), _packed),
    "motion.decoder": ((_wide,), _vectors_and_features),
    "motion.refinement": ((_same, _wide, _dyadic), _same),
    "inter.extraction": ((_dyadic,), _real),
    "inter.refinement": ((_wide, _wide), _real),
    "inter.decoder": ((_wide, _wide, _same), _packed),
}
"""From real numbers to each argument of a part, and from its result to real numbers."""
PARTS = tuple(_BORDERS)
"""Parts of the decoder that ``with_exact_part`` knows."""


def float_twin(loaded: LoadedModel) -> LoadedModel:
    """The model in floating point. Raises UsageError for one that is not exact."""
    return _deployed(loaded, _float_model(loaded), "float")


def with_exact_part(loaded: LoadedModel, part: str) -> LoadedModel:
    """The model in floating point but for one of PARTS, which is as in the exact model; for CPUs. Raises UsageError for a model that is not exact."""
    model, (enter, leave) = _float_model(loaded), _BORDERS[part]
    module = copy.deepcopy(loaded.model.get_submodule(part))
    module.register_forward_pre_hook(lambda _, given: tuple(x if x is None else f(x) for f, x in zip(enter, given, strict=True)))
    module.register_forward_hook(lambda _, given, result: leave(result))
    owner, _, name = part.rpartition(".")
    setattr(model.get_submodule(owner), name, module)
    return _deployed(loaded, model, part)


def _float_model(loaded: LoadedModel) -> Flagship:
    if not isinstance(loaded.model, ExactFlagship):
        raise UsageError(f"the pictures of model {loaded.name!r} are not exact: there is nothing to hold against floating point")
    return to_float(loaded.model)


def _deployed(loaded: LoadedModel, model: Flagship, suffix: str) -> LoadedModel:
    metadata = loaded.metadata | {"architecture": model.architecture}
    own = identity(export_tensors(model), metadata)
    model.requires_grad_(False).to(memory_format=torch.channels_last)
    return LoadedModel(f"{loaded.name}-{suffix}", model, own, loaded.widths, metadata)
