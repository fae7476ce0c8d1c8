"""What coding an I frame and a P frame takes at a width table, counted while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuralcodec.bench.tables_counters import Counters, tensors
from neuralcodec.codecs.coding import FlagshipCoder, Planes, place
from neuralcodec.codecs.complexity import part_modules
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.types import QUALITY_STEPS, Frame
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.selection import apply_widths

CONTEXT_ENCODER = "context encoder"
"""The part of the contextual prior that reads earlier latents: what paper 000, Table 1 calls so. Exact and never
slimmed (DESIGN D3)."""
_CONTEXT_ENCODER = ("inter.prior.temporal_in", "inter.prior.temporal_mix")
COUNT_SIZE = (192, 256)
"""Height and width of the pictures that are counted. With sides that are multiples of 64 nothing is padded, and work
and activations grow with the number of luma samples exactly."""


@dataclass(frozen=True)
class PartFigures:
    """A part's counts while one frame was coded: see PartCount."""

    macs: int
    weight_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class CodingCount:
    """Coding an I frame and a P frame after it. ``size``: height and width of the frames; ``parts``: by what was done
    ("encode I", "decode P", ...) and part. Part "" is the whole: its peak includes the pictures and latents that coding
    starts from (reference; source and the one before, when encoding)."""

    size: tuple[int, int]
    parts: dict[str, dict[str, PartFigures]]

    def of(self, verb: str, kind: str) -> dict[str, PartFigures]:
        """The parts' figures for "encode" or "decode" and a kind of frame."""
        return self.parts[f"{verb} {kind}"]

    def kmacs(self, verb: str, kind: str, names: Iterable[str] | None = None) -> float:
        """Thousands of multiply-accumulates of some parts (None: all), for a luma sample."""
        parts = self.of(verb, kind)
        return sum(parts[name].macs for name in (parts if names is None else names)) / (
            1000 * self.size[0] * self.size[1]
        )

    @staticmethod
    def from_dict(d: dict[str, Any]) -> CodingCount:
        """Back from ``asdict`` by way of JSON. Raises TypeError or KeyError for anything else."""
        parts = {what: {name: PartFigures(**f) for name, f in own.items()} for what, own in d["parts"].items()}
        return CodingCount(tuple(d["size"]), parts)


def table_parts(loaded: LoadedModel) -> dict[str, tuple[str, ...]]:
    """The modules of the parts that tables tell apart: those of the codec, and the context encoder within the
    contextual prior."""
    present = tuple(path for path in _CONTEXT_ENCODER if path in dict(loaded.model.named_modules()))
    return part_modules() | ({CONTEXT_ENCODER: present} if present else {})


def count_frames(size: tuple[int, int] = COUNT_SIZE) -> tuple[Frame, Frame]:
    """Two pictures to count with: a pattern that moves. What they show makes no difference to the counts."""
    y, x = np.mgrid[: size[0], : size[1]]
    luma = [((3 * y + x + 4 * n) % 200 + 20).astype(np.uint8) for n in range(2)]
    return tuple(Frame((p, p[::2, ::2].copy(), p[::2, ::2].copy()), n, 1) for n, p in enumerate(luma))


def count_coding(
    loaded: LoadedModel, widths: bytes, frames: tuple[Frame, Frame], names: Mapping[str, Iterable[str]]
) -> CodingCount:
    """Encode and decode two frames at a width table, at the highest quality, with counters running, on one thread of
    the CPU.

    The model is left on the CPU at these widths."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _count_coding(loaded, widths, frames, names)
    finally:
        torch.set_num_threads(threads)


def _count_coding(
    loaded: LoadedModel, widths: bytes, frames: tuple[Frame, Frame], names: Mapping[str, Iterable[str]]
) -> CodingCount:
    place(loaded.model, torch.device("cpu"))
    apply_widths(loaded.model, widths)
    coder, size = FlagshipCoder(loaded.model), frames[0].planes[0].shape
    first, second = (Planes(*planes_to_tensors(frame.planes, coder.device)) for frame in frames)
    counters = {f"{verb} {kind}": Counters(loaded.model, names) for verb in ("encode", "decode") for kind in "IP"}
    with counters["encode I"]:
        intra = coder.encode_intra(first, QUALITY_STEPS, size)
    with counters["encode P"]:
        inter = coder.encode_inter(second, QUALITY_STEPS, size, first, intra.planes, intra.parsed)
    with counters["decode I"]:
        parsed = coder.parse("I", intra.payload, intra.modes, QUALITY_STEPS, size, None)
        reference = coder.reconstruct("I", parsed, QUALITY_STEPS, None)
    with counters["decode P"]:
        moved = coder.parse("P", inter.payload, inter.modes, QUALITY_STEPS, size, parsed)
        coder.reconstruct("P", moved, QUALITY_STEPS, reference)
    picture, before, latents = (sum(t.nbytes for t in tensors(v)) for v in (first, reference, parsed))
    held = {
        "encode I": picture,
        "encode P": 2 * picture + before + latents,
        "decode I": 0,
        "decode P": before + latents,
    }
    return CodingCount(size, {what: _figures(counter, held[what]) for what, counter in counters.items()})


def _figures(counters: Counters, held: int) -> dict[str, PartFigures]:
    return {
        name: PartFigures(part.macs, part.weight_bytes, part.peak_bytes + (0 if name else held))
        for name, part in counters.parts.items()
    }
