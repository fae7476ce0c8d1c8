"""The flagship's latents of intra frames and pictures, searched for (codecs.latent_search) through the decoder in floating point.

Those of P frames are not: in a trial that gained nothing beside better intra frames (frog -0.3 %, car 0.0 %, nine frames), and took as long for each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.folding import to_float
from neuralcodec.codecs.latent_search import Effort, Target, search_latent
from neuralcodec.core.gate import Gate
from neuralcodec.entropy.filters import FilterPlanes
from neuralcodec.nn.linear_filters import LinearFilters
from neuralcodec.nn.selection import apply_widths, units

SEARCHED_SAMPLES = 1 << 22
"""Luma samples that are searched at once, by all workers together: each takes some 450 bytes (`bench` of 1920x1080, `--frames 2`: 1,977 MB with effort 1, 1,048 with 0)."""
_gate = Gate(SEARCHED_SAMPLES)


class Searcher:
    """Searches latents of a model at the widths that are applied to it when it is first used."""

    def __init__(self, model: Flagship, device: torch.device) -> None:
        self.model, self.device = model, device
        self._twin: Flagship | None = None
        self.on_step: Callable[[], None] = lambda: None
        """Called before each step of a search; an error ends it."""

    @property
    def twin(self) -> Flagship:
        """The model in floating point, through which gradients pass."""
        if self._twin is None:
            self._twin = self.model
            if isinstance(self.model, ExactFlagship):
                with torch.inference_mode(False):
                    self._twin = to_float(self.model).to(self.device, memory_format=torch.channels_last).requires_grad_(False)
                apply_widths(self._twin, [unit.option for unit in units(self.model).values()])
        return self._twin

    def intra(self, luma: Tensor, chroma: Tensor, y: Tensor, z: Tensor, quality: Tensor, effort: Effort, worth: float, importance: Tensor | None,
              surround: Callable[[Tensor], Tensor] = lambda y: y, choose_filters: Callable[[tuple[Tensor, Tensor]], FilterPlanes] | None = None) -> tuple[Tensor, Tensor]:
        """A better latent than y (1, C, h, w), which is in quantiser steps, and its hyper latent, z to begin with. ``luma`` (1, 1, H, W) and ``chroma`` (1, 2, H/2, W/2):
        the source's samples; ``worth``: bits that a squared step is worth; ``importance`` (1, 1, h, w): what errors count at each position; ``surround`` puts
        latents of a tile into those of its window, which the samples are of then; ``choose_filters`` gives decoded planes their loop filters, without clipping."""
        twin = self.twin

        def find_filter(packed: Tensor) -> Callable[[Tensor], Tensor]:
            planes = tuple(p.contiguous() for p in twin.layers.unpack(packed))
            linear = LinearFilters(planes[0], choose_filters(planes))
            return lambda x: twin.layers.pack(*linear(*twin.layers.unpack(x)))

        target = Target(twin.layers.pack(luma, chroma), lambda v: twin.intra.synthesise(surround(v), quality), importance,
                        None if choose_filters is None else find_filter)
        with _gate.hold(luma.numel(), self.on_step):
            return search_latent(self.model.intra.prior, y, z, [], quality, target, effort, worth, self.on_step)
