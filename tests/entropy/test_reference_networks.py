"""The reference networks of bitstream_spec against the torch ones, integer by integer, and independent of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralcodec.codecs.coding import FlagshipCoder, Planes
from neuralcodec.codecs.files import export_tensors
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.codecs.parts import Division, part_positions
from neuralcodec.codecs.prior import LatentPrior, exact_parts
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.quality import QualityGain

TESTS = Path(__file__).resolve().parents[1]
SPEC = TESTS.parent / "bitstream_spec"
sys.path.insert(0, str(TESTS / "nn"))

from random_prior import STYLES, integers_of, random_inputs, random_known, random_prior, randomise


def exported(prior, name="prior"):
    """The prior's integer tensors as a model file holds them (networks.md, section 6)."""
    convs, biases = exact_parts(prior)
    tensors = {f"{name}.hyper_scale": prior.hyper_scale_integers().numpy().astype(np.int32)}
    for layer, conv in convs.items():
        w, b, k = conv.integer_parameters()
        tensors[f"{name}.{layer}.weight"] = w.numpy().astype(np.int8)
        tensors[f"{name}.{layer}.bias"] = b.numpy().astype(np.int32)
        tensors[f"{name}.{layer}.exponent"] = k.numpy().astype(np.int8)
    for layer, (bias, conv) in biases.items():
        tensors[f"{name}.{layer}.table"] = bias.integers(conv).numpy().astype(np.int32)
    return tensors


@pytest.mark.parametrize("inputs", STYLES)
@pytest.mark.parametrize("weights", STYLES)
@pytest.mark.parametrize(("temporal", "parts", "name"), [((), 1, "prior"), ((20,), 1, "prior"), ((12, 5), 2, "prior"), ((), 2, "prior"), ((12,), 3, "prior"),
                                                           ((12, 5), 4, "prior"), ((12,), 4, "motion.prior")])
def test_reference_prior_gives_the_same_integers(temporal, parts, name, weights, inputs):
    from reference import networks

    prior = random_prior(weights, 21, temporal=temporal, parts=parts, vectors=name == "motion.prior")
    reference = networks.LatentPrior(exported(prior, name), name)
    assert (reference.parts, reference.mask_bytes) == (parts, prior.division.mask_bytes)
    for seed, size in enumerate([(1, 1), (4, 8), (5, 7), (9, 3)]):
        z, latents, quality = random_inputs(inputs, seed, prior, size, temporal, batch=3)
        quality[0] = (0, 200, 25, 24)[seed]
        for part in range(parts):
            known = random_known(inputs, seed, prior, size, 3, part) if part else None
            with torch.inference_mode():
                features = prior.features(z, latents, quality, size)
                torch_side = [t.numpy() for t in integers_of(prior.statistics(features, quality, part, known))]
            for i in range(3):
                features = reference.features(z.integers[i].numpy(), [t.integers[i].numpy() for t in latents], int(quality[i]), *size)
                stats = reference.statistics(features, int(quality[i]), part, known.integers[i].numpy() if part else None)
                for expected, got in zip(torch_side, stats, strict=True):
                    assert np.array_equal(expected[i], got)
                assert np.array_equal(torch_side[2][i] > 0, stats.derived_mask())


def test_parts_of_a_latent():
    from reference import networks

    for size in ((1, 1), (1, 4), (5, 3)):
        three = [part_positions(part, 3, *size).numpy() for part in range(3)]
        assert (sum(m.astype(int) for m in three) == 1).all()
        assert three[0][::2, ::2].all() and three[1][1::2, 1::2].all()
        for part in range(3):
            assert np.array_equal(three[part], networks.positions(part, 3, *size))
        masks = [part_positions(part, 2, *size).numpy() for part in (0, 1)]
        assert np.array_equal(masks[0], ~masks[1])
        assert masks[0][0, 0] and not masks[0][0, 1:2].any() and not masks[0][1:2, 0].any()
        for part in (0, 1):
            assert np.array_equal(masks[part], networks.positions(part, 2, *size))
        assert part_positions(0, 1, *size).all() and networks.positions(0, 1, *size).all()


@pytest.mark.parametrize("vectors", [False, True])
def test_four_parts_of_a_latent(vectors):
    from reference import networks

    for size in ((1, 1), (1, 4), (5, 3)):
        four = [Division(4, 8, vectors).elements(part, *size).numpy() for part in range(4)]
        assert (sum(m.astype(int) for m in four) == 1).all()
        for part in range(4):
            assert np.array_equal(four[part], networks.elements(part, 4, 8, *size, vectors))
        if vectors:  # sums of cells, then everything else
            assert all(m[[1, 2, 3, 5, 6, 7]].any() == (part == 3) for part, m in enumerate(four)) and four[0][[0, 4], ::2, ::2].all()
        else:  # of each position a quarter of the channels, of each channel a quarter of the positions
            assert all((m.sum(0) == 2).all() for m in four)
            assert [[int(np.flatnonzero([m[c, y, x] for m in four])[0]) for c in range(4)] for y, x in ((0, 0), (1, 1)) if max(y, x) < min(size)] \
                == [[0, 1, 2, 3], [1, 0, 3, 2]][: 1 + (min(size) > 1)]


def test_full_size_and_trained_style_weights():
    """Layers as training leaves them (float weights, frozen here) at the flagship's sizes."""
    from reference import networks

    torch.manual_seed(22)
    prior = LatentPrior(128, 32, temporal=(128, 24)).eval()
    convs, biases = exact_parts(prior)
    with torch.no_grad():
        for bias, _ in biases.values():
            bias.anchors.normal_()
    for conv in convs.values():
        conv.freeze()
    for bias, conv in biases.values():
        bias.freeze(conv)
    z, latents, quality = random_inputs("random", 23, prior, (6, 11), (128, 24), batch=1)
    expected = integers_of(prior(z, latents, quality, (6, 11)))
    reference = networks.LatentPrior(exported(prior, "inter.prior"), "inter.prior")
    features = reference.features(z.integers[0].numpy(), [t.integers[0].numpy() for t in latents], int(quality[0]), 6, 11)
    stats = reference.statistics(features, int(quality[0]))
    for a, b in zip(expected, stats, strict=True):
        assert np.array_equal(a[0].numpy(), b)
        assert len(np.unique(b)) > 3


def test_hyper_scale_index_at_every_quality():
    from reference import networks

    prior = random_prior("random", 24)
    reference = networks.LatentPrior(exported(prior), "prior")
    expected = prior.hyper_scale_index(torch.arange(201)).numpy()
    got = np.stack([reference.hyper_scale_index(q) for q in range(201)])
    assert np.array_equal(expected, got)
    assert got.min() == 0 and got.max() == 63


def test_decoded_latent():
    from reference import networks

    got = networks.decoded_latent(np.array([0, 1, -1, 32767, -32767]), np.array([-3, 5, 5, 2047, -2047]))
    assert got.tolist() == [-3, 21, -11, 32767, -32767]


def statistics(reference, z):
    """Of a 4x4 latent at the lowest quality."""
    return reference.statistics(reference.features(z, [], 0, 4, 4), 0)


@pytest.mark.parametrize("change", ["weight", "exponent", "bias", "table"])
def test_reference_refuses_models_beyond_the_bound(change):
    from reference import networks

    prior = random_prior("limit", 25)
    tensors = exported(prior)
    z, _, _ = random_inputs("random", 26, prior, (4, 4))
    z = z.integers[0].numpy()
    statistics(networks.LatentPrior(tensors, "prior"), z)
    if change == "weight":
        tensors["prior.fuse.weight"][0, 0] = -128
    elif change == "exponent":
        tensors["prior.mix1.exponent"][0] = 15
    elif change == "table":
        tensors["prior.scale_quality.table"][3, 0] = 2**21 + 1
    else:
        tensors["prior.up2.bias"][0] += np.sign(tensors["prior.up2.bias"][0])  # one unit past the limit
    with pytest.raises(networks.ModelError):
        statistics(networks.LatentPrior(tensors, "prior"), z)


def tiny_flagship():
    torch.manual_seed(31)
    config = FlagshipConfig(
        IntraConfig(channels=8, latent=6, hyper=4, encoder_blocks=1, decoder_blocks=1),
        MotionConfig(channels=8, latent=4, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
        InterConfig(channels=8, latent=6, hyper=4, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                    decoder_blocks=1, motion_channels=8, motion_latent=4),
    )
    model = Flagship(config).eval()
    with torch.no_grad():  # latents of several steps, statistics of all kinds, so that every syntax element is used
        for seed, module in enumerate(model.modules()):
            if isinstance(module, QualityGain):
                module.encode.add_(3)
            if isinstance(module, LatentPrior):
                randomise(module, "random", seed)
    return model, {n: t.numpy() for n, t in export_tensors(model).items()}


@pytest.mark.parametrize("mode", [MaskMode.DERIVED, MaskMode.DERIVED_WITH_EXCEPTIONS, MaskMode.THRESHOLD])
def test_reference_reads_whole_frames(mode):
    """Payload to latents: three frames, the first two P frames with and without a temporal prior."""
    from reference import networks, rans

    model, tensors = tiny_flagship()
    coder = FlagshipCoder(model)
    coder.mask_modes = (mode,)
    height, width = 50, 71
    rng = np.random.default_rng(32)
    base = rng.integers(0, 256, (80, 100)).astype(np.uint8)
    sources = []
    for i in range(3):
        luma = base[i : i + height, 2 * i : 2 * i + width]
        chroma = luma[::2, ::2]
        sources.append(Planes(*planes_to_tensors((luma, chroma, chroma), torch.device("cpu"))))
    size = (height, width)
    coded = coder.encode_intra(sources[0], 90, size)
    frames = [("I", coded)]
    for i in (1, 2):
        coded = coder.encode_inter(sources[i], 90, size, sources[i - 1], frames[-1][1].planes, frames[-1][1].parsed)
        frames.append(("P", coded))
    parsed, reference, previous = None, None, None
    for kind, coded in frames:
        parsed = coder.parse(kind, coded.payload, coded.modes, 90, size, previous)
        reference = networks.read_frame(tensors, kind, coded.payload, list(coded.modes), 90, *size, reference)
        assert list(parsed.latents) == list(reference)
        for name, latent in parsed.latents.items():
            assert np.array_equal(latent.integers[0].numpy(), reference[name].value)
            assert np.array_equal(parsed.masks[name], reference[name].mask)
            assert reference[name].value.any()
        previous = parsed
        with pytest.raises(rans.StreamError):
            networks.read_frame(tensors, kind, coded.payload + b"\x01\0\0\1", list(coded.modes), 90, *size, reference)


def test_reference_networks_import_nothing_of_the_product():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from reference import networks\n"
        "print(sorted({'neuralcodec', 'torch', 'constriction'} & {m.split('.')[0] for m in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SPEC, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
