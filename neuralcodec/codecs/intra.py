"""The flagship's intra model: an autoencoder over packed 4:2:0 planes with a mean-scale hyperprior.

Blocks are those of nn.slimmable; the analysis side and the entropy path are not slimmed (DESIGN D3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.nn.dct import start_analysis, start_synthesis
from neuralcodec.nn.layout import PACKED_CHANNELS
from neuralcodec.nn.quality import ANCHORS, QualityGain, interpolate
from neuralcodec.nn.slimmable import Block, SlimmableBlock, SlimmableSubpixel, SlimmableTrunk


@dataclass(frozen=True)
class IntraConfig:
    """Sizes of an intra model: ``channels`` of the trunk at 1/8, ``latent`` at 1/16, ``hyper`` at 1/64."""

    channels: int = 96
    latent: int = 256
    hyper: int = 32
    encoder_blocks: int = 4
    decoder_blocks: int = 6
    levels: int = 3


class HyperEncoder(nn.Module):
    """Encoder only: (B, C, h, w) latent in quantiser steps -> (B, Cz, ceil(h/4), ceil(w/4)) real-valued hyper latent."""

    def __init__(self, channels: int, hyper: int, hidden: int = 64) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, hidden, 1)
        self.spatial = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.down1 = nn.Conv2d(4 * hidden, hidden, 1)
        self.down2 = nn.Conv2d(4 * hidden, hyper, 1)
        # log2 gain by quality: at low rates side information must shrink with everything else.
        self.hyper_gain = nn.Parameter(torch.zeros(ANCHORS, hyper))

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        h, w = y.shape[-2:]
        x = F.pad(y, (0, -w % 4, 0, -h % 4), mode="replicate") if h % 4 or w % 4 else y
        x = F.relu(self.spatial(F.relu(self.enter(x))))  # (B, hidden, h, w)
        x = F.relu(self.down1(F.pixel_unshuffle(x, 2)))  # (B, hidden, h/2, w/2)
        x = self.down2(F.pixel_unshuffle(x, 2))  # (B, Cz, h/4, w/4)
        return x * torch.exp2(interpolate(self.hyper_gain, quality))[..., None, None]


class AnalysisTransform(nn.Module):
    """Encoder only: (B, cin, H/8, W/8) -> latent (B, latent, H/16, W/16)."""

    def __init__(self, cin: int, channels: int, latent: int, blocks: int, signs: tuple[float, ...] = (1.0,)) -> None:
        """``signs``: how the packed inputs enter the transform at the start of training (current minus prediction, say)."""
        super().__init__()
        self.enter = nn.Conv2d(cin, channels, 1)
        self.trunk = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.down = nn.Conv2d(4 * channels, latent, 1)
        start_analysis(self.enter, self.down, signs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(self.enter(x))  # (B, channels, H/8, W/8)
        return self.down(F.pixel_unshuffle(x, 2))


class SynthesisTransform(nn.Module):
    """Slimmed decoder: latent (B, latent, H/16, W/16) -> packed picture (B, 96, H/8, W/8)."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        c, levels = config.channels, config.levels
        self.up = SlimmableSubpixel(config.latent, c, levels=levels)
        self.trunk = SlimmableTrunk(*(SlimmableBlock(c, levels=levels) for _ in range(config.decoder_blocks)))
        self.head = nn.Conv2d(c, PACKED_CHANNELS, 1)
        start_synthesis(self.up.conv, self.head)

    def forward(self, y: Tensor) -> Tensor:
        x = self.up(y)  # (B, channels, H/8, W/8)
        return self.head(self.trunk(x))


class IntraModel(nn.Module):
    """All networks of an intra frame."""

    def __init__(self, config: IntraConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = AnalysisTransform(PACKED_CHANNELS, config.channels, config.latent, config.encoder_blocks)
        self.hyper_analysis = HyperEncoder(config.latent, config.hyper)
        self.prior = LatentPrior(config.latent, config.hyper)
        self.gain = QualityGain(config.latent, 2.0, 6.0)
        self.synthesis = SynthesisTransform(config)

    def analyse(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Packed picture (B, 96, H/8, W/8), quality (B,) -> latent in quantiser steps (B, C, h, w) and real hyper latent."""
        y = self.gain.scale(self.analysis(x), quality)
        return y, self.hyper_analysis(y, quality)

    def synthesise(self, y: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent in quantiser steps -> packed picture (B, 96, H/8, W/8)."""
        return self.synthesis(self.gain.unscale(y, quality).contiguous(memory_format=torch.channels_last))
