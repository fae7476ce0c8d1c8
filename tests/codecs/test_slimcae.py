"""SlimCAE: widths, files, payloads, the exact path, complexity."""

from __future__ import annotations

import functools
import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from disturbed import Count, disturbed, waves
from safetensors import safe_open
from safetensors.torch import save_file

from neuralcodec.codecs import slimcae_coding
from neuralcodec.codecs.coders import coder_for, place
from neuralcodec.codecs.coding import CONTEXTUAL, Planes
from neuralcodec.codecs.complexity import ENCODER, INTRA, complexity, total
from neuralcodec.codecs.files import export_tensors, load_model, save_model
from neuralcodec.codecs.slimcae import SlimCAE, SlimCAEConfig
from neuralcodec.codecs.slimcae_coding import to_picture, to_planes
from neuralcodec.core.errors import ModelError, StreamError, UsageError
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.gdn import KINDS
from neuralcodec.nn.leading import LeadingConv2d
from neuralcodec.nn.selection import apply_widths

WIDTHS = (16, 12, 8, 6, 4)
SIZE = (64, 128)
CPU = torch.device("cpu")


def tiny(gdn: str = "slim-plus", seed: int = 5) -> SlimCAE:
    return disturbed(lambda: SlimCAE(SlimCAEConfig(WIDTHS, gdn)), seed)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("slimcae") / "tiny.safetensors"
    model = tiny()
    save_model(path, model, model.width_tables())
    return path


@pytest.fixture
def loaded(path):
    loaded = load_model(path)
    place(loaded.model, CPU)
    return loaded


def source() -> Planes:
    return waves(*SIZE)


# -- networks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gdn", KINDS)
@pytest.mark.parametrize("option", range(len(WIDTHS)))
def test_a_width_is_a_network_built_alone_with_the_leading_weights(gdn, option):
    model, n = tiny(gdn), WIDTHS[option]
    alone = SlimCAE(SlimCAEConfig((n,), gdn)).eval()
    own, leading = alone.state_dict(), model.state_dict()
    with torch.no_grad():
        for name, t in own.items():
            first = name.removeprefix("gain.0.") if name.startswith("gain.0.") else None
            if first:
                value = leading[f"gain.{option}.{first}"]
            elif ".each.0." in name:
                value = leading[name.replace(".each.0.", f".each.{option}.")]
            elif name.endswith(("anchors", "hyper_scale", "hyper_gain", "_scale.root", "_shift.root")):  # of each width
                value = leading[name][option : option + 1]
            else:
                value = leading[name]
            t.copy_(value[tuple(slice(0, size) for size in t.shape)])
    x, q = to_picture(source().y, source().uv), torch.tensor([133])
    with torch.no_grad():
        for a, b in zip(model.analyse(x, q, option), alone.analyse(x, q, 0), strict=True):
            assert torch.allclose(a, b, atol=1e-4)
        y = model.analyse(x, q, option)[0]
        assert torch.allclose(model.synthesise(y, q, option), alone.synthesise(y, q, 0), atol=1e-5)


def test_chroma_comes_up_and_goes_back_without_loss():
    planes = source()
    y, uv = to_planes(to_picture(planes.y, planes.uv), subsampled=True)
    assert torch.allclose(y, planes.y, atol=1e-3) and torch.allclose(uv, planes.uv, atol=1e-3)
    full = planes.uv.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(to_picture(planes.y, full), to_picture(planes.y, planes.uv))
    assert torch.allclose(to_planes(to_picture(planes.y, full), subsampled=False)[1], full, atol=1e-3)


def test_sizes_that_cannot_be_are_refused():
    for widths in ((), (8, 8), (4, 8), (8, 3)):
        with pytest.raises(UsageError, match="widths"):
            SlimCAEConfig(widths)
    with pytest.raises(UsageError, match="GDN"):
        SlimCAEConfig((8,), "gdn")
    with pytest.raises(UsageError, match="1 to 16"):
        SlimCAE(SlimCAEConfig(tuple(range(21, 4, -1))))


# -- coding ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [0, 100, 200])
@pytest.mark.parametrize("level", range(1, len(WIDTHS) + 1))
def test_what_is_parsed_is_what_was_coded(loaded, level, quality):
    apply_widths(loaded.model, loaded.widths[level - 1])
    coder, size = coder_for(loaded.model), (61, 127)
    coded = coder.encode_intra(source(), quality, size)
    parsed = coder_for(loaded.model).parse("I", coded.payload, coded.modes, quality, size, None)
    assert parsed.digest_parts() == coded.parsed.digest_parts()
    assert parsed.latents[CONTEXTUAL].values.shape == (1, WIDTHS[level - 1], 4, 8)
    assert abs(sum(parsed.bits.values()) - 8 * len(coded.payload)) < 32
    picture = coder.reconstruct("I", parsed, quality)
    assert torch.equal(picture.y, coded.planes.y) and torch.equal(picture.uv, coded.planes.uv)
    assert picture.uv.shape == (1, 2, SIZE[0] // 2, SIZE[1] // 2)


def test_quality_and_level_change_rate(loaded):
    sizes = []
    for table in loaded.widths:
        apply_widths(loaded.model, table)
        row = [len(coder_for(loaded.model).encode_intra(source(), q, SIZE).payload) for q in (0, 100, 200)]
        assert row == sorted(set(row))
        sizes.append(row)
    assert all(a[2] > b[2] for a, b in pairwise(sizes))


def test_the_entropy_path_is_that_of_integers(loaded, monkeypatch):
    """The whole of it in int64, and so the payload, byte for byte."""
    results = []
    for execution in ("float32", "int64"):
        monkeypatch.setattr(LeadingConv2d, "forward", functools.partialmethod(LeadingConv2d.forward, execution=execution))
        for table in loaded.widths:
            apply_widths(loaded.model, table)
            coded = coder_for(loaded.model).encode_intra(source(), 77, SIZE)
            prior = loaded.model.prior.at(loaded.model.option)
            z = torch.randint(-127, 128, (1, prior.hyper, 2, 3), generator=torch.Generator().manual_seed(1))
            features = prior.features(Fixed.from_integers(z, 0, 127), [], torch.tensor([199]), (7, 9))
            stats = prior.statistics(features, torch.tensor([199]))
            results.append((coded.payload, stats.mean.integers.numpy().tobytes(), stats.scale_index().numpy().tobytes()))
        monkeypatch.undo()
    assert results[: len(WIDTHS)] == results[len(WIDTHS) :]


def test_a_training_prior_says_what_the_deployed_one_says(loaded, path):
    model = SlimCAE(loaded.model.config)
    model.load_state_dict(load_model(path).model.state_dict())
    model.train()
    z = torch.randint(-60, 61, (2, WIDTHS[1] // 4, 2, 2), generator=torch.Generator().manual_seed(1))
    quality = torch.tensor([20, 160])
    said = []
    for prior in (model.prior.at(1), loaded.model.prior.at(1)):
        stats = prior.statistics(prior.features(Fixed.from_integers(z, 0, 127), [], quality, (8, 8)), quality)
        said.append((stats.mean.integers, stats.scale_index().long()))
        assert (prior.hyper_scale_real(quality)[..., 0, 0] - prior.hyper_scale_index(quality)).abs().max() < 0.6
    assert all(torch.equal(a, b) for a, b in zip(*said, strict=True))


@pytest.mark.parametrize(("kind", "mode"), [("I", 0), ("I", 64), ("P", 128), ("P", 192)])
def test_kinds_and_masks_that_the_system_lacks_are_refused(loaded, kind, mode):
    coded = coder_for(loaded.model).encode_intra(source(), 50, SIZE)
    with pytest.raises(StreamError):
        coder_for(loaded.model).parse(kind, coded.payload, (mode,), 50, SIZE, None)
    with pytest.raises(UsageError):
        coder_for(loaded.model).encode_inter(source(), 50, SIZE, source(), source(), None)


def test_masks_are_chosen_from_what_the_system_has(loaded):
    from neuralcodec.entropy import MaskMode

    for modes in ((), (MaskMode.DERIVED,), (MaskMode.SENT,), tuple(MaskMode)):
        coder = coder_for(loaded.model)
        coder.mask_modes = modes
        coded = coder.encode_intra(source(), 50, SIZE)
        parsed = coder.parse("I", coded.payload, coded.modes, 50, SIZE, None)
        assert parsed.digest_parts() == coded.parsed.digest_parts()


def test_damaged_payloads_raise_the_project_s_error_or_decode(loaded):
    """Whatever a payload holds, what a decoder raises is a StreamError."""
    coder = coder_for(loaded.model)
    coded = coder.encode_intra(source(), 120, SIZE)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(40):
        data = bytearray(coded.payload)
        for at in rng.integers(0, len(data), 3):
            data[at] ^= 1 << rng.integers(8)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        try:
            coder.parse("I", bytes(data), coded.modes, 120, SIZE, None)
        except StreamError:
            refused += 1
    assert refused > 30


def test_bands_make_the_same_picture(loaded, monkeypatch):
    picture, coder = waves(320, 96), coder_for(loaded.model)
    whole = coder.encode_intra(picture, 150, (320, 96))
    monkeypatch.setattr(slimcae_coding, "BAND_POSITIONS", 18)
    bands = coder.encode_intra(picture, 150, (320, 96))
    assert bands.payload == whole.payload
    assert (bands.planes.y - whole.planes.y).abs().max() <= 1 and (bands.planes.uv - whole.planes.uv).abs().max() <= 1
    calls = []
    x = torch.rand(1, 3, 320, 96)

    def run(part, *_):
        calls.append(part.shape[2])
        return loaded.model.analysis(part, 0)

    assert torch.allclose(slimcae_coding.in_bands(run, x, 16, 1), loaded.model.analysis(x, 0), atol=1e-5)
    assert len(calls) == 7 and max(calls) == 16 * (3 + 2 * slimcae_coding.MARGIN)


# -- files -----------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(loaded, tmp_path):
    again = tmp_path / "tiny.safetensors"
    assert save_model(again, loaded.model, list(loaded.widths)) == loaded.identity
    assert load_model(again).identity == loaded.identity
    assert loaded.widths == (b"\0\0", b"\1\0", b"\2\0", b"\3\0", b"\0\1")
    assert loaded.intra_only and loaded.level_locked and not loaded.exact and loaded.levels == 5


def test_tensors_have_the_types_that_the_specification_says(loaded):
    tensors = export_tensors(loaded.model)
    assert {n.rpartition(".")[2] for n, t in tensors.items() if t.dtype == torch.int8} == {"weight", "exponent"}
    assert all(t.dtype == torch.float16 for n, t in tensors.items() if not n.startswith("prior."))
    assert not any(t.is_floating_point() for n, t in tensors.items() if n.startswith("prior."))


@pytest.mark.parametrize(
    ("what", "match"),
    [("missing", "fit"), ("shape", "shape"), ("type", "type"), ("bound", "carrier|bias"), ("table", "table"), ("widths", "width tables"),
     ("gdn", "sizes")],
)
def test_a_file_that_does_not_fit_is_refused(path, tmp_path, what, match):
    with safe_open(path, "pt") as f:
        metadata, tensors = f.metadata(), {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118 - not a dict
    if what == "missing":
        del tensors["synthesis.gdn1.beta_scale.root"]
    elif what == "shape":
        tensors["prior.up1.weight"] = tensors["prior.up1.weight"][:-1].clone()
    elif what == "type":
        tensors["analysis.stage1.weight"] = tensors["analysis.stage1.weight"].to(torch.int32)
    elif what == "bound":
        tensors["prior.fuse.bias"] = torch.full_like(tensors["prior.fuse.bias"], (1 << 24) - 1)
    elif what == "table":
        tensors["prior.scale_bias.table"] = torch.full_like(tensors["prior.scale_bias.table"], 1 << 22)
    elif what == "widths":
        metadata["widths"] = "[[1, 1]]"
    else:
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"gdn": "gdn"})
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, metadata=metadata)
    with pytest.raises(ModelError, match=match):
        load_model(broken)


# -- complexity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(1, len(WIDTHS) + 1))
@pytest.mark.parametrize("gdn", KINDS)
def test_work_equals_a_count_on_the_running_modules(gdn, level):
    model = tiny(gdn)
    table = model.width_tables()[level - 1]
    apply_widths(model, table)
    export_tensors(model)  # freezes
    coder, parts = coder_for(model), complexity(model, table)
    planes = source()
    with Count() as encoding, torch.no_grad():
        model.analyse(to_picture(planes.y, planes.uv), torch.tensor([50]), level - 1)
    coded = coder.encode_intra(planes, 50, SIZE)
    with Count() as decoding:
        coder.reconstruct("I", coder.parse("I", coded.payload, coded.modes, 50, SIZE, None), 50)
    pixels = SIZE[0] * SIZE[1]
    assert total(parts, INTRA) * pixels == decoding.macs
    assert total(parts, ENCODER) * pixels == encoding.macs


def test_a_width_alone_stores_what_its_level_is_said_to_read():
    """But for the exponents, which stand in files as tensors and not among a module's parameters."""
    for option, n in enumerate(WIDTHS):
        alone = SlimCAE(SlimCAEConfig((n,)))
        exponents = sum(m.couts[0] for m in alone.modules() if isinstance(m, LeadingConv2d))
        stored = sum(p.numel() for p in alone.parameters()) + exponents
        model = tiny()
        assert sum(p.parameters for p in complexity(model, model.width_tables()[option])) == stored


def test_memory_falls_with_width():
    model = tiny()
    held = [max(p.activations for p in complexity(model, t)) for t in model.width_tables()]
    assert held == sorted(set(held), reverse=True)
    # The last layer: a sixteenth of w channels, and three of the picture, of four bytes.
    assert held[1] == Fraction(4 * 12, 16) + 12
