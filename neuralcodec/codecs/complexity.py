"""Multiply-accumulates and parameters of a model's parts, from its structure alone: nothing is run.

Counted are the multiplications of all convolutions, slimmable ones at the width that a table gives them, for one luma
sample of a picture whose sides are multiples of 64 (other sizes are padded, and cost that much more). Not counted:
element-wise gains, activations, and the interpolation filters of motion compensation, which belong to no network and
cost the same at every level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from torch import nn

from neuralcodec.codecs.adanic import AdaNIC
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.slimcae import SlimCAE
from neuralcodec.codecs.slimcae_prior import leading_parts
from neuralcodec.nn.exact_filters import ExactFilters
from neuralcodec.nn.layout import ALIGN
from neuralcodec.nn.quality import ANCHORS
from neuralcodec.nn.selection import WIDTHS, SlimmableUnit, units
from neuralcodec.nn.slimmable import leading

INTRA, INTER, ENCODER = "I", "P", "encoder"
"""What a part runs for: decoding an I frame, decoding a P frame, encoding only. (Encoders run the decoder's parts as
well.)"""

_PRIOR = {"up1": 64, "mix1": 32, "up2": 32, "": 16}
_SYNTHESIS = {"coarse": 16, "up": 16, "chroma": 16, "": 8}
_ANALYSIS = {"down": 16, "last": 16, "chroma": 16, "": 8}
_HYPER = {"enter": 16, "spatial": 16, "down1": 32, "down2": 64}
_EIGHTH = {"": 8}

_PARTS: tuple[tuple[str, str, tuple[tuple[str, dict[str, int]], ...]], ...] = (
    ("intra prior", INTRA, (("intra.prior", _PRIOR),)),
    ("intra decoder", INTRA, (("intra.synthesis", _SYNTHESIS), ("intra.gain", _EIGHTH))),
    ("motion prior", INTER, (("motion.prior", _PRIOR),)),
    ("motion decoder", INTER, (("motion.decoder", _SYNTHESIS), ("motion.gain", _EIGHTH))),
    ("motion refinement", INTER, (("motion.refinement", _EIGHTH),)),
    ("feature extraction", INTER, (("inter.extraction", _EIGHTH),)),
    ("context refinement", INTER, (("inter.refinement", _EIGHTH),)),
    ("contextual prior", INTER, (("inter.prior", _PRIOR),)),
    ("contextual decoder", INTER, (("inter.decoder", _SYNTHESIS), ("inter.gain", _EIGHTH))),
    ("intra encoder", ENCODER, (("intra.analysis", _ANALYSIS), ("intra.hyper_analysis", _HYPER))),
    ("motion encoder", ENCODER, (("motion.encoder", _ANALYSIS), ("motion.hyper_analysis", _HYPER))),
    ("contextual encoder", ENCODER, (("inter.analysis", _ANALYSIS), ("inter.hyper_analysis", _HYPER))),
)
"""Name, role, and for each module its children's input grids: one position for n x n luma samples ("" for all
others)."""


_CONTEXT = ("inter.extraction", "inter.refinement")
"""What a decoder leaves out at widths where nothing reads the context (ContextualDecoder.reads_context)."""


@dataclass(frozen=True)
class PartWork:
    """``macs`` multiply-accumulates for one luma sample; ``parameters`` of the full width, in a model with one width at
    a time of that one; ``exact``: integer arithmetic; ``activations``, in such a model, bytes for a luma sample of the
    largest input and output of a layer together, in float32, 0 elsewhere."""

    name: str
    role: str
    macs: Fraction
    parameters: int
    exact: bool
    activations: Fraction = Fraction(0)

    @property
    def kmacs(self) -> float:
        return float(self.macs) / 1000


def part_modules() -> dict[str, tuple[str, ...]]:
    """Qualified names of the modules that each part consists of."""
    return {name: tuple(path for path, _ in modules) for name, _, modules in _PARTS}


def complexity(model: Flagship | SlimCAE | AdaNIC, widths: bytes) -> tuple[PartWork, ...]:
    """All parts at a width table (one option for each slimmable unit); of AdaNIC at a map that has that capacity
    everywhere. Raises ValueError for a table of another length."""
    if isinstance(model, SlimCAE | AdaNIC):
        return _of_one_width(model, model.option_of(widths))
    found = list(units(model).values())
    if len(found) != len(widths):
        raise ValueError(f"width table has {len(widths)} entries, the model {len(found)} slimmable units")
    option = {id(unit): WIDTHS[o] for unit, o in zip(found, widths, strict=True)}
    fuse = model.inter.decoder.fuse
    unread = () if leading(fuse.cin, option[id(fuse)]) > fuse.cout else _CONTEXT
    parts = []
    for name, role, modules in _PARTS:
        macs, parameters = Fraction(0), 0
        for path, grids in modules:
            module = model.get_submodule(path)
            for child_name, child in module.named_children():
                grid = grids.get(child_name, grids.get(""))
                # The mode prediction runs anew for each part of a latent.
                times = module.parts if child_name == "mode" else 1
                macs += Fraction(times * sum(_macs(child, option)), grid**2) if path not in unread else 0
            parameters += sum(
                p.numel() for n, p in model.get_submodule(path).named_parameters() if "selection." not in n
            )
        parts.append(PartWork(name, role, macs, parameters, name.endswith("prior") or (model.layers.exact and role != ENCODER)))
    return tuple(parts)


_Stages = tuple[tuple[str, str, str, dict[str, tuple[int, int]]], ...]
_PRIOR_STAGE = ("prior", INTRA, "prior", dict.fromkeys(("fuse", "fuse_mix", "mean_head", "scale_head", "mix2"), (16, 16))
                | {"up1": (64, 64), "mix1": (32, 32), "up2": (32, 32)})
_HYPER_STAGE = ("hyper analysis", ENCODER, "hyper_analysis",
                {"enter": (16, 16), "spatial": (16, 16), "down1": (32, 32), "down2": (64, 64)})
_STAGES: _Stages = (
    _PRIOR_STAGE,
    ("synthesis", INTRA, "synthesis", {"stage1": (16, 8), "gdn1": (8, 8), "stage2": (8, 4), "gdn2": (4, 4), "stage3": (4, 1)}),
    ("analysis", ENCODER, "analysis", {"stage1": (1, 4), "gdn1": (4, 4), "stage2": (4, 8), "gdn2": (8, 8), "stage3": (8, 16)}),
    _HYPER_STAGE,
)
"""Of SlimCAE: name, role, module, and for each layer the grids of its input and output, one position for n x n luma samples."""
_ADAPTIVE_STAGES: _Stages = (
    _PRIOR_STAGE,
    ("synthesis", INTRA, "synthesis", {"stage1": (16, 8), "gdn1": (8, 8), "stage2": (8, 4), "gdn2": (4, 4), "stage3": (4, 2), "gdn3": (2, 2),
                                       "stage4": (2, 1)}),
    ("analysis", ENCODER, "analysis", {"stage1": (1, 2), "gdn1": (2, 2), "stage2": (2, 4), "gdn2": (4, 4), "stage3": (4, 8), "gdn3": (8, 8),
                                       "stage4": (8, 16)}),
    _HYPER_STAGE,
)
"""Of AdaNIC, whose prior and hyper analysis have one width."""


def _of_one_width(model: SlimCAE | AdaNIC, level: int) -> tuple[PartWork, ...]:
    parts = []
    for name, role, path, layers in _ADAPTIVE_STAGES if isinstance(model, AdaNIC) else _STAGES:
        module = model.get_submodule(path)
        option = 0 if isinstance(model, AdaNIC) and path in ("prior", "hyper_analysis") else level
        macs, activations = Fraction(0), Fraction(0)
        for layer, grids in layers.items():
            child = module.get_submodule(layer)
            # A layer multiplies once for each position of the coarser of its grids.
            macs += Fraction(child.macs(option), max(grids) ** 2)
            channels = child.channels(option)
            activations = max(activations, sum(Fraction(4 * c, g * g) for c, g in zip(channels, grids, strict=True)))
        stored = sum(module.get_submodule(layer).stored(option) for layer in layers)
        parts.append(PartWork(name, role, macs, stored + _by_quality(model, path, option), path == "prior", activations))
    if isinstance(model, AdaNIC) and model.agent is not None:
        parts.append(_agent(model))
    return tuple(parts)


def _agent(model: AdaNIC) -> PartWork:
    """The routing agent, for one luma sample of a picture of whole blocks. (Its activations are those of a few blocks, however large the picture is.)"""
    agent, grid = model.agent, model.agent.shrink
    macs, activations = Fraction(0), Fraction(0)
    for conv in (m for m in agent.modules() if isinstance(m, nn.Conv2d)):
        before, grid = grid, grid * conv.stride[0]
        macs += Fraction(conv.weight.numel(), grid**2)
        activations = max(activations, Fraction(4 * conv.in_channels, before**2) + Fraction(4 * conv.out_channels, grid**2))
    connections = sum(m.weight.numel() for m in agent.routing if isinstance(m, nn.Linear))
    macs += Fraction(connections, (ALIGN * model.config.block) ** 2)
    return PartWork("routing agent", ENCODER, macs, sum(p.numel() for p in agent.parameters()), False, activations)


def _by_quality(model: SlimCAE | AdaNIC, path: str, option: int) -> int:
    """Entries of a part's tables by quality that a width reads."""
    if path == "prior":
        return ANCHORS * (sum(conv.couts[option] for _, conv in leading_parts(model)[1].values()) + model.prior.hyper[option])
    latent = model.config.m if isinstance(model, AdaNIC) else model.config.widths
    return ANCHORS * (model.prior.hyper if path == "hyper_analysis" else latent)[option]


def total(parts: tuple[PartWork, ...], role: str) -> Fraction:
    """Multiply-accumulates for one luma sample of all parts of a role."""
    return sum((part.macs for part in parts if part.role == role), Fraction(0))


def _macs(module: nn.Module, option: dict[int, float]) -> Iterator[int]:
    """Multiply-accumulates for one position of the module's input grid."""
    if isinstance(module, SlimmableUnit):
        yield module.macs_per_position(option[id(module)])
    elif isinstance(module, ExactFilters):
        yield module.kernel**2 * module.cout * module.cin // module.groups
    elif isinstance(module, nn.Conv2d):
        yield prod(module.kernel_size) * module.out_channels * module.in_channels // module.groups
    else:
        for child in module.children():
            yield from _macs(child, option)
