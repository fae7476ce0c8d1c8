"""A trained flagship made exact: constants folded into weights, formats found by running it over pictures.

Encoder-side parameters are copied. What converts well needs no training afterwards; what training can win back, it does with the same stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, pairwise

import numpy as np

from neuralcodec.codecs.coding import FlagshipCoder, Planes
from neuralcodec.codecs.exact import ExactFlagship, declare_rounding, picture_convs, set_formats, trunk_convs
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.folding import fold
from neuralcodec.codecs.prior import exact_parts
from neuralcodec.nn.carriers import observing
from neuralcodec.nn.exact_convs import NarrowConv2d
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.selection import apply_widths

QUALITIES = (0, 70, 140, 200)
SHARE, INTRA_SHARE = 1e-3, 1e-5
"""Of what enters a layer, so much may lie outside of its format, and of a layer for intra frames. What is large in P frames is so at the finest steps and after
cuts, and passes beside the layer as well; what is lost of the finer bits is lost in every frame, and adds up where nothing moves. Intra frames are coded at the
finest steps, and nothing adds up. Clips to calibrate on should have cuts."""
BYTE_SHARES = {"mix": 3e-3, "expand": 1e-2, "project": 1e-3}
"""The same for layers that round their sums, by the last part of their names: of 8 bits, more are wanted for what is common. With SHARE for all of them
trunks of 8 bits lose far more."""

Picture = tuple[np.ndarray, np.ndarray, np.ndarray]
"""uint8 planes Y (H, W), U, V (H/2, W/2)."""
PATCH = 32
"""Luma samples of a side of a patch of colour."""


def colour_chart() -> Picture:
    """Patches of all colours whose red, green and blue are 0, 1/2 or 3/4, as in EBU bars (BT.601, limited range), each with a darker frame; 192x160 samples.

    Clips seldom have colours that strong. Models before the ninth weights were converted without them: yellow flowers lost 3 dB of V at the finest steps,
    where intra decoders count hundreds of steps. Formats are powers of two: with this chart, colours of full strength lose nothing either (a trial)."""
    rgb = np.stack(np.meshgrid(*[np.array([0.0, 0.5, 0.75])] * 3, indexing="ij"), -1).reshape(-1, 3)
    rgb = np.concatenate([rgb, rgb[[0, -1, -1]]]).reshape(5, 6, 3).repeat(PATCH, 0).repeat(PATCH, 1)  # (160, 192, 3)
    inner = np.minimum.reduce([np.minimum(i % PATCH, PATCH - 1 - i % PATCH) for i in np.indices(rgb.shape[:2])]) >= PATCH // 8
    rgb = rgb * np.where(inner, 1.0, 0.7)[..., None]
    y = rgb @ (0.299, 0.587, 0.114)
    u, v = ((128 + 224 * (rgb[..., k] - y) / scale).reshape(5 * PATCH // 2, 2, 6 * PATCH // 2, 2).mean((1, 3)) for k, scale in ((2, 1.772), (0, 1.402)))
    return tuple(np.round(p).astype(np.uint8) for p in (16 + 219 * y, u, v))


def calibrate(model: ExactFlagship, clips: Iterable[Sequence[Picture]], widths: Sequence[bytes], qualities: Sequence[int] = QUALITIES,
              share: float = SHARE) -> dict[str, int]:
    """Give every narrow layer the finest format that holds what enters it while ``clips`` are coded, at each of the quality indexes and width tables,
    all but for a share of it (INTRA_SHARE at most in intra decoders; BYTE_SHARES where sums are rounded). Returns fractional bits by the layer's
    name. Layers that nothing enters keep theirs."""
    narrow = {n: m for n, m in picture_convs(model).items() if isinstance(m, NarrowConv2d)}
    for layer in narrow.values():
        layer.magnitudes.clear()
    coder = FlagshipCoder(model)
    with observing(), _frozen_priors(model):
        for clip in clips:
            pictures = [Planes(*planes_to_tensors(p, coder.device)) for p in clip]
            for table in widths:
                apply_widths(model, table)
                for quality in qualities:
                    _code(coder, pictures, quality)
    apply_widths(model, widths[0])
    shares = {n: min(share, INTRA_SHARE) if n.startswith("intra.") else share for n in narrow}
    shares |= {n: BYTE_SHARES.get(n.rpartition(".")[2], share) for n, layer in narrow.items() if layer.rounds}
    fractions = {n: layer.frac_in if (f := layer.calibrated(shares[n])) is None else f for n, layer in narrow.items()}
    set_formats(model, fractions)
    return fractions


@contextmanager
def _frozen_priors(model: Flagship) -> Iterator[None]:
    """Frozen copies stand in for the priors, which would otherwise quantise their weights anew for every frame."""
    parts = (model.intra, model.motion, model.inter)
    own = [part.prior for part in parts]
    try:
        for part, prior in zip(parts, own, strict=True):
            part.prior = deepcopy(prior)
            convs, biases = exact_parts(part.prior)
            for conv in convs.values():
                conv.freeze()
            for bias, conv in biases.values():
                bias.freeze(conv)
        yield
    finally:
        for part, prior in zip(parts, own, strict=True):
            part.prior = prior


def _code(coder: FlagshipCoder, pictures: list[Planes], quality: int) -> None:
    size = tuple(pictures[0].y.shape[-2:])
    coded = coder.encode_intra(pictures[0], quality, size)
    for before, picture in pairwise(pictures):
        coded = coder.encode_inter(picture, quality, size, before, coded.planes, coded.parsed)


def from_float(model: Flagship, clips: Iterable[Sequence[Picture]], widths: Sequence[bytes], qualities: Sequence[int] = QUALITIES, *,
               bfloat16_trunks: bool = False) -> ExactFlagship:
    """An exact model from a trained one, calibrated on clips (sequences of pictures of one size) and on a chart of colours as an intra frame. With ``bfloat16_trunks`` the pointwise layers of
    trunks take 8 bits and round their sums to bfloat16. Raises UsageError, see ``fold``."""
    exact = fold(model)
    if bfloat16_trunks:
        declare_rounding(exact, trunk_convs(exact))
    calibrate(exact, chain(clips, [[colour_chart()]]), widths, qualities)
    return exact
