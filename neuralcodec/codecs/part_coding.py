"""Coding a latent part by part, for encoder and decoder alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from neuralcodec.codecs.prior import LATENT_LIMIT, MEAN_FRAC, LatentPrior, latent_size
from neuralcodec.entropy import Elements
from neuralcodec.entropy.adaptation import Adaptation
from neuralcodec.nn.fixed import Fixed


def code_parts(prior: LatentPrior, z: Fixed, temporal: list[Fixed], quality: int, size: tuple[int, int],
               code: Callable[[int, np.ndarray, np.ndarray, np.ndarray], tuple[Elements, np.ndarray]], adaptation: Adaptation | None = None) -> tuple[Fixed, np.ndarray]:
    """A latent part by part. ``z`` hyper latent (1, Cz, ceil(h/4), ceil(w/4)), ``size`` (height, width) of the picture.

    ``code(part, scale index, mean in sixteenths, derived mask)`` codes one part and returns its symbols (those that are not skipped) and its mask; all
    arrays have the division's shape. ``adaptation``: what scale indexes become tables by; it learns. Returns the decoded latent (1, C, h, w) and the mask (C, h, w)."""
    h, w = latent_size(*size)
    q = torch.tensor([quality])
    features = prior.features(z, temporal, q, (h, w))
    value = np.zeros((prior.channels, h, w), np.float32)
    whole = np.zeros((prior.channels, h, w), bool)
    shape = prior.division.shape(h, w)
    for part in range(prior.division.parts):
        where = prior.division.places(part, h, w)
        stats = prior.statistics(features, q, part, _latent(value) if part else None)
        # What is not of this part is left out before anything is converted.
        scale, mean, mode = (t[0].numpy().reshape(-1)[where] for t in (stats.scale_index(), stats.mean.values, stats.mode.values))
        mean = (mean * 2.0**MEAN_FRAC).astype(np.int32)
        if adaptation is not None:
            channel = prior.division.channels_of(part, h, w)
            scale = adaptation.of_part(part).tables(scale, channel)
        elements, mask = code(part, scale.reshape(shape), mean.reshape(shape), (mode > 0).reshape(shape))
        if adaptation is not None:
            adaptation.of_part(part).learn(scale, channel, mask.reshape(-1), elements)
        # In floating point it is exact too: symbols have 16 bits.
        decoded = mean.astype(np.float32)
        decoded[elements.where] += elements.symbols.astype(np.float32) * (1 << MEAN_FRAC)
        value.reshape(-1)[where] = decoded.clip(-LATENT_LIMIT, LATENT_LIMIT, out=decoded) * np.float32(2.0**-MEAN_FRAC)
        whole.reshape(-1)[where] = mask.reshape(-1)
    return _latent(value), whole


def _latent(value: np.ndarray) -> Fixed:
    # A copy: the caller fills in the elements of the next part.
    return Fixed(torch.from_numpy(value[None].copy()), MEAN_FRAC, LATENT_LIMIT)
