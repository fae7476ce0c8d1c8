"""The flagship's intra model: an autoencoder over packed 4:2:0 planes with a mean-scale hyperprior.

Blocks are those of nn.slimmable; the analysis side and the entropy path are not slimmed (DESIGN D3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.layers import FLOAT, Layers
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.dct import chroma_of_latent, start_analysis, start_synthesis
from neuralcodec.nn.layout import CHROMA_CHANNELS, LUMA_CHANNELS, PACKED_CHANNELS
from neuralcodec.nn.quality import ANCHORS, STEP_GAIN, QualityGain, interpolate
from neuralcodec.nn.slimmable import Block, SlimmableSubpixel


@dataclass(frozen=True)
class IntraConfig:
    """Sizes of an intra model: ``channels`` of the trunk at 1/8, ``latent`` at 1/16, ``hyper`` at 1/64."""

    channels: int = 96
    latent: int = 384
    hyper: int = 32
    encoder_blocks: int = 8
    decoder_blocks: int = 10
    levels: int = 3
    parts: int = 4
    """Of the latent, see codecs.parts; 1 or 2 in models of before."""
    step_units: bool = True
    """Transforms work in units of the quantiser step, and the latent enters the decoder through a layer that no width slims; False in
    models of before."""
    chroma_path: bool = True
    """Chroma's latents also reach the picture, and are read from it, by linear layers beside the trunks; False in models of before."""


CHROMA_GAIN = -0.3
"""log2: a chroma sample weighs 0.5 beside 0.75 of a luma sample in (6 Y + U + V) / 8 on 4:2:0 planes."""


def latent_gain(latent: int, layers: Layers = FLOAT) -> QualityGain:
    """Quantiser steps of a latent that starts as a DCT."""
    chroma = chroma_of_latent(latent) if latent <= 4 * PACKED_CHANNELS else torch.zeros(latent, dtype=torch.bool)
    return layers.latent_gain(latent, *STEP_GAIN, offset=CHROMA_GAIN * chroma.float())


def latent_subpixel(latent: int, channels: int, levels: int, whole: bool, layers: Layers) -> nn.Module:
    """The layer by which a latent enters a decoder, ``whole`` or slimmed. Raises UsageError for a slimmed one on the exact path."""
    if whole:
        return layers.subpixel(latent, channels)
    if layers.exact:
        raise UsageError("exact pictures need step_units and full_rank")
    return SlimmableSubpixel(latent, channels, levels=levels)


def in_steps(units: QualityGain | None, trunk: nn.Module, x: Tensor, quality: Tensor, enter: Callable[[Tensor], Tensor] = lambda v: v) -> Tensor:
    """A trunk that corrects x (B, C, H, W), working in units of the quantiser step: x + (trunk(enter(v)) - v) / gain with v = x * gain.

    So its corrections keep in proportion to the step, at every quality. Without ``units`` the trunk's own result."""
    if units is None:
        return trunk(enter(x))
    v = units.scale(x, quality)
    return units.correct(x, trunk(enter(v)) - v, quality)


def chroma_head(latent: int, layers: Layers) -> nn.Module:
    """The layer by which a latent reaches chroma directly; it says nothing at first."""
    head = layers.chroma_head(latent)
    _silent(head.conv)
    return head


def _silent(conv: nn.Conv2d) -> nn.Conv2d:
    for parameter in (conv.weight, conv.bias):
        nn.init.zeros_(parameter)
    return conv


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

    def __init__(self, cin: int, channels: int, latent: int, blocks: int, signs: tuple[float, ...] = (1.0,), step_units: bool = True,
                 chroma_path: bool = False) -> None:
        """``signs``: how the packed inputs enter the transform at the start of training (current minus prediction, say). ``chroma_path``: chroma of that
        sum is also read directly."""
        super().__init__()
        self.signs = signs
        self.units = QualityGain(channels, *STEP_GAIN) if step_units else None
        self.enter = nn.Conv2d(cin, channels, 1)
        self.trunk = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.down = nn.Conv2d(4 * channels, latent, 1)
        self.chroma = _silent(nn.Conv2d(4 * CHROMA_CHANNELS, latent, 1)) if chroma_path else None
        start_analysis(self.enter, self.down, signs)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        features = in_steps(self.units, self.trunk, self.enter(x), quality)  # (B, channels, H/8, W/8)
        y = self.down(F.pixel_unshuffle(features, 2))
        return y if self.chroma is None else y + self.chroma(F.pixel_unshuffle(self._chroma_of(x), 2))

    def _chroma_of(self, x: Tensor) -> Tensor:
        inputs = (x[:, i * PACKED_CHANNELS + LUMA_CHANNELS : (i + 1) * PACKED_CHANNELS] for i in range(len(self.signs)))
        return sum(sign * chroma for sign, chroma in zip(self.signs, inputs, strict=True))


class SynthesisTransform(nn.Module):
    """Slimmed decoder: latent (B, latent, H/16, W/16) -> packed picture (B, 96, H/8, W/8)."""

    def __init__(self, config: IntraConfig, layers: Layers) -> None:
        super().__init__()
        c, levels = config.channels, config.levels
        self.up = latent_subpixel(config.latent, c, levels, config.step_units, layers)
        self.units = layers.units(c, *STEP_GAIN) if config.step_units else None
        self.trunk = layers.trunk(*(layers.block(c, levels=levels) for _ in range(config.decoder_blocks)))
        self.head = layers.picture_head(c)
        self.chroma, self.add_chroma = chroma_head(config.latent, layers) if config.chroma_path else None, layers.add_chroma
        self.shared = layers.shared
        start_synthesis(self.up.conv, self.head)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        y = self.shared(y)
        x = self.up(y)  # (B, channels, H/8, W/8)
        picture = self.head(in_steps(self.units, self.trunk, x, quality))
        return picture if self.chroma is None else self.add_chroma(picture, self.chroma(y))


class IntraModel(nn.Module):
    """All networks of an intra frame."""

    def __init__(self, config: IntraConfig, layers: Layers = FLOAT) -> None:
        super().__init__()
        self.config, self.layers = config, layers
        self.analysis = AnalysisTransform(PACKED_CHANNELS, config.channels, config.latent, config.encoder_blocks,
                                          step_units=config.step_units, chroma_path=config.chroma_path)
        self.hyper_analysis = HyperEncoder(config.latent, config.hyper)
        self.prior = LatentPrior(config.latent, config.hyper, parts=config.parts)
        self.gain = latent_gain(config.latent, layers)
        self.synthesis = SynthesisTransform(config, layers)

    def analyse(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Packed picture (B, 96, H/8, W/8), quality (B,) -> latent in quantiser steps (B, C, h, w) and real hyper latent."""
        y = self.gain.scale(self.analysis(x, quality), quality)
        return y, self.hyper_analysis(y, quality)

    def synthesise(self, y: Tensor, quality: Tensor) -> Tensor:
        """Decoded latent in quantiser steps -> packed picture (B, 96, H/8, W/8)."""
        return self.synthesis(self.gain.unscale(y, quality).contiguous(memory_format=torch.channels_last), quality)
