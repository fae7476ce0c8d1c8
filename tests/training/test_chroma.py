"""The chroma path of a model that was trained without one."""

import numpy as np
import pytest
import torch

from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.folding import fold
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.dct import chroma_of_latent
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import LUMA_CHANNELS
from neuralcodec.nn.likelihood import scale_of_index
from neuralcodec.training.chroma import chroma_dct, revive_intra_chroma, start_inter_chroma, start_intra_chroma
from neuralcodec.training.data import Clips, Sampler

CONFIG = FlagshipConfig(IntraConfig(hyper=8, encoder_blocks=1, decoder_blocks=1),
                        MotionConfig(channels=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                        InterConfig(hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1, decoder_blocks=1, motion_channels=8))
QUALITY = torch.tensor([200])


@pytest.fixture(scope="module")
def sampler():
    frames = np.random.default_rng(0).integers(0, 256, (4, 240 * 3 // 2, 256), np.uint8)
    return Sampler([Clips(frames, [4], np.zeros((2, 4, 30, 32, 2), np.float16))], 0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Flagship(CONFIG).eval()


@torch.no_grad()
def fade(part, decoder) -> int:
    """What training did to chroma: some of its latents carry nothing any more, and the trunks do not pass what they stood for."""
    faded = torch.nonzero(chroma_of_latent(384)).flatten()[40:100]
    part.analysis.down.weight[faded] = 0
    decoder.up.conv.weight[:, faded] = 0
    part.gain.encode[:, faded] -= 6
    return len(faded)


@torch.no_grad()
def errors(intra, sampler) -> tuple[float, float]:
    """Mean squared error of luma and chroma of pictures coded without rounding, and ``sampler`` drawn from again."""
    data = sampler.batch(64, 4, 1)
    x = intra.layers.pack(data.y[0].float(), data.uv[0].float())
    y, _ = intra.analyse(x, QUALITY.expand(4))
    error = (intra.synthesise(y, QUALITY.expand(4)) - x).square()
    return float(error[:, :LUMA_CHANNELS].mean()), float(error[:, LUMA_CHANNELS:].mean())


def test_the_basis_is_orthonormal():
    assert torch.allclose(chroma_dct() @ chroma_dct().T, torch.eye(128), atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_what_does_not_pass_gets_latents_that_are_idle(model, sampler, exact):
    count = fade(model.intra, model.intra.synthesis)
    model = fold(model) if exact else model
    intra = model.intra
    luma, chroma = errors(intra, sampler)
    assert luma < 1e-4 < 1e-3 < chroma
    assert start_intra_chroma(model, sampler) == count
    luma, chroma = errors(intra, sampler)
    assert max(luma, chroma) < 1e-4
    assert start_intra_chroma(model, sampler) == 0, "it is in use"


def test_a_path_that_faded_is_revived(model, sampler):
    intra = model.intra
    count = fade(intra, intra.synthesis)
    start_intra_chroma(model, sampler)
    lost = torch.nonzero(intra.synthesis.chroma.conv.weight.flatten(1).any(0)).flatten()[:20]
    with torch.no_grad():
        intra.analysis.chroma.weight[lost] = 0
    assert errors(intra, sampler)[1] > 1e-3
    assert revive_intra_chroma(model, sampler) == 20 < count
    assert max(errors(intra, sampler)) < 1e-4
    assert revive_intra_chroma(model, sampler) == 0
    with pytest.raises(UsageError, match="revive-chroma"):
        revive_intra_chroma(Flagship(FlagshipConfig(IntraConfig(hyper=8, encoder_blocks=1, decoder_blocks=1, chroma_path=False), CONFIG.motion, CONFIG.inter)), sampler)


@torch.no_grad()
@pytest.mark.parametrize("exact", [False, True])
def test_the_same_in_p_frames(model, sampler, exact):
    count = fade(model.inter, model.inter.decoder)
    model = fold(model) if exact else model
    inter, g = model.inter, torch.Generator().manual_seed(0)
    current, prediction = (0.5 * torch.rand(4, 96, 8, 8, generator=g) - 0.25 for _ in range(2))
    context = torch.zeros(4, 96, 8, 8)
    if exact:
        inter.decoder.fuse.conv.set_format(2, 12)  # which holds noise, in quantiser steps

    def error():
        y, _ = inter.analyse(current, prediction, context, QUALITY.expand(4))
        return float((inter.synthesise(y, prediction, context, QUALITY.expand(4)) - current)[:, LUMA_CHANNELS:].square().mean())

    assert error() > 1e-3
    assert start_inter_chroma(model, sampler) == count
    assert error() < 1e-4
    assert start_inter_chroma(model, sampler) == 0, "it is in use"


def test_where_all_passes_nothing_changes(model, sampler):
    before = {n: t.clone() for n, t in model.state_dict().items()}
    assert start_intra_chroma(model, sampler) == 0
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_clips_that_show_nothing_change_nothing(model):
    flat = Sampler([Clips(np.full((4, 240 * 3 // 2, 256), 128, np.uint8), [4])], 0)
    fade(model.intra, model.intra.synthesis)
    with torch.no_grad():
        model.intra.analysis.enter.weight.zero_()
    assert start_intra_chroma(model, flat) == 0


def test_models_without_a_path_or_too_small_stay_as_they_are(sampler):
    for config in (IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                   IntraConfig(hyper=8, encoder_blocks=1, decoder_blocks=1, chroma_path=False)):
        assert start_intra_chroma(Flagship(FlagshipConfig(intra=config)), sampler) == 0


def test_new_latents_are_said_to_be_of_their_scale(model, sampler):
    fade(model.intra, model.intra.synthesis)
    with torch.no_grad():
        model.intra.prior.scale_quality.anchors.copy_(torch.linspace(0, 13 - 6, 9)[:, None])  # noise has about 20 steps at the top
    idle = torch.nonzero(model.intra.gain.encode[-1] < 2).flatten()
    start_intra_chroma(model, sampler)
    data = sampler.batch(64, 8, 1)
    y, z = model.intra.analyse(model.layers.pack(data.y[0].float(), data.uv[0].float()), QUALITY.expand(8))
    said = model.intra.prior(Fixed(z.round().clamp(-127, 127), 0, 127), [], QUALITY.expand(8), y.shape[-2:])
    ratio = y[:, idle].std((0, 2, 3)) / scale_of_index(said.scale[:, idle]).mean((0, 2, 3))
    assert 0.6 < float(ratio.median()) < 1.6
