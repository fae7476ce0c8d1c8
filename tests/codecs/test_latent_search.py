"""The search for latents: better by its own measure, the same every time, and through the decoder that the stream will meet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neuralcodec.codecs import latent_search
from neuralcodec.codecs.coding import LAMBDAS, FlagshipCoder, Planes
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.latent_search import EFFORTS, Effort, soft_round
from neuralcodec.codecs.searching import Searcher
from neuralcodec.codecs.tiles import Span, TileCoder, _surround
from neuralcodec.entropy import FrameDecoder
from neuralcodec.nn.selection import apply_widths

SIZE, QUALITY = (48, 80), 90


def picture(seed: int, size: tuple[int, int] = SIZE) -> Planes:
    noise = torch.Generator().manual_seed(seed)
    y, uv = (torch.randint(0, 256, (1, c, size[0] // 8 // s, size[1] // 8 // s), generator=noise).float() for c, s in ((1, 1), (2, 2)))
    return Planes(*(x.repeat_interleave(8, 2).repeat_interleave(8, 3) for x in (y, uv)))


@pytest.fixture(scope="module", params=["tiny_model", "tiny_exact_model"])
def loaded(request):
    return load_model(request.getfixturevalue(request.param))


def cost(coder: FlagshipCoder, coded, source: Planes) -> float:
    """Bits and the squared error's worth, by a step of the quantiser in samples."""
    step = 255 * 2 ** -(coder.model.config.step_gain[0] + (coder.model.config.step_gain[1] - coder.model.config.step_gain[0]) * QUALITY / 200)
    error = (coded.planes.y - source.y).square().sum() + (coded.planes.uv - source.uv).square().sum()
    return 8 * len(coded.payload) + LAMBDAS["contextual"] * float(error) / step**2


@pytest.mark.parametrize("effort", [EFFORTS[2], Effort((0.8,), annealing=12, rate=0.05)], ids=["moves", "annealing"])
@pytest.mark.parametrize("level", [1, 3])
def test_a_search_finds_what_costs_less_and_its_stream_decodes_to_it(loaded, level, effort):
    apply_widths(loaded.model, loaded.widths[level - 1])
    coder, source = FlagshipCoder(loaded.model), picture(1)
    plain = coder.encode_intra(source, QUALITY, SIZE)
    coder.effort = effort
    found = coder.encode_intra(source, QUALITY, SIZE)
    assert cost(coder, found, source) < 0.97 * cost(coder, plain, source)
    assert coder.encode_intra(source, QUALITY, SIZE).payload == found.payload
    parsed = coder.parse("I", found.payload, found.modes, QUALITY, SIZE, None)
    assert parsed.digest_parts() == found.parsed.digest_parts()
    assert torch.equal(coder.reconstruct("I", parsed, QUALITY, None).y, found.planes.y)


def test_a_long_search_sees_the_loop_filters_that_the_picture_will_have(tiny_exact_model):
    loaded = load_model(tiny_exact_model)
    apply_widths(loaded.model, loaded.widths[0])
    source, found = picture(2), {}
    for filtered in (True, False):
        coder = FlagshipCoder(loaded.model)
        coder.loop_filter = coder.directed = True
        coder.effort = replace(EFFORTS[2], annealing=4, filtered=filtered)
        found[filtered] = coder.encode_intra(source, QUALITY, SIZE)
        assert any(f is not None for f in found[filtered].parsed.filters.planes)
    assert cost(coder, found[True], source) < cost(coder, found[False], source)
    coder.loop_filter, coder.effort = False, replace(coder.effort, filtered=True)
    without = coder.encode_intra(source, QUALITY, SIZE)
    coder.effort = replace(coder.effort, filtered=False)
    assert coder.encode_intra(source, QUALITY, SIZE).payload == without.payload


@pytest.mark.parametrize("kind", [FlagshipCoder, TileCoder])
def test_long_efforts_search_hyper_latents_and_code_what_they_found(tiny_exact_model, monkeypatch, kind):
    assert EFFORTS[3].hyper == EFFORTS[2].hyper > EFFORTS[1].hyper == 0
    coder, source, seen = kind(load_model(tiny_exact_model).model), picture(4), []
    intra = coder.searcher.intra
    monkeypatch.setattr(coder.searcher, "intra", lambda *args, **options: seen.append((args[3], intra(*args, **options))) or seen[-1][1])
    coder.effort = EFFORTS[2]
    if kind is TileCoder:
        modes, payload, parsed = coder.encode_tile(source, *(Span(0, size, 0, size) for size in SIZE), QUALITY)
    else:
        coded = coder.encode_intra(source, QUALITY, SIZE)
        modes, payload, parsed = coded.modes, coded.payload, coded.parsed
    ((before, (_, found)),) = seen
    written = coder._read_hyper(FrameDecoder(payload), "I", coder.model.intra.prior, QUALITY, SIZE, "contextual").values
    assert torch.equal(written, found) and not torch.equal(written, before.round())
    assert coder.parse("I", payload, modes, QUALITY, SIZE, None).digest_parts() == parsed.digest_parts()


def test_errors_may_weigh_more(tiny_exact_model):
    coder, source, found = FlagshipCoder(load_model(tiny_exact_model).model), picture(3), []
    for worth in (0.25, 8.0):
        coder.effort = replace(EFFORTS[2], worth=worth, hyper=0)
        coded = coder.encode_intra(source, QUALITY, SIZE)
        found.append((len(coded.payload), -float((coded.planes.y - source.y).square().sum())))
    assert found[0][0] < found[1][0] and found[0][1] < found[1][1]


def test_the_twin_decodes_what_the_model_decodes_at_its_widths(tiny_exact_model):
    loaded = load_model(tiny_exact_model)
    y, quality = torch.randint(-3, 4, (1, loaded.model.config.intra.latent, 3, 5)).float(), torch.tensor([QUALITY])
    pictures = []
    for table in loaded.widths:
        apply_widths(loaded.model, table)
        twin = Searcher(loaded.model, torch.device("cpu")).twin
        with torch.inference_mode():
            own = loaded.model.layers.unpack(loaded.model.intra.synthesise(y, quality))
            its = twin.layers.unpack(twin.intra.synthesise(y, quality))
        for a, b in zip(own, its, strict=True):
            assert (a - b).abs().mean() < 0.5
        pictures.append(own[0])
    assert (pictures[0] - pictures[2]).abs().mean() > 1


def test_soft_rounding_lies_between_neighbours_and_is_sure_when_it_is_cold():
    x, random = torch.linspace(-2, 2, 4001), torch.Generator().manual_seed(1)
    for temperature in (0.5, 0.1, 0.01):
        rounded = soft_round(x, temperature, random)
        assert ((rounded >= torch.floor(x)) & (rounded <= torch.floor(x) + 1)).all()
    clear = (x - torch.floor(x) - 0.5).abs() > 0.1
    assert torch.allclose(rounded[clear], torch.floor(x + 0.5)[clear], atol=1e-3)
    warm = torch.stack([soft_round(torch.tensor([0.3]), 0.5, random) for _ in range(2000)])
    assert 0.2 < warm.mean() < 0.45 and warm.std() > 0.2


def test_latents_of_a_tile_take_their_place_in_the_window():
    around = torch.arange(2 * 5 * 7).float().reshape(1, 2, 5, 7)
    tile = (-around[:, :, 1:4, 2:7]).clone().requires_grad_()
    window = _surround(around, Span(64, 112, 48, 128), Span(64, 144, 32, 144))(tile)
    assert torch.equal(window[:, :, 1:4, 2:7], tile)
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[1:4, 2:7] = True
    assert torch.equal(window[..., ~inside], around[..., ~inside])
    window.square().sum().backward()
    assert torch.equal(tile.grad, 2 * tile)


def test_annealing_ends_in_small_steps(tiny_exact_model, monkeypatch):
    seen = []
    anneal = latent_search._Search.anneal
    monkeypatch.setattr(latent_search._Search, "anneal", lambda self, step, rate, temperature: seen.append(rate) or anneal(self, step, rate, temperature))
    coder = FlagshipCoder(load_model(tiny_exact_model).model)
    coder.effort = Effort((0.8,), annealing=7, rate=0.06)
    coder.encode_intra(picture(1), QUALITY, SIZE)
    assert seen[0] == pytest.approx(0.06) and seen[3] == pytest.approx(0.035) and seen[-1] == pytest.approx(0.01)
    assert len(seen) == 7 and seen == sorted(seen, reverse=True)
