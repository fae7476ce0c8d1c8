"""The flagship with exact pictures: one set of samples from every execution, in a file and back, and what a conversion keeps."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import random_flagship
import torch
from random_flagship import CONFIG, SIZE, pictures, random_latents, tables
from safetensors import safe_open
from safetensors.torch import save_file

from neuralcodec.bitstream import Arithmetic
from neuralcodec.codecs import conversion
from neuralcodec.codecs.coding import CONTEXTUAL, MOTION, FlagshipCoder, Planes
from neuralcodec.codecs.complexity import ENCODER, complexity
from neuralcodec.codecs.exact import (
    ExactFlagship,
    declare_rounding,
    freeze_pictures,
    picture_convs,
    picture_gains,
    set_formats,
    trunk_convs,
)
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig, Reference
from neuralcodec.codecs.folding import fold
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.core.errors import ModelError, StreamError, UsageError
from neuralcodec.nn.bfloat16 import BYTE_LIMIT, use_carriers
from neuralcodec.nn.carriers import int64_execution
from neuralcodec.nn.compensation import compensate
from neuralcodec.nn.exact_slimmable import ExactBlock
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.decoder import StreamDecoder

QUALITIES = [(0, 60), (133, 300), (200, 32767)]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module", params=["exact sums", "rounded sums"])
def model(request):
    return random_flagship.random_flagship(rounds=request.param == "rounded sums")


@pytest.fixture(params=["float32", "bfloat16"])
def carriers(request, model):
    """Those of products whose sums are rounded; nothing to a model that rounds none."""
    if request.param == "bfloat16" and not any(c.rounds for c in picture_convs(model).values()):
        pytest.skip("no layer rounds")
    use_carriers(request.param)
    yield
    use_carriers("auto")


@pytest.fixture(scope="module")
def expected(model):
    """Samples by (level, quality), from the definition."""
    with int64_execution():
        return {(level, quality): pictures(model, table, quality, size) for level, table in enumerate(tables(model)) for quality, size in QUALITIES}


@pytest.mark.parametrize("threads", [1, 2])
def test_frozen_execution_is_the_definition(model, expected, carriers, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for level, table in enumerate(tables(model)):
            for quality, size in QUALITIES:
                got = pictures(model, table, quality, size)
                assert equal(got, expected[level, quality])
                assert all(len(p.unique()) > (50 if size < 1000 else 4) for p in got)
    finally:
        torch.set_num_threads(before)


def test_a_batch_is_its_pictures(model):
    both = pictures(model, tables(model)[1], 77, 200, batch=2)
    apply_widths(model, tables(model)[1])
    coder = FlagshipCoder(model)
    for item in range(2):
        reference = None
        for number in range(4):
            kind = "P" if number else "I"
            latents = random_latents(kind, number, 200, batch=2)
            for name, fixed in latents.latents.items():
                latents.latents[name] = type(fixed)(fixed.values[item : item + 1], fixed.frac, fixed.limit)
            reference = coder.reconstruct(kind, latents, 77, reference)
            assert torch.equal(reference.y.long(), both[2 * number][item : item + 1])
            assert torch.equal(reference.uv.long(), both[2 * number + 1][item : item + 1])


def test_memory_layout_does_not_matter(model, expected, carriers):
    contiguous = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    assert equal(pictures(contiguous, tables(model)[0], 133, 300), expected[0, 133])
    apply_widths(model, tables(model)[0])
    latents = random_latents("I", 0, 300).latents[CONTEXTUAL].values
    given = [latents.contiguous(memory_format=f) for f in (torch.contiguous_format, torch.channels_last)]
    assert equal(*([model.intra.synthesise(y, torch.tensor([133]))] for y in given))


def train_pictures(model, quality, size):
    """Planes of an I and a P frame with gradients; motion compensation, whose smooth version has gradients, as deployed."""
    q = torch.tensor([quality])
    parsed = [random_latents(kind, n, size).latents for n, kind in enumerate("IP")]
    packed = model.intra.synthesise(parsed[0][CONTEXTUAL].values, q)
    y, uv = (torch.floor(p.detach() + 0.5).clamp(0, 255) for p in model.layers.unpack(packed))
    vectors, hidden = model.motion.synthesise(parsed[1][MOTION].values, q, model.layers.pack(y, uv))
    prediction = model.layers.pack(*compensate(y, uv, vectors.detach()))
    context = model.inter.context(prediction, hidden)
    p_packed = model.inter.synthesise(parsed[1][CONTEXTUAL].values, prediction, context, q)
    planes = [torch.floor(p + 0.5).clamp(0, 255).long() for x in (packed, p_packed) for p in model.layers.unpack(x.detach())]
    return planes, packed.square().mean() + p_packed.square().mean() + vectors.square().mean()


@pytest.mark.parametrize("rounds", [False, True])
def test_training_computes_what_is_deployed(rounds):
    torch.manual_seed(3)
    model = ExactFlagship(CONFIG).train()
    if rounds:
        declare_rounding(model, trunk_convs(model))
        set_formats(model, {n: 8 - 4 * c.rounds for n, c in picture_convs(model).items()})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ExactBlock):
                for conv in (module.spatial, module.project):
                    conv.weight.normal_(0, 0.1)
        model.motion.refinement.head.weight.normal_(0, 0.02)
        model.inter.decoder.fuse.conv.weight.normal_(0, 0.2)
    apply_widths(model, tables(model)[0])  # the whole fuse layer: a narrow one reads no context
    trained, loss = train_pictures(model, 90, 200)
    loss.backward()
    decoder = [(n, p) for n, p in model.named_parameters() if n.rpartition(".")[0] in picture_convs(model)]
    assert len(decoder) > 60 and all(p.grad is not None and p.grad.isfinite().all() for _, p in decoder)
    assert not [n for n, p in decoder if n.endswith("weight") and not (p.grad != 0).any()]
    for name, gain in picture_gains(model).items():
        assert all((getattr(gain, table).grad != 0).any() for table in gain.exact), name
    freeze_pictures(model)
    frozen = pictures(model.eval(), tables(model)[0], 90, 200)[:4]
    assert equal(trained, frozen)
    with int64_execution():
        assert equal(pictures(model, tables(model)[0], 90, 200)[:4], frozen)


def test_stages_see_the_same_model(model):
    """What training's stages use: previous, predict, context, analyse, synthesise, in the units of packed planes."""
    apply_widths(model, tables(model)[0])
    parsed = random_latents("P", 1, 100).latents
    g = torch.Generator().manual_seed(2)
    reference = Reference(torch.randint(0, 256, (1, 1, *SIZE), generator=g).float(),
                          torch.randint(0, 256, (1, 2, SIZE[0] // 2, SIZE[1] // 2), generator=g).float())
    q = torch.tensor([100])
    with torch.no_grad():
        prediction, hidden, vectors = model.predict(parsed[MOTION].values, q, reference)
        context = model.inter.context(prediction, hidden)
        decoded = model.inter.synthesise(parsed[CONTEXTUAL].values, prediction, context, q)
        y, z = model.inter.analyse(model.layers.pack(reference.y, reference.uv), prediction, context, q)
    assert prediction.shape == decoded.shape == (1, 96, SIZE[0] // 8, SIZE[1] // 8)
    assert y.isfinite().all() and z.isfinite().all()
    assert torch.equal(vectors * 256, (vectors * 256).round())
    planes = FlagshipCoder(model).reconstruct("P", random_latents("P", 1, 100), 100, Planes(reference.y, reference.uv))
    assert torch.equal(planes.y, torch.floor(model.layers.unpack(decoded)[0] + 0.5).clamp(0, 255))
    back = model.layers.unpack(model.layers.pack(reference.y, reference.uv))
    assert torch.equal(back[0], reference.y) and torch.equal(back[1], reference.uv)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "small.safetensors"
    return path, save_model(path, copy.deepcopy(model), tables(model))


def test_a_file_keeps_the_pictures(model, expected, saved):
    path, identity = saved
    loaded = load_model(path)
    assert isinstance(loaded.model, ExactFlagship) and loaded.exact
    assert loaded.identity == identity
    for level, table in enumerate(loaded.widths):
        assert equal(pictures(loaded.model, table, 133, 300), expected[level, 133])
    again = path.with_name("again.safetensors")
    assert save_model(again, loaded.model, list(loaded.widths)) == identity


def test_types_of_a_file(saved):
    with safe_open(saved[0], "pt") as f:
        tensors = {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118 - not a dict
        assert f.metadata()["architecture"] == "flagship-exact-1"
    types = {n: t.dtype for n, t in tensors.items()}
    for name, wanted in {
        "intra.synthesis.trunk.0.mix.weight": torch.int8, "intra.synthesis.trunk.0.mix.bias": torch.int32,
        "inter.decoder.fuse.conv.exponent": torch.int8, "inter.decoder.fuse.conv.format": torch.int8,
        "inter.decoder.up.conv.weight": torch.int16, "inter.decoder.up.conv.bias": torch.int64, "motion.decoder.head.exponent": torch.int8,
        "intra.gain.decode": torch.int32, "intra.gain.encode": torch.float16, "inter.decoder.units.encode": torch.int32,
        "inter.decoder.units.decode": torch.int32, "inter.decoder.context_units.encode": torch.int32,
        "inter.decoder.context_units.decode": torch.float16, "intra.analysis.enter.weight": torch.float16,
    }.items():
        assert types[name] == wanted, name
    assert "intra.synthesis.up.conv.format" not in types
    assert tensors["intra.synthesis.trunk.0.mix.format"][1] == tensors["intra.synthesis.trunk.0.spatial.format"][0]


def spoil(tensors, how):
    """One malformed tensor."""
    block = "inter.extraction.trunk.0"
    changes = {
        "no format": lambda: tensors.pop(f"{block}.mix.format"),
        "no exponent": lambda: tensors.pop("motion.decoder.head.exponent"),
        "no gain": lambda: tensors.pop("inter.gain.decode"),
        "format beyond": lambda: tensors[f"{block}.mix.format"].fill_(13),
        "format below": lambda: tensors["inter.decoder.fuse.conv.format"].fill_(-5),
        "format that leads nowhere": lambda: tensors[f"{block}.mix.format"][1].add_(1),
        "format of a wide output": lambda: tensors[f"{block}.project.format"][1].sub_(1),
        "seven significant bits": lambda: tensors.update({f"{block}.mix.format": torch.tensor([*tensors[f"{block}.mix.format"][:2], 7]).to(torch.int8)}),
        "format of four": lambda: tensors.update({f"{block}.mix.format": torch.full((4,), 8, dtype=torch.int8)}),
        "format of none": lambda: tensors.update({f"{block}.mix.format": torch.tensor(8, dtype=torch.int8)}),
        "format of another type": lambda: tensors.update({f"{block}.mix.format": tensors[f"{block}.mix.format"].int()}),
        "weight -128": lambda: tensors[f"{block}.mix.weight"].fill_(-128),
        "wide weight 8192": lambda: tensors["motion.decoder.head.weight"].fill_(8192),
        "weight of another type": lambda: tensors.update({f"{block}.mix.weight": tensors[f"{block}.mix.weight"].to(torch.int16)}),
        "weight of another shape": lambda: tensors.update({f"{block}.mix.weight": tensors[f"{block}.mix.weight"][:-1]}),
        "exponent 15": lambda: tensors[f"{block}.expand.exponent"].fill_(15),
        "wide exponent 21": lambda: tensors["intra.synthesis.head.exponent"].fill_(21),
        "negative exponent": lambda: tensors[f"{block}.expand.exponent"].fill_(-1),
        "bias beyond the bound": lambda: tensors[f"{block}.project.bias"].fill_(1 << 24),
        "least bias": lambda: tensors["inter.decoder.up.conv.bias"].fill_(-(2**63)),
        "gain beyond": lambda: tensors["inter.decoder.units.encode"].fill_(16385),
        "gain of another type": lambda: tensors.update({"intra.gain.decode": tensors["intra.gain.decode"].float()}),
        "encoder not finite": lambda: tensors["intra.gain.encode"].fill_(float("nan")),
        "encoder of integers": lambda: tensors.update({"intra.gain.encode": tensors["intra.gain.encode"].int()}),
    }
    changes[how]()


SPOILT = ["no format", "no exponent", "no gain", "format beyond", "format below", "format that leads nowhere", "format of a wide output",
          "seven significant bits", "format of four", "format of none", "format of another type", "weight -128", "wide weight 8192", "weight of another type", "weight of another shape",
          "exponent 15", "wide exponent 21", "negative exponent", "bias beyond the bound", "least bias", "gain beyond", "gain of another type",
          "encoder not finite", "encoder of integers"]


@pytest.mark.parametrize("how", SPOILT)
def test_malformed_tensors_are_refused(saved, tmp_path, how):
    with safe_open(saved[0], "pt") as f:
        tensors, metadata = {n: f.get_tensor(n).clone() for n in f.keys()}, f.metadata()  # noqa: SIM118
    spoil(tensors, how)
    path = tmp_path / "spoilt.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata)
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("config", ["{", "[]", '{"intra": {}}', '{"intra": {"colour": 1}, "motion": {}, "inter": {}}', "slimmed"])
def test_sizes_that_are_none_are_refused(saved, tmp_path, config):
    with safe_open(saved[0], "pt") as f:
        tensors, metadata = {n: f.get_tensor(n) for n in f.keys()}, f.metadata()  # noqa: SIM118
    path = tmp_path / "sizes.safetensors"
    save_file(tensors, path, metadata | {"config": metadata["config"].replace("true", "false") if config == "slimmed" else config})
    with pytest.raises(ModelError):
        load_model(path)


def test_a_decoder_checks_what_a_stream_says_of_its_arithmetic(saved):
    loaded = load_model(saved[0])

    class Reader:
        class header:
            model_id, model_name, arithmetic, bare = loaded.identity, "small", Arithmetic.FLOAT_PICTURES, False

    with pytest.raises(StreamError, match="exact"):
        StreamDecoder(Reader, loaded, None, torch.device("cpu"))


def test_every_decoder_part_counts_as_exact(model):
    twin = Flagship(CONFIG)
    for table in tables(model):
        parts = complexity(model, table)
        assert all(p.exact == (p.role != ENCODER) for p in parts)
        assert [(p.macs, p.parameters) for p in parts] == [(p.macs, p.parameters) for p in complexity(twin, table)]


def test_slimmed_latent_layers_are_not_exact():
    with pytest.raises(UsageError):
        ExactFlagship(FlagshipConfig(intra=IntraConfig(step_units=False)))


# -- conversion ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twin():
    """A float model that makes pictures without any training: transforms start as a DCT, blocks add a little noise."""
    config = FlagshipConfig(IntraConfig(channels=96, latent=96, hyper=8, encoder_blocks=1, decoder_blocks=1),
                            CONFIG.motion, type(CONFIG.inter)(channels=96, latent=96, hyper=8, extraction_blocks=1, refinement_blocks=1,
                                                              encoder_blocks=1, decoder_blocks=1, motion_channels=12, motion_latent=8))
    torch.manual_seed(7)
    model = Flagship(config).eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if hasattr(module, "project") and "analysis" not in name:
                for conv in (module.spatial, module.project):
                    conv.weight.normal_(0, 0.03)
                    conv.bias.normal_(0, 0.03)
        model.motion.refinement.head.weight.normal_(0, 0.002)
        model.inter.decoder.fuse.conv.weight[:, 96:].normal_(0, 0.05)
        model.inter.decoder.context_units.encode.normal_(0, 0.3)
    return model.requires_grad_(False)


def clip(count, height=64, width=96):
    """Pictures of moving waves."""
    rows, columns = np.mgrid[:height, :width]
    for n in range(count):
        luma = 128 + 60 * np.sin((columns + 2 * n) / 9) * np.cos((rows + n) / 7) + 20 * np.sin((columns - n) / 2.3)
        chroma = 128 + 40 * np.sin((columns[::2, ::2] + 2 * n) / 15)
        yield tuple(np.clip(p, 0, 255).astype(np.uint8) for p in (luma, chroma, 255 - chroma))


def coded(model, quality):
    """Latents and pictures of an I and two P frames."""
    coder = FlagshipCoder(model)
    planes = [Planes(*conversion.planes_to_tensors(p, coder.device)) for p in clip(3)]
    out = [coder.encode_intra(planes[0], quality, (64, 96))]
    for before, picture in pairwise(planes):
        out.append(coder.encode_inter(picture, quality, (64, 96), before, out[-1].planes, out[-1].parsed))
    return out


def psnr(a, b):
    error = torch.cat([(a.y - b.y).flatten(), (a.uv - b.uv).flatten()]).square().mean()
    return float(10 * torch.log10(255**2 / error.clamp_min(1e-6)))


@pytest.fixture(scope="module")
def converted(twin):
    return conversion.from_float(twin, [list(clip(2))], tables(twin), (0, 120, 200))


def test_a_conversion_keeps_the_pictures(twin, converted):
    for table in tables(twin):
        apply_widths(twin, table)
        apply_widths(converted, table)
        for quality in (20, 110, 200):
            coder, reference = FlagshipCoder(converted), None
            for number, frame in enumerate(coded(twin, quality)):
                reference = coder.reconstruct("P" if number else "I", frame.parsed, quality, reference)
                # At the finest steps some of what enters layers is cut off (conversion.SHARE).
                assert psnr(reference, frame.planes) > (44 if quality == 200 else 48)
    assert psnr(coded(twin, 200)[0].planes, Planes(*conversion.planes_to_tensors(next(clip(1)), torch.device("cpu")))) > 30


def test_a_conversion_keeps_the_encoder(twin, converted):
    apply_widths(twin, tables(twin)[0])
    apply_widths(converted, tables(twin)[0])
    source = [Planes(*conversion.planes_to_tensors(p, torch.device("cpu"))) for p in clip(3)]
    before, after = coded(twin, 110), coded(converted, 110)
    latents = [frames[0].parsed.latents[CONTEXTUAL].integers for frames in (before, after)]
    assert ((latents[0] - latents[1]).abs() > 8).float().mean() < 0.02
    for a, b, picture in zip(before, after, source, strict=True):
        assert abs(len(a.payload) - len(b.payload)) <= 0.05 * len(a.payload) + 4
        assert abs(psnr(a.planes, picture) - psnr(b.planes, picture)) < 0.2


def test_a_conversion_fits_its_formats_to_what_it_saw(twin, converted):
    chosen = {n: c.frac_in for n, c in picture_convs(converted).items() if hasattr(c, "format")}
    assert len(set(chosen.values())) > 3
    assert converted.intra.synthesis.trunk[0].mix.frac_out == chosen["intra.synthesis.trunk.0.spatial"]
    brighter = fold(twin)
    with torch.no_grad():
        brighter.intra.synthesis.units.encode.add_(3)
    conversion.calibrate(brighter, [list(clip(1))], tables(twin)[:1], (200,))
    assert brighter.intra.synthesis.trunk[0].mix.frac_in <= chosen["intra.synthesis.trunk.0.mix"] - 2


def test_trunks_may_round_after_a_conversion(twin, converted):
    rounded = conversion.from_float(twin, [list(clip(2))], tables(twin)[:1], (110,), bfloat16_trunks=True)
    convs, before = picture_convs(rounded), picture_convs(converted)
    rounds = {n for n, c in convs.items() if c.rounds}
    assert rounds == {n for n in before if ".trunk." in n and not n.endswith("spatial")}
    assert all(convs[name].limit_in == BYTE_LIMIT for name in rounds)
    assert sum(convs[name].frac_in - before[name].frac_in for name in rounds) < -len(rounds)
    for block in (m for m in rounded.modules() if isinstance(m, ExactBlock)):
        assert (block.mix.limit_out, block.expand.limit_out) == (block.spatial.limit_in, block.project.limit_in)
    for model in (twin, rounded):
        apply_widths(model, tables(twin)[0])
    coder, reference = FlagshipCoder(rounded), None
    for number, frame in enumerate(coded(twin, 110)):
        reference = coder.reconstruct("P" if number else "I", frame.parsed, 110, reference)
        assert 38 < psnr(reference, frame.planes) < 60


def test_a_converted_model_is_saved_and_decodes_its_own_stream(converted, tmp_path):
    path = tmp_path / "converted.safetensors"
    save_model(path, copy.deepcopy(converted), tables(converted))
    loaded = load_model(path)
    apply_widths(loaded.model, loaded.widths[1])
    coder, previous, reference = FlagshipCoder(loaded.model), None, None
    for number, frame in enumerate(coded(loaded.model, 140)):
        kind = "P" if number else "I"
        previous = coder.parse(kind, frame.payload, frame.modes, 140, (64, 96), previous)
        reference = coder.reconstruct(kind, previous, 140, reference)
        assert torch.equal(reference.y, frame.planes.y) and torch.equal(reference.uv, frame.planes.uv)
