"""Memory does not grow with a clip's length: ten times the frames, the same peak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import numpy as np, torch
from neuralcodec.bitstream import StreamReader, StreamWriter
from neuralcodec.codecs.files import load_model
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder, StreamEncoder

model, path, count = load_model(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
video = VideoProperties(192, 128, Fraction(1, 25), Fraction(25))

def frames():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (128, 192), dtype=np.uint8)
    for i in range(count):
        yield Frame((np.roll(base, i, 1), base[:64, :96], base[64:, 96:]), i, 1)

with open(path, "wb") as file:
    encoder = StreamEncoder(model, video, EncodeOptions(gop=8, workers=2), torch.device("cpu"))
    writer = StreamWriter(file, encoder.header)
    assert encoder.run(frames(), writer) == count
    writer.finish()
with open(path, "rb") as file:
    decoder = StreamDecoder(StreamReader(file), model, DecodeOptions(workers=2, threads=1), torch.device("cpu"))
    assert sum(1 for _ in decoder.run()) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_peak_memory_does_not_grow_with_the_clips_length(tiny_model: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (30, 300):
        run = subprocess.run([sys.executable, "-c", PROGRAM, str(tiny_model), str(tmp_path / "x.nvc"), str(count)],
                             capture_output=True, text=True, check=True, timeout=600)
        peaks.append(int(run.stdout))
    # 270 more frames are 10 MB of samples alone, four times that as tensors.
    assert peaks[1] - peaks[0] < 8, f"{peaks[0]} MB for 30 frames, {peaks[1]} MB for 300"
