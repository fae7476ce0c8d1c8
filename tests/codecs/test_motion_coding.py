"""How the encoder codes vectors: one mask for parts that are unlike each other, and latents that are corrected by what they decode to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuralcodec.codecs.coding import MOTION, FlagshipCoder
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MOTION_WORTH, MotionConfig, MotionModel, motion_worth
from neuralcodec.codecs.motion_search import MotionSearch, quantiser_step
from neuralcodec.codecs.prior import exact_parts
from neuralcodec.core.errors import StreamError
from neuralcodec.entropy.adaptation import Adaptation
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.nn.dct import vectors_transform
from neuralcodec.nn.layout import PACKED_CHANNELS

SMALL = FlagshipConfig(
    IntraConfig(channels=12, latent=16, hyper=8, encoder_blocks=1, decoder_blocks=1),
    MotionConfig(channels=12, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
    InterConfig(channels=12, latent=16, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1, decoder_blocks=1,
                motion_channels=12, motion_latent=8),
)
QUALITY = torch.tensor([120])
SIZE = (64, 96)
GRID = (4, 6)


@pytest.fixture(scope="module")
def coder() -> FlagshipCoder:
    torch.manual_seed(3)
    model = Flagship(SMALL).eval()
    convs, biases = exact_parts(model)
    for conv in convs.values():
        conv.freeze()
    for bias, conv in biases.values():
        bias.freeze(conv)
    return FlagshipCoder(model)


def coded(coder: FlagshipCoder, latent: torch.Tensor, worth: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The decoded vectors' latent, and its bytes."""
    encoder = FrameEncoder()
    hyper = torch.zeros(1, SMALL.motion.hyper, 1, 2)
    (decoded, _, _), modes = coder._write(encoder, "P", MOTION, latent, hyper, int(QUALITY), SIZE, {}, None, worth)
    assert len(modes) == 1
    return decoded.values, len(encoder.finish())


@torch.inference_mode()
def test_a_mask_of_all_parts_keeps_what_only_the_last_one_has(coder):
    """The first part has nothing to code. A mask chosen for it alone would skip the differences of cells, whatever they are worth."""
    latent = torch.zeros(1, 8, *GRID)
    latent[0, 5, 1, 2] = -7.0  # a difference: the last part
    decoded, size = coded(coder, latent, torch.full_like(latent, 100.0))
    assert abs(float(decoded[0, 5, 1, 2]) + 7) < 0.6
    worthless, less = coded(coder, latent, torch.full_like(latent, MOTION_WORTH[0]))
    assert abs(float(worthless[0, 5, 1, 2])) < 1 and less < size


@torch.inference_mode()
def test_a_predicted_hyper_latent_beyond_the_range_is_refused(coder):
    """A symbol within the range can mean an element beyond it, where tables adapt."""
    prior = coder.model.motion.prior
    for symbol, good in ((0, True), (2, False)):
        adaptation = Adaptation.none(prior.channels, (prior.hyper, 1, 2), 1)
        hyper = adaptation.hyper
        hyper.before += 127
        hyper.product += 1 << 20
        hyper.square += 1 << 20  # all of it comes back
        encoder = FrameEncoder()
        encoder.put(np.full(hyper.before.shape, symbol), hyper.tables(coder._hyper_index(prior, int(QUALITY))))
        args = FrameDecoder(encoder.finish()), "P", prior, int(QUALITY), SIZE, MOTION, adaptation
        if good:
            assert (coder._read_hyper(*args).values == 127).all()
        else:
            with pytest.raises(StreamError, match="hyper latent"):
                coder._read_hyper(*args)


def motion_model() -> MotionModel:
    torch.manual_seed(4)
    return MotionModel(SMALL.motion).eval()


@torch.inference_mode()
def test_latents_are_corrected_where_vectors_matter():
    model = motion_model()
    for p in (model.decoder.head.weight, model.decoder.up.conv.weight):
        p.add_(0.05 * torch.randn(p.shape))  # what training does: decoder and encoder are no inverses any more
    flow = 4 * torch.randn(1, 2, 2 * GRID[0], 2 * GRID[1])
    still = torch.zeros(1, 1, *flow.shape[2:])
    reference = torch.rand(1, PACKED_CHANNELS, *flow.shape[2:])
    m, _ = model.analyse(flow, still, still, QUALITY)

    def error(latent):
        return float((model.synthesise(latent, QUALITY, reference)[0] - flow).square().mean())

    much = model.refine(m, flow, torch.full_like(m, 1000.0), QUALITY, reference)
    little = model.refine(m, flow, torch.full_like(m, MOTION_WORTH[0]), QUALITY, reference)
    assert error(much) < 0.5 * error(m)
    assert float((little - m).abs().max()) < 0.05 * float((much - m).abs().max())


def test_the_transform_is_orthonormal():
    assert torch.allclose(vectors_transform() @ vectors_transform().T, torch.eye(8), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(("quality", "lasts"), [(QUALITY, 1.6), (torch.tensor([20]), 1.0)])
def test_worth_is_that_of_vectors_in_latent_steps(quality, lasts):
    """An error of a sum's latent of one step is half a step of vectors in each of four cells; at fine steps it counts more, for it lasts."""
    model, step = motion_model(), quantiser_step(quality)
    sensitivity = torch.full((1, 2, 2 * GRID[0], 2 * GRID[1]), 30.0)
    worth = motion_worth(model, sensitivity, step, quality, 10.0)
    latent = torch.zeros(1, 8, *GRID)
    latent[0, 0, 1, 1] = 1.0
    vectors = model.synthesise(latent, quality, torch.zeros(1, PACKED_CHANNELS, *sensitivity.shape[2:]))[0]
    zero = model.synthesise(0 * latent, quality, torch.zeros(1, PACKED_CHANNELS, *sensitivity.shape[2:]))[0]
    said = float((sensitivity * (vectors - zero).square()).sum()) * 10 / float(step) ** 2
    assert float(worth[0, 0, 1, 1]) == pytest.approx(lasts * said, rel=0.1)


@torch.inference_mode()
def test_an_error_of_vectors_costs_less_where_the_prediction_is_bad_anyway():
    rng = np.random.default_rng(0)
    reference = torch.from_numpy(rng.uniform(60, 190, (1, 1, 64, 64))).float()
    still = torch.zeros(1, 2, 8, 8)
    step = torch.full((1, 1, 1, 1), 10.0)
    _, clean = MotionSearch(reference, reference, step).search([still])
    noisy = reference.clone()
    noisy[..., 32:] += 20 * torch.from_numpy(rng.standard_normal((1, 1, 64, 32))).float()
    _, sensitivity = MotionSearch(noisy, reference, step).search([still])
    ratio = (sensitivity / clean)[..., 1:-1, :]
    assert ratio[..., :2].mean() > 0.8 > 0.1 > ratio[..., 6:].mean()
