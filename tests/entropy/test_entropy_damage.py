"""Damaged payloads: a StreamError or wrong symbols, in bounded time and memory, and nothing else."""

import time
import tracemalloc

import numpy as np
import pytest

from neuralcodec.core.errors import StreamError
from neuralcodec.entropy import (
    MAX_SYMBOL,
    FrameDecoder,
    FrameEncoder,
    MaskMode,
    code_latent,
    decode_latent,
    read_mask,
    write_mask,
)

SHAPE = (16, 24, 30)


def frame_parts():
    rng = np.random.default_rng(8)
    scale_index = rng.integers(0, 64, SHAPE).astype(np.uint8)
    return scale_index, scale_index > 40


def decode(payload, mode, parameter, backend):
    scale_index, derived = frame_parts()
    decoder = FrameDecoder(payload, backend)
    mask = read_mask(decoder, mode, parameter, scale_index, derived)
    residual = decode_latent(decoder, scale_index, mask)
    assert np.abs(residual).max() <= MAX_SYMBOL
    decoder.get_numbers(20, 3)
    decoder.finish()
    return residual


def damaged_payloads(count):
    """Random strings, and a good payload flipped, cut, zeroed, and lengthened."""
    rng = np.random.default_rng(9)
    scale_index, derived = frame_parts()
    encoder = FrameEncoder()
    write_mask(encoder, MaskMode.DERIVED, 0, derived, scale_index, derived)
    code_latent(encoder, rng.integers(-5, 6, SHAPE), scale_index, derived)
    encoder.put_numbers(np.arange(20), 3)
    good = encoder.finish()
    for i in range(count):
        if i % 2:
            yield rng.bytes(int(rng.integers(0, 3000)))
            continue
        data = bytearray(good)
        where = int(rng.integers(0, len(data)))
        if i % 8 == 0:
            data[where] ^= 1 << int(rng.integers(0, 8))
        elif i % 8 == 2:
            del data[where:]
        elif i % 8 == 4:
            data[where : where + 40] = bytes(len(data[where : where + 40]))
        else:
            data[where:where] = rng.bytes(400)
        yield bytes(data)


def test_500_damaged_payloads(backend):
    start = time.monotonic()
    rng = np.random.default_rng(10)
    errors = 0
    for payload in damaged_payloads(500):
        mode = MaskMode(int(rng.integers(0, 4)))
        parameter = int(rng.integers(0, {0: 1, 1: 17}.get(mode, 64)))
        try:
            decode(payload, mode, parameter, backend)
        except StreamError:
            errors += 1
    assert errors > 400  # few may pass by chance, as the end check has no redundancy
    assert time.monotonic() - start < 60


def test_memory_follows_the_dimensions_not_the_payload(backend):
    tracemalloc.start()
    for payload in damaged_payloads(20):
        try:
            decode(payload, MaskMode.DERIVED_WITH_EXCEPTIONS, 0, backend)
        except StreamError:
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20  # the latent has 11,520 elements


@pytest.mark.parametrize("payload", [b"", b"\1", b"\xff" * 4, b"\xff" * 8, b"\xff" * 4096])
def test_extreme_payloads_end(backend, payload):
    decoder = FrameDecoder(payload, backend)
    try:
        decoder.get(np.zeros(20000, np.uint8))
        decoder.get_numbers(20000, 16)
        decoder.get_flags(20000, 0)
    except StreamError:
        pass
