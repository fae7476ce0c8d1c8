"""Where the chroma paths of a model begin that was trained without them: at the frequencies of chroma that its trunks do not pass.

Trunks of as many channels as packed planes have end up with features of luma in most of them, and clips of little colour let chroma's latents fade:
of the fifth weights about half of chroma's frequencies came through in intra frames, fewer in others. The others get latents that carry nothing, as their DCT.
"""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.inter import InterModel
from neuralcodec.codecs.intra import CHROMA_GAIN, IntraModel
from neuralcodec.codecs.prior import SCALE_FRAC, LatentPrior
from neuralcodec.core.errors import UsageError
from neuralcodec.core.types import QUALITY_STEPS
from neuralcodec.entropy.tables import SCALES
from neuralcodec.nn.dct import chroma_of_latent, merge_cells, packed_dct
from neuralcodec.nn.layout import LUMA_CHANNELS, PACKED_CHANNELS, UNIT
from neuralcodec.nn.quality import ANCHORS, STEP_GAIN
from neuralcodec.training.data import Sampler
from neuralcodec.training.inter import intra_reference
from neuralcodec.training.motion import code_motion

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
def start_intra_chroma(model: Flagship, sampler: Sampler) -> int:
    """Give frequencies of chroma that do not pass to idle latents, measured on crops of clips. Does nothing where the path is in use, or the model too small
    for the DCT. Returns how many frequencies were given away."""
    return revive_intra_chroma(model, sampler) if _unused(model.intra, model.intra.synthesis) else 0


@torch.no_grad()
def revive_intra_chroma(model: Flagship, sampler: Sampler) -> int:
    """The same for a path that is in use, where latents went idle again because clips showed nothing of what they carry. Raises UsageError for a model without
    such a path."""
    intra = model.intra
    if not _has_path(intra, intra.synthesis):
        raise UsageError("--revive-chroma: this model has no path for chroma")
    device = next(model.parameters()).device
    data = sampler.batch(SIZE, CROPS, 1)
    x, quality = _packed(model, data.y[0], data.uv[0]), torch.full((CROPS,), QUALITY_STEPS, device=device)
    y, _ = intra.analyse(x, quality)
    return _distribute("intra", intra, intra.synthesis, y, x, intra.synthesise(y, quality))


@torch.no_grad()
def start_inter_chroma(model: Flagship, sampler: Sampler) -> int:
    """The same for what P frames add to their predictions."""
    inter = model.inter
    if not _unused(inter, inter.decoder):
        return 0
    device = next(model.parameters()).device
    data = sampler.batch(SIZE, CROPS, 2, flow=True)
    quality = torch.full((CROPS,), QUALITY_STEPS, device=device)
    before, luma, current = (data.y[0].to(device).float(), data.uv[0].to(device).float()), data.y[1].to(device).float(), _packed(model, data.y[1], data.uv[1])
    reference = intra_reference(model, *before, quality // 2)
    m = code_motion(model.motion, data.flow[0].to(device), luma, reference, model.previous(reference)[1], quality, skip=0.0)
    prediction, hidden, _ = model.predict(m.value, quality, reference)
    context = inter.context(prediction, hidden)
    y, _ = inter.analyse(current, prediction, context, quality)
    return _distribute("inter", inter, inter.decoder, y, current - prediction, inter.synthesise(y, prediction, context, quality) - prediction)


def _unused(part: IntraModel | InterModel, decoder: nn.Module) -> bool:
    return _has_path(part, decoder) and not bool(decoder.chroma.conv.weight.any())


def _has_path(part: IntraModel | InterModel, decoder: nn.Module) -> bool:
    return decoder.chroma is not None and part.config.latent == 4 * PACKED_CHANNELS


def _packed(model: Flagship, y: Tensor, uv: Tensor) -> Tensor:
    device = next(model.parameters()).device
    return model.layers.pack(y.to(device).float(), uv.to(device).float())


def _distribute(name: str, part: IntraModel | InterModel, decoder: nn.Module, y: Tensor, wanted: Tensor, got: Tensor) -> int:
    """``y``: latents in steps of packed planes ``wanted``, of which the decoder makes ``got``."""
    basis = chroma_dct().to(y.device)
    sent, passed = (_coefficients(p, basis) for p in (wanted, got))
    share = (sent * passed).sum(1) / sent.square().sum(1).clamp_min(1e-12)
    spread = y.std((0, 2, 3))
    lost = torch.nonzero(share < PASSED).flatten().tolist()
    idle = [k for k in torch.argsort(spread).tolist() if spread[k] < IDLE]
    live = [k for k in range(len(spread)) if spread[k] >= IDLE]
    steps = 2 ** (STEP_GAIN[1] + CHROMA_GAIN) * part.layers.unit / UNIT
    if not live:  # clips that show nothing
        return 0
    for frequency, latent in zip(lost, idle, strict=False):
        spread_new = steps * max(float(sent[frequency].std()), 1e-6)
        donor = min(live, key=lambda k: abs(math.log(float(spread[k]) / spread_new)))
        _give(part, decoder, latent, basis[frequency])
        _say_as(part.prior, latent, donor, math.log2(spread_new / float(spread[donor])))
    given = min(len(lost), len(idle))
    log.info("%s: %d frequencies of chroma, of %d, do not pass; %d of them go to idle latents", name, len(lost), len(basis), given)
    return given


def _coefficients(packed: Tensor, basis: Tensor) -> Tensor:
    """Packed planes (B, 96, H/8, W/8) -> (128, N) coefficients of chroma."""
    return torch.einsum("fc,bchw->fbhw", basis, F.pixel_unshuffle(packed[:, LUMA_CHANNELS:], 2)).flatten(1)


def _give(model: IntraModel | InterModel, decoder: nn.Module, k: int, row: Tensor) -> None:
    """Let latent ``k`` be the coefficient of ``row`` (128,)."""
    analysis = model.analysis
    for tensor in (analysis.down.weight, analysis.down.bias, analysis.chroma.bias):
        tensor[k] = 0
    # Weights that read packed planes count in the family's unit, those of exact heads in that of their floating-point twins.
    analysis.chroma.weight[k, :, 0, 0] = row * (model.layers.unit / UNIT)
    decoder.up.conv.weight[:, k] = 0
    decoder.chroma.conv.weight[:, k, 0, 0] = row
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
    if prior.temporal_in is not None:
        prior.temporal_in.weight[:, k] = 0  # latents of the frame before come first
    prior.mode.leave.weight[k], prior.mode.leave.bias[k] = prior.mode.leave.weight[donor], prior.mode.leave.bias[donor]
