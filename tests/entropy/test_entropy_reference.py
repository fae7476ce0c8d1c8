"""The reference decoder of bitstream_spec against the real one, symbol by symbol, and independent of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuralcodec.core.errors import StreamError
from neuralcodec.entropy import (
    MAX_SYMBOL,
    SCALES,
    FrameDecoder,
    FrameEncoder,
    MaskMode,
    choose_mask,
    code_latent,
    decode_latent,
    read_mask,
    write_mask,
)

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"


def make_frame(seed, shape=(20, 9, 14)):
    rng = np.random.default_rng(seed)
    scale_index = np.clip(rng.normal(20, 18, shape), 0, 63).astype(np.uint8)
    residual = np.rint(rng.standard_t(3, size=shape) * SCALES[scale_index]).astype(np.int32)
    residual = np.clip(residual, -MAX_SYMBOL, MAX_SYMBOL)
    residual.reshape(-1)[rng.integers(0, residual.size, 3)] = (MAX_SYMBOL, -MAX_SYMBOL, 300)
    return residual, scale_index, scale_index + rng.integers(-5, 6, shape) > 20


@pytest.mark.parametrize("mode", list(MaskMode))
@pytest.mark.parametrize("seed", range(4))
def test_reference_decodes_the_same(mode, seed):
    from reference import masks, rans, tables

    residual, scale_index, derived = make_frame(seed)
    choice = choose_mask(residual, scale_index, derived, modes=(mode,))
    encoder = FrameEncoder()
    encoder.put_bits(np.array([0, 65535, 77]), 16)
    write_mask(encoder, choice.mode, choice.parameter, choice.mask, scale_index, derived)
    code_latent(encoder, residual, scale_index, choice.mask)
    encoder.put_numbers(np.array([0, 1, 2**30]), 16)
    encoder.put_flags(residual.reshape(-1)[:200] == 0, 10)
    payload = encoder.finish()

    decoder, reference = FrameDecoder(payload), rans.Rans(payload)
    assert decoder.get_bits(16, 3).tolist() == [reference.bits(16) for _ in range(3)] == [0, 65535, 77]
    mask = read_mask(decoder, choice.mode, choice.parameter, scale_index, derived)
    assert np.array_equal(mask, masks.read_mask(reference, int(mode), choice.parameter, scale_index, derived))
    latent = decode_latent(decoder, scale_index, mask)
    assert np.array_equal(latent, masks.read_latent(reference, scale_index, mask))
    assert np.array_equal(latent, np.where(mask, residual, 0))
    assert decoder.get_numbers(3, 16).tolist() == tables.read_numbers(reference, 3, 16) == [0, 1, 2**30]
    assert decoder.get_flags(200, 10).tolist() == tables.read_flags(reference, 200, 10)
    decoder.finish()
    reference.check_end()


def test_reference_and_real_decoder_agree_on_damage():
    """Both give the same symbols from random payloads, or both refuse."""
    from reference import masks, rans

    rng = np.random.default_rng(11)
    _, scale_index, derived = make_frame(9, (6, 5, 6))
    outcomes = {"refused": 0, "decoded": 0}
    for i in range(120):
        payload = rng.bytes(int(rng.integers(0, 120)))
        mode, parameter = i % 4, int(rng.integers(0, (1, 17, 64, 64)[i % 4]))

        def real(payload=payload, mode=mode, parameter=parameter):
            decoder = FrameDecoder(payload)
            return decode_latent(decoder, scale_index, read_mask(decoder, mode, parameter, scale_index, derived))

        def spec(payload=payload, mode=mode, parameter=parameter):
            decoder = rans.Rans(payload)
            mask = masks.read_mask(decoder, mode, parameter, scale_index, derived)
            return masks.read_latent(decoder, scale_index, mask)

        try:
            expected = spec()
        except rans.StreamError:
            outcomes["refused"] += 1
            with pytest.raises(StreamError):
                real()
        else:
            outcomes["decoded"] += 1
            assert np.array_equal(real(), expected)
    assert min(outcomes.values()) > 5


def test_reference_imports_nothing_of_the_product():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from reference import masks, rans, tables\n"
        "print(sorted({'neuralcodec', 'torch', 'constriction'} & {m.split('.')[0] for m in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SPEC, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_reference_checks_the_end():
    from reference import rans

    encoder = FrameEncoder()
    encoder.put_bits(np.array([3, 200]), 8)
    payload = encoder.finish()
    reference = rans.Rans(payload)
    assert reference.bits(8) == 3
    with pytest.raises(rans.StreamError):
        reference.check_end()
    assert reference.bits(8) == 200
    reference.check_end()
    with pytest.raises(rans.StreamError):
        rans.Rans(b"\1\2\3\4" * 3).check_end()
    with pytest.raises(rans.StreamError):
        rans.Rans(payload + b"\0")
