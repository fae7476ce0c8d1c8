"""The exact entropy path of one latent: hyper decoder, temporal prior, means, scale indexes and mode prediction.

Everything here is integer arithmetic (DESIGN D1): the modules are :class:`~neuralcodec.nn.exact.ExactModule` and the data are
:class:`~neuralcodec.nn.fixed.Fixed`. Mean-scale hyperprior after paper 000 section 3.3; the temporal prior reads exact latents of
earlier frames and of the motion, never a picture.

::

    z (Cz, H/64) -1x1-> 4h -d2s-> h (H/32) -3x3 dw-> -1x1-> 4h -d2s-> h (H/16) -3x3 dw-> hyper features
    temporal latents (Ct, H/16) -1x1-> h -3x3 dw-> temporal features
    [hyper | temporal] -1x1-> f -3x3 dw-> mean  (C), 1/16 grid
                                       -> scale (C), index 0..63
    [mean | scale] -1x1-> min(C, 96) -3x3 dw-> -1x1-> mode logit (C): coded where > 0

A latent in several parts (codecs.parts) is coded part by part: the above speaks of the first one, and later ones are coded from what is decoded by then::

    decoded latent of the parts before, zero elsewhere (C, H/16) -1x1-> s -3x3 dw-> spatial features
    [hyper | temporal | spatial] -1x1-> f -3x3 dw-> mean, scale; mode logit as above
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuralcodec.codecs.parts import Division
from neuralcodec.nn.exact import ExactConv2d, ExactList, ExactModule
from neuralcodec.nn.fixed import Fixed, concatenate, quantise_ste
from neuralcodec.nn.quality import ANCHORS, QualityBias, interpolate, interpolate_integers

HIDDEN_FRAC, HIDDEN_LIMIT = 6, 1023
"""Hidden activations: 10 bits after the ReLU, 0..15.98 in steps of 1/64."""
MEAN_FRAC, MEAN_LIMIT = 4, 2047
SCALE_FRAC, SCALE_LIMIT = 2, 127
"""The scale head counts indexes; as a real number an index is n / 4, which conditions its training."""
SYMBOL_LIMIT = 127
"""Hyper latents are symbols in [-127, 127]."""
LATENT_LIMIT = 32767
CONTEXT_FRAC, CONTEXT_LIMIT, WIDE_LIMIT = 2, 127, 1023
"""Latents enter priors on a grid of 1/4, clamped to 8 bits; where they are vectors of any length, to 11."""
LAST_SCALE = 63
MODE_HIDDEN = 96
"""Most hidden channels of a mode prediction network."""


@dataclass
class LatentStatistics:
    """What the prior says of a latent: ``mean`` (B, C, h, w) on the 1/16 grid; ``scale`` (B, C, h, w) real-valued index 0..63 (integers,
    with gradient while training); ``mode`` (B, C, h, w) logits, coded where > 0."""

    mean: Fixed
    scale: Tensor
    mode: Fixed

    def scale_index(self) -> Tensor:
        """uint8 (B, C, h, w)."""
        return self.scale.detach().to(torch.uint8)


def latent_size(height: int, width: int) -> tuple[int, int]:
    """Latent grid of a picture: one position for 16x16 luma samples."""
    return -(-height // 16), -(-width // 16)


def hyper_size(height: int, width: int) -> tuple[int, int]:
    """Hyper latent grid: one position for 64x64 luma samples."""
    h, w = latent_size(height, width)
    return -(-h // 4), -(-w // 4)


def _hidden(cin: int, cout: int, kernel: int = 1, **formats: int) -> ExactConv2d:
    args = {"frac_in": HIDDEN_FRAC, "limit_in": HIDDEN_LIMIT, "frac_out": HIDDEN_FRAC, "limit_out": HIDDEN_LIMIT} | formats
    return ExactConv2d(cin, cout, kernel, groups=cin if kernel == 3 else 1, **args)


class ModePrediction(ExactModule):
    """Mode prediction network of SaEC (paper 000, section 3.3 and Figure 2b, whose layer table is missing from the text; chosen
    here: pointwise, depthwise 3x3, pointwise over mean and scale). Gives one logit for each element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = min(channels, MODE_HIDDEN)
        self.enter = _hidden(2 * channels, hidden, frac_in=CONTEXT_FRAC, limit_in=CONTEXT_LIMIT)
        self.spatial = _hidden(hidden, hidden, 3)
        self.leave = _hidden(hidden, channels, frac_out=4, limit_out=2047, relu=False)
        with torch.no_grad():  # everything is coded at first
            self.leave.bias.fill_(2.0)

    def forward(self, mean: Fixed, scale: Fixed) -> Fixed:
        """mean, scale (B, C, h, w) on the 1/4 grid -> logits (B, C, h, w)."""
        return self.leave(self.spatial(self.enter(concatenate([mean, scale]))))


_CROSS = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) / 4
_AROUND = _CROSS + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
"""Of four parts: other channels of the position itself are known too."""
_CORNERS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]) / 4
_DIRECT = 1 / 16
"""Scale at which signed values pass through hidden activations in two halves: 255 steps then fit."""


class LaterPart(ExactModule):
    """Mean and scale of a part after the first. ``neighbours`` (3, 3): where decoded values stand, weighted as for a mean.

    With ``direct``, 2 C more fused channels hand the neighbours' mean through, so that it is the prediction from the start."""

    def __init__(self, channels: int, features: int, fused: int, limit: int, neighbours: Tensor, direct: bool) -> None:
        super().__init__()
        self.limit = limit
        extra = 2 * channels if direct else 0
        self.spatial_in = _hidden(channels, fused + extra, frac_in=CONTEXT_FRAC, limit_in=limit)
        self.spatial_mix = _hidden(fused + extra, fused + extra, 3)
        self.fuse = _hidden(features + fused + extra, fused + extra)
        self.fuse_mix = _hidden(fused + extra, fused + extra, 3)
        self.mean_head = _hidden(fused + extra, channels, frac_out=MEAN_FRAC, limit_out=MEAN_LIMIT, relu=False)
        self.scale_head = _hidden(fused + extra, channels, frac_out=SCALE_FRAC, limit_out=SCALE_LIMIT, relu=False)
        self.scale_quality = QualityBias(channels)
        with torch.no_grad():
            self.spatial_mix.weight.copy_(neighbours.expand_as(self.spatial_mix.weight))
            if direct:
                self._start_direct(channels, features, fused)

    def _start_direct(self, c: int, features: int, fused: int) -> None:
        signs = torch.cat([torch.eye(c), -torch.eye(c)])  # (2C, C)
        self.spatial_in.weight[fused:, :, 0, 0] = signs * _DIRECT
        self.fuse.weight[fused:].zero_()
        self.fuse.weight[fused:, features + fused :, 0, 0] = torch.eye(2 * c)
        self.fuse_mix.weight[fused:].zero_()[:, 0, 1, 1] = 1.0
        self.mean_head.weight[:, fused:, 0, 0] = signs.T / _DIRECT
        self.scale_head.weight[:, fused:].zero_()

    @torch.no_grad()
    def start_slopes(self) -> None:
        """For the differences of cells, where all sums are known: predict them from the slopes of the sums around them, at 2 C direct channels.

        Of a field that is linear, a cell's difference in one direction is an eighth of that between the sums before and after it."""
        c = self.mean_head.cout
        if c != 8:  # another transform than that of 2x2 cells
            return
        first = self.mean_head.cin - 2 * c
        self.spatial_in.weight[first:].zero_()
        self.spatial_mix.weight[first:].zero_()
        self.mean_head.weight[:, first:].zero_()
        for i in range(2 * c):
            component, place = divmod(i, c)
            direction, turn, sign = place // 4, place // 2 % 2, place % 2  # 8 channels for x, 8 for y: two directions, two turns, two signs
            if direction > 1:
                continue
            kernel = torch.tensor([[0.0, 0, 0], [1, 0, -1], [0, 0, 0]])
            kernel = (kernel if direction == 0 else kernel.T) * (1 - 2 * turn)
            self.spatial_in.weight[first + i, component * (c // 2)] = (1 - 2 * sign) * _DIRECT
            self.spatial_mix.weight[first + i, 0] = kernel
            self.mean_head.weight[component * (c // 2) + 1 + direction, first + i] = (1 - 2 * turn) * (1 - 2 * sign) / (8 * _DIRECT)

    @torch.no_grad()
    def start_from(self, prior: LatentPrior) -> None:
        """Let what is not spatial begin as the first part's; its mean only where the neighbours' is not handed through."""
        n, features = prior.fuse.cout, prior.fuse.cin
        self.fuse.weight[:n].zero_()[:, :features].copy_(prior.fuse.weight)
        self.fuse.bias[:n].copy_(prior.fuse.bias)
        self.fuse_mix.weight[:n].copy_(prior.fuse_mix.weight)
        self.fuse_mix.bias[:n].copy_(prior.fuse_mix.bias)
        direct = self.fuse.cout > n
        self.mean_head.weight[:, :n].copy_(torch.zeros_like(prior.mean_head.weight) if direct else prior.mean_head.weight)
        self.mean_head.bias.copy_(torch.zeros_like(prior.mean_head.bias) if direct else prior.mean_head.bias)
        self.scale_head.weight[:, :n].copy_(prior.scale_head.weight)
        self.scale_head.bias.copy_(prior.scale_head.bias)
        self.scale_quality.anchors.copy_(prior.scale_quality.anchors)

    def forward(self, features: Fixed, known: Fixed, quality: Tensor) -> tuple[Fixed, Fixed]:
        """features (B, F, h, w), decoded latent (B, C, h, w) -> mean and scale (B, C, h, w)."""
        spatial = self.spatial_mix(self.spatial_in(known.requantise(CONTEXT_FRAC, self.limit)))
        x = self.fuse_mix(self.fuse(concatenate([features, spatial])))
        return self.mean_head(x), self.scale_head(x, self.scale_quality(self.scale_head, quality))


class LatentPrior(ExactModule):
    """See the module's diagram. ``temporal`` lists the channel counts of the latents that the temporal prior reads; ``parts`` is 1 to 4.

    A latent of ``vectors`` (always one in three parts, one in four if it is said), which is smooth and of any length, is read with a wider range, and its
    later parts begin at their neighbours' mean."""

    def __init__(self, channels: int, hyper: int, hidden: int = 64, fused: int = 128, temporal: tuple[int, ...] = (), parts: int = 1,
                 vectors: bool = False) -> None:
        super().__init__()
        self.channels, self.hyper, self.parts = channels, hyper, parts
        self.direct = parts == 3 or (parts == 4 and vectors)
        self.division = Division(parts, channels, self.direct)
        self.context_limit = WIDE_LIMIT if self.direct else CONTEXT_LIMIT
        self.up1 = _hidden(hyper, 4 * hidden, frac_in=0, limit_in=SYMBOL_LIMIT)
        self.up1_quality = QualityBias(4 * hidden)
        self.mix1 = _hidden(hidden, hidden, 3)
        self.up2 = _hidden(hidden, 4 * hidden)
        self.mix2 = _hidden(hidden, hidden, 3)
        self.temporal_in = _hidden(sum(temporal), hidden, frac_in=CONTEXT_FRAC, limit_in=self.context_limit) if temporal else None
        self.temporal_mix = _hidden(hidden, hidden, 3) if temporal else None
        self.fuse = _hidden(hidden * (2 if temporal else 1), fused)
        self.fuse_mix = _hidden(fused, fused, 3)
        self.mean_head = _hidden(fused, channels, frac_out=MEAN_FRAC, limit_out=MEAN_LIMIT, relu=False)
        self.scale_head = _hidden(fused, channels, frac_out=SCALE_FRAC, limit_out=SCALE_LIMIT, relu=False)
        self.scale_quality = QualityBias(channels)
        self.mode = ModePrediction(channels)
        if parts > 1:
            kinds = {2: (_CROSS,), 3: (_CORNERS, _CROSS), 4: (_CORNERS, _CROSS, _AROUND) if self.direct else (_AROUND,) * 3}[parts]
            self.later = ExactList(*(LaterPart(channels, self.fuse.cin, fused, self.context_limit, k, self.direct) for k in kinds))
        # Index / 4 of each hyper channel's table, by quality anchor.
        self.hyper_scale = nn.Parameter(torch.full((ANCHORS, hyper), 6.0))
        with torch.no_grad():
            self.scale_head.bias.fill_(6.0)
            for conv in (self.mix1, self.mix2, self.fuse_mix, self.temporal_mix):
                if conv is not None:  # depthwise layers start as the identity, so that a deep ReLU stack passes signals
                    conv.weight.mul_(0.3)[:, 0, 1, 1].add_(1.0)
        self.start_later_parts()

    def start_later_parts(self, first: int = 0) -> None:
        """Let later parts, from ``later[first]`` on, begin as the first part."""
        for part in range(first, self.parts - 1):
            self.later[part].start_from(self)
        if self.direct and self.parts == 4:
            self.later[2].start_slopes()

    @torch.no_grad()
    def start_from_two_parts(self) -> None:
        """Let all later parts of four begin as ``later[0]``, which was the second part of two: it knows its neighbours, not yet the position itself."""
        known = self.later[0]
        known.spatial_mix.weight[:, 0, 1, 1].fill_(0.5)
        for part in range(1, self.parts - 1):
            self.later[part].load_state_dict(known.state_dict())

    def forward(self, z: Fixed, temporal: list[Fixed], quality: Tensor, size: tuple[int, int]) -> LatentStatistics:
        """What the first part is coded with, see ``features`` and ``statistics``."""
        return self.statistics(self.features(z, temporal, quality, size), quality)

    def features(self, z: Fixed, temporal: list[Fixed], quality: Tensor, size: tuple[int, int]) -> Fixed:
        """z (B, Cz, ceil(h/4), ceil(w/4)) symbols, temporal latents (B, Ct, h, w), quality (B,) indexes 0..200 -> features on (h, w)."""
        x = self.up1(z, self.up1_quality(self.up1, quality)).depth_to_space()  # (B, hidden, H/32, W/32)
        x = self.up2(self.mix1(x)).depth_to_space()  # (B, hidden, H/16, W/16), up to three positions too many
        x = self.mix2(x.crop(*size))  # (B, hidden, h, w)
        if self.temporal_in is not None:
            context = concatenate([t.requantise(CONTEXT_FRAC, self.context_limit) for t in temporal])
            x = concatenate([x, self.temporal_mix(self.temporal_in(context))])  # (B, 2 hidden, h, w)
        return x

    def statistics(self, features: Fixed, quality: Tensor, part: int = 0, known: Fixed | None = None) -> LatentStatistics:
        """Statistics on all positions (h, w), to be used on the elements of one part. ``known`` (B, C, h, w): the decoded latent of the parts before,
        zero elsewhere."""
        mean, scale = self.mean_and_scale(features, quality, part, known)
        mode = self.mode(_detached(mean).requantise(CONTEXT_FRAC, CONTEXT_LIMIT), _detached(scale))
        return LatentStatistics(mean, scale.values * 2**SCALE_FRAC, mode)

    def mean_and_scale(self, features: Fixed, quality: Tensor, part: int = 0, known: Fixed | None = None) -> tuple[Fixed, Fixed]:
        """The same without modes; the scale's integers are indexes."""
        if known is None:
            x = self.fuse_mix(self.fuse(features))  # (B, fused, h, w)
            mean = self.mean_head(x)
            raw = self.scale_head(x, self.scale_quality(self.scale_head, quality))
        else:
            mean, raw = self.later[part - 1](features, known, quality)
        index = quantise_ste(raw.values, SCALE_FRAC, 0, LAST_SCALE, revive=True)
        return mean, Fixed(index, SCALE_FRAC, LAST_SCALE, signed=False)

    def hyper_scale_real(self, quality: Tensor) -> Tensor:
        """Real-valued scale index of the hyper latent for training: (B, Cz, 1, 1)."""
        return (interpolate(self.hyper_scale, quality) * 4).clamp(0, LAST_SCALE)[..., None, None]

    def hyper_scale_integers(self) -> Tensor:
        """(A, Cz) int64: index in sixteenths at each anchor, as the model file holds it."""
        return torch.round(self.hyper_scale.detach().double() * 64).clamp(0, 16 * LAST_SCALE).long()

    def hyper_scale_index(self, quality: Tensor) -> Tensor:
        """Table index of each hyper channel, (B, Cz) uint8: the interpolated sixteenths, rounded half up."""
        n = interpolate_integers(self.hyper_scale_integers().to(quality.device), quality)
        return ((n + 8) >> 4).clamp(0, LAST_SCALE).to(torch.uint8)


def _detached(x: Fixed) -> Fixed:
    # Mode prediction learns to read the hyperprior's statement; it must not bend it.
    return Fixed(x.values.detach(), x.frac, x.limit, x.signed)


def exact_parts(module: nn.Module) -> tuple[dict[str, ExactConv2d], dict[str, tuple[QualityBias, ExactConv2d]]]:
    """All exact convolutions and all quality biases (with the convolution that each belongs to), by qualified name."""
    convs = {n: m for n, m in module.named_modules() if isinstance(m, ExactConv2d)}
    owner = {"up1_quality": "up1", "scale_quality": "scale_head"}
    biases = {}
    for name, m in module.named_modules():
        if isinstance(m, QualityBias):
            prefix, _, last = name.rpartition(".")
            biases[name] = (m, convs[f"{prefix}.{owner[last]}" if prefix else owner[last]])
    return convs, biases
