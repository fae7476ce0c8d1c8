"""The flagship's motion coding: flow to latent to vectors, with refinement against the reference (paper 000, sections 3.1 and 3.5).

Vectors point from the current picture into the reference, in luma samples, one for 8x8 luma samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.estimation import CELL
from neuralcodec.codecs.intra import HyperEncoder, latent_subpixel
from neuralcodec.codecs.layers import FLOAT, VECTOR_UNIT, Layers
from neuralcodec.codecs.prior import LATENT_LIMIT, MEAN_FRAC, LatentPrior
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.nn.dct import start_vectors_analysis, start_vectors_synthesis, vectors_transform
from neuralcodec.nn.layout import PACKED_CHANNELS
from neuralcodec.nn.quality import interpolate
from neuralcodec.nn.slimmable import Block

VECTOR_GAIN = (1.8, 5.3)
"""log2 of the vectors' quantiser steps in a unit at quality 0 and 100: about 2.3 and 0.2 samples."""
MOTION_WORTH = (0.125, 4096.0)
"""Between these stays what a squared step of motion is worth."""
LASTS_FROM, LASTS = 58.0, 1.6
"""Step in 8-bit samples below which an error of vectors counts more, and how much at most: frames that follow repeat what a prediction is off by. Found by trial: 1.3 %
of the bits of six training clips (one of them 9 %), 0.3 % of seven validation clips; at coarser steps, where most vectors are skipped, it skipped fewer."""
WORTHLESS = 20.0
"""Bits for a squared step at which a latent's error is half corrected."""


@dataclass(frozen=True)
class MotionConfig:
    """``channels`` of the trunk at 1/8, ``latent`` at 1/16, ``hyper`` at 1/64."""

    channels: int = 48
    latent: int = 8
    hyper: int = 16
    encoder_blocks: int = 2
    decoder_blocks: int = 2
    refinement_blocks: int = 2
    levels: int = 3
    parts: int = 4
    """Of the latent, see codecs.parts; 1 or 3 in models of before."""
    full_rank: bool = True
    """The latent starts as a Hadamard transform of 2x2 vectors, its encoder knows the quality, and it enters the decoder through a layer that no
    width slims; False in models of before."""


class MotionEncoder(nn.Module):
    """Encoder only: flow (B, 2, H/8, W/8) and what it explains -> latent (B, latent, H/16, W/16)."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        c = config.channels
        self.enter = nn.Conv2d(5 if config.full_rank else 4, c, 3, padding=1)
        self.trunk = nn.Sequential(*(Block(c) for _ in range(config.encoder_blocks)))
        self.down = nn.Conv2d(4 * c, config.latent, 1)
        self.last = Block(config.latent)
        self.reads_quality = config.full_rank
        if config.full_rank:
            start_vectors_analysis(self.enter, self.down)

    def forward(self, flow: Tensor, still: Tensor, moved: Tensor, quality: Tensor) -> Tensor:
        """``still`` and ``moved`` (B, 1, H/8, W/8): mean absolute error of each cell without and with the flow, where a vector pays."""
        x = torch.cat([flow / VECTOR_UNIT, still * 4, moved * 4], 1)
        if self.reads_quality:
            level = (quality.to(x.dtype) / QUALITY_STEPS).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
            x = torch.cat([x, level], 1)
        x = self.trunk(self.enter(x.contiguous(memory_format=torch.channels_last)))  # (B, channels, H/8, W/8)
        return self.last(self.down(F.pixel_unshuffle(x, 2)))


class MotionDecoder(nn.Module):
    """Slimmed: latent (B, latent, H/16, W/16) -> vectors (B, 2, H/8, W/8) and hidden features (B, channels, H/8, W/8)."""

    def __init__(self, config: MotionConfig, layers: Layers) -> None:
        super().__init__()
        c, levels = config.channels, config.levels
        self.coarse = layers.block(config.latent, levels=levels)
        self.up = latent_subpixel(config.latent, c, levels, config.full_rank, layers)
        self.trunk = layers.trunk(*(layers.block(c, levels=levels) for _ in range(config.decoder_blocks)))
        self.head = layers.vector_head(c)
        if config.full_rank:
            start_vectors_synthesis(self.up.conv, self.head)

    def forward(self, m: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(self.up(self.coarse(m)))
        return self.head(x) * VECTOR_UNIT, x


class MotionRefinement(nn.Module):
    """Slimmed: vectors corrected by what the reference shows (edges, borders): DCVC's refinement, without its U-shape.

    (B, 2, H/8, W/8), hidden (B, channels, H/8, W/8), packed reference (B, 96, H/8, W/8) -> vectors (B, 2, H/8, W/8).
    """

    def __init__(self, config: MotionConfig, layers: Layers) -> None:
        super().__init__()
        c, levels = config.channels, config.levels
        self.layers = layers
        self.enter = layers.pointwise(c + PACKED_CHANNELS, c, levels=levels)
        self.trunk = layers.trunk(*(layers.block(c, levels=levels) for _ in range(config.refinement_blocks)))
        self.head = layers.vector_head(c)
        with torch.no_grad():
            self.head.weight.mul_(0.0 if config.full_rank else 0.1)
            self.head.bias.zero_()

    def forward(self, vectors: Tensor, hidden: Tensor, reference: Tensor) -> Tensor:
        x = self.trunk(self.enter(torch.cat([hidden, self.layers.picture(reference)], 1)))
        return vectors + self.head(x) * VECTOR_UNIT


class MotionModel(nn.Module):
    """All networks of the motion of a P frame."""

    def __init__(self, config: MotionConfig, layers: Layers = FLOAT) -> None:
        super().__init__()
        self.config, self.layers = config, layers
        self.encoder = MotionEncoder(config)
        self.hyper_analysis = HyperEncoder(config.latent, config.hyper, 32)
        self.prior = LatentPrior(config.latent, config.hyper, hidden=32, fused=64, temporal=(config.latent,), parts=config.parts, vectors=True)
        self.gain = layers.latent_gain(config.latent, *VECTOR_GAIN)
        self.decoder = MotionDecoder(config, layers)
        self.refinement = MotionRefinement(config, layers)

    def analyse(self, flow: Tensor, still: Tensor, moved: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Latent in quantiser steps (B, C, h, w) and real hyper latent (B, Cz, h/4, w/4)."""
        m = self.gain.scale(self.encoder(flow, still, moved, quality), quality)
        return m, self.hyper_analysis(m, quality)

    @torch.no_grad()
    def refine(self, m: Tensor, flow: Tensor, worth: Tensor, quality: Tensor, reference: Tensor) -> Tensor:
        """Correct a latent of ``analyse`` by what the decoder makes of it, packed reference (B, 96, H/8, W/8) given: encoder and decoder are no inverses, and
        lose most where vectors are unlike their neighbours. ``worth`` (B, C, h, w): bits that a squared step is worth; what is worth little is left to
        the networks, which know what vectors cost. Returns the latent; its hyper latent is to be found anew."""
        grid = 2.0**MEAN_FRAC
        decoded = torch.floor(m * grid + 0.5).clamp(-LATENT_LIMIT, LATENT_LIMIT) / grid
        vectors, _ = self.synthesise(decoded, quality, reference)
        missing = F.conv2d(F.pixel_unshuffle((flow - vectors.float()) / VECTOR_UNIT, 2), vectors_transform().to(m)[..., None, None])
        return m + self.gain.scale(missing, quality) * worth / (worth + WORTHLESS)

    def synthesise(self, m: Tensor, quality: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded latent and packed reference -> refined vectors (B, 2, H/8, W/8) and the decoder's hidden features."""
        vectors, hidden = self.decoder(self.gain.unscale(m, quality).contiguous(memory_format=torch.channels_last))
        return self.refinement(vectors, hidden, reference), hidden


def cell_error(current: Tensor, prediction: Tensor, unit: float) -> Tensor:
    """Mean absolute error of each 8x8 cell of luma (B, 1, H, W) in 0..255, in units of ``unit`` samples -> (B, 1, H/8, W/8)."""
    return F.avg_pool2d((current - prediction).abs(), CELL) / unit


def motion_worth(model: MotionModel, sensitivity: Tensor, step: Tensor, quality: Tensor, lam: float) -> Tensor | None:
    """Bits that a squared step of each motion latent is worth (B, C, h, w), from what an error of the vectors does to the prediction (B, 2, H/8, W/8), see
    motion_search; ``step`` (B, 1, 1, 1): the picture's quantiser, ``lam``: bits that a squared step of that is worth.

    A latent starts as orthonormal transform of 2x2 vectors, of which four channels are x, four y. None for models whose latent is another."""
    if not model.config.full_rank or model.config.latent != 8:
        return None
    own = VECTOR_UNIT / torch.exp2(interpolate(model.gain.encode, quality))[..., None, None]  # (B, 8, 1, 1), in luma samples
    error = F.avg_pool2d(sensitivity, 2).repeat_interleave(4, 1) * own**2
    bits = error * lam / step**2
    bits = bits * (LASTS_FROM / step).clamp(1.0, LASTS)
    return (bits.clamp(*MOTION_WORTH) * 64).round() / 64  # a coarse grid: sums come out the same in any order
