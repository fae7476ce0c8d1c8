"""Latents in parts: how a new prior's later parts begin, and what the encoder makes of a mask mode that parts share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuralcodec.codecs.coding import CONTEXTUAL, MOTION, FlagshipCoder, Planes, code_parts
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.codecs.parts import Division, part_positions
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import Elements, MaskMode, unpack_mask_mode
from neuralcodec.nn.fixed import Fixed

SIZE = (8, 9)
SAMPLES = (16 * SIZE[0], 16 * SIZE[1])
QUALITY = torch.tensor([70])


def inputs(prior, seed=1):
    g = torch.Generator().manual_seed(seed)
    z = Fixed.from_integers(torch.randint(-5, 6, (1, prior.hyper, 2, 3), generator=g), 0, 127)
    return z, [Fixed.from_integers(torch.randint(-200, 200, (1, prior.channels, *SIZE), generator=g), 4, 32767)]


def known_before(part, parts, latent):
    """``latent`` (1, C, h, w) in steps at the positions of the parts before, 0 elsewhere."""
    done = sum(part_positions(p, parts, *latent.shape[-2:]) for p in range(part))
    return Fixed(latent * done, 4, 32767)


@torch.inference_mode()
def test_a_new_second_part_says_what_the_first_says():
    torch.manual_seed(2)
    prior = LatentPrior(12, 8, 16, 24, (12,), 2).eval()
    features = prior.features(*inputs(prior), QUALITY, SIZE)
    first = prior.statistics(features, QUALITY)
    later = prior.statistics(features, QUALITY, 1, known_before(1, 2, 30 * torch.randn(1, 12, *SIZE)))
    for a, b in ((first.mean, later.mean), (first.mode, later.mode)):
        assert torch.equal(a.integers, b.integers)
    assert torch.equal(first.scale, later.scale) and len(first.mean.integers.unique()) > 3


@pytest.mark.parametrize("part", [1, 2])
@torch.inference_mode()
def test_a_new_prior_of_vectors_predicts_the_mean_of_the_neighbours(part):
    """Of four decoded ones, diagonal for the second part and beside it for the third, over long vectors too."""
    torch.manual_seed(3)
    prior = LatentPrior(8, 4, 16, 24, (8,), 3).eval()
    features = prior.features(*inputs(prior), QUALITY, SIZE)
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    slopes = torch.linspace(-5, 5, 8)[:, None, None]
    latent = (slopes * rows - slopes.flip(0) * columns + 3 * slopes)[None]  # up to 120 steps
    assert 60 < latent.abs().max() < 125
    mean = prior.statistics(features, QUALITY, part, known_before(part, 3, latent)).mean.values
    inner = torch.zeros(SIZE, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    where = part_positions(part, 3, *SIZE) & inner
    # What is linear in the position is predicted up to the grids on the way: quarter steps, of halves that are rounded apart.
    assert (mean - latent)[..., where].abs().max() <= 0.75
    # At a border neighbours that are not there count as zero; the other part's positions say nothing yet.
    assert (mean - latent)[..., part_positions(part, 3, *SIZE) & ~inner].abs().max() > 5
    again = prior.statistics(features, QUALITY, part, known_before(part, 3, latent + 20)).mean.values
    assert ((again - mean)[..., where] - 20).abs().max() <= 0.75


@torch.inference_mode()
def test_a_new_prior_of_vectors_predicts_differences_of_cells_from_the_slopes_of_their_sums():
    """Where vectors are linear in the position; of 2x2 cells the transform has sum, horizontal, vertical and diagonal difference."""
    torch.manual_seed(3)
    prior = LatentPrior(8, 4, 16, 24, (8,), 4, vectors=True).eval()
    features = prior.features(*inputs(prior), QUALITY, SIZE)
    rows, columns = (torch.from_numpy(g).float() for g in np.mgrid[: 2 * SIZE[0], : 2 * SIZE[1]])
    cells = torch.stack([20 - 2.0 * columns + 1.0 * rows, -30 + 1.0 * columns + 3.0 * rows])[None]
    a, b, c, d = (cells[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
    latent = torch.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 2).flatten(1, 2) / 2
    known = Fixed(latent * sum(prior.division.elements(p, *SIZE) for p in range(3)), 4, 32767)
    mean = prior.statistics(features, QUALITY, 3, known).mean.values
    wrong = (mean - latent)[:, [1, 2, 3, 5, 6, 7], 1:-1, 1:-1]
    assert latent[:, [1, 2, 5, 6]].abs().min() >= 1 and wrong.abs().max() <= 0.5


@torch.inference_mode()
def test_smooth_vectors_cost_less_in_three_parts_than_in_one():
    """Residuals of a new prior: of a smooth field, only the first quarter has large ones."""
    torch.manual_seed(4)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    latent = np.stack([40 + 3 * rows + i * columns for i in range(8)])[:, None].reshape(8, *SIZE)
    size = {}
    for parts in (1, 3):
        prior = LatentPrior(8, 4, 16, 24, (8,), parts).eval()
        z, temporal = inputs(prior)
        sums = []

        def code(part, scale, mean, derived, parts=parts, sums=sums):
            target = latent[:, part_positions(part, parts, *SIZE).numpy()].reshape(mean.shape)
            symbols = np.floor(target - mean / 16 + 0.5).astype(np.int64)
            sums.append(np.abs(symbols).sum())
            return Elements.of(symbols), np.ones_like(derived)

        value, mask = code_parts(prior, z, temporal, 70, SAMPLES, code)
        assert mask.all() and np.abs(value.values[0].numpy() - latent).max() <= 0.5
        size[parts] = sums
    assert sum(size[3]) < 0.7 * sum(size[1]) and len(size[3]) == 3


# -- mask bytes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coder():
    torch.manual_seed(5)
    model = Flagship(FlagshipConfig(
        IntraConfig(channels=8, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1),
        MotionConfig(channels=8, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
        InterConfig(channels=8, latent=8, hyper=4, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1, decoder_blocks=1,
                    motion_channels=8, motion_latent=8))).eval().requires_grad_(False)
    with torch.no_grad():
        for prior in (model.intra.prior, model.motion.prior, model.inter.prior):
            prior.mode.leave.bias.copy_(torch.linspace(2, -2, 8))  # some channels are coded
    return FlagshipCoder(model)


def pictures():
    rng = np.random.default_rng(6)
    base = rng.integers(0, 256, (80, 100)).repeat(2, 0).repeat(2, 1).astype(np.float32)
    return [Planes(torch.from_numpy(base[n : n + 64, 3 * n : 3 * n + 80].copy())[None, None],
                   torch.from_numpy(np.stack([base[n : n + 32, n : n + 40]] * 2))[None]) for n in range(2)]


@pytest.mark.parametrize("modes", [*((m,) for m in MaskMode), tuple(MaskMode), ()], ids=lambda modes: "_".join(m.name for m in modes) or "none")
def test_parts_share_a_mode_that_needs_nothing_more(modes, coder):
    coder.mask_modes = modes
    first, second = pictures()
    intra = coder.encode_intra(first, 100, (64, 80))
    inter = coder.encode_inter(second, 100, (64, 80), first, intra.planes, intra.parsed)
    assert (len(intra.modes), len(inter.modes)) == (2, 3)
    shared, parameter = unpack_mask_mode(inter.modes[0])
    assert shared in (MaskMode.DERIVED, MaskMode.THRESHOLD)
    if not set(modes) & {MaskMode.DERIVED, MaskMode.THRESHOLD}:
        assert (shared, parameter) == (MaskMode.THRESHOLD, 0) and inter.parsed.masks[MOTION].all()
    if modes:
        assert {unpack_mask_mode(m)[0] for m in (intra.modes[0], inter.modes[1])} <= set(modes)  # the second byte is of three parts again
    else:
        assert inter.parsed.masks[CONTEXTUAL].all() and intra.parsed.masks[CONTEXTUAL].all()
    parsed = coder.parse("P", inter.payload, inter.modes, 100, (64, 80), intra.parsed)
    assert parsed.digest_parts() == inter.parsed.digest_parts()
    for wrong in (inter.modes[:-1], (*inter.modes, 0), intra.modes, ()):
        with pytest.raises(StreamError, match="3 mask modes"):
            coder.parse("P", inter.payload, wrong, 100, (64, 80), intra.parsed)


@pytest.mark.parametrize("wrong", [(0, 8), (5, 8), (4, 7, True)])
def test_divisions_that_there_are_not(wrong):
    with pytest.raises(UsageError, match="parts"):
        Division(*wrong)
