"""An exact model's twins: in floating point they compute what it computes, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuralcodec.codecs.coding import FlagshipCoder, Planes
from neuralcodec.codecs.conversion import calibrate, colour_chart, from_float
from neuralcodec.codecs.exact import picture_convs
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.folding import fold, to_float
from neuralcodec.codecs.registry import by_name
from neuralcodec.codecs.twins import PARTS, float_twin, with_exact_part
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.layout import planes_to_tensors
from neuralcodec.nn.selection import apply_widths, units

SIZE, QUALITY = (64, 96), 120


@pytest.fixture(scope="module")
def exact(tiny_model, tmp_path_factory):
    """Made from a model in which all parts have their say: what starts at zero in training does not here."""
    loaded, g = load_model(tiny_model), torch.Generator().manual_seed(1)
    for weight in (loaded.model.motion.refinement.head.weight, loaded.model.inter.decoder.fuse.conv.weight):
        weight += 0.05 * torch.randn(weight.shape, generator=g)
    path = tmp_path_factory.mktemp("twins") / "exact.safetensors"
    save_model(path, from_float(loaded.model, [list(clip(2))], loaded.widths, (QUALITY,)), list(loaded.widths))
    return load_model(path)


def clip(count):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for n in range(count):
        luma = 128 + 60 * np.sin((columns + 2 * n) / 9) * np.cos((rows + n) / 7) + 20 * np.sin((columns - n) / 2.3)
        chroma = 128 + 40 * np.sin((columns[::2, ::2] + 2 * n) / 15)
        yield tuple(np.clip(p, 0, 255).astype(np.uint8) for p in (luma, chroma, 255 - chroma))


@pytest.fixture(scope="module")
def payloads(exact):
    """Payload and modes of an I and a P frame."""
    apply_widths(exact.model, exact.widths[0])
    coder = FlagshipCoder(exact.model)
    first, second = (Planes(*planes_to_tensors(p, coder.device)) for p in clip(2))
    intra = coder.encode_intra(first, QUALITY, SIZE)
    return [(c.payload, c.modes) for c in (intra, coder.encode_inter(second, QUALITY, SIZE, first, intra.planes, intra.parsed))]


def decoded(model, payloads, table):
    """Latents and samples of all frames."""
    apply_widths(model, table)
    coder, parsed, planes, out = FlagshipCoder(model), None, None, []
    for kind, (payload, modes) in zip("IP", payloads, strict=True):
        parsed = coder.parse(kind, payload, modes, QUALITY, SIZE, parsed)
        planes = coder.reconstruct(kind, parsed, QUALITY, planes)
        out.append((b"".join(parsed.digest_parts()), torch.cat([planes.y.flatten(), planes.uv.flatten()])))
    return out


def psnr(a, b):
    return float(10 * torch.log10(255**2 / (a - b).square().mean().clamp_min(1e-6)))


def test_a_model_comes_back_from_its_exact_form(tiny_model):
    model = load_model(tiny_model).model
    again = to_float(fold(model))
    assert type(again) is Flagship
    for name, tensor in again.state_dict().items():
        assert torch.allclose(tensor, model.state_dict()[name], rtol=1e-6, atol=0), name


def test_the_float_twin_computes_the_same_but_for_rounding(exact, payloads):
    twin = float_twin(exact)
    assert not twin.exact and twin.identity != exact.identity and twin.widths == exact.widths
    for table in exact.widths:
        frames = zip((60, 35), decoded(exact.model, payloads, table), decoded(twin.model, payloads, table), strict=True)
        for least, (latents, samples), (again, near) in frames:  # weights are random: a vector rounded the other way shows
            assert latents == again
            assert samples.unique().numel() > 50 and psnr(samples, near) > least


def test_converting_the_float_twin_gives_the_model_back(exact, payloads):
    again = from_float(to_float(exact.model), [list(clip(2))], exact.widths, (QUALITY,))
    for (_, samples), (_, near) in zip(decoded(exact.model, payloads, exact.widths[0]), decoded(again, payloads, exact.widths[0]), strict=True):
        assert psnr(samples, near) > 40


def test_a_conversion_holds_colours_that_its_clips_lack():
    trained, gray = by_name(), tuple(np.full(shape, 128, np.uint8) for shape in ((64, 96), (32, 48), (32, 48)))
    exact = from_float(to_float(trained.model), [[gray]], trained.widths[:1], (200,))
    formats = {n: layer.frac_in for n, layer in picture_convs(exact).items() if n.startswith("intra.") and n.endswith((".mix", ".expand"))}
    wanted = calibrate(exact, [[colour_chart()]], trained.widths[:1], (200,))
    assert formats and all(formats[n] <= wanted[n] for n in formats)
    without = calibrate(exact, [[gray]], trained.widths[:1], (200,))
    assert any(without[n] > wanted[n] for n in formats)


@pytest.mark.parametrize("part", PARTS)
def test_one_part_may_stay_exact(exact, payloads, part):
    mixed, twin = with_exact_part(exact, part), float_twin(exact)
    assert not mixed.exact and mixed.identity not in (exact.identity, twin.identity)
    assert [n.partition(".")[0] for n in units(mixed.model)] == [n.partition(".")[0] for n in units(exact.model)]
    for table in (exact.widths[0], exact.widths[1]):
        found = decoded(mixed.model, payloads, table)
        for (latents, samples), (again, near) in zip(found, decoded(twin.model, payloads, table), strict=True):
            assert latents == again and psnr(samples, near) > 40


@pytest.mark.parametrize("part", PARTS)
def test_an_exact_part_gives_what_its_twin_gives(exact, payloads, part):
    """No unit is lost where real numbers become integers and back: there is no factor between the two, of 256/255 say."""
    twin, mixed, calls = float_twin(exact).model, with_exact_part(exact, part).model, []
    twin.get_submodule(part).register_forward_hook(lambda _, given, result: calls.append((given, result)))
    decoded(twin, payloads, exact.widths[0])
    apply_widths(mixed, exact.widths[0])
    ((given, meant),) = calls
    with torch.no_grad():
        found = mixed.get_submodule(part)(*given)
    for a, b in zip(*((t if isinstance(t, tuple) else (t,)) for t in (found, meant)), strict=True):
        assert not torch.equal(a, b)
        assert abs(float((a * b).sum() / b.square().sum()) - 1) < 5e-4
        assert float((a - b).norm() / b.norm()) < 0.01


def test_a_model_in_floating_point_has_no_twin(tiny_model):
    for make in (float_twin, lambda loaded: with_exact_part(loaded, PARTS[0])):
        with pytest.raises(UsageError, match="not exact"):
            make(load_model(tiny_model))
