"""exact_pictures.md: its numpy form against hand-made cases, plain Python integers, and the real-number networks of pictures.md."""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction

import exact_models
import numpy as np
import pytest
import torch
from exact_chapter import CHAPTER, rows, tensors_of_the_chapter
from exact_models import CONFIG, malformations
from reference import exact_layers, pictures
from reference.exact_layers import POWERS, Convolution, Gain, Layer, rounded, rshift
from reference.exact_pictures import ExactPictures
from reference.motion import compensate
from reference.networks import Latent, ModelError

CONFIG_TEXT = json.dumps(CONFIG)
FULL = [0] * exact_models.unit_count()


def latents_of(values: dict[str, np.ndarray]) -> dict[str, Latent]:
    return {name: Latent(value, np.ones(value.shape, bool)) for name, value in values.items()}


# -- section by section ----------------------------------------------------------------------------------------------------


def test_shifts_round_half_up():
    a = np.array([-7, -6, -5, -2, 0, 1, 2, 5, 6, 7])
    assert rshift(a, 2).tolist() == [-2, -1, -1, 0, 0, 0, 1, 1, 2, 2]
    assert rshift(a, 0).tolist() == a.tolist() and rshift(a, -3).tolist() == (8 * a).tolist()


def test_table_of_powers():
    assert np.array_equal(POWERS, np.round(2.0 ** (15 + np.arange(1024) / 1024)))
    for i, power in enumerate(POWERS.tolist()):  # the nearest integer, without any floating point
        assert (2 * power - 1) ** 1024 <= 2 ** (16384 + i) < (2 * power + 1) ** 1024
    assert hashlib.sha256(POWERS.astype("<u2").tobytes()).hexdigest() in CHAPTER
    assert f"the sum of all is {POWERS.sum()}." in CHAPTER
    for i, value in re.findall(r"\bT\[(\d+)\] = (\d+)", CHAPTER):
        assert POWERS[int(i)] == int(value)


def test_gain_by_hand():
    table = np.zeros((9, 4), np.int32)
    table[:, 1], table[:, 2], table[:, 3] = 1024, -2048, -1
    table[1, 0] = 100
    gain = Gain({"g": table}, "g", 4)
    x = np.array([[[5, -5]], [[5, -5]], [[6, -6]], [[1000, -1000]]])
    # 1024ths of an octave: 0 by a factor of 1, 1024 by 2, -2048 by 1/4 (6 / 4 and -6 / 4 round up), -1 by 65492 / 2^16.
    assert gain.scale(x, 0)[:, 0].tolist() == [[5, -5], [10, -10], [2, -1], [999, -999]]
    assert gain.scale(x, 0, 4)[:, 0].tolist() == [[1280, -1280], [2560, -2560], [384, -384], [255828, -255828]]
    # quality 13: at = (0 * 12 + 100 * 13 + 12) / 25 = 52
    assert gain.scale(np.full((4, 1, 1), 1 << 15), 13)[0, 0, 0] == POWERS[52]
    assert gain.scale(np.full((4, 1, 1), 2**22 - 1), 100)[1, 0, 0] == exact_layers.WIDE_LIMIT


def by_definition(conv: Convolution, x: np.ndarray, outputs: int) -> list[list[list[int]]]:
    """Section 2 with Python's integers, sum by sum."""
    c, rows, columns = x.shape
    margin, depthwise = conv.layer.shape[2] // 2, conv.layer.shape[2] == 3
    values, out = x.tolist(), []
    for o in range(outputs):
        shift = conv.frac_in + int(conv.exponent[o]) - conv.frac_out
        out.append([[0] * columns for _ in range(rows)])
        for r in range(rows):
            for s in range(columns):
                total = 0
                for i in range(1 if depthwise else c):
                    for u in range(2 * margin + 1):
                        for v in range(2 * margin + 1):
                            y, z = r + u - margin, s + v - margin
                            if 0 <= y < rows and 0 <= z < columns:
                                total += int(conv.weight[o, i, u, v]) * values[o if depthwise else i][y][z]
                if conv.rounds:
                    unit = 2 ** max(abs(total).bit_length() - 8, 0)
                    total = round(Fraction(total, unit)) * unit
                total += int(conv.bias[o])
                y = (total + 2 ** (shift - 1)) // 2**shift if shift > 0 else total * 2**-shift
                out[o][r][s] = min(max(y, 0 if conv.layer.next_layer else -conv.limit_out), conv.limit_out)
    return out


@pytest.mark.parametrize("make", [exact_models.random_tensors, exact_models.limit_tensors, exact_models.rounded_trunks, exact_models.rounded_limits])
def test_convolutions_are_the_sums_of_the_definition(make):
    rng, seen, cut = np.random.default_rng(5), set(), 0
    for seed in range(3):
        side = ExactPictures(make(seed), CONFIG_TEXT, FULL)
        for name, conv in side.convolutions.items():
            outputs, inputs = conv.layer.shape[:2]
            depthwise = conv.layer.shape[2] == 3
            limit = conv.limit_in
            x = rng.choice([-limit, limit, limit - 1, 0, 1, -3], (outputs if depthwise else inputs, 2, 3))
            n = max(1, outputs // 2)
            for a, c in ((outputs, len(x)), (n, n if depthwise else max(1, inputs // 2))):
                got = conv(x[:c], a)
                assert got.tolist() == by_definition(conv, x[:c], a), name
                seen |= set(np.sign(got).ravel().tolist())
                cut += np.count_nonzero(np.abs(got) == conv.limit_out)
    assert seen == {-1, 0, 1} and (make in (exact_models.random_tensors, exact_models.rounded_trunks) or cut > 100)


def test_rounding_is_that_of_the_chapter():
    examples = [(int(n), int(r)) for n, r in re.findall(r"\bR\((-?\d+)\) = (-?\d+)", CHAPTER)]
    assert len(examples) == 5 and [rounded(np.array(n)) for n, _ in examples] == [r for _, r in examples]
    n = np.concatenate([np.arange(-3000, 3001), 2**24 - 1 - np.arange(70_000)])
    assert np.array_equal(rounded(n), torch.from_numpy(n).float().bfloat16().double().numpy())


def tiny(shape: tuple[int, ...], weight: list[int], bias: list[int], exponent: list[int], frac: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"N.weight": np.array(weight, np.int8).reshape(shape), "N.bias": np.array(bias, np.int32),
            "N.exponent": np.array(exponent, np.int8), "N.format": np.array(frac, np.int8)}


def test_a_narrow_layer_by_hand():
    tensors = tiny((2, 2, 1, 1), [3, -5, 127, 0], [1, -2], [4, 0], (6, 12))
    conv = Convolution(tensors, "N", Layer(False, (2, 2, 1, 1), 4095, 12, 2**22 - 1))
    x = conv.narrow(np.array([[[31, 32, -33]], [[10**6, -(10**6), 96]]]))
    assert x.tolist() == [[[0, 1, -1]], [[4095, -4095, 2]]]  # 31 / 64, 32 / 64, -33 / 64; limits; 96 / 64 = 1.5
    # first filter: shift 6 + 4 - 12 = -2; second: -6
    assert conv(x).tolist() == [[[-20474 * 4, 20479 * 4, -12 * 4]], [[-2 * 64, 125 * 64, -129 * 64]]]


def test_a_block_clamps_its_branch_and_then_the_sum():
    """At the limit: -WL + clamp(2 WL) is 0, and not WL."""
    limit, config = exact_layers.WIDE_LIMIT, json.loads(CONFIG_TEXT)
    config["intra"]["decoder_blocks"] = 1
    tensors = exact_models.random_tensors(1, config)
    block = "intra.synthesis.trunk.0"
    for name, format_ in (("mix", (-4, -4)), ("spatial", (-4, 12)), ("expand", (-4, -4)), ("project", (-4, 12))):
        for tensor in ("weight", "bias", "exponent"):
            tensors[f"{block}.{name}.{tensor}"] = np.zeros_like(tensors[f"{block}.{name}.{tensor}"])
        tensors[f"{block}.{name}.format"] = np.array(format_, np.int8)
    tensors[f"{block}.spatial.bias"][0] = 200  # 200 * 2^16, three times the limit
    tensors[f"{block}.spatial.bias"][1] = 3
    x = np.full((10, 1, 1), -limit)
    side = ExactPictures(tensors, json.dumps(config), [0] * exact_models.unit_count(config))
    assert side._block(block, x)[:3, 0, 0].tolist() == [0, -limit + 3 * 65536, -limit]
    assert side._block(block, -x)[:3, 0, 0].tolist() == [limit, limit, limit]


def test_planes_and_what_networks_read_of_them():
    planes = exact_models.random_planes(np.random.default_rng(1), 32, 48)
    packed = pictures.join(planes)
    assert np.array_equal(packed, np.round((pictures.pack(planes) + 0.5) * 255))
    for plane, again in zip(planes, pictures.split(packed), strict=True):
        assert np.array_equal(plane, again)


@pytest.mark.parametrize("scale", [20, 700, 30000])
def test_compensation_is_that_of_pictures(scale):
    rng = np.random.default_rng(2)
    planes = tuple(rng.integers(0, 256, size) for size in ((80, 96), (40, 48), (40, 48)))
    vectors = np.clip(np.round(rng.standard_normal((2, 10, 12)) * scale), -8192, 8192).astype(np.int64)
    expected = pictures.compensate(tuple(p.astype(np.float64) for p in planes), vectors / 16)
    for ours, theirs in zip(compensate(planes, vectors), expected, strict=True):
        assert np.array_equal(ours, theirs * 2**14)


@pytest.mark.parametrize("option", [0, 1, 2])
@pytest.mark.parametrize("quality", [7, 100, 200])
def test_the_networks_are_those_of_pictures(option, quality):
    """Nearly: fractions and tables are rounded, and where channels are copied, planes count in 256ths there and in 255ths in pictures.md."""
    tensors = exact_models.random_tensors(1)
    table = [option] * len(FULL)
    exact = ExactPictures(tensors, CONFIG_TEXT, table)
    real = pictures.PictureSide(exact_models.as_real(tensors), CONFIG_TEXT, table)
    assert list(exact.options) == list(real.widths)
    rng = np.random.default_rng(3)
    for kind in "IP":
        reference = exact_models.random_planes(rng, 48, 64, noise=0)
        latents = latents_of(exact_models.random_latents(rng, kind, 3, 4, 14))
        ours = exact.picture(kind, latents, quality, reference)
        theirs = real.picture(kind, latents, quality, tuple(p.astype(np.float64) for p in reference))
        difference = np.concatenate([np.ravel(a - b) for a, b in zip(ours, theirs, strict=True)])
        assert ours[0].std() > 5 and np.abs(difference).mean() < (0.05 if kind == "I" else 0.16) and np.abs(difference).max() <= 3


# -- models ----------------------------------------------------------------------------------------------------------------


def test_tables_of_the_chapter_are_those_of_the_reference():
    expected = {name: (t.dtype.name, t.shape) for name, t in exact_models.random_tensors(1).items()}
    assert tensors_of_the_chapter(CONFIG) == expected
    expected = {name: (t.dtype.name, t.shape) for name, t in exact_models.rounded_trunks(1).items()}
    assert tensors_of_the_chapter(CONFIG, exact_models.TRUNKS) == expected
    layers = exact_layers.layers(CONFIG)
    for text, kind, _, limit_in, frac_out, limit_out in rows("layer"):
        name = text.strip("`").replace("U.", "intra.synthesis.trunk.1.")
        layer = layers[name]
        assert (layer.wide, layer.limit_in, layer.limit_out) == (kind == "wide", int(limit_in), int(limit_out))
        following = f"`frac_in` of `U.{layer.next_layer.rpartition('.')[2]}`"
        assert frac_out == (following if layer.next_layer else str(layer.frac_out)) and ("ReLU" in kind) == bool(layer.next_layer)
    for part, decoder in (("intra", "intra.synthesis"), ("inter", "inter.decoder")):
        chroma = exact_layers.layers({**CONFIG, part: {**CONFIG[part], "chroma_path": True}})
        assert chroma == layers | {f"{decoder}.chroma.conv": layers[f"{decoder}.head"]._replace(shape=(128, CONFIG[part]["latent"], 1, 1))}
    assert [row[0].strip("`") for row in rows("gain")] == list(exact_layers.gains(CONFIG))
    assert [re.search(r"`([^`]+)`", row[0])[1].replace(".i", ".0") for row in rows("units")] == [
        name for name in exact_layers.units(CONFIG) if not name.endswith(".1")]


@pytest.mark.parametrize("what", malformations())
def test_a_malformed_model_is_refused(what):
    tensors = exact_models.random_tensors(1)
    ExactPictures(tensors, CONFIG_TEXT, FULL)
    name, change = malformations()[what]
    tensors[name] = change(tensors[name])
    with pytest.raises(ModelError, match=re.escape(name.rpartition(".")[0])):
        ExactPictures({n: t for n, t in tensors.items() if t is not None}, CONFIG_TEXT, FULL)


@pytest.mark.parametrize("config", ["{}", "[]", "1", CONFIG_TEXT.replace('"step_units": true', '"step_units": false'),
                                    CONFIG_TEXT.replace('"motion_channels": 6', '"motion_channels": 7')])
def test_a_config_of_another_kind_is_refused(config):
    with pytest.raises(ModelError, match="config"):
        ExactPictures(exact_models.random_tensors(1), config, FULL)


@pytest.mark.parametrize("table", [FULL[1:], [*FULL, 0], [3, *FULL[1:]]])
def test_a_width_table_that_does_not_fit_is_refused(table):
    with pytest.raises(ModelError, match="width table"):
        ExactPictures(exact_models.random_tensors(1), CONFIG_TEXT, table)
