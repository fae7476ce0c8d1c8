"""Training's rate estimate against the real tables' information content, and its latents against the coded ones."""

import numpy as np
import pytest
import torch
from random_prior import integers_of, random_inputs, random_prior

from neuralcodec.codecs.part_coding import code_parts
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.entropy import Elements
from neuralcodec.entropy.quantisation import quantise
from neuralcodec.entropy.tables import SCALES, cost_bits
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.likelihood import gaussian_bits

SIZE = (12, 16)
TEMPORAL = (6,)


@pytest.fixture(scope="module")
def case():
    """A prior whose statistics spread over all scales, and latents y drawn from what it says of them."""
    prior = random_prior("random", 11, temporal=TEMPORAL)
    _, latents, _ = random_inputs("random", 12, prior, SIZE, TEMPORAL)
    # At anchors, and with whole numbers there, the estimate's real-valued hyper scale is the table's index.
    quality = torch.tensor([50, 150])
    with torch.no_grad():
        prior.hyper_scale.copy_((prior.hyper_scale * 4).round() / 4)
    rng = np.random.default_rng(13)
    index = prior.hyper_scale_index(quality).numpy()[..., None, None]
    z = np.rint(rng.normal(0, SCALES[np.broadcast_to(index, (2, prior.hyper, 3, 4))])).clip(-127, 127)
    z = torch.from_numpy(z).float()
    stats = prior(Fixed.from_integers(z, 0, 127), latents, quality, SIZE)
    mean, scale, logit = integers_of(stats)
    assert len(scale.unique()) > 50 and 0.1 < float((logit > 0).float().mean()) < 0.9
    y = mean.double() / 16 + torch.from_numpy(rng.normal(0, SCALES[scale.numpy()]))
    return prior, y.float(), z, latents, quality, (mean.numpy(), scale.numpy(), logit.numpy())


def symbols_of(y, mean):
    return np.floor(y.double().numpy() - mean / 16 + 0.5).astype(np.int64)


def per_sample(bits):
    return bits.reshape(2, -1).sum(1)


@pytest.mark.parametrize("skip", [None, 0.0])
def test_estimated_bits_are_the_real_tables_bits(case, skip):
    prior, y, z, latents, quality, (mean, scale, logit) = case
    soft = soft_latent(prior, y, z, latents, quality, noise=False, skip=skip)
    symbols = symbols_of(y, mean)
    coded = np.ones_like(symbols, bool) if skip is None else logit > 0
    real = per_sample(np.where(coded, cost_bits(symbols, scale), 0))
    assert real.min() > 1000
    np.testing.assert_allclose(soft.bits.detach().numpy(), real, rtol=0.01)
    index = np.broadcast_to(prior.hyper_scale_index(quality).numpy()[..., None, None], z.shape)
    hyper = per_sample(cost_bits(z.numpy().astype(np.int64), index))
    np.testing.assert_allclose(soft.hyper_bits.detach().numpy(), hyper, rtol=0.01)
    assert float(soft.skipped) == pytest.approx(1 - coded.mean(), abs=1e-6)


@pytest.mark.parametrize("skip", [None, 0.0])
def test_decoded_latent_is_the_coded_one(case, skip):
    """n = 16 * symbol + mean in sixteenths (networks.md, section 4); skipping drops the symbol and nothing else."""
    prior, y, z, latents, quality, (mean, _, logit) = case
    y = y.clone()
    y[0, 0, 0, :4] = torch.tensor([5000.0, -5000.0, 2047.9, -2047.9])
    soft = soft_latent(prior, y, z, latents, quality, noise=False, skip=skip)
    symbols = symbols_of(y, mean)
    if skip is not None:
        symbols[logit <= 0] = 0
    expected = np.clip(16 * symbols + mean, -32767, 32767)
    assert np.array_equal(soft.fixed.integers.numpy(), expected)
    inside = np.abs(16 * symbols + mean) <= 32767
    assert np.array_equal((soft.value.detach().numpy() * 16)[inside], expected[inside].astype(np.float32))


@pytest.mark.parametrize("skip", [None, 0.0])
@pytest.mark.parametrize(("parts", "vectors"), [(2, False), (3, True), (4, False), (4, True)])
def test_parts_in_training_are_the_parts_in_coding(parts, vectors, skip):
    """Each part's statistics from what the parts before decode to, bits and masks: as coding goes through them (codecs.coding)."""
    prior = random_prior("random", 15, temporal=TEMPORAL, parts=parts, vectors=vectors)
    z, latents, _ = random_inputs("random", 16, prior, SIZE, TEMPORAL, batch=1)
    quality = torch.tensor([75])
    first = prior(z, latents, quality, SIZE)
    rng = np.random.default_rng(17)
    bits, scales, masks = [], [], []

    def code(part, scale, mean, derived):
        assert part == len(bits) and scale.size == int(prior.division.elements(part, *SIZE).sum())
        mask = np.ones_like(derived) if skip is None else derived
        symbols = np.where(mask, np.rint(rng.normal(0, SCALES[scale])).astype(np.int64), 0)
        bits.append(cost_bits(symbols, scale)[mask].sum())
        scales.append(scale.reshape(-1))
        masks.append(mask)
        return Elements.of(symbols), mask

    value, mask = code_parts(prior, z, latents, 75, (16 * SIZE[0], 16 * SIZE[1]), code)
    assert len(bits) == parts and mask.size == sum(m.size for m in masks)
    # Something that is coded like that: within half a step of it, and anything where it is skipped.
    y = value.values + torch.from_numpy(np.where(mask, 1, 30) * rng.uniform(-0.49, 0.49, mask.shape)).float()
    soft = soft_latent(prior, y, z.values, latents, quality, noise=False, skip=skip)
    assert torch.equal(soft.fixed.integers, value.integers)
    assert min(bits) > 0 and sum(bits) > 900 and float(soft.bits) == pytest.approx(sum(bits), rel=0.01)
    assert float(soft.skipped) == pytest.approx(1 - mask.mean(), abs=1e-6)
    # Later parts are coded by what the ones before came out as, not by the statistics of the first.
    features, done = prior.features(z, latents, quality, SIZE), prior.division.elements(0, *SIZE)
    for part in range(1, parts):
        where = prior.division.elements(part, *SIZE)
        expected = prior.statistics(features, quality, part, Fixed(value.values * done, 4, 32767)).scale_index()[0][where].numpy()
        assert np.array_equal(scales[part], expected)
        assert np.mean(scales[part] != first.scale_index()[0][where].numpy()) > 0.2
        done = done | where
    assert done.all()


def test_noise_changes_the_gradient_in_latents_alone(case):
    """The rate and its gradient in the scales are those of the symbols; only what y and the means are told is relaxed, and differs at each draw."""
    prior, y, z, latents, quality, _ = case
    torch.manual_seed(14)
    gradients = []
    prior.train()
    try:
        for noise in (True, True, False):
            latent = y.clone().requires_grad_()
            prior.zero_grad()
            bits = soft_latent(prior, latent, z, latents, quality, noise=noise).bits
            bits.sum().backward()
            gradients.append((bits.detach(), latent.grad, prior.scale_head.bias.grad.clone()))
    finally:
        prior.zero_grad()
        prior.eval()
    (first, pull, scales), (second, other, _), (exact, _, alike) = gradients
    assert torch.equal(first, exact) and torch.equal(second, exact)
    assert not torch.equal(pull, other)
    torch.testing.assert_close(scales, alike)
    assert scales.abs().sum() > 0


def test_the_gradient_of_bits_is_that_of_their_values():
    """In value and deviation; beyond the bound of 24 bits only the way back has one."""
    torch.manual_seed(19)
    value = (torch.randn(2, 3, 4, dtype=torch.float64) * 2 + 0.1).requires_grad_()
    scale = (torch.rand(3, 1, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(gaussian_bits, (value, scale))
    far, narrow = torch.tensor([40.0, -40.0], requires_grad=True), torch.full((2,), 0.5)
    for sign in (1.0, -1.0):
        (gradient,) = torch.autograd.grad(gaussian_bits(far, narrow).sum() * sign, far)
        assert (gaussian_bits(far, narrow) == 24).all() and gradient.isfinite().all() and (sign > 0 or not gradient.any())


@pytest.mark.parametrize("lam", [2.0, 14.0])
def test_training_rounds_as_the_encoder_does(case, lam):
    prior, y, z, latents, quality, (mean, scale, _) = case
    with torch.no_grad():
        soft = soft_latent(prior, y, z, latents, quality, lam=lam)
    symbols = ((soft.value - torch.from_numpy(mean) / 16).numpy()).round()
    residual = y.numpy() - mean / np.float32(16)
    coded = quantise(residual, scale, lam)
    # The encoder also tries zero, and has the tables' costs in place of the Gaussian's.
    assert (symbols != coded).mean() < 0.005
    assert (symbols != symbols_of(y, mean)).mean() > 0.005  # and not to the nearest


@pytest.mark.parametrize("skip", [None, 0.0, 0.5])
def test_gradients_reach_all_parts(case, skip):
    _, y, z, latents, quality, _ = case
    prior = random_prior("random", 18, temporal=TEMPORAL, parts=3).train()
    soft = soft_latent(prior, y, z, latents, quality, noise=True, skip=skip)
    (soft.bits.sum() + soft.value.square().sum()).backward()
    reached = {name for name, p in prior.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    later = ("mean_head.weight", "scale_head.weight", "fuse.weight", "fuse_mix.weight", "spatial_in.weight", "spatial_mix.weight", "scale_quality.anchors")
    assert {"mean_head.weight", "fuse.weight", "temporal_in.weight", *(f"later.{i}.{n}" for i in range(2) for n in later)} <= reached


@pytest.mark.parametrize("skip", [None, 0.0, 0.5])
def test_gradients_reach_latents_and_networks(case, skip):
    prior, y, z, latents, quality, _ = case
    y, z = y.clone().requires_grad_(), z.clone().requires_grad_()
    prior.train()
    try:
        soft = soft_latent(prior, y, z, latents, quality, noise=True, skip=skip)
        (soft.bits.sum() + soft.hyper_bits.sum() + soft.value.square().sum()).backward()
        reached = {name for name, p in prior.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    finally:
        prior.zero_grad()
        prior.eval()
    assert y.grad.isfinite().all() and y.grad.abs().sum() > 0
    assert z.grad.isfinite().all() and z.grad.abs().sum() > 0
    assert {"up1.weight", "fuse.weight", "mean_head.weight", "scale_head.weight", "hyper_scale", "up1_quality.anchors",
            "temporal_in.weight"} <= reached
    # Only a sampled decision has a gradient; the mode network never bends the hyperprior, and learns from nothing else.
    assert ("mode.leave.weight" in reached) == (skip == 0.5)
    assert not soft.fixed.values.requires_grad
