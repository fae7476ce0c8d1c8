"""Frames to payloads and back: the flagship's ``encode`` and ``decode``.

Two paths, which never mix::

    payload --parse (exact, CPU)--> latents (integers) --reconstruct (picture side, any device)--> planes

``parse`` reads nothing but the payload, the quality index and earlier latents; so it runs ahead of the pictures, ``inspect`` needs no
pictures at all, and its result is the same on every machine (DESIGN D1). The encoder calls the same two functions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.estimation import estimate_flow
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.motion import cell_error
from neuralcodec.codecs.prior import LATENT_LIMIT, MEAN_FRAC, SYMBOL_LIMIT, LatentPrior, hyper_size, latent_size
from neuralcodec.core.errors import StreamError
from neuralcodec.entropy import (
    FrameDecoder,
    FrameEncoder,
    MaskChoice,
    MaskMode,
    choose_mask,
    code_latent,
    decode_latent,
    pack_mask_mode,
    read_mask,
    unpack_mask_mode,
    write_mask,
)
from neuralcodec.entropy.tables import PRECISION, RADIUS
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import pack, to_samples, unpack

MASK_MODES = (MaskMode.DERIVED, MaskMode.DERIVED_WITH_EXCEPTIONS)
"""What the flagship's encoder chooses from; sent flags and thresholds are for hosts without a mode prediction network.

A mode prediction that was trained with the transforms knows which residuals the picture does not need, and these may be far from zero:
choosing among all modes by squared residual codes them nevertheless."""
SKIP_LAMBDA = 3.0
"""Bits that a squared residual unit is worth when exceptions from the derived mask are chosen: only gross mispredictions are coded."""
CONTEXTUAL, MOTION = "contextual", "motion"
HYPER_UNCHECKED = 1024
"""So many hyper latents of a picture are read without asking whether the payload was long enough for them."""


@dataclass
class Parsed:
    """What a payload says: decoded latents by name, in sixteenths; masks by name, True where coded; ``bits`` by syntax element.

    ``entropy_seconds``: what reading symbols and masks took, without the networks; 0 for what an encoder made."""

    latents: dict[str, Fixed]
    masks: dict[str, np.ndarray]
    bits: dict[str, float] = field(default_factory=dict)
    entropy_seconds: float = 0.0

    def digest_parts(self) -> list[bytes]:
        """Bytes that identify latents and masks, for md5: int16 little endian, then packed masks."""
        parts = [f.integers.numpy().astype("<i2").tobytes() for f in self.latents.values()]
        return parts + [np.packbits(m).tobytes() for m in self.masks.values()]


@dataclass
class Planes:
    """A decoded picture, padded: y (1, 1, H, W), uv (1, 2, H/2, W/2), samples 0..255 as float carriers."""

    y: Tensor
    uv: Tensor


@dataclass
class Coded:
    """An encoded frame: ``modes`` one mask mode byte for each latent in coding order, ``payload``, and what a decoder makes of them."""

    modes: tuple[int, ...]
    payload: bytes
    parsed: Parsed
    planes: Planes


def place(model: Flagship, device: torch.device) -> None:
    """Move the picture side to a device; the exact path stays on the CPU, beside the entropy coder."""
    model.to(device)
    for prior in (model.intra.prior, model.motion.prior, model.inter.prior):
        prior.to("cpu")


class FlagshipCoder:
    """Codes frames with a frozen flagship at the widths that are applied to it. One object serves one thread at a time."""

    latents_by_kind: ClassVar = {"I": (CONTEXTUAL,), "P": (MOTION, CONTEXTUAL)}

    def __init__(self, model: Flagship, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.model = model
        self.mask_modes = MASK_MODES
        """What the encoder chooses a mask from; without any mode everything is coded."""

    # -- the exact path ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def parse(self, kind: str, payload: bytes, modes: tuple[int, ...], quality: int, size: tuple[int, int],
              previous: Parsed | None) -> Parsed:
        """Read a frame's latents. ``size`` is (height, width); ``previous`` the frame before (for kind "P").

        Raises StreamError when the payload is malformed."""
        started = time.perf_counter()
        networks = 0.0
        decoder = FrameDecoder(payload)
        if len(modes) != len(self.latents_by_kind[kind]):
            raise StreamError(f"a frame of kind {kind} has {len(self.latents_by_kind[kind])} mask modes, not {len(modes)}")
        latents, masks = {}, {}
        for name, mode in zip(self.latents_by_kind[kind], modes):
            prior = self._prior(kind, name)
            z = self._read_hyper(decoder, prior, quality, size, name)
            before = time.perf_counter()
            stats = prior(z, self._temporal(kind, name, latents, previous, size), torch.tensor([quality]), latent_size(*size))
            scale, mean = stats.scale_index()[0].numpy(), stats.mean.integers[0].numpy()
            derived = stats.mode.integers[0].numpy() > 0
            networks += time.perf_counter() - before
            mask = read_mask(decoder, *unpack_mask_mode(mode), scale, derived, label=f"{name} mask")
            symbols = decode_latent(decoder, scale, mask, label=name)
            latents[name], masks[name] = _assemble(symbols, mean), mask
        decoder.finish()
        return Parsed(latents, masks, dict(decoder.bits), time.perf_counter() - started - networks)

    def _read_hyper(self, decoder: FrameDecoder, prior: LatentPrior, quality: int, size: tuple[int, int], name: str) -> Fixed:
        tables = self._hyper_tables(prior, quality, size)
        symbols = decoder.get(tables, label=f"{name} hyper")
        if symbols.size and np.abs(symbols).max() > SYMBOL_LIMIT:
            raise StreamError("a hyper latent is out of range")
        # A header that claims a huge picture must not cost huge memory. A payload that is used up gives the lowest symbol for ever.
        if symbols.size > HYPER_UNCHECKED and decoder.remaining < PRECISION and np.count_nonzero(symbols == -RADIUS[tables]) > symbols.size // 2:
            raise StreamError("the payload ends within the hyper latents: too short for the picture's size")
        return Fixed.from_integers(torch.from_numpy(symbols)[None], 0, SYMBOL_LIMIT)

    def _hyper_tables(self, prior: LatentPrior, quality: int, size: tuple[int, int]) -> np.ndarray:
        index = prior.hyper_scale_index(torch.tensor([quality]))[0].numpy()
        return np.broadcast_to(index[:, None, None], (prior.hyper, *hyper_size(*size)))

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
                    predicted: tuple[Tensor, Tensor] | None = None) -> Planes:
        """Latents to a picture of whole latent positions (crop it to the true size).

        ``predicted``: prediction and context of a P frame, where the encoder has computed them already."""
        q = torch.tensor([quality], device=self.device)
        y = parsed.latents[CONTEXTUAL].values.to(self.device)
        with self._precision():
            if kind == "I":
                packed = self.model.intra.synthesise(y, q)
            else:
                prediction, context = predicted or self._predict(parsed.latents[MOTION].values.to(self.device), q, reference)
                packed = self.model.inter.synthesise(y, prediction, context, q)
        return Planes(*to_samples(*unpack(packed.float())))

    def _precision(self) -> torch.autocast:
        """bfloat16 convolutions on CUDA. On a CPU float32: not every one has bfloat16 instructions, and the pictures would differ."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _predict(self, m: Tensor, q: Tensor, reference: Planes) -> tuple[Tensor, Tensor]:
        vectors, hidden = self.model.motion.synthesise(m, q, pack(reference.y, reference.uv))
        prediction = pack(*compensate(reference.y, reference.uv, vectors.float()))
        return prediction, self.model.inter.context(prediction, hidden)

    # -- encoding ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_intra(self, source: Planes, quality: int, size: tuple[int, int]) -> Coded:
        """``source``: padded planes of the picture."""
        encoder, q = FrameEncoder(), torch.tensor([quality], device=self.device)
        with self._precision():
            y, z = self.model.intra.analyse(pack(source.y, source.uv), q)
        parsed, mode = self._write(encoder, "I", CONTEXTUAL, y, z, quality, size, {}, None)
        return self._coded("I", encoder, {CONTEXTUAL: parsed}, (mode,), quality)

    @torch.inference_mode()
    def encode_inter(self, source: Planes, quality: int, size: tuple[int, int], before: Planes, reference: Planes, previous: Parsed | None) -> Coded:
        """``before``: the previous source picture, which motion is estimated against; ``reference``: the decoded one."""
        encoder, q = FrameEncoder(), torch.tensor([quality], device=self.device)
        current = pack(source.y, source.uv)
        luma = [p.y[0, 0].to(torch.uint8).cpu().numpy() for p in (source, before)]
        flow = torch.from_numpy(estimate_flow(*luma)).permute(2, 0, 1)[None].to(self.device)
        still = cell_error(current, pack(reference.y, reference.uv))
        moved = cell_error(current, pack(*compensate(reference.y, reference.uv, flow)))
        with self._precision():
            m, mz = self.model.motion.analyse(flow, still, moved, q)
        motion, motion_mode = self._write(encoder, "P", MOTION, m, mz, quality, size, {}, previous)
        with self._precision():
            prediction, context = self._predict(motion[0].values.to(self.device), q, reference)
            y, z = self.model.inter.analyse(current, prediction, context, q)
        contextual, mode = self._write(encoder, "P", CONTEXTUAL, y, z, quality, size, {MOTION: motion[0]}, previous)
        return self._coded("P", encoder, {MOTION: motion, CONTEXTUAL: contextual}, (motion_mode, mode), quality,
                           (prediction, context))

    def _write(self, encoder: FrameEncoder, kind: str, name: str, y: Tensor, z: Tensor, quality: int, size: tuple[int, int],
               latents: dict[str, Fixed], previous: Parsed | None) -> tuple[tuple[Fixed, np.ndarray], int]:
        prior = self._prior(kind, name)
        hyper = torch.floor(z[0].float().cpu() + 0.5).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        encoder.put(hyper.to(torch.int32).numpy(), self._hyper_tables(prior, quality, size), label=f"{name} hyper")
        stats = prior(Fixed.from_integers(hyper[None], 0, SYMBOL_LIMIT), self._temporal(kind, name, latents, previous, size),
                      torch.tensor([quality]), latent_size(*size))
        scale, mean = stats.scale_index()[0].numpy(), stats.mean.integers[0].numpy()
        residual = torch.floor(y[0].float().cpu() - stats.mean.values[0] + 0.5)
        symbols = residual.clamp(-LATENT_LIMIT // 32, LATENT_LIMIT // 32).to(torch.int32).numpy()
        derived = stats.mode.integers[0].numpy() > 0
        if self.mask_modes:
            choice = choose_mask(symbols, scale, derived, lam=SKIP_LAMBDA, modes=self.mask_modes)
        else:
            choice = MaskChoice(MaskMode.THRESHOLD, 0, np.ones_like(derived))
        write_mask(encoder, choice.mode, choice.parameter, choice.mask, scale, derived, label=f"{name} mask")
        code_latent(encoder, symbols, scale, choice.mask, label=name)
        return (_assemble(np.where(choice.mask, symbols, 0), mean), choice.mask), pack_mask_mode(choice.mode, choice.parameter)

    def _coded(self, kind: str, encoder: FrameEncoder, parts: dict[str, tuple[Fixed, np.ndarray]], modes: tuple[int, ...], quality: int,
               predicted: tuple[Tensor, Tensor] | None = None) -> Coded:
        payload = encoder.finish()
        parsed = Parsed({n: p[0] for n, p in parts.items()}, {n: p[1] for n, p in parts.items()}, dict(encoder.bits))
        return Coded(modes, payload, parsed, self.reconstruct(kind, parsed, quality, None, predicted))


def _assemble(symbols: np.ndarray, mean: np.ndarray) -> Fixed:
    """Symbols and means (sixteenths) (C, h, w) -> decoded latent (1, C, h, w), clamped to the latent's range."""
    n = np.clip(symbols.astype(np.int64) * (1 << MEAN_FRAC) + mean, -LATENT_LIMIT, LATENT_LIMIT)
    return Fixed(torch.from_numpy(n.astype(np.float32))[None] * 2.0**-MEAN_FRAC, MEAN_FRAC, LATENT_LIMIT)
