"""AdaNIC: a slimmable autoencoder for pictures whose width changes from block to block (paper 003; Tao et al., ICCV 2023).

A capacity map says how many channels each block has. All stages follow it; the mean-scale hyperprior around the latent does not::

    picture (3, H, W) -5x5 /2-> n -GDN-> -5x5 /2-> n -GDN-> -5x5 /2-> n -GDN-> -5x5 /2-> latent (m, H/16) -> 1x1 .. hyper latent (H/64)
    latent -5x5 *2-> n -IGDN-> -5x5 *2-> n -IGDN-> -5x5 *2-> n -IGDN-> -5x5 *2-> picture

n and m of a block are N and M of the paper's table 2. Its text calls M the channels of the hyperprior branch; here they are those of the latent, which
that branch reads and predicts, as in the autoencoder that the paper builds on (Minnen et al., NeurIPS 2018).

Deviations from the paper, beyond those of codecs.slimcae, which are the same (planes, integer hyperprior, gain by quality, classical start):
  - The hyperprior has the full M for every block: it is a small share of the work, and its integers need no tiles. Channels that a block does not have
    are known to be 0, and cost next to nothing.
  - One supernet for all qualities. The lambdas that table 2 gives to q1 .. q5 are those of qualities 11.5, 35, 58, 82 and 94.5.
  - Blocks are 256x256 luma samples, the size of the agents' patches; the paper does not name another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.intra import CHROMA_GAIN
from neuralcodec.codecs.layers import FLOAT
from neuralcodec.codecs.prior import LatentStatistics
from neuralcodec.codecs.routing import RoutingAgent
from neuralcodec.codecs.slimcae import PLANES, SlimHyperAnalysis
from neuralcodec.codecs.slimcae_prior import PriorAt, SlimPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.gdn import SlimGDNPlus
from neuralcodec.nn.quality import STEP_GAIN, QualityGain
from neuralcodec.nn.selection import WidthSwitch
from neuralcodec.nn.slimmable_stages import kept, share
from neuralcodec.nn.spatially_adaptive import SAConv2d, SATConv2d
from neuralcodec.nn.staged_start import start_stages

TABLE_2 = {
    "low": ((160, 144, 128, 112, 96), (256, 224, 192, 160, 128)),
    "high": ((192, 176, 160, 144, 128), (320, 288, 256, 224, 192)),
}
"""N and M of C5 to C1: "low" for the paper's q1 to q3, "high" for q4 and q5."""
BLOCK = 16
AGENT_SHRINKS = (1, 2, 4)


@dataclass(frozen=True)
class AdaNICConfig:
    """``n`` and ``m`` fall: channels of the stages and of the latent at each capacity, the largest first. ``block``: latent positions of a block's side,
    a multiple of 4. ``agent``: the model has a routing agent, for its encoder, which sees blocks made smaller by ``agent_shrink``."""

    n: tuple[int, ...] = TABLE_2["high"][0]
    m: tuple[int, ...] = TABLE_2["high"][1]
    block: int = BLOCK
    agent: bool = False
    agent_shrink: int = 1

    def __post_init__(self) -> None:
        falling = all(list(c) == sorted(set(c), reverse=True) and c[-1] >= 4 for c in (self.n, self.m) if c)
        if not self.n or len(self.n) != len(self.m) or not falling:
            raise UsageError(f"channels {self.n} and {self.m}: as many of both, they fall, and the least is 4")
        if self.block < 4 or self.block % 4:
            raise UsageError(f"blocks of {self.block} latent positions: choose a multiple of 4")
        if self.agent_shrink not in AGENT_SHRINKS:
            raise UsageError(f"blocks for the agent smaller by {self.agent_shrink}: choose one of {', '.join(map(str, AGENT_SHRINKS))}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels by level, as SlimCAEConfig has them."""
        return self.n

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"n": list(self.n), "m": list(self.m)}

    @staticmethod
    def from_dict(d: dict[str, object]) -> AdaNICConfig:
        return AdaNICConfig(tuple(d["n"]), tuple(d["m"]), d["block"], d["agent"], d.get("agent_shrink", 1))


class SAAnalysis(nn.Module):
    """Encoder only: picture (B, 3, H, W) -> latent (B, M, H/16, W/16), zero in channels that a block does not have, by the map of the latent's grid."""

    def __init__(self, config: AdaNICConfig) -> None:
        super().__init__()
        n, m = config.n, config.m
        self.stage1, self.gdn1 = SAConv2d(kept(PLANES, n), n, 5, 2), SlimGDNPlus(n)
        self.stage2, self.gdn2 = SAConv2d(n, n, 5, 2), SlimGDNPlus(n)
        self.stage3, self.gdn3 = SAConv2d(n, n, 5, 2), SlimGDNPlus(n)
        self.stage4 = SAConv2d(n, m, 5, 2)

    def forward(self, x: Tensor, tcm: CapacityMap) -> Tensor:
        eighth = tcm.doubled()
        quarter = eighth.doubled()
        x = self.stage1(x, quarter.doubled(), self.gdn1)  # (B, n, H/2, W/2)
        x = self.stage2(x, quarter, self.gdn2)  # (B, n, H/4, W/4)
        x = self.stage3(x, eighth, self.gdn3)  # (B, n, H/8, W/8)
        x = self.stage4(x, tcm)
        return F.pad(x, (0, 0, 0, 0, 0, self.stage4.couts[0] - x.shape[1]))


class SASynthesis(nn.Module):
    """Latent (B, M, H/16, W/16) -> picture (B, 3, H, W), by the map of the latent's grid."""

    def __init__(self, config: AdaNICConfig) -> None:
        super().__init__()
        n, m = config.n, config.m
        self.stage1, self.gdn1 = SATConv2d(m, n, 5, 2), SlimGDNPlus(n, inverse=True)
        self.stage2, self.gdn2 = SATConv2d(n, n, 5, 2), SlimGDNPlus(n, inverse=True)
        self.stage3, self.gdn3 = SATConv2d(n, n, 5, 2), SlimGDNPlus(n, inverse=True)
        self.stage4 = SATConv2d(n, kept(PLANES, n), 5, 2)

    def forward(self, y: Tensor, tcm: CapacityMap) -> Tensor:
        eighth = tcm.doubled()
        quarter = eighth.doubled()
        half = quarter.doubled()
        x = self.stage1(y, eighth, self.gdn1)  # (B, n, H/8, W/8)
        x = self.stage2(x, quarter, self.gdn2)  # (B, n, H/4, W/4)
        x = self.stage3(x, half, self.gdn3)  # (B, n, H/2, W/2)
        return self.stage4(x, half.doubled())


class MappedPrior(PriorAt):
    """The prior as coders and training see it: where the map ``tcm`` leaves a channel out, mean and scale index are 0."""

    def __init__(self, prior: SlimPrior, m: tuple[int, ...], tcm: CapacityMap | None) -> None:
        super().__init__(prior, 0)
        self.m, self.tcm = m, tcm

    def statistics(self, features: Fixed, quality: Tensor, part: int = 0, known: Fixed | None = None) -> LatentStatistics:
        all_ = super().statistics(features, quality, part, known)
        present = self.tcm.present(self.m).to(all_.scale.device)
        return LatentStatistics(Fixed(all_.mean.values * present, all_.mean.frac, all_.mean.limit), all_.scale * present, all_.mode)


class AdaNIC(WidthSwitch):
    """All networks. ``option`` is the largest capacity that a map may hold, the level's; 0 is C5."""

    architecture = "adanic-1"
    layers = FLOAT

    def __init__(self, config: AdaNICConfig | None = None) -> None:
        config = config or AdaNICConfig()
        super().__init__(len(config.n))
        self.config = config
        full = config.m[:1]
        hyper, hidden = share(full, 4), share(full, 2)
        self.analysis = SAAnalysis(config)
        self.hyper_analysis = SlimHyperAnalysis(full, hyper, hidden)
        self.prior = SlimPrior(full, hyper, hidden)
        self.synthesis = SASynthesis(config)
        a, s = self.analysis, self.synthesis
        channels = start_stages([a.stage1, a.stage2, a.stage3, a.stage4], [s.stage1, s.stage2, s.stage3, s.stage4])
        offset = torch.zeros(full)
        offset[: len(channels)] = torch.tensor([CHROMA_GAIN if c.plane else 0.0 for c in channels])
        self.gain = QualityGain(full[0], *STEP_GAIN, offset=offset)
        self.agent = RoutingAgent(len(config.n), shrink=config.agent_shrink) if config.agent else None

    @property
    def levels(self) -> int:
        return self.options

    def prior_at(self, tcm: CapacityMap | None) -> MappedPrior:
        """The prior for a map; None: it is set later."""
        return MappedPrior(self.prior, self.config.m, tcm)

    def analyse(self, x: Tensor, quality: Tensor, tcm: CapacityMap) -> tuple[Tensor, Tensor]:
        """Picture (B, 3, H, W), quality (B,) -> latent in quantiser steps (B, M, H/16, W/16) and real hyper latent (B, Cz, H/64, W/64)."""
        return self.in_steps(self.analysis(x, tcm), quality)

    def in_steps(self, latent: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """The same from what ``analysis`` gave."""
        y = self.gain.scale(latent, quality)
        return y, self.hyper_analysis(y, quality, 0)

    def synthesise(self, y: Tensor, quality: Tensor, tcm: CapacityMap) -> Tensor:
        """Decoded latent in quantiser steps (B, M, H/16, W/16) -> picture (B, 3, H, W)."""
        return self.synthesis(self.gain.unscale(y, quality), tcm)
