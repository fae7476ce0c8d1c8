"""The flagship's contextual coding of a P frame on top of motion compensation (paper 000, section 3.5, host DCVC; DESIGN D2).

DCVC compensates features; here the decoded planes are compensated at full resolution, then features are extracted from them::

    reference planes --vectors--> prediction (B, 96, H/8, W/8)
    prediction --feature extraction--> + motion features --context refinement--> context (B, C, H/8, W/8)
    [current | prediction | context] --contextual encoder--> y (B, Cy, H/16, W/16)        encoder only
    [y | context] --contextual decoder--> correction; picture = prediction + correction
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuralcodec.codecs.intra import (
    AnalysisTransform,
    HyperEncoder,
    chroma_head,
    in_steps,
    latent_gain,
    latent_subpixel,
)
from neuralcodec.codecs.layers import FLOAT, Layers
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.nn.dct import start_synthesis
from neuralcodec.nn.layout import PACKED_CHANNELS
from neuralcodec.nn.quality import STEP_GAIN
from neuralcodec.nn.selection import WIDTHS
from neuralcodec.nn.slimmable import leading


@dataclass(frozen=True)
class InterConfig:
    """``channels`` of the trunk at 1/8, ``latent`` at 1/16, ``hyper`` at 1/64; ``motion_channels`` and ``motion_latent`` as in the motion model."""

    channels: int = 96
    latent: int = 384
    hyper: int = 32
    extraction_blocks: int = 2
    refinement_blocks: int = 2
    encoder_blocks: int = 3
    decoder_blocks: int = 5
    motion_channels: int = 48
    motion_latent: int = 8
    levels: int = 3
    parts: int = 4
    step_units: bool = True
    chroma_path: bool = True
    """These as in the intra model."""


class FeatureExtraction(nn.Module):
    """Slimmed: compensated planes (B, 96, H/8, W/8) -> features (B, C, H/8, W/8)."""

    def __init__(self, config: InterConfig, layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        self.enter = layers.pointwise(PACKED_CHANNELS, config.channels, levels=config.levels)
        self.trunk = layers.trunk(*(layers.block(config.channels, levels=config.levels) for _ in range(config.extraction_blocks)))

    def forward(self, prediction: Tensor) -> Tensor:
        return self.trunk(self.enter(self.layers.picture(prediction)))


class ContextRefinement(nn.Module):
    """Slimmed: features and the motion decoder's hidden features -> context (B, C, H/8, W/8)."""

    def __init__(self, config: InterConfig, layers: Layers) -> None:
        super().__init__()
        self.enter = layers.pointwise(config.channels + config.motion_channels, config.channels, levels=config.levels)
        self.trunk = layers.trunk(*(layers.block(config.channels, levels=config.levels) for _ in range(config.refinement_blocks)))

    def forward(self, features: Tensor, motion: Tensor) -> Tensor:
        return self.trunk(self.enter(torch.cat([features, motion], 1)))


class ContextualDecoder(nn.Module):
    """Slimmed: latent (B, Cy, H/16, W/16) and context (B, C, H/8, W/8) -> correction of the prediction (B, 96, H/8, W/8)."""

    def __init__(self, config: InterConfig, layers: Layers) -> None:
        super().__init__()
        c, levels = config.channels, config.levels
        self.up = latent_subpixel(config.latent, c, levels, config.step_units, layers)
        self.units = layers.units(c, *STEP_GAIN) if config.step_units else None
        self.context_units = layers.context_units(c, 0.0, 0.0) if config.step_units else None
        self.fuse = layers.pointwise(2 * c, c, levels=levels)
        self.trunk = layers.trunk(*(layers.block(c, levels=levels) for _ in range(config.decoder_blocks)))
        self.head = layers.picture_head(c)
        self.chroma, self.add_chroma = chroma_head(config.latent, layers) if config.chroma_path else None, layers.add_chroma
        self.shared = layers.shared
        start_synthesis(self.up.conv, self.head)
        with torch.no_grad():  # at first the latent speaks alone; the context's weights learn from zero
            self.fuse.conv.weight.zero_()
            self.fuse.conv.weight[:, :c, 0, 0] = torch.eye(c)
            self.fuse.conv.bias.zero_()

    @property
    def reads_context(self) -> bool:
        """Whether anything depends on the context at the width of ``fuse``: its leading inputs are all the latent's up to one half."""
        return self.fuse.mixture is not None or leading(self.fuse.cin, WIDTHS[self.fuse.option]) > self.fuse.cout

    def forward(self, y: Tensor, context: Tensor | None, quality: Tensor) -> Tensor:
        """``context`` may be None where it is not read."""
        y = self.shared(y)
        x = in_steps(self.units, self.trunk, self.up(y), quality, lambda v: self._enter(v, context, quality))  # (B, C, H/8, W/8)
        correction = self.head(x)
        return correction if self.chroma is None else self.add_chroma(correction, self.chroma(y))

    def _enter(self, v: Tensor, context: Tensor | None, quality: Tensor) -> Tensor:
        if not self.reads_context:
            return self.fuse(v)
        if self.context_units is not None:
            context = self.context_units.scale(context, quality)
        return self.fuse(torch.cat([v, context], 1))


class InterModel(nn.Module):
    """All networks of the contextual part of a P frame."""

    def __init__(self, config: InterConfig, layers: Layers = FLOAT) -> None:
        super().__init__()
        self.config, self.layers = config, layers
        self.extraction = FeatureExtraction(config, layers)
        self.refinement = ContextRefinement(config, layers)
        self.analysis = AnalysisTransform(2 * PACKED_CHANNELS + config.channels, config.channels, config.latent, config.encoder_blocks,
                                          signs=(1.0, -1.0), step_units=config.step_units, chroma_path=config.chroma_path)
        self.hyper_analysis = HyperEncoder(config.latent, config.hyper)
        # What the paper's Table 1 calls the context encoder is the temporal part of this prior: exact and not slimmed (DESIGN D3).
        self.prior = LatentPrior(config.latent, config.hyper, temporal=(config.latent, config.motion_latent), parts=config.parts)
        self.gain = latent_gain(config.latent, layers)
        self.decoder = ContextualDecoder(config, layers)

    def context(self, prediction: Tensor, motion: Tensor) -> Tensor:
        """Packed prediction (B, 96, H/8, W/8) and motion features -> context (B, C, H/8, W/8)."""
        return self.refinement(self.extraction(prediction), motion)

    def analyse(self, current: Tensor, prediction: Tensor, context: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Latent in quantiser steps (B, Cy, h, w) and real hyper latent."""
        y = self.gain.scale(self.analysis(torch.cat([current, prediction, self.layers.real(context)], 1), quality), quality)
        return y, self.hyper_analysis(y, quality)

    def synthesise(self, y: Tensor, prediction: Tensor, context: Tensor | None, quality: Tensor) -> Tensor:
        """Decoded latent -> packed picture (B, 96, H/8, W/8)."""
        y = self.gain.unscale(y, quality).contiguous(memory_format=torch.channels_last)
        return prediction + self.decoder(y, context, quality)
