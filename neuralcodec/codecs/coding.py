"""Frames to payloads and back: the flagship's ``encode`` and ``decode``.

Two paths, which never mix::

    payload --parse (exact, CPU)--> latents (integers) --reconstruct (picture side, any device)--> planes

``parse`` reads nothing but the payload, the quality index and earlier latents; so it runs ahead of the pictures, ``inspect`` needs no
pictures at all, and its result is the same on every machine (DESIGN D1). The encoder calls the same two functions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.correction_choice import choose_corrections
from neuralcodec.codecs.estimation import flow_between
from neuralcodec.codecs.filter_choice import choose_filters
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.latent_search import EFFORTS, ROUNDING
from neuralcodec.codecs.motion import cell_error, motion_worth
from neuralcodec.codecs.motion_search import MotionSearch, quantiser_step
from neuralcodec.codecs.part_coding import code_parts
from neuralcodec.codecs.prediction_choice import choose_predictions
from neuralcodec.codecs.prior import (
    LATENT_LIMIT,
    MEAN_FRAC,
    SYMBOL_LIMIT,
    LatentPrior,
    hyper_size,
    latent_size,
)
from neuralcodec.codecs.searching import Searcher
from neuralcodec.core.errors import StreamError
from neuralcodec.core.types import CORRECTION_BLOCK
from neuralcodec.entropy import (
    Elements,
    FrameDecoder,
    FrameEncoder,
    Grouping,
    MaskChoice,
    MaskMode,
    choose_mask,
    code_latent,
    decode_elements,
    pack_mask_mode,
    quantise,
    read_mask,
    unpack_mask_mode,
    write_mask,
)
from neuralcodec.entropy.adaptation import Adaptation
from neuralcodec.entropy.choices import ChoiceStatistics, read_choices, write_choices
from neuralcodec.entropy.corrections import (
    NO_CORRECTIONS,
    CorrectionPlanes,
    CorrectionState,
    CorrectionStatistics,
    read_corrections,
    write_corrections,
)
from neuralcodec.entropy.filters import FilterPlanes, FilterState, read_filters, write_filters
from neuralcodec.entropy.tables import PRECISION
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.hypotheses import Doubled, Past, Step, Ways, apply_choices, in_sixteenths, predict, ways_back
from neuralcodec.nn.layout import ALIGN, to_samples
from neuralcodec.nn.loop_filter import apply_filters

MASK_MODES = tuple(MaskMode)
"""What the flagship's encoder chooses from, by bits and squared error: with transforms that stay near orthonormal, the error in quantiser steps is the
picture's."""
CONTEXTUAL, MOTION, CHOICES = "contextual", "motion", "choices"
LAMBDAS = {CONTEXTUAL: 10.0, MOTION: 9.0}
"""Bits that a squared quantiser step is worth when a residual is rounded and when a mask is chosen, see entropy.quantisation and entropy.mask_choice."""
PRICES = {CONTEXTUAL: 2.0**-12, MOTION: 0.3}
"""Bits that coding an element has to save besides, where a mask is chosen. Most latents are near certain at low quality, and of contextual ones there are very many: 91 and
81 % are skipped at quality 12. In trials a price of 1/4 for motion took 0.1 % more bits than 1/8; 1/1024 bit for contextual ones, beside 3/16 for motion, 0.3 %, and 1/256 bit, which
skips 90 to 100 % there, 1.6 %."""
CASCADE = (-7, -4, -7, 9, -7, -4, -7, 26)
"""Quality indexes that are added to those of P frames, in turn: what a better frame costs, the ones after it gain (HEVC's encoders cascade QP so). Found by
trial on training clips."""
HYPER_UNCHECKED = 1024
"""So many hyper latents of a picture are read without asking whether the payload was long enough for them."""
HYPER_GROUPINGS = 32
"""Most groupings of hyper latents that a coder remembers: a stream has one for each latent and quality."""


@dataclass
class Parsed:
    """What a payload says: decoded latents by name, in sixteenths; masks by name, True where coded; ``bits`` by syntax element.

    ``entropy_seconds``: what reading symbols and masks took, without the networks; 0 for what an encoder made. ``choices``: uint8 (h, w), what each cell
    of a P frame is predicted from, in streams that say so; ``statistics``: what probabilities of the next frame's follow from; ``lasting``: whether a P frame
    is a long-term reference; ``filters``: what decoded planes are filtered by, in streams that say so; ``adaptation``: what the next frame's tables follow from, by
    latent, where they adapt; ``corrections``: what is added to decoded planes, in streams that say so."""

    latents: dict[str, Fixed]
    masks: dict[str, np.ndarray]
    bits: dict[str, float] = field(default_factory=dict)
    entropy_seconds: float = 0.0
    choices: np.ndarray | None = None
    statistics: ChoiceStatistics | None = None
    lasting: bool = False
    filters: FilterState | None = None
    adaptation: dict[str, Adaptation] = field(default_factory=dict)
    corrections: CorrectionState | None = None

    def digest_parts(self) -> list[bytes]:
        """Bytes that identify latents and masks, for md5: int16 little endian, then packed masks, then choices of predictions."""
        parts = [f.integers.numpy().astype("<i2").tobytes() for f in self.latents.values()]
        parts += [np.packbits(m).tobytes() for m in self.masks.values()]
        return parts if self.choices is None else [*parts, self.choices.tobytes()]


@dataclass
class Planes:
    """A decoded picture, padded: y (1, 1, H, W), uv (1, 2, H/2, W/2), samples 0..255 as float carriers. ``past``: how it came from the frames before,
    which the next one may be predicted from."""

    y: Tensor
    uv: Tensor
    past: Past = Past()


@dataclass(frozen=True)
class Prediction:
    """Of a P frame: packed planes (B, 96, H/8, W/8), context (None where it is not read), and the past of the picture that is made from it."""

    packed: Tensor
    context: Tensor | None
    past: Past


@dataclass
class Coded:
    """An encoded frame: ``modes`` one mask mode byte for each part of each latent in coding order, ``payload``, and what a decoder makes of them."""

    modes: tuple[int, ...]
    payload: bytes
    parsed: Parsed
    planes: Planes


def place(model: Flagship, device: torch.device) -> None:
    """Move the picture side to a device; the exact path stays on the CPU, beside the entropy coder."""
    model.to(device)
    for prior in (model.intra.prior, model.motion.prior, model.inter.prior):
        prior.to("cpu")


class Written(NamedTuple):
    """A latent that was coded, its mask, and what was learned from it."""

    latent: Fixed
    mask: np.ndarray
    adaptation: Adaptation | None


class FlagshipCoder:
    """Codes frames with a frozen flagship at the widths that are applied to it. One object serves one thread at a time."""

    latents_by_kind: ClassVar = {"I": (CONTEXTUAL,), "P": (MOTION, CONTEXTUAL)}

    def __init__(self, model: Flagship, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.model = model
        self.mask_modes = MASK_MODES
        """What the encoder chooses a mask from; without any mode everything is coded."""
        self.lambdas = dict(LAMBDAS)
        self.effort = EFFORTS[0]
        """How long the encoder searches for better latents of intra frames."""
        self.searcher = Searcher(model, self.device)
        self._hyper_groupings: dict[tuple, Grouping] = {}
        self.loop_filter = False
        """Whether frames say how they are filtered (nn.loop_filter), as their stream's header tells."""
        self.directed = False
        """Whether loop filters may have directions, clipped differences, and luma's in chroma, as their stream's header tells."""
        self.sparse = False
        """Whether nearly certain elements are coded in groups (entropy.sparse), as their stream's header tells."""
        self.hypotheses = False
        """Whether P frames say for each cell what it is predicted from (nn.hypotheses), as their stream's header tells."""
        self.adaptive = False
        """Whether tables of P frames adapt (entropy.adaptation), as their stream's header tells."""
        self.corrected = False
        """Whether frames may have corrections (nn.corrections), as their stream's header tells."""

    def follow(self, hypotheses: bool, sparse: bool, loop_filter: bool, directed: bool, adaptive: bool = False, corrected: bool = False) -> None:
        """Obey what a stream's header says of its frames."""
        self.hypotheses, self.sparse, self.loop_filter, self.directed, self.adaptive, self.corrected = hypotheses, sparse, loop_filter, directed, adaptive, corrected

    # -- the exact path ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def parse(self, kind: str, payload: bytes, modes: tuple[int, ...], quality: int, size: tuple[int, int],
              previous: Parsed | None) -> Parsed:
        """Read a frame's latents. ``size`` is (height, width); ``previous`` the frame before (for kind "P").

        Raises StreamError when the payload is malformed."""
        started = time.perf_counter()
        whole = coding = 0.0
        decoder = FrameDecoder(payload)
        expected = sum(self._prior(kind, name).division.mask_bytes for name in self.latents_by_kind[kind])
        if len(modes) != expected:
            raise StreamError(f"a frame of kind {kind} has {expected} mask modes, not {len(modes)}")
        remaining = list(modes)
        latents, masks, adapted, choices, statistics, lasting = {}, {}, {}, None, None, False
        for name in self.latents_by_kind[kind]:
            prior = self._prior(kind, name)
            adaptation = self._adaptation(kind, name, previous, size)
            z = self._read_hyper(decoder, kind, prior, quality, size, name, adaptation)
            own, remaining = remaining[: prior.division.mask_bytes], remaining[prior.division.mask_bytes :]

            def read(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray, name: str = name,
                     own: list[int] = own) -> tuple[Elements, np.ndarray]:
                nonlocal coding
                before = time.perf_counter()
                mask = read_mask(decoder, *unpack_mask_mode(own[min(part, len(own) - 1)]), scale, derived, label=f"{name} mask")
                elements = decode_elements(decoder, scale, mask, name, self.sparse)
                coding += time.perf_counter() - before
                return elements, mask

            before = time.perf_counter()
            latents[name], masks[name] = code_parts(prior, z, self._temporal(kind, name, latents, previous, size), quality, size, read, adaptation)
            if adaptation is not None:
                adapted[name] = adaptation
            whole += time.perf_counter() - before
            if name == MOTION and self.hypotheses:
                lasting = bool(decoder.get_bits(1, 1, CHOICES)[0])
                choices, statistics = read_choices(decoder, latent_size(*size), *self._choices_before(previous))
        filters = read_filters(decoder, self._filters_before(kind, previous), self.directed) if self.loop_filter else None
        corrections = read_corrections(decoder, _block_shapes(size), self._corrections_before(kind, previous)) if self.corrected else None
        decoder.finish()
        return Parsed(latents, masks, dict(decoder.bits), time.perf_counter() - started - whole + coding, choices, statistics, lasting, filters,
                      adapted, corrections)

    @staticmethod
    def _filters_before(kind: str, previous: Parsed | None) -> FilterState | None:
        if kind == "I":
            return None
        return FilterState() if previous is None or previous.filters is None else previous.filters

    @staticmethod
    def _corrections_before(kind: str, previous: Parsed | None) -> CorrectionStatistics:
        return CorrectionStatistics() if kind == "I" or previous is None or previous.corrections is None else previous.corrections.statistics

    @staticmethod
    def _choices_before(previous: Parsed | None) -> tuple[np.ndarray | None, ChoiceStatistics]:
        if previous is None or previous.statistics is None:
            return None, ChoiceStatistics()
        return previous.choices, previous.statistics

    def _adaptation(self, kind: str, name: str, previous: Parsed | None, size: tuple[int, int]) -> Adaptation | None:
        """What a latent's tables follow from, to learn from it; None where they do not adapt."""
        if kind == "I" or not self.adaptive:
            return None
        if previous is not None and name in previous.adaptation:
            return previous.adaptation[name].copy()
        prior = self._prior(kind, name)
        # Later parts of vectors are differences, which spread otherwise than sums.
        return Adaptation.none(prior.channels, (prior.hyper, *hyper_size(*size)), 2 if prior.division.vectors and prior.parts > 1 else 1)

    def _read_hyper(self, decoder: FrameDecoder, kind: str, prior: LatentPrior, quality: int, size: tuple[int, int], name: str,
                    adaptation: Adaptation | None = None) -> Fixed:
        if adaptation is None:
            grouping = self._hyper_grouping(kind, prior, quality, size, name)
        else:
            tables = adaptation.hyper.tables(self._hyper_index(prior, quality))
            grouping = Grouping.of(tables)
        symbols = decoder.get_grouped(grouping, label=f"{name} hyper")
        # A header that claims a huge picture must not cost huge memory. A payload that is used up gives the lowest symbol for ever.
        if symbols.size > HYPER_UNCHECKED and decoder.remaining < PRECISION and (
                np.count_nonzero(symbols[grouping.order] == -grouping.radius) > symbols.size // 2):
            raise StreamError("the payload ends within the hyper latents: too short for the picture's size")
        latent = symbols.reshape(prior.hyper, *hyper_size(*size))
        if adaptation is not None:
            latent = adaptation.hyper.latent_of(latent, tables)
        if latent.size and np.abs(latent).max() > SYMBOL_LIMIT:
            raise StreamError("a hyper latent is out of range")
        return Fixed.from_integers(torch.from_numpy(latent[None].astype(np.int32)), 0, SYMBOL_LIMIT)

    def _hyper_grouping(self, kind: str, prior: LatentPrior, quality: int, size: tuple[int, int], name: str) -> Grouping:
        """Of the hyper latents' tables, which depend on nothing else."""
        key = kind, name, prior.hyper, quality, hyper_size(*size)
        if key not in self._hyper_groupings:
            if len(self._hyper_groupings) >= HYPER_GROUPINGS:
                self._hyper_groupings.clear()
            self._hyper_groupings[key] = Grouping.of(self._hyper_tables(prior, quality, size))
        return self._hyper_groupings[key]

    @staticmethod
    def _hyper_index(prior: LatentPrior, quality: int) -> np.ndarray:
        """The scale index of each hyper channel, uint8."""
        return prior.hyper_scale_index(torch.tensor([quality]))[0].numpy()

    def _hyper_tables(self, prior: LatentPrior, quality: int, size: tuple[int, int]) -> np.ndarray:
        return np.broadcast_to(self._hyper_index(prior, quality)[:, None, None], (prior.hyper, *hyper_size(*size)))

    def _prior(self, kind: str, name: str) -> LatentPrior:
        if kind == "I":
            return self.model.intra.prior
        return self.model.motion.prior if name == MOTION else self.model.inter.prior

    def _temporal(self, kind: str, name: str, latents: dict[str, Fixed], previous: Parsed | None, size: tuple[int, int]) -> list[Fixed]:
        if kind == "I":
            return []
        motion = self._previous(previous, MOTION, self.model.config.motion.latent, size)
        if name == MOTION:
            return [motion]
        return [self._previous(previous, CONTEXTUAL, self.model.config.inter.latent, size), latents[MOTION]]

    @staticmethod
    def _previous(previous: Parsed | None, name: str, channels: int, size: tuple[int, int]) -> Fixed:
        # An intra frame's latent lives in another space: the frame after it has no temporal prior.
        if previous is None or MOTION not in previous.latents:
            return Fixed(torch.zeros(1, channels, *latent_size(*size)), MEAN_FRAC, 1)
        return previous.latents[name]

    # -- the picture side ----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def reconstruct(self, kind: str, parsed: Parsed, quality: int, reference: Planes | None,
                    predicted: Prediction | None = None) -> Planes:
        """Latents to a picture of whole latent positions (crop it to the true size).

        ``predicted``: what a P frame is predicted from, where the encoder has computed it already."""
        planes, past = self._picture(kind, parsed, quality, reference, predicted)
        return self._filtered(planes, past, parsed)

    @staticmethod
    def _filtered(planes: tuple[Tensor, Tensor], past: Past, parsed: Parsed) -> Planes:
        if parsed.filters is None:
            return Planes(*to_samples(*planes), past)
        corrections = NO_CORRECTIONS if parsed.corrections is None else parsed.corrections.planes
        return Planes(*apply_filters(*planes, parsed.filters.planes, corrections), past)

    def _picture(self, kind: str, parsed: Parsed, quality: int, reference: Planes | None,
                 predicted: Prediction | None) -> tuple[tuple[Tensor, Tensor], Past]:
        """Planes before they are filtered and rounded, and how they came from frames before."""
        q = torch.tensor([quality], device=self.device)
        y = parsed.latents[CONTEXTUAL].values.to(self.device)
        with self._precision():
            if kind == "I":
                packed, past = self.model.intra.synthesise(y, q), Past()
            else:
                if predicted is None:
                    step, hidden = self._step(parsed.latents[MOTION].values.to(self.device), q, reference)
                    ways = ways_back(step, reference.past)
                    predicted = self._prediction(self._predicted_planes(ways, parsed.choices), ways, hidden, reference.past, parsed.lasting,
                                                 needs_context=self.model.inter.decoder.reads_context)
                packed, past = self.model.inter.synthesise(y, predicted.packed, predicted.context, q), predicted.past
        return self.model.layers.unpack(packed.float()), past

    def _precision(self) -> torch.autocast:
        """bfloat16 convolutions on CUDA, except in exact models. On a CPU float32: not every one has bfloat16 instructions, and the pictures would
        differ."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda" and not self.model.layers.exact)

    def _step(self, m: Tensor, q: Tensor, reference: Planes) -> tuple[Step, Tensor]:
        """Vectors into the reference, and the motion decoder's hidden features."""
        vectors, hidden = self.model.motion.synthesise(m, q, self.model.layers.pack(reference.y, reference.uv))
        return Step(in_sixteenths(vectors.float()), Doubled(reference.y, reference.uv)), hidden

    def _predicted_planes(self, ways: Ways, choices: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """``choices``: of each cell, None where all are 0."""
        planes = predict(ways.first)
        if choices is not None and choices.any():
            planes = apply_choices(planes, torch.from_numpy(choices).to(self.device), ways)
        return planes

    def _prediction(self, planes: tuple[Tensor, Tensor], ways: Ways, hidden: Tensor, past: Past, lasting: bool, needs_context: bool = True) -> Prediction:
        """``past``: the reference's."""
        packed = self.model.layers.pack(*planes)
        context = self.model.inter.context(packed, hidden) if needs_context else None
        return Prediction(packed, context, ways.past(past, lasting) if self.hypotheses else Past())

    # -- encoding ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_intra(self, source: Planes, quality: int, size: tuple[int, int], importance: Tensor | None = None) -> Coded:
        """``source``: padded planes of the picture; ``importance`` (1, 1, H/16, W/16): what errors count at each position (Lookahead.importance)."""
        encoder, q = FrameEncoder(), torch.tensor([quality], device=self.device)
        with self._precision():
            y, z = self.model.intra.analyse(self.model.layers.pack(source.y, source.uv), q)
        if self.effort.shares:
            filters = partial(self._search_filters, source=source, quality=quality) if self.loop_filter else None
            y, z = self.searcher.intra(source.y, source.uv, y, z, q, self.effort, self.lambdas[CONTEXTUAL], importance, choose_filters=filters)
        parsed, modes = self._write(encoder, "I", CONTEXTUAL, y, z, quality, size, {}, None, self._worth(importance, y, bool(self.effort.shares)))
        return self._coded("I", encoder, {CONTEXTUAL: parsed}, modes, quality, size, source=source, search=True, importance=importance)

    @torch.inference_mode()
    def encode_inter(self, source: Planes, quality: int, size: tuple[int, int], before: Planes, reference: Planes, previous: Parsed | None,
                     importance: Tensor | None = None, lasting: bool = False) -> Coded:
        """``before``: the previous source picture, which motion is estimated against; ``reference``: the decoded one; ``importance`` as for an intra frame;
        ``lasting``: the frame shall be a long-term reference."""
        encoder, q = FrameEncoder(), torch.tensor([quality], device=self.device)
        pack = self.model.layers.pack
        current = pack(source.y, source.uv)
        # Flow to the decoded reference as another candidate gained nothing (a trial).
        flow = flow_between(source.y, before.y)
        step = quantiser_step(q, self.model.config.step_gain)
        search = MotionSearch(source.y, reference.y, step)
        flow, sensitivity = search.search([flow, torch.zeros_like(flow)])
        still, moved = (cell_error(source.y, p, self.model.layers.unit) for p in (reference.y, search.prediction(flow)))
        with self._precision():
            m, mz = self.model.motion.analyse(flow, still, moved, q)
            worth = motion_worth(self.model.motion, sensitivity, step, q, self.lambdas[CONTEXTUAL])
            if worth is not None:
                m = self.model.motion.refine(m, flow, worth, q, pack(reference.y, reference.uv))
                mz = self.model.motion.hyper_analysis(m, q)
        motion, motion_modes = self._write(encoder, "P", MOTION, m, mz, quality, size, {}, previous, worth)
        with self._precision():
            step_back, hidden = self._step(motion.latent.values.to(self.device), q, reference)
            ways = ways_back(step_back, reference.past)
        choices = statistics = None
        if not self.hypotheses:
            planes = self._predicted_planes(ways, None)
        else:
            worth = self.lambdas[CONTEXTUAL] / float(step) ** 2
            choices, planes = self.choose(source, ways, worth if importance is None else worth * importance, *self._choices_before(previous))
            encoder.put_bits(int(lasting), 1, CHOICES)
            statistics = write_choices(encoder, choices, *self._choices_before(previous))
        with self._precision():
            predicted = self._prediction(planes, ways, hidden, reference.past, lasting)
            y, z = self.model.inter.analyse(current, predicted.packed, predicted.context, q)
        contextual, modes = self._write(encoder, "P", CONTEXTUAL, y, z, quality, size, {MOTION: motion.latent}, previous, self._worth(importance, y))
        # Filters are looked for in the first P frame and in the best ones.
        search = lasting or previous is None or MOTION not in previous.latents
        coded = self._coded("P", encoder, {MOTION: motion, CONTEXTUAL: contextual}, (*motion_modes, *modes), quality, size, predicted, source, previous, search, importance)
        coded.parsed.choices, coded.parsed.statistics, coded.parsed.lasting = choices, statistics, lasting and self.hypotheses
        return coded

    def choose(self, source: Planes, ways: Ways, worth: float | Tensor, before: np.ndarray | None,
               statistics: ChoiceStatistics) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
        """Choices of predictions and what they predict, see codecs.prediction_choice."""
        return choose_predictions(source.y, source.uv, ways, worth, before, statistics)

    def _write_filters(self, encoder: FrameEncoder, real: tuple[Tensor, Tensor], source: Planes, quality: int, before: FilterState | None, search: bool) -> FilterState:
        """``real``: planes before they are filtered and rounded; ``search``: look for new filters."""
        chosen = self.choose_filters(real, (source.y, source.uv), self._sample_worth(quality), before, search)
        return write_filters(encoder, chosen, before, self.directed)

    def _write_corrections(self, encoder: FrameEncoder, real: tuple[Tensor, Tensor], source: Planes, quality: int, size: tuple[int, int], filters: FilterState,
                           before: CorrectionStatistics, importance: Tensor | None = None, thorough: bool = True) -> CorrectionState | None:
        """``real``: planes before they are filtered and rounded."""
        if not self.corrected:
            return None
        planes = self.choose_corrections(real, (source.y, source.uv), filters.planes, size, self._sample_worth(quality), before, importance, thorough)
        return write_corrections(encoder, planes, _block_shapes(size), before)

    def choose_corrections(self, real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], filters: FilterPlanes, size: tuple[int, int], worth: float,
                           before: CorrectionStatistics, importance: Tensor | None, thorough: bool) -> CorrectionPlanes:
        """Corrections, see codecs.correction_choice."""
        return choose_corrections(real, source, filters, size, worth, before, importance, thorough)

    def _search_filters(self, real: tuple[Tensor, Tensor], source: Planes, quality: int) -> FilterPlanes:
        """New ones without clipping, for a search for latents."""
        return choose_filters(real, (source.y, source.uv), self._sample_worth(quality), None, True, self.directed, clipped=False)

    def _sample_worth(self, quality: int) -> float:
        """Bits for a squared sample."""
        return self.lambdas[CONTEXTUAL] / float(quantiser_step(torch.tensor([quality]), self.model.config.step_gain)) ** 2

    def choose_filters(self, real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], worth: float, before: FilterState | None, search: bool) -> FilterPlanes:
        """Loop filters, see codecs.filter_choice."""
        return choose_filters(real, source, worth, before, search, self.directed)

    def _worth(self, importance: Tensor | None, y: Tensor, searched: bool = False) -> Tensor | None:
        """Bits that a squared step is worth at each element of a contextual latent y (1, C, h, w), where they are not the same everywhere or the latent was searched for."""
        if searched:
            importance = ROUNDING * (torch.ones(()) if importance is None else importance)
        return None if importance is None else (self.lambdas[CONTEXTUAL] * importance).expand(y.shape)

    def _write(self, encoder: FrameEncoder, kind: str, name: str, y: Tensor, z: Tensor, quality: int, size: tuple[int, int],
               latents: dict[str, Fixed], previous: Parsed | None, worth: Tensor | None = None) -> tuple[Written, tuple[int, ...]]:
        """``worth`` (1, C, h, w): bits that a squared step is worth, where it is not the same everywhere."""
        prior = self._prior(kind, name)
        hyper = torch.floor(z[0].float().cpu() + 0.5).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        adaptation = self._adaptation(kind, name, previous, size)
        self._write_hyper(encoder, hyper.to(torch.int32).numpy(), prior, quality, size, name, adaptation)
        target = y[0].float().cpu().numpy()
        division = prior.division
        where = [division.places(part, *target.shape[-2:]) for part in range(division.parts)]
        target = target.reshape(-1)
        worths = None if worth is None else worth[0].double().cpu().numpy().reshape(-1)
        z_fixed, temporal = Fixed.from_integers(hyper[None], 0, SYMBOL_LIMIT), self._temporal(kind, name, latents, previous, size)
        modes: list[int] = []
        seen: list[tuple[np.ndarray, ...]] = []

        def measure(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray) -> tuple[np.ndarray, ...]:
            wanted = target[where[part]].reshape(mean.shape)
            residual = np.clip(wanted - mean * 2.0**-MEAN_FRAC, -LATENT_LIMIT // 32, LATENT_LIMIT // 32)
            lam = self.lambdas[name] if worths is None else worths[where[part]].reshape(mean.shape)
            return quantise(residual, scale, lam), scale, derived, residual, lam

        def survey(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray) -> tuple[Elements, np.ndarray]:
            seen.append(measure(part, scale, mean, derived))
            return Elements.of(seen[-1][0]), np.ones_like(derived)

        def write(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray) -> tuple[Elements, np.ndarray]:
            symbols, _, _, residual, lam = measure(part, scale, mean, derived)
            if len(modes) < division.mask_bytes:
                choice = self._choose(name, symbols, scale, derived, residual, lam, shared=len(modes) + 1 == division.mask_bytes < division.parts)
                modes.append(pack_mask_mode(choice.mode, choice.parameter))
            else:
                mode, parameter = unpack_mask_mode(modes[-1])
                choice = MaskChoice(mode, parameter, derived if mode is MaskMode.DERIVED else scale >= parameter)
            write_mask(encoder, choice.mode, choice.parameter, choice.mask, scale, derived, label=f"{name} mask")
            code_latent(encoder, symbols, scale, choice.mask, name, self.sparse)
            return Elements.of(np.where(choice.mask, symbols, 0)), choice.mask

        if division.mask_bytes == 1 < division.parts:
            # What is best for the first part alone can be bad for the others: sums and differences of vectors are not alike.
            code_parts(prior, z_fixed, temporal, quality, size, survey, None if adaptation is None else adaptation.copy())
            joined = (np.concatenate([s[i].reshape(1, 1, -1) for s in seen], -1) if np.ndim(seen[0][i]) else seen[0][i] for i in range(5))
            choice = self._choose(name, *joined, shared=True)
            modes.append(pack_mask_mode(choice.mode, choice.parameter))
        latent, mask = code_parts(prior, z_fixed, temporal, quality, size, write, adaptation)
        return Written(latent, mask, adaptation), tuple(modes)

    def _write_hyper(self, encoder: FrameEncoder, hyper: np.ndarray, prior: LatentPrior, quality: int, size: tuple[int, int], name: str,
                     adaptation: Adaptation | None) -> None:
        if adaptation is None:
            tables = self._hyper_tables(prior, quality, size)
        else:
            tables = adaptation.hyper.tables(self._hyper_index(prior, quality))
            hyper = adaptation.hyper.symbols_of(hyper, tables)
        encoder.put(hyper, tables, label=f"{name} hyper")

    def _choose(self, name: str, symbols: np.ndarray, scale: np.ndarray, derived: np.ndarray, residual: np.ndarray, lam: float | np.ndarray,
                shared: bool) -> MaskChoice:
        """``shared``: later parts get the same mode and parameter, so only modes are considered that need nothing else."""
        modes = tuple(m for m in self.mask_modes if not shared or m in (MaskMode.DERIVED, MaskMode.THRESHOLD))
        if not modes:
            return MaskChoice(MaskMode.THRESHOLD, 0, np.ones_like(derived))
        return choose_mask(symbols, scale, derived, lam, modes, residual, PRICES[name])

    def _coded(self, kind: str, encoder: FrameEncoder, parts: dict[str, Written], modes: tuple[int, ...], quality: int,
               size: tuple[int, int], predicted: Prediction | None = None, source: Planes | None = None, previous: Parsed | None = None, search: bool = False,
               importance: Tensor | None = None) -> Coded:
        """``source``, ``previous`` for loop filters and corrections; ``search``: look for new filters; ``importance``: what errors count."""
        parsed = Parsed({n: p.latent for n, p in parts.items()}, {n: p.mask for n, p in parts.items()},
                        adaptation={n: p.adaptation for n, p in parts.items() if p.adaptation is not None})
        if not self.loop_filter:
            planes = self.reconstruct(kind, parsed, quality, None, predicted)
        else:
            real, past = self._picture(kind, parsed, quality, None, predicted)
            parsed.filters = self._write_filters(encoder, real, source, quality, self._filters_before(kind, previous), search)
            parsed.corrections = self._write_corrections(encoder, real, source, quality, size, parsed.filters, self._corrections_before(kind, previous), importance, kind == "I")
            planes = self._filtered(real, past, parsed)
        payload = encoder.finish()
        parsed.bits = dict(encoder.bits)
        return Coded(modes, payload, parsed, planes)


def _block_shapes(size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Rows and columns of blocks of Y, U and V of a picture (height, width), padded."""
    height, width = (ALIGN * n // CORRECTION_BLOCK for n in latent_size(*size))
    return (height, width), (height // 2, width // 2), (height // 2, width // 2)
