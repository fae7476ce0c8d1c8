"""AdaNIC: capacity maps in payloads, routes, the exact path, files, complexity, labels."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest
import torch
from disturbed import Count, disturbed, waves
from safetensors import safe_open
from safetensors.torch import save_file

from neuralcodec.codecs import slimcae_coding
from neuralcodec.codecs.adanic import TABLE_2, AdaNIC, AdaNICConfig
from neuralcodec.codecs.adanic_coding import route_option
from neuralcodec.codecs.capacity_coding import LABEL, read_map, write_map
from neuralcodec.codecs.coders import check_route, coder_for, place
from neuralcodec.codecs.coding import CONTEXTUAL, Planes
from neuralcodec.codecs.complexity import ENCODER, INTRA, complexity, total
from neuralcodec.codecs.files import export_tensors, load_model, save_model
from neuralcodec.codecs.flagship import Flagship
from neuralcodec.codecs.jumc import find_capacities, tolerance
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.core.errors import ModelError, StreamError, UsageError
from neuralcodec.entropy import FrameDecoder, FrameEncoder
from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.leading import LeadingConv2d
from neuralcodec.nn.selection import apply_widths

N, M = (12, 10, 8, 6, 4), (20, 16, 12, 8, 5)
SIZE = (125, 187)
MIXED = np.array([[0, 4, 2], [3, 1, 4]])
CPU = torch.device("cpu")


def tiny(seed: int = 5) -> AdaNIC:
    """Blocks of 64x64 samples."""
    return disturbed(lambda: AdaNIC(AdaNICConfig(N, M, 4)), seed)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("adanic") / "tiny.safetensors"
    model = tiny()
    save_model(path, model, model.width_tables())
    return path


@pytest.fixture
def loaded(path):
    loaded = load_model(path)
    place(loaded.model, CPU)
    return loaded


@pytest.fixture(scope="module")
def picture() -> Planes:
    return waves(128, 192)


def routed(loaded, options: np.ndarray = MIXED):
    """A coder whose encoder takes these options."""
    coder = coder_for(loaded.model)
    coder.choose_capacities = lambda *_: np.asarray(options)
    return coder


def parse(loaded, coded, quality: int = 120, size=SIZE):
    return coder_for(loaded.model).parse("I", coded.payload, coded.modes, quality, size, None)


# -- the map in a payload --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (5, 8)])
@pytest.mark.parametrize("bounds", [(0, 4), (2, 4), (3, 3)])
def test_maps_are_read_as_they_were_written(shape, bounds):
    rng = np.random.default_rng(sum(shape))
    smooth = np.clip(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) // 3, *bounds)
    for options in (rng.integers(bounds[0], bounds[1] + 1, shape), np.full(shape, bounds[1]), np.full(shape, bounds[0]), smooth):
        encoder = FrameEncoder()
        write_map(encoder, options, *bounds)
        payload = encoder.finish()
        decoder = FrameDecoder(payload)
        assert np.array_equal(read_map(decoder, shape, *bounds), options)
        decoder.finish()
        assert encoder.bits.get(LABEL, 0) <= 32 + 4 * options.size if bounds[0] < bounds[1] else payload == b""


def test_maps_cost_little_where_blocks_are_like_their_neighbours():
    smooth = np.repeat(np.repeat(np.random.default_rng(1).integers(0, 5, (3, 3)), 4, 0), 4, 1)
    bits = {}
    for name, options in {"uniform": np.zeros((12, 12), int), "smooth": smooth, "random": np.random.default_rng(2).integers(0, 5, (12, 12))}.items():
        encoder = FrameEncoder()
        write_map(encoder, options, 0, 4)
        encoder.finish()
        bits[name] = encoder.bits[LABEL] / options.size
    assert bits["uniform"] < 0.1 and bits["smooth"] < 1.6 and bits["random"] < 3.2


def test_an_option_out_of_range_is_refused():
    encoder = FrameEncoder()
    write_map(encoder, np.array([[0, 4], [2, 1]]), 0, 4)
    with pytest.raises(StreamError, match="capacity map"):
        read_map(FrameDecoder(encoder.finish()), (2, 2), 0, 3)


# -- coding ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [0, 120, 200])
@pytest.mark.parametrize("options", [MIXED, np.zeros((2, 3), int), np.full((2, 3), 4)])
def test_what_is_parsed_is_what_was_coded(loaded, picture, options, quality):
    coded = routed(loaded, options).encode_intra(picture, quality, SIZE)
    parsed = parse(loaded, coded, quality)
    assert parsed.digest_parts() == coded.parsed.digest_parts() and np.array_equal(parsed.capacities, options)
    assert abs(sum(parsed.bits.values()) - 8 * len(coded.payload)) < 32
    again = coder_for(loaded.model).reconstruct("I", parsed, quality)
    assert torch.equal(again.y, coded.planes.y) and torch.equal(again.uv, coded.planes.uv)
    values = parsed.latents[CONTEXTUAL].integers[0]
    for row, column in np.ndindex(2, 3):
        block = values[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert not block[M[options[row, column]] :].any()
        assert quality == 0 or block[: M[options[row, column]]].any()


def test_a_uniform_map_gives_the_plain_network_bit_for_bit(loaded, picture):
    """The same parameters in layers that know no map."""
    from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d

    model = loaded.model
    x = to_picture(picture.y, picture.uv)
    for option in range(5):
        tcm = CapacityMap.of_blocks(np.full((2, 3), option), 4, 8, 12)
        with torch.no_grad():
            plain, a, s = x, model.analysis, model.synthesis
            for conv, gdn in ((a.stage1, a.gdn1), (a.stage2, a.gdn2), (a.stage3, a.gdn3), (a.stage4, lambda t, _: t)):
                plain = gdn(StageConv2d.forward(conv, plain, option), option)
            y = model.analysis(x, tcm)
            assert torch.equal(y[:, : M[option]], plain) and not y[:, M[option] :].any()
            y = model.gain.unscale(y, torch.tensor([133]))
            plain = y[:, : M[option]]
            for conv, gdn in ((s.stage1, s.gdn1), (s.stage2, s.gdn2), (s.stage3, s.gdn3), (s.stage4, lambda t, _: t)):
                plain = gdn(StageTranspose2d.forward(conv, plain, option), option)
            assert torch.equal(model.synthesis(y, tcm), plain)


def test_blocks_far_from_a_change_do_not_see_it(loaded):
    """The middle of a block that is three blocks away, and the bits of the latent there, are those of the uniform map."""
    wide = waves(64, 512)
    options = np.zeros((1, 8), int)
    uniform = routed(loaded, options).encode_intra(wide, 150, (64, 512))
    options[0, 7] = 4
    mixed = routed(loaded, options).encode_intra(wide, 150, (64, 512))
    near, far = (abs(uniform.planes.y - mixed.planes.y)[..., at].max() for at in (slice(448, None), slice(0, 320)))
    assert near > 2 and far <= 1


def test_the_entropy_path_is_that_of_integers(loaded, picture, monkeypatch):
    payloads = []
    for execution in ("float32", "int64"):
        monkeypatch.setattr(LeadingConv2d, "forward", functools.partialmethod(LeadingConv2d.forward, execution=execution))
        payloads.append(routed(loaded).encode_intra(picture, 77, SIZE).payload)
        monkeypatch.undo()
    assert payloads[0] == payloads[1]


def test_bands_make_the_same_picture(loaded, monkeypatch):
    tall, options = waves(320, 128), np.random.default_rng(4).integers(0, 5, (5, 2))
    whole = routed(loaded, options).encode_intra(tall, 150, (320, 128))
    monkeypatch.setattr(slimcae_coding, "BAND_POSITIONS", 24)
    bands = routed(loaded, options).encode_intra(tall, 150, (320, 128))
    assert bands.payload == whole.payload
    assert (bands.planes.y - whole.planes.y).abs().max() <= 1 and (bands.planes.uv - whole.planes.uv).abs().max() <= 1


def test_damaged_payloads_raise_the_project_s_error_or_decode(loaded, picture):
    coded = routed(loaded).encode_intra(picture, 120, SIZE)
    rng, refused = np.random.default_rng(1), 0
    for _ in range(40):
        data = bytearray(coded.payload)
        for at in rng.integers(0, len(data), 3):
            data[at] ^= 1 << rng.integers(8)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        try:
            coder_for(loaded.model).parse("I", bytes(data), coded.modes, 120, SIZE, None)
        except StreamError:
            refused += 1
    assert refused > 30


def test_a_value_in_an_absent_channel_is_refused(loaded, picture, monkeypatch):
    from neuralcodec.codecs import adanic

    monkeypatch.setattr(adanic.CapacityMap, "present", lambda self, m: torch.ones(m[0], *self.size, dtype=torch.bool))
    monkeypatch.setattr(AdaNIC, "in_steps", lambda self, latent, q: (torch.ones(1, M[0], 8, 12), torch.zeros(1, 5, 2, 3)))
    coder = routed(loaded)
    coder.mask_modes = ()
    coded = coder.encode_intra(picture, 120, SIZE)
    parse(loaded, coded)
    monkeypatch.undo()
    with pytest.raises(StreamError):
        parse(loaded, coded)


# -- routes and labels -----------------------------------------------------------------------------------------------------


def test_routes_choose_the_map(loaded, picture):
    for level, route, option in ((1, "full", 0), (1, "C5", 0), (1, "C2", 3), (4, None, 3), (4, "C1", 4), (5, "jumc", 4)):
        apply_widths(loaded.model, loaded.widths[level - 1])
        coded = coder_for(loaded.model, route=route).encode_intra(picture, 120, SIZE)
        assert (coded.parsed.capacities == option).all()
        assert parse(loaded, coded).digest_parts() == coded.parsed.digest_parts()


def test_routes_that_cannot_be_are_refused(loaded):
    with pytest.raises(UsageError, match="above level 3"):
        check_route(loaded.model, "C4", 3)
    with pytest.raises(UsageError, match="choose full, jumc, agent, C1, C2, C3$"):
        route_option("C4", 3, 1)
    with pytest.raises(UsageError, match="no capacities"):
        check_route(Flagship(), "full", 1)
    check_route(Flagship(), None, 1)
    check_route(loaded.model, "C3", 3)


def test_labels_are_the_least_capacities_within_the_tolerance():
    """Against trying every capacity, with costs that rise with the option, block by block."""
    rng = np.random.default_rng(6)
    table, calls = np.sort(rng.random((5, 4, 6)), 0), []

    def costs(options):
        calls.append(options)
        return np.take_along_axis(table, options[None], 0)[0]

    for epsilon in (0.0, 0.2, 0.5, 2.0):
        for widest in (0, 2, 4):
            calls.clear()
            found = find_capacities(costs, (4, 6), widest, 4, epsilon)
            expected = np.max([np.where(table[o] <= table[widest] + epsilon, o, widest) for o in range(widest, 5)], 0)
            assert np.array_equal(found, expected)
            assert len(calls) <= 1 + math.ceil(math.log2(5 - widest)) and (widest < 4 or not calls)


def test_the_tolerance_is_equation_8():
    assert tolerance(1.0, 0.5) == pytest.approx(0.5 * math.sqrt(2)) and tolerance(0.0, 0.5) == 0.5
    # d is the distance of the two lines mu D' + R = c and mu D' + R = c + epsilon.
    mu, d = 0.7, 0.3
    assert tolerance(mu, d) / math.hypot(mu, 1) == pytest.approx(d)


def test_jumc_gives_flat_blocks_less(picture, monkeypatch):
    """A model at its classical start, whose narrow widths leave out high frequencies: a flat block loses nothing by them."""
    from neuralcodec.codecs import adanic_coding

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = AdaNIC(AdaNICConfig((48, 40, 24, 16, 12), (64, 48, 32, 16, 8), 4)).eval()
    export_tensors(model)  # freezes
    coder = coder_for(model, route="jumc")
    y = picture.y.clone()
    y[..., :64, :64] = 90
    flat = Planes(y, torch.full_like(picture.uv, 128))
    monkeypatch.setattr(adanic_coding, "tolerance", lambda: 0.05)
    coded = coder.encode_intra(flat, 100, (128, 192))
    assert coded.parsed.capacities[0, 0] == 4 and coded.parsed.capacities.min() < 4
    every = np.stack([coder.block_costs(flat, 100, (128, 192), np.full((2, 3), o)) for o in range(5)])
    within = every[coded.parsed.capacities, *np.indices((2, 3))] - every[0]
    assert within.max() < 0.1


def test_block_costs_are_those_of_the_coded_picture(loaded, picture):
    coder = routed(loaded)
    coder.mask_modes = ()
    costs = coder.block_costs(picture, 100, (128, 192), MIXED)
    coded = coder.encode_intra(picture, 100, (128, 192))
    bits = sum(b for name, b in coded.parsed.bits.items() if name != LABEL)
    error = [((a - b).square().mean() / 255**2).item() for a, b in ((coded.planes.y, picture.y), (coded.planes.uv, picture.uv))]
    lam = 64 * 2 ** (10.4 * 100 / 200)
    assert costs.mean() == pytest.approx(bits / (128 * 192) + lam * (0.75 * error[0] + 0.25 * error[1]), rel=0.02)


# -- files and complexity --------------------------------------------------------------------------------------------------


def test_the_default_sizes_are_those_of_table_2():
    assert TABLE_2["low"] == (tuple(range(160, 95, -16)), tuple(range(256, 127, -32)))
    assert TABLE_2["high"] == (tuple(range(192, 127, -16)), tuple(range(320, 191, -32)))
    assert AdaNICConfig.from_dict(json.loads(json.dumps(AdaNICConfig(*TABLE_2["low"]).to_dict()))) == AdaNICConfig(*TABLE_2["low"], 16)


def test_sizes_that_cannot_be_are_refused():
    for sizes in (((), ()), ((8, 6), (8,)), ((8, 8), (9, 8)), ((8, 6), (8, 3))):
        with pytest.raises(UsageError, match="channels"):
            AdaNICConfig(*sizes)
    with pytest.raises(UsageError, match="multiple of 4"):
        AdaNICConfig((8,), (8,), 6)
    with pytest.raises(UsageError, match="smaller by 3"):
        AdaNICConfig((8,), (8,), 4, True, 3)


def test_a_file_is_read_as_it_was_written(loaded, tmp_path):
    again = tmp_path / "tiny.safetensors"
    assert save_model(again, loaded.model, list(loaded.widths)) == loaded.identity == load_model(again).identity
    assert loaded.intra_only and loaded.level_locked and not loaded.exact and loaded.levels == 5 and loaded.channels == N


@pytest.mark.parametrize(("change", "match"), [({"block": 6}, "multiple of 4"), ({"m": [8]}, "channels"), ({"block": None}, "sizes"), ({"n": 3}, "sizes")])
def test_a_file_with_other_sizes_is_refused(path, tmp_path, change, match):
    with safe_open(path, "pt") as f:
        metadata, tensors = f.metadata(), {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118 - not a dict
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | change)
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, metadata=metadata)
    with pytest.raises(ModelError, match=match):
        load_model(broken)


@pytest.mark.parametrize("level", [1, 3, 5])
def test_work_equals_a_count_on_the_running_modules(loaded, picture, level):
    model, table = loaded.model, loaded.widths[level - 1]
    apply_widths(model, table)
    parts, tcm = complexity(model, table), CapacityMap.of_blocks(np.full((2, 3), level - 1), 4, 8, 12)
    with Count() as encoding, torch.no_grad():
        model.analyse(to_picture(picture.y, picture.uv), torch.tensor([50]), tcm)
    coded = coder_for(model).encode_intra(picture, 50, (128, 192))
    with Count() as decoding:
        coder = coder_for(model)
        coder.reconstruct("I", coder.parse("I", coded.payload, coded.modes, 50, (128, 192), None), 50)
    assert total(parts, INTRA) * 128 * 192 == decoding.macs
    assert total(parts, ENCODER) * 128 * 192 == encoding.macs


def test_a_mixed_map_costs_between_its_capacities(loaded, picture):
    """Tiles overlap: work is counted as it is done, and still lies well below the widest."""
    macs = []
    for options in (np.zeros((2, 3), int), MIXED, np.full((2, 3), 4)):
        coder = routed(loaded, options)
        parsed = coder.encode_intra(picture, 50, SIZE).parsed
        with Count() as count:
            coder.reconstruct("I", parsed, 50)
        macs.append(count.macs)
    assert macs[0] > 1.3 * macs[1] > 1.3 * macs[2]
