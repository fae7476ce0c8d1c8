"""The integer tables: well formed, as the specification says, and passed through constriction unchanged."""

import hashlib
import re
from math import erfc, sqrt
from pathlib import Path

import numpy as np
import pytest

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy import MAX_SYMBOL, RADIUS, SCALES, TABLES_SHA256, cost_bits, rans_python
from neuralcodec.entropy.tables import CLASS_MODEL, FLAG_MODELS, TABLE_MODELS, TOTAL, IntegerModel, UniformModel

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"


def test_specification_and_package_have_the_same_tables():
    data = (SPEC / "entropy_tables.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == TABLES_SHA256
    assert TABLES_SHA256 in (SPEC / "entropy.md").read_text("utf-8")


def test_specification_lists_the_flag_probabilities():
    row = re.search(r"^\| p / 4096 \|(.*)\|$", (SPEC / "entropy.md").read_text("utf-8"), re.MULTILINE).group(1)
    assert [int(n) * 4096 for n in row.split("|")] == [m.frequencies[1] for m in FLAG_MODELS]


def test_tables_are_well_formed():
    assert len(TABLE_MODELS) == len(SCALES) == len(RADIUS) == 64
    for model, radius in zip(TABLE_MODELS, RADIUS, strict=True):
        f = model.frequencies
        assert f.sum() == TOTAL
        assert f.min() >= 16
        assert len(f) == 2 * radius + 2
        assert np.array_equal(f[: radius + 1], f[radius : 2 * radius + 1][::-1])
        assert np.all(np.diff(f[radius + 1 : 2 * radius + 1]) <= 0)
        assert f[radius] >= 0.995 * f[radius + 1]  # 0 pays for the smallest frequencies of the wide tables
    for model in [*FLAG_MODELS, CLASS_MODEL]:
        assert model.frequencies.sum() == TOTAL and model.frequencies.min() >= 1


def test_tables_are_discretised_gaussians():
    assert SCALES[0] == 0.11 and SCALES[63] == 64.0
    np.testing.assert_allclose(np.diff(np.log(SCALES)), np.log(64 / 0.11) / 63, rtol=1e-12)
    for model, radius, scale in zip(TABLE_MODELS, RADIUS, SCALES, strict=True):
        assert radius == min(max(np.ceil(4.5 * scale), 1), 255)
        tail = [erfc((k - 0.5) / scale / sqrt(2)) / 2 for k in range(radius + 2)]
        expected = np.array([tail[k] - tail[k + 1] for k in range(1, radius + 1)]) * TOTAL
        assert np.all(np.abs(model.frequencies[radius + 1 : -1] - np.maximum(expected, 16)) <= 0.5 + 1e-6)
        assert abs(model.frequencies[-1] - max(64, 2 * tail[radius + 1] * TOTAL)) <= 0.5 + 1e-6


def exercise(model, count, rng):
    """Indices that visit every symbol of the model at least once, then follow its probabilities."""
    every = np.arange(model.alphabet)
    if isinstance(model, IntegerModel):
        drawn = rng.choice(every, count, p=model.frequencies / TOTAL)
    else:
        drawn = rng.integers(0, model.alphabet, count)
    return rng.permutation(np.concatenate([every, drawn])).astype(np.int32)


@pytest.mark.parametrize("kind", ["tables", "flags", "classes", "uniform", "smallest frequencies"])
def test_constriction_uses_exactly_our_frequencies(kind):
    """T - 1 with perfect=False comes back as T: the words are those of our own rANS over T, and so are the symbols."""
    pytest.importorskip("constriction")
    from neuralcodec.entropy import rans_constriction

    rng = np.random.default_rng(7)
    models = {
        "tables": list(TABLE_MODELS),
        "flags": list(FLAG_MODELS),
        "classes": [CLASS_MODEL],
        "uniform": [UniformModel(bits) for bits in range(1, 13)],
        "smallest frequencies": [IntegerModel(np.array([1] * n + [TOTAL - n])) for n in (1, 2, 255, 511)],
    }[kind]
    for model in models:
        indices = exercise(model, 300, rng)
        words, _ = rans_constriction.encode_runs([(indices, model)])
        expected, _ = rans_python.encode_runs([(indices, model)])
        assert np.array_equal(words, expected)
        assert np.array_equal(rans_constriction.open_decoder(words).decode(model, indices.size), indices)


@pytest.mark.parametrize("model", [*TABLE_MODELS, *FLAG_MODELS, CLASS_MODEL], ids=lambda m: f"alphabet{m.alphabet}")
def test_constriction_has_our_symbol_boundaries(model):
    """A one-word payload decodes to the symbol that holds its quantile: try both ends of every symbol's interval."""
    pytest.importorskip("constriction")
    from neuralcodec.entropy import rans_constriction

    ends = np.cumsum(model.frequencies)
    for quantiles in (ends - model.frequencies, ends - 1):
        symbols = [
            int(rans_constriction.open_decoder(np.array([q] if q else [], dtype=np.uint32)).decode(model, 1)[0])
            for q in quantiles.tolist()
        ]
        assert symbols == list(range(model.alphabet))


def test_cost_of_symbols():
    assert cost_bits(np.array([0]), np.array([0]))[0] == pytest.approx(-np.log2(1 - 156 / TOTAL), abs=1e-6)
    assert cost_bits(np.array([[1, -1]]), np.array([[63, 63]])).shape == (1, 2)
    # radius 1: magnitude 2 is an escape with the number 0: 1 bit of class, 1 of sign
    assert cost_bits(np.array([-2]), np.array([0], dtype=np.uint8))[0] == pytest.approx(18 + 2)
    # number 5 = 4 + 2 - 1: class 2, that is 3 + 2 + 1 bits
    assert cost_bits(np.array([7]), np.array([0]))[0] == pytest.approx(18 + 6)
    assert cost_bits(np.zeros(0, int), np.zeros(0, int)).size == 0


@pytest.mark.parametrize(
    ("symbols", "tables"),
    [
        ([MAX_SYMBOL + 1], [0]),
        ([-MAX_SYMBOL - 1], [0]),
        ([0], [64]),
        ([0], [-1]),
        ([0, 0], [0]),
        ([0.5], [0]),
        ([0], [0.5]),
    ],
)
def test_values_out_of_range_are_refused(symbols, tables):
    with pytest.raises(UsageError):
        cost_bits(np.array(symbols), np.array(tables))
