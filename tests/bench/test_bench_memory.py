"""Peak memory of processes that encode or decode and do nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from neuralcodec.bench import classical, ours
from neuralcodec.bench.memory import MemoryTask, _child, _encode, measure, peak
from neuralcodec.bench.points import read_clip
from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import MeasureError
from neuralcodec.pipeline import EncodeOptions

MIB = 1 << 20


def test_a_classical_codec(clip_file):
    if classical.missing("x264-medium"):
        pytest.skip("this FFmpeg has no such encoder")
    assert all(10 * MIB < n < 200 * MIB for n in measure(MemoryTask(str(clip_file), 2, "x264-medium", 28)))


def test_ours_with_its_libraries(clip_file, tiny_model, tmp_path):
    task = MemoryTask(str(clip_file), 2, "ours-l1", 50.0, 1, str(tiny_model))
    written = tmp_path / "stream"
    _encode(task, str(written))
    assert written.read_bytes() == ours.encode(read_clip(clip_file, 2), load_model(tiny_model), EncodeOptions(1, 50.0, effort=0)).data
    assert 60 * MIB < _child(task, "decode", str(written)) < 4096 * MIB


def test_a_picture_is_encoded_as_it_is_measured(tiny_model, tmp_path):
    Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)).save(tmp_path / "p.png")
    written = tmp_path / "stream"
    _encode(MemoryTask(str(tmp_path / "p.png"), None, "ours-l1", 50.0, 1, str(tiny_model)), str(written))
    assert StreamReader(io.BytesIO(written.read_bytes())).header.bare
    assert written.read_bytes() == ours.encode(read_clip(tmp_path / "p.png"), load_model(tiny_model), EncodeOptions(1, 50.0, effort=0)).data


def test_a_process_that_fails_is_one_line(tmp_path):
    with pytest.raises(MeasureError, match="that was to encode failed: .*no such file") as error:
        measure(MemoryTask(str(tmp_path / "missing.y4m"), None, "x264-medium", 28))
    assert "\n" not in str(error.value)


def test_the_peak_grows_with_what_is_held():
    before = peak()
    held = bytearray(max(64 * MIB, before + 64 * MIB))
    held[:: 4096] = b"\1" * len(held[:: 4096])
    assert peak() >= before + 60 * MIB
