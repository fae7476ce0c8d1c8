"""Frame payloads: round trips on both backends, equal bytes, golden bytes, bit accounting, refusals."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import MAX_SYMBOL, SCALES, FrameDecoder, FrameEncoder, backend_name, cost_bits
from neuralcodec.entropy.backend import current_backend, load_backend
from neuralcodec.entropy.tables import TABLE_MODELS

SYMBOLS = st.one_of(st.integers(-3, 3), st.integers(-400, 400), st.sampled_from([-MAX_SYMBOL, MAX_SYMBOL]))


@st.composite
def groups(draw):
    """A random sequence of put calls: (name, arguments), what get must be given, what it must return."""
    calls = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["symbols", "bits", "flags", "numbers"]))
        count = draw(st.integers(0, 40))
        if kind == "symbols":
            values = draw(hnp.arrays(np.int32, count, elements=SYMBOLS))
            calls.append((kind, values, draw(hnp.arrays(np.uint8, count, elements=st.integers(0, 63)))))
        elif kind == "bits":
            nbits = draw(st.integers(0, 16))
            calls.append((kind, draw(hnp.arrays(np.int32, count, elements=st.integers(0, (1 << nbits) - 1))), nbits))
        elif kind == "flags":
            calls.append((kind, draw(hnp.arrays(bool, count)), draw(st.integers(0, 15))))
        else:
            order = draw(st.integers(0, 16))
            largest = (1 << (15 + order)) - (1 << order) - 1
            calls.append((kind, draw(hnp.arrays(np.int64, count, elements=st.integers(0, largest))), order))
    return calls


def write(calls, backend):
    encoder = FrameEncoder(backend)
    for kind, values, argument in calls:
        put = encoder.put if kind == "symbols" else getattr(encoder, f"put_{kind}")
        put(values, argument, label=kind)
    return encoder.finish(), encoder.bits


def read(calls, payload, backend):
    decoder = FrameDecoder(payload, backend)
    results = []
    for kind, values, argument in calls:
        if kind == "symbols":
            results.append(decoder.get(argument, label=kind))
        else:
            get = {"bits": decoder.get_bits, "flags": decoder.get_flags, "numbers": decoder.get_numbers}[kind]
            results.append(get(values.size, argument, kind) if kind != "bits" else get(argument, values.size, kind))
    decoder.finish()
    return results, decoder.bits


@settings(max_examples=60, deadline=None)
@given(calls=groups())
def test_round_trip(backend, calls):
    payload, written = write(calls, backend)
    results, counted = read(calls, payload, backend)
    for (_, values, _), result in zip(calls, results, strict=True):
        assert result.shape == values.shape and np.array_equal(result, values)
    assert set(written) == set(counted) - {k for k, v in counted.items() if v == 0 and k not in written}
    assert all(written[label] == pytest.approx(counted[label], abs=1e-6) for label in written)
    assert abs(sum(written.values()) - 8 * len(payload)) <= 8


@settings(max_examples=60, deadline=None)
@given(calls=groups())
def test_backends_write_the_same_bytes(calls):
    pytest.importorskip("constriction")
    payloads = {write(calls, load_backend(name))[0] for name in ("constriction", "python")}
    assert len(payloads) == 1
    assert not payloads.pop().endswith(b"\0")


def golden_calls():
    rng = np.random.default_rng(20)  # only integers(), whose stream numpy keeps
    tables = rng.integers(0, 64, 60).astype(np.uint8)
    symbols = rng.integers(-9, 10, 60).astype(np.int32) // (1 + rng.integers(0, 8, 60))
    symbols[[3, 30, 31]] = 500, -MAX_SYMBOL, 256
    return [
        ("bits", np.array([5, 0, 7]), 3),
        ("symbols", symbols, tables),
        ("flags", rng.integers(0, 20, 200) == 0, 5),
        ("numbers", np.array([0, 3, 70000]), 4),
        ("symbols", np.zeros(1000, np.int32), np.zeros(1000, np.uint8)),
    ]


GOLDEN = (
    "b0f03f16ffd6f445af94ffdf724bfe543b9a7c78098d809a2f7d814c437e79caf6ae68a16c2277df982f306143ca981c10c6"
    "22c1d7f8ff741b1901c9d38100c7e6571d95ceffbff83b8ea6"
)


def test_golden_payload(backend):
    """The format is a promise: these bytes change only with the version of the format."""
    payload, _ = write(golden_calls(), backend)
    assert payload.hex() == GOLDEN
    results, _ = read(golden_calls(), bytes.fromhex(GOLDEN), backend)
    assert all(np.array_equal(r, c[1]) for r, c in zip(results, golden_calls(), strict=True))


def test_smallest_payloads(backend):
    assert FrameEncoder(backend).finish() == b""
    FrameDecoder(b"", backend).finish()
    for value, payload in ((0, b""), (128, b"\x00\x00\x80"), (1, b"\x00\x00\x01")):
        encoder = FrameEncoder(backend)
        encoder.put_bits(value, 8)  # from state 0: the quantile alone, the value in its 8 high bits
        assert encoder.finish() == payload


def test_order_of_a_group_is_by_table(backend):
    """A group is coded as its runs by ascending table, each in the order of the elements, then its escapes."""
    rng = np.random.default_rng(3)
    tables = rng.integers(0, 64, 500).astype(np.uint8)
    symbols = np.rint(rng.normal(size=500) * SCALES[tables]).astype(np.int32)
    whole, runs = FrameEncoder(backend), FrameEncoder(backend)
    whole.put(symbols, tables)
    for table in range(64):
        runs.put(symbols[tables == table], tables[tables == table])
    assert whole.finish() == runs.finish()


@pytest.mark.parametrize("shape", [(4, 10, 12), (7,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_shapes_and_types(backend, shape, dtype):
    rng = np.random.default_rng(4)
    tables = rng.integers(0, 64, shape).astype(dtype)
    symbols = rng.integers(-300, 300, shape).astype(np.int16)
    encoder = FrameEncoder(backend)
    encoder.put(symbols[..., ::-1], tables[..., ::-1])
    result = FrameDecoder(encoder.finish(), backend).get(tables[..., ::-1])
    assert result.dtype == np.int32 and np.array_equal(result, symbols[..., ::-1])


def test_estimated_bits_are_the_size(backend):
    rng = np.random.default_rng(5)
    tables = rng.integers(0, 64, 60000).astype(np.uint8)
    symbols = np.rint(rng.standard_t(5, size=tables.size) * SCALES[tables]).astype(np.int32)  # heavy tails: escapes too
    encoder = FrameEncoder(backend)
    encoder.put(symbols, tables, "latent")
    payload = encoder.finish()
    estimate = cost_bits(symbols, tables).sum()
    assert abs(8 * len(payload) - estimate) <= 0.001 * estimate + 32
    assert abs(encoder.bits["latent"] - estimate) <= 0.001 * estimate + 32


def test_bits_by_label(backend):
    rng = np.random.default_rng(6)
    tables = np.full(5000, 30, np.uint8)
    symbols = np.rint(rng.normal(size=5000) * SCALES[30]).astype(np.int32)
    encoder = FrameEncoder(backend)
    encoder.put(symbols, tables, "motion")
    encoder.put_bits(np.zeros(100, int), 10, "mask")
    encoder.put(symbols, tables, "motion")
    encoder.put_flags(rng.random(4000) < 1 / 16, 5)
    encoder.finish()
    assert encoder.bits["mask"] == pytest.approx(1000, abs=0.05)
    assert encoder.bits["motion"] == pytest.approx(2 * cost_bits(symbols, tables).sum(), abs=1)
    assert set(encoder.bits) == {"motion", "mask", ""}


def test_refusals_of_the_encoder(backend):
    encoder = FrameEncoder(backend)
    for action in (
        lambda: encoder.put(np.array([MAX_SYMBOL + 1]), np.array([0])),
        lambda: encoder.put(np.array([0]), np.array([64])),
        lambda: encoder.put_bits(4, 2),
        lambda: encoder.put_bits(-1, 2),
        lambda: encoder.put_bits(0, 17),
        lambda: encoder.put_flags(np.array([True]), 16),
        lambda: encoder.put_numbers(np.array([-1]), 3),
        lambda: encoder.put_numbers(np.array([(1 << 18) - 8]), 3),
        lambda: encoder.put_numbers(np.array([0]), 17),
    ):
        with pytest.raises(UsageError):
            action()
    assert encoder.finish() == b""


def test_absurd_escape_is_refused(backend):
    encoder = FrameEncoder(backend)
    encoder._add(np.array([3], np.int32), TABLE_MODELS[0], "")  # the escape of table 0, radius 1
    encoder.put_numbers(np.array([MAX_SYMBOL - 1]), 0)  # magnitude 32768
    encoder.put_bits(0, 1)
    decoder = FrameDecoder(encoder.finish(), backend)
    with pytest.raises(StreamError, match="32768"):
        decoder.get(np.array([0], np.uint8))


def test_the_end_is_checked(backend):
    encoder = FrameEncoder(backend)
    encoder.put_bits(np.arange(100), 7)
    payload = encoder.finish()
    decoder = FrameDecoder(payload, backend)
    decoder.get_bits(7, 99)
    with pytest.raises(StreamError):
        decoder.finish()
    assert decoder.get_bits(7, 1)[0] == 99
    decoder.finish()
    longer = FrameDecoder(b"\1\2\3\4" + payload, backend)  # a word too many at the bottom of the stack
    longer.get_bits(7, 100)
    with pytest.raises(StreamError):
        longer.finish()
    with pytest.raises(StreamError):
        FrameDecoder(payload + b"\0", backend)


def test_backend_is_chosen_by_the_environment(monkeypatch):
    monkeypatch.setenv("NCODEC_ENTROPY_BACKEND", "python")
    assert backend_name() == "python" and current_backend() is load_backend("python")
    monkeypatch.setenv("NCODEC_ENTROPY_BACKEND", "fortran")
    with pytest.raises(UsageError, match="fortran"):
        FrameEncoder()
    monkeypatch.delenv("NCODEC_ENTROPY_BACKEND")
    assert backend_name() in ("constriction", "python")


def test_python_stands_in_without_constriction():
    """In a fresh interpreter where constriction cannot be imported, the room still works."""
    code = (
        "import sys; sys.modules['constriction'] = None\n"
        "from neuralcodec.entropy import FrameEncoder, backend_name\n"
        "encoder = FrameEncoder(); encoder.put_bits(1, 8)\n"
        "print(backend_name(), encoder.finish().hex())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NCODEC_ENTROPY_BACKEND"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["python", "000001"]
