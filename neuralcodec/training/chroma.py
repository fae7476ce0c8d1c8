"""Where the chroma path of an intra model begins that was trained without one: at the frequencies of chroma that its trunks do not pass.

Trunks of as many channels as packed planes have end up with features of luma in most of them, and clips of little colour let chroma's latents fade:
of models up to ``flagship-4`` about a third of chroma's frequencies came through. The others get latents that carry nothing, as their DCT.
"""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.codecs.intra import CHROMA_GAIN, IntraModel
from neuralcodec.codecs.prior import SCALE_FRAC, LatentPrior
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.entropy.tables import SCALES
from neuralcodec.nn.dct import chroma_of_latent, merge_cells, packed_dct
from neuralcodec.nn.layout import LUMA_CHANNELS, PACKED_CHANNELS, UNIT
from neuralcodec.nn.quality import ANCHORS, STEP_GAIN
from neuralcodec.training.data import Sampler

log = logging.getLogger(__name__)

PASSED = 0.5
"""Share of a frequency's amplitude from which on it is taken to pass."""
IDLE = 0.3
"""Standard deviation in quantiser steps at the highest quality below which a latent carries nothing."""
CROPS, SIZE = 16, 192


def chroma_dct() -> Tensor:
    """(128, 128) orthonormal rows over pixel_unshuffle(2) of packed chroma, low frequencies first."""
    matrix = merge_cells(4 * PACKED_CHANNELS) @ torch.kron(packed_dct()[0], torch.eye(4, dtype=torch.float64))
    return matrix[chroma_of_latent(4 * PACKED_CHANNELS), 4 * LUMA_CHANNELS :].float()


@torch.no_grad()
def start_chroma_path(model: IntraModel, sampler: Sampler) -> int:
    """Give frequencies of chroma that do not pass to idle latents, measured on crops of clips. Does nothing where the path is in use, or the model too small
    for the DCT. Returns how many frequencies were given away."""
    if model.synthesis.chroma is None or bool(model.synthesis.chroma.conv.weight.any()) or model.config.latent < 4 * PACKED_CHANNELS:
        return 0
    device = next(model.parameters()).device
    data = sampler.batch(SIZE, CROPS, 1)
    x = model.layers.pack(data.y[0].to(device).float(), data.uv[0].to(device).float())
    quality = torch.full((CROPS,), QUALITY_STEPS, device=device)
    y, _ = model.analyse(x, quality)
    basis = chroma_dct().to(device)
    sent, passed = (_coefficients(p, basis) for p in (x, model.synthesise(y, quality)))
    share = (sent * passed).sum(1) / sent.square().sum(1).clamp_min(1e-12)
    spread = y.std((0, 2, 3))
    lost = torch.nonzero(share < PASSED).flatten().tolist()
    idle = [k for k in torch.argsort(spread).tolist() if spread[k] < IDLE]
    live = [k for k in range(len(spread)) if spread[k] >= IDLE]
    steps = 2 ** (STEP_GAIN[1] + CHROMA_GAIN) * model.layers.unit / UNIT
    for frequency, latent in zip(lost, idle, strict=False):
        wanted = steps * float(sent[frequency].std())
        donor = min(live, key=lambda k: abs(math.log(float(spread[k]) / wanted)))
        _give(model, latent, basis[frequency])
        _say_as(model.prior, latent, donor, math.log2(wanted / float(spread[donor])))
    given = min(len(lost), len(idle))
    log.info("chroma path: %d frequencies of %d do not pass, %d of them go to idle latents", len(lost), len(basis), given)
    return given


def _coefficients(packed: Tensor, basis: Tensor) -> Tensor:
    """Packed planes (B, 96, H/8, W/8) -> (128, N) coefficients of chroma."""
    return torch.einsum("fc,bchw->fbhw", basis, F.pixel_unshuffle(packed[:, LUMA_CHANNELS:], 2)).flatten(1)


def _give(model: IntraModel, k: int, row: Tensor) -> None:
    """Let latent ``k`` be the coefficient of ``row`` (128,)."""
    analysis, synthesis = model.analysis, model.synthesis
    for tensor in (analysis.down.weight, analysis.down.bias, analysis.chroma.bias):
        tensor[k] = 0
    # Weights that read packed planes count in the family's unit, those of exact heads in that of their floating-point twins.
    analysis.chroma.weight[k, :, 0, 0] = row * (model.layers.unit / UNIT)
    synthesis.up.conv.weight[:, k] = 0
    synthesis.chroma.conv.weight[:, k, 0, 0] = row
    gain = torch.linspace(*STEP_GAIN, ANCHORS) + CHROMA_GAIN
    model.gain.encode[:, k], model.gain.decode[:, k] = gain, -gain
    model.hyper_analysis.enter.weight[:, k] = 0


def _say_as(prior: LatentPrior, k: int, donor: int, octaves: float) -> None:
    """Let the scale of latent ``k`` be said as that of ``donor``, which is smaller by so many octaves; its mean is zero, and nothing reads it."""
    indexes = octaves * (len(SCALES) - 1) / math.log2(SCALES[-1] / SCALES[0])
    for part in (prior, *(prior.later.children() if prior.parts > 1 else ())):
        part.mean_head.weight[k], part.mean_head.bias[k] = 0, 0
        part.scale_head.weight[k], part.scale_head.bias[k] = part.scale_head.weight[donor], part.scale_head.bias[donor]
        part.scale_quality.anchors[:, k] = part.scale_quality.anchors[:, donor] + indexes / 2**SCALE_FRAC
        if part is not prior:
            part.spatial_in.weight[:, k] = 0
    prior.mode.leave.weight[k], prior.mode.leave.bias[k] = prior.mode.leave.weight[donor], prior.mode.leave.bias[donor]
