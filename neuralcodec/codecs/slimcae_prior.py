"""The exact entropy path of SlimCAE: the hyperprior of codecs.prior, slimmed by leading channels (bitstream_spec/slimcae.md).

Integer arithmetic throughout; formats are those of codecs.prior. Channel counts are of one width::

    z (Cz, H/64) -1x1-> 4h -d2s-> h (H/32) -3x3 dw-> -1x1-> 4h -d2s-> h (H/16) -3x3 dw-> -1x1-> C -3x3 dw-> mean  (C), 1/16 grid
                                                                                                         -> scale (C), index 0..63

Nothing temporal, one part, no mode prediction. Weights are shared by all widths; each width has its own extra biases in the first layer and in the
scales, and its own tables of the hyper latent, all by quality.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuralcodec.codecs.parts import Division
from neuralcodec.codecs.prior import (
    HIDDEN_FRAC,
    HIDDEN_LIMIT,
    LAST_SCALE,
    MEAN_FRAC,
    MEAN_LIMIT,
    SCALE_FRAC,
    SCALE_LIMIT,
    SYMBOL_LIMIT,
    LatentStatistics,
)
from neuralcodec.nn.exact_filters import ExactModule
from neuralcodec.nn.fixed import Fixed, quantise_ste
from neuralcodec.nn.leading import LeadingConv2d, WidthBias
from neuralcodec.nn.quality import ANCHORS, interpolate, interpolate_integers

Widths = tuple[int, ...]


def _hidden(cins: Widths, couts: Widths, kernel: int = 1, **formats: int) -> LeadingConv2d:
    args = {"frac_in": HIDDEN_FRAC, "limit_in": HIDDEN_LIMIT, "frac_out": HIDDEN_FRAC, "limit_out": HIDDEN_LIMIT} | formats
    return LeadingConv2d(cins, couts, kernel, depthwise=kernel == 3, **args)


class SlimPrior(ExactModule):
    """See the module's diagram. Each argument has the channels of every width; use it through ``at``."""

    def __init__(self, channels: Widths, hyper: Widths, hidden: Widths) -> None:
        super().__init__()
        self.channels, self.hyper = channels, hyper
        wide = tuple(4 * h for h in hidden)
        self.up1 = _hidden(hyper, wide, frac_in=0, limit_in=SYMBOL_LIMIT)
        self.up1_bias = WidthBias(len(channels), wide[0])
        self.mix1 = _hidden(hidden, hidden, 3)
        self.up2 = _hidden(hidden, wide)
        self.mix2 = _hidden(hidden, hidden, 3)
        self.fuse = _hidden(hidden, channels)
        self.fuse_mix = _hidden(channels, channels, 3)
        self.mean_head = _hidden(channels, channels, frac_out=MEAN_FRAC, limit_out=MEAN_LIMIT, relu=False)
        self.scale_head = _hidden(channels, channels, frac_out=SCALE_FRAC, limit_out=SCALE_LIMIT, relu=False)
        self.scale_bias = WidthBias(len(channels), channels[0])
        # Index / 4 of each hyper channel's table, by width and quality anchor.
        self.hyper_scale = nn.Parameter(torch.full((len(channels), ANCHORS, hyper[0]), 6.0))
        with torch.no_grad():
            self.scale_head.bias.fill_(6.0)
            for conv in (self.mix1, self.mix2, self.fuse_mix):  # near the identity, so that a deep ReLU stack passes signals
                conv.weight.mul_(0.3)[:, 0, 1, 1].add_(1.0)

    def at(self, option: int) -> PriorAt:
        """The prior of one width."""
        return PriorAt(self, option)

    def hyper_scale_integers(self) -> Tensor:
        """(options, A, Cz) int64: index in sixteenths, as the model file holds it."""
        return torch.round(self.hyper_scale.detach().double() * 64).clamp(0, 16 * LAST_SCALE).long()


class PriorAt:
    """A SlimPrior at one width, as coders and training see a prior (codecs.prior.LatentPrior)."""

    def __init__(self, prior: SlimPrior, option: int) -> None:
        self.prior, self.option = prior, option
        self.channels, self.hyper = prior.channels[option], prior.hyper[option]
        self.division = Division(1, self.channels)

    def features(self, z: Fixed, temporal: list[Fixed], quality: Tensor, size: tuple[int, int]) -> Fixed:
        """z (B, Cz, ceil(h/4), ceil(w/4)) symbols, quality (B,) indexes 0..200 -> features on (h, w). ``temporal`` is empty."""
        p, o = self.prior, self.option
        x = p.up1(z, o, p.up1_bias(p.up1, quality, o)).depth_to_space()  # (B, hidden, H/32, W/32)
        x = p.up2(p.mix1(x, o), o).depth_to_space()  # (B, hidden, H/16, W/16), up to three positions too many
        return p.mix2(x.crop(*size), o)

    def statistics(self, features: Fixed, quality: Tensor, part: int = 0, known: Fixed | None = None) -> LatentStatistics:
        """Means and scales on all positions; the logits, which nothing reads, are zero. ``part`` and ``known`` are for latents of several parts."""
        p, o = self.prior, self.option
        x = p.fuse_mix(p.fuse(features, o), o)  # (B, C, h, w)
        mean = p.mean_head(x, o)
        raw = p.scale_head(x, o, p.scale_bias(p.scale_head, quality, o))
        index = quantise_ste(raw.values, SCALE_FRAC, 0, LAST_SCALE, revive=True)
        return LatentStatistics(mean, index * 2**SCALE_FRAC, Fixed(torch.zeros_like(index), 0, 1))

    def hyper_scale_real(self, quality: Tensor) -> Tensor:
        """Real-valued scale index of the hyper latent for training: (B, Cz, 1, 1)."""
        table = self.prior.hyper_scale[self.option, :, : self.hyper]
        return (interpolate(table, quality) * 4).clamp(0, LAST_SCALE)[..., None, None]

    def hyper_scale_index(self, quality: Tensor) -> Tensor:
        """Table index of each hyper channel, (B, Cz) uint8: the interpolated sixteenths, rounded half up."""
        table = self.prior.hyper_scale_integers()[self.option, :, : self.hyper]
        return ((interpolate_integers(table.to(quality.device), quality) + 8) >> 4).clamp(0, LAST_SCALE).to(torch.uint8)


def leading_parts(module: nn.Module) -> tuple[dict[str, LeadingConv2d], dict[str, tuple[WidthBias, LeadingConv2d]]]:
    """All exact convolutions over leading channels and all biases by width (with the convolution that each belongs to), by qualified name."""
    convs = {n: m for n, m in module.named_modules() if isinstance(m, LeadingConv2d)}
    owner = {"up1_bias": "up1", "scale_bias": "scale_head"}
    biases = {}
    for name, m in module.named_modules():
        if isinstance(m, WidthBias):
            prefix, dot, last = name.rpartition(".")
            biases[name] = (m, convs[prefix + dot + owner[last]])
    return convs, biases
