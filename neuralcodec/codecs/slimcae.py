"""SlimCAE: a slimmable compressive autoencoder for pictures (paper 004; Yang et al., CVPR 2021, arXiv 2103.15726, which its slides name).

One width of all layers at a time. Narrower widths compute, store and send less, so width chooses rate, complexity and memory together::

    picture (3, H, W) -9x9 /4-> w -GDN-> -5x5 /2-> w -GDN-> -5x5 /2-> latent (w, H/16) -> 1x1 .. hyper latent (w/4, H/64)
    latent -5x5 *2-> w -IGDN-> -5x5 *2-> w -IGDN-> -9x9 *4-> picture

Deviations from the paper:
  - Planes are Y, U, V at full resolution in place of R, G, B: what is coded mostly has them, and the project measures by (6 Y + U + V) / 8. Chroma
    of 4:2:0 comes up by repeating samples and goes back down by their mean, which loses nothing.
  - A mean-scale hyperprior with integer arithmetic (codecs.slimcae_prior) in place of a factorised prior for each width, hence no GDN at the latent.
  - The latent's quantiser step has a learned gain by channel, quality and width. So a level has a range of rates; at one quality index its widths are
    the paper's points.
  - A classical start (nn.staged_start) in place of random weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.intra import CHROMA_GAIN
from neuralcodec.codecs.layers import FLOAT
from neuralcodec.codecs.slimcae_prior import SlimPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.gdn import KINDS, make_gdn
from neuralcodec.nn.quality import ANCHORS, STEP_GAIN, QualityGain, interpolate
from neuralcodec.nn.selection import WidthSwitch
from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d, kept, share
from neuralcodec.nn.staged_start import start_stages

WIDTHS = (192, 144, 96, 72, 48)
"""Of the paper, the widest first: level 1 is the first one."""
PLANES = 3


@dataclass(frozen=True)
class SlimCAEConfig:
    """``widths`` fall; ``gdn`` is one of nn.gdn.KINDS."""

    widths: tuple[int, ...] = WIDTHS
    gdn: str = "slim-plus"

    def __post_init__(self) -> None:
        if not self.widths or list(self.widths) != sorted(set(self.widths), reverse=True) or self.widths[-1] < 4:
            raise UsageError(f"widths {', '.join(map(str, self.widths))}: they fall, and the least is 4")
        if self.gdn not in KINDS:
            raise UsageError(f"unknown form of GDN {self.gdn!r}; choose {', '.join(KINDS)}")

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"widths": list(self.widths)}

    @staticmethod
    def from_dict(d: dict[str, object]) -> SlimCAEConfig:
        return SlimCAEConfig(tuple(d["widths"]), d["gdn"])


class SlimAnalysis(nn.Module):
    """Encoder only: picture (B, 3, H, W) -> latent (B, w, H/16, W/16)."""

    def __init__(self, config: SlimCAEConfig) -> None:
        super().__init__()
        w = config.widths
        self.stage1, self.gdn1 = StageConv2d(kept(PLANES, w), w, 9, 4), make_gdn(config.gdn, w)
        self.stage2, self.gdn2 = StageConv2d(w, w, 5, 2), make_gdn(config.gdn, w)
        self.stage3 = StageConv2d(w, w, 5, 2)

    def forward(self, x: Tensor, option: int) -> Tensor:
        x = self.gdn1(self.stage1(x, option), option)  # (B, w, H/4, W/4)
        x = self.gdn2(self.stage2(x, option), option)  # (B, w, H/8, W/8)
        return self.stage3(x, option)


class SlimSynthesis(nn.Module):
    """Latent (B, w, H/16, W/16) -> picture (B, 3, H, W)."""

    def __init__(self, config: SlimCAEConfig) -> None:
        super().__init__()
        w = config.widths
        self.stage1, self.gdn1 = StageTranspose2d(w, w, 5, 2), make_gdn(config.gdn, w, inverse=True)
        self.stage2, self.gdn2 = StageTranspose2d(w, w, 5, 2), make_gdn(config.gdn, w, inverse=True)
        self.stage3 = StageTranspose2d(w, kept(PLANES, w), 9, 4)

    def forward(self, y: Tensor, option: int) -> Tensor:
        x = self.gdn1(self.stage1(y, option), option)  # (B, w, H/8, W/8)
        x = self.gdn2(self.stage2(x, option), option)  # (B, w, H/4, W/4)
        return self.stage3(x, option)


class SlimHyperAnalysis(nn.Module):
    """Encoder only: latent in quantiser steps (B, w, h, w) -> real hyper latent (B, Cz, ceil(h/4), ceil(w/4)); as codecs.intra.HyperEncoder."""

    def __init__(self, channels: tuple[int, ...], hyper: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        wide = tuple(4 * h for h in hidden)
        self.enter = StageConv2d(channels, hidden, 1)
        self.spatial = StageConv2d(hidden, hidden, 3, depthwise=True)
        self.down1 = StageConv2d(wide, hidden, 1)
        self.down2 = StageConv2d(wide, hyper, 1)
        self.hyper = hyper
        self.hyper_gain = nn.Parameter(torch.zeros(len(channels), ANCHORS, hyper[0]))

    def forward(self, y: Tensor, quality: Tensor, option: int) -> Tensor:
        h, w = y.shape[-2:]
        x = F.pad(y, (0, -w % 4, 0, -h % 4), mode="replicate") if h % 4 or w % 4 else y
        x = F.relu(self.spatial(F.relu(self.enter(x, option)), option))  # (B, hidden, h, w)
        x = F.relu(self.down1(F.pixel_unshuffle(x, 2), option))  # (B, hidden, h/2, w/2)
        x = self.down2(F.pixel_unshuffle(x, 2), option)  # (B, Cz, h/4, w/4)
        return x * torch.exp2(interpolate(self.hyper_gain[option, :, : self.hyper[option]], quality))[..., None, None]


class SlimCAE(WidthSwitch):
    """All networks; ``option`` is the width that a coder uses. Methods take the width as an argument, so that training can run several."""

    architecture = "slimcae-1"
    layers = FLOAT

    def __init__(self, config: SlimCAEConfig | None = None) -> None:
        config = config or SlimCAEConfig()
        widths = config.widths
        super().__init__(len(widths))
        self.config = config
        hyper, hidden = share(widths, 4), share(widths, 2)
        self.analysis = SlimAnalysis(config)
        self.hyper_analysis = SlimHyperAnalysis(widths, hyper, hidden)
        self.prior = SlimPrior(widths, hyper, hidden)
        self.synthesis = SlimSynthesis(config)
        a, s = self.analysis, self.synthesis
        channels = start_stages([a.stage1, a.stage2, a.stage3], [s.stage1, s.stage2, s.stage3])
        offset = torch.zeros(widths[0])
        offset[: len(channels)] = torch.tensor([CHROMA_GAIN if c.plane else 0.0 for c in channels])
        self.gain = nn.ModuleList(QualityGain(n, *STEP_GAIN, offset=offset[:n]) for n in widths)

    @property
    def levels(self) -> int:
        return self.options

    def analyse(self, x: Tensor, quality: Tensor, option: int) -> tuple[Tensor, Tensor]:
        """Picture (B, 3, H, W), quality (B,) -> latent in quantiser steps (B, w, H/16, W/16) and real hyper latent (B, Cz, H/64, W/64)."""
        return self.in_steps(self.analysis(x, option), quality, option)

    def in_steps(self, latent: Tensor, quality: Tensor, option: int) -> tuple[Tensor, Tensor]:
        """The same from what ``analysis`` gave."""
        y = self.gain[option].scale(latent, quality)
        return y, self.hyper_analysis(y, quality, option)

    def synthesise(self, y: Tensor, quality: Tensor, option: int) -> Tensor:
        """Decoded latent in quantiser steps -> picture (B, 3, H, W)."""
        return self.synthesis(self.gain[option].unscale(y, quality), option)
