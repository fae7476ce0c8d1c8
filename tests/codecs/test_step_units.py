"""Transforms in quantiser steps, and how they start: a linear transform of full rank, corrected in proportion to the step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neuralcodec.codecs.inter import InterConfig, InterModel
from neuralcodec.codecs.intra import CHROMA_GAIN, STEP_GAIN, IntraConfig, IntraModel, in_steps, latent_gain
from neuralcodec.codecs.motion import VECTOR_GAIN, VECTOR_UNIT, MotionConfig, MotionModel
from neuralcodec.nn.dct import chroma_of_latent, merge_cells, packed_dct
from neuralcodec.nn.quality import QualityGain
from neuralcodec.nn.selection import WIDTHS, apply_widths, units
from neuralcodec.nn.slimmable import SlimmableBlock, SlimmableTrunk, leading

QUALITIES = (0, 60, 113, 200)
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def intra():
    torch.manual_seed(1)
    return IntraModel(IntraConfig(encoder_blocks=1, decoder_blocks=2)).eval()


@pytest.fixture(scope="module")
def motion():
    torch.manual_seed(2)
    return MotionModel(MotionConfig()).eval()


def picture(seed=0, size=(8, 12)):
    return torch.rand(1, 96, *size, generator=torch.Generator().manual_seed(seed)) - 0.5


def widths(module, option):
    apply_widths(module, [option] * len(units(module)))


# -- in_steps --------------------------------------------------------------------------------------------------------------


def make_units(channels, seed=3):
    """Tables as training leaves them: another one for each channel, and one direction not the inverse of the other."""
    gain, g = QualityGain(channels, *STEP_GAIN), torch.Generator().manual_seed(seed)
    gain.encode.add_(torch.randn(gain.encode.shape, generator=g) * 0.3)
    gain.decode.copy_(-gain.encode + torch.randn(gain.encode.shape, generator=g) * 0.3)
    return gain


def make_trunk(channels, blocks=2, seed=4):
    torch.manual_seed(seed)
    trunk = SlimmableTrunk(*(SlimmableBlock(channels) for _ in range(blocks)))
    for block in trunk:
        for conv in (block.spatial, block.project):
            conv.weight.normal_(0, 0.1)
            conv.bias.normal_(0, 0.1)
    return trunk.eval()


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_trunk_of_new_blocks_leaves_its_input(quality):
    x, q = torch.randn(1, 16, 5, 6), torch.tensor([quality])
    trunk = SlimmableTrunk(SlimmableBlock(16), SlimmableBlock(16)).eval()
    assert torch.equal(in_steps(make_units(16), trunk, x, q), x)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_trunk_sees_steps_and_its_correction_is_brought_back(quality):
    x, q, gain, trunk = torch.randn(1, 16, 5, 6), torch.tensor([quality]), make_units(16), make_trunk(16)
    a = min(quality // 25, 7)
    t = (quality - 25 * a) / 25
    there, back = (2 ** (table[a] * (1 - t) + table[a + 1] * t)[None, :, None, None] for table in (gain.encode, gain.decode))
    v = x * there
    torch.testing.assert_close(in_steps(gain, trunk, x, q), x + (trunk(v) - v) * back, rtol=1e-4, atol=1e-5)
    # Without units it is the trunk, whatever the quality; ``enter`` comes before the trunk in both.
    assert torch.equal(in_steps(None, trunk, x, q), trunk(x))
    assert torch.equal(in_steps(None, trunk, x, q, lambda u: 2 * u), trunk(2 * x))
    torch.testing.assert_close(in_steps(gain, trunk, x, q, lambda u: 2 * u), x + (trunk(2 * v) - v) * back, rtol=1e-4, atol=1e-5)


def test_corrections_get_smaller_with_the_step():
    """The same trunk, without biases: what it adds to noise of a step's size is of a step's size, from coarse to fine."""
    gain, trunk = QualityGain(16, *STEP_GAIN), make_trunk(16)
    for name, p in trunk.named_parameters():
        if name.endswith("bias"):
            p.zero_()
    noise = torch.randn(1, 16, 6, 6)
    sizes = []
    for quality in (0, 100, 200):
        q = torch.tensor([quality])
        x = gain.unscale(noise, q)
        sizes.append((in_steps(gain, trunk, x, q) - x).abs().mean().item())
    assert sizes[0] / sizes[2] == pytest.approx(2 ** (STEP_GAIN[1] - STEP_GAIN[0]), rel=1e-3)
    assert sizes[0] > sizes[1] > sizes[2] > 0


@pytest.mark.parametrize("option", [1, 2])
def test_a_narrow_width_changes_only_the_correction(option):
    x, q, gain, trunk = torch.randn(1, 16, 5, 6), torch.tensor([120]), make_units(16), make_trunk(16)
    wide = in_steps(gain, trunk, x, q)
    widths(trunk, option)
    narrow, n = in_steps(gain, trunk, x, q), leading(16, WIDTHS[option])
    assert torch.equal(narrow[:, n:], x[:, n:]), "channels that pass keep what the linear transform gave them"
    assert not torch.equal(narrow[:, :n], x[:, :n]) and not torch.equal(wide[:, n:], x[:, n:])


# -- the linear start ------------------------------------------------------------------------------------------------------


def test_latents_of_full_rank_hold_the_whole_picture(intra):
    """96 coefficients of 2x2 cells are 384: nothing is lost before quantisation, at any quality and any width."""
    x = picture()
    for quality in QUALITIES:
        q = torch.tensor([quality])
        y = intra.gain.scale(intra.analysis(x, q), q)
        assert y.shape == (1, 384, 4, 6)
        for option in range(3):
            widths(intra, option)
            torch.testing.assert_close(intra.synthesise(y, q), x, **CLOSE)


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_new_transform_is_orthonormal_times_the_gain(intra, quality):
    x, q = picture(5), torch.tensor([quality])
    cells = nn.functional.pixel_unshuffle(torch.einsum("oc,bchw->bohw", packed_dct()[0], x.double()), 2)
    linear = torch.einsum("oc,bchw->bohw", merge_cells(384), cells)
    y = intra.analysis(x, q)
    torch.testing.assert_close(y, linear.float(), **CLOSE)
    assert y.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-4)
    log2 = STEP_GAIN[0] + (STEP_GAIN[1] - STEP_GAIN[0]) * quality / 200
    scaled, chroma = intra.gain.scale(y, q), chroma_of_latent(384)
    torch.testing.assert_close(scaled[:, ~chroma], y[:, ~chroma] * 2**log2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled[:, chroma], y[:, chroma] * 2 ** (log2 + CHROMA_GAIN), rtol=1e-4, atol=1e-4)


def test_chroma_rows_are_those_that_chroma_planes_reach(intra):
    x = picture(6)
    luma, chroma, q = x.clone(), x.clone(), torch.tensor([100])
    luma[:, 64:] = 0
    chroma[:, :64] = 0
    flags = chroma_of_latent(384)
    assert int(flags.sum()) == 32 * 4
    assert intra.analysis(luma, q)[:, flags].abs().max() < 1e-5 < intra.analysis(luma, q)[:, ~flags].abs().amax((0, 2, 3)).min()
    assert intra.analysis(chroma, q)[:, ~flags].abs().max() < 1e-5 < intra.analysis(chroma, q)[:, flags].abs().amax((0, 2, 3)).min()
    assert latent_gain(100).encode.shape[1] == 100 and torch.equal(chroma_of_latent(100), flags[:100])


def test_a_trained_decoder_at_a_narrow_width_keeps_all_latents(intra):
    """What a latent says linearly reaches the picture at every width; only the blocks' corrections become fewer."""
    torch.manual_seed(7)
    model = IntraModel(IntraConfig(encoder_blocks=1, decoder_blocks=2)).eval()
    for block in model.synthesis.trunk:
        block.project.weight.normal_(0, 0.01)
    y, q = torch.randn(1, 384, 2, 3), torch.tensor([90])
    linear = intra.synthesise(y, q)  # blocks that are the identity
    differences = []
    for option in range(3):
        widths(model, option)
        x = model.synthesis.up(model.gain.unscale(y, q))
        corrected = in_steps(model.synthesis.units, model.synthesis.trunk, x, q)
        n = leading(96, WIDTHS[option])
        assert torch.equal(corrected[:, n:], x[:, n:])
        differences.append((model.synthesise(y, q) - linear).square().mean().item())
    assert differences[0] > differences[1] > differences[2] > 0
    assert differences[0] < linear.square().mean().item()
    # The layer that latents enter through is not among the units; it was before.
    assert "synthesis.up" not in units(model)
    before = IntraModel(IntraConfig(encoder_blocks=1, decoder_blocks=2, step_units=False, parts=1))
    assert list(units(before)) == ["synthesis.up", *units(model)]
    assert {n for n, _ in model.synthesis.named_parameters()} - {n for n, _ in before.synthesis.named_parameters()} == {"units.encode", "units.decode"}


def test_a_new_contextual_codec_adds_its_latent_to_the_prediction():
    torch.manual_seed(8)
    model = InterModel(InterConfig(encoder_blocks=1, decoder_blocks=1, extraction_blocks=1, refinement_blocks=1)).eval()
    current, prediction, hidden = picture(9, (4, 6)), picture(10, (4, 6)), torch.randn(1, 48, 4, 6)
    context = model.context(prediction, hidden)
    for quality in QUALITIES:
        q = torch.tensor([quality])
        y = model.gain.scale(model.analysis(torch.cat([current, prediction, torch.zeros_like(context)], 1), q), q)
        for option in range(3):
            widths(model.decoder, option)
            torch.testing.assert_close(model.synthesise(y, prediction, context, q), current, **CLOSE)


def test_the_context_is_heard_in_units_of_its_own():
    torch.manual_seed(11)
    model = InterModel(InterConfig(encoder_blocks=1, decoder_blocks=1, extraction_blocks=1, refinement_blocks=1)).eval()
    decoder, q = model.decoder, torch.tensor([75])
    decoder.fuse.conv.weight[:, 96:].normal_(0, 0.05)
    y, context = torch.randn(1, 384, 2, 3), torch.randn(1, 96, 4, 6)
    before = decoder(y, context, q)
    decoder.context_units.encode.add_(1.0)
    torch.testing.assert_close(decoder(y, context / 2, q), before, **CLOSE)
    assert (decoder(y, context, q) - before).abs().max() > 1e-3


# -- vectors ---------------------------------------------------------------------------------------------------------------


def flow_and_errors(seed=12, size=(8, 12)):
    g = torch.Generator().manual_seed(seed)
    flow = 10 * torch.randn(1, 2, *size, generator=g)
    return flow, *(torch.rand(1, 1, *size, generator=g) for _ in range(2))


@pytest.mark.parametrize("quality", QUALITIES)
def test_vectors_come_back_at_the_start(motion, quality):
    flow, still, moved = flow_and_errors()
    q, reference = torch.tensor([quality]), picture(13)
    m = motion.gain.scale(motion.encoder(flow, still, moved, q), q)
    assert m.shape == (1, 8, 4, 6)
    step = VECTOR_UNIT * 2 ** -(VECTOR_GAIN[0] + (VECTOR_GAIN[1] - VECTOR_GAIN[0]) * quality / 200)
    rounded = torch.floor(m + 0.5)
    for option in range(3):
        widths(motion, option)
        torch.testing.assert_close(motion.synthesise(m, q, reference)[0], flow, rtol=0, atol=1e-4)
        # Four errors of at most half a step, each times a half.
        error = (motion.synthesise(rounded, q, reference)[0] - flow).abs()
        assert error.max() <= step * 1.001
        assert error.square().mean().sqrt().item() == pytest.approx(step / np.sqrt(12), rel=0.2)


def test_the_motion_latent_is_the_hadamard_transform_of_four_vectors(motion):
    flow, still, moved = flow_and_errors(14, (2, 2))
    m = motion.encoder(flow, still, moved, torch.tensor([0])) * VECTOR_UNIT
    for component in range(2):
        a, b, c, d = flow[0, component].flatten().tolist()
        expected = [(a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
        assert m[0, 4 * component : 4 * component + 4].flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_the_motion_encoder_reads_the_quality_and_the_older_one_does_not():
    flow, still, moved = flow_and_errors(15)
    for full_rank in (True, False):
        torch.manual_seed(16)
        encoder = MotionModel(MotionConfig(full_rank=full_rank)).eval().encoder
        encoder.down.weight.normal_(0, 0.1)
        low, high = (encoder(flow, still, moved, torch.tensor([q])) for q in (10, 190))
        assert torch.equal(low, high) != full_rank
        assert ("decoder.up" in units(MotionModel(MotionConfig(full_rank=full_rank)))) != full_rank
    with torch.inference_mode(False):  # too few latents for the transform: random weights, no error
        MotionModel(MotionConfig(latent=4))
