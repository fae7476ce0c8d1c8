"""The flagship: cgSlimDecoder with SaEC (paper 000) on our own conditional codec (DESIGN D1 to D7).

One model holds three parts: intra, motion and inter. This file owns their composition; coding to and from payloads is in coding.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuralcodec.codecs.inter import InterConfig, InterModel
from neuralcodec.codecs.intra import IntraConfig, IntraModel
from neuralcodec.codecs.layers import FLOAT, Layers
from neuralcodec.codecs.motion import MotionConfig, MotionModel
from neuralcodec.codecs.prior import MEAN_FRAC, latent_size
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.quality import STEP_GAIN

_FORMER_STEP_GAIN = (1.3, 5.3)
"""Of models that do not say."""


@dataclass(frozen=True)
class FlagshipConfig:
    """Sizes of all parts."""

    intra: IntraConfig = field(default_factory=IntraConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    inter: InterConfig = field(default_factory=InterConfig)
    step_gain: tuple[float, float] = STEP_GAIN
    """The quality scale: log2 of quantiser steps in a unit at quality 0 and 100 (nn.quality). Encoders alone read it."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"step_gain": list(self.step_gain)}

    @staticmethod
    def from_dict(d: dict[str, Any]) -> FlagshipConfig:
        """From ``to_dict``; what older models do not say is as it was then."""
        picture = {"step_units": False, "parts": 1, "chroma_path": False}
        return FlagshipConfig(IntraConfig(**picture | d["intra"]), MotionConfig(**{"full_rank": False, "parts": 1} | d["motion"]),
                              InterConfig(**picture | d["inter"]), tuple(d.get("step_gain", _FORMER_STEP_GAIN)))


@dataclass
class Reference:
    """What a P frame refers to: decoded planes y (B, 1, H, W), uv (B, 2, H/2, W/2) with samples 0..255, and exact latents of the previous
    P frame (None after an intra frame)."""

    y: Tensor
    uv: Tensor
    latent: Fixed | None = None
    motion: Fixed | None = None

    def detach(self) -> Reference:
        return Reference(self.y.detach(), self.uv.detach(), self.latent, self.motion)


class Flagship(nn.Module):
    """Intra, motion and inter models; three complexity levels."""

    architecture = "flagship-1"
    layers: Layers = FLOAT

    def __init__(self, config: FlagshipConfig | None = None) -> None:
        super().__init__()
        self.config = config or FlagshipConfig()
        self.intra = IntraModel(self.config.intra, self.layers)
        self.motion = MotionModel(self.config.motion, self.layers)
        self.inter = InterModel(self.config.inter, self.layers)

    @property
    def levels(self) -> int:
        return self.config.inter.levels

    def previous(self, reference: Reference) -> tuple[Fixed, Fixed]:
        """The reference's contextual and motion latents; zeros after an intra frame."""
        if reference.latent is not None and reference.motion is not None:
            return reference.latent, reference.motion
        b, _, height, width = reference.y.shape
        h, w = latent_size(height, width)
        zero = [torch.zeros(b, c, h, w, device=reference.y.device) for c in (self.config.inter.latent, self.config.motion.latent)]
        return tuple(Fixed(z, MEAN_FRAC, 1) for z in zero)

    def predict(self, m: Tensor, quality: Tensor, reference: Reference) -> tuple[Tensor, Tensor, Tensor]:
        """Decoded motion latent -> packed prediction (B, 96, H/8, W/8), motion features, vectors."""
        pack = self.layers.pack
        vectors, hidden = self.motion.synthesise(m, quality, pack(reference.y, reference.uv))
        return pack(*compensate(reference.y, reference.uv, vectors)), hidden, vectors
