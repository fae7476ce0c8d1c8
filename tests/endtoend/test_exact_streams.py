"""Streams of a model with exact pictures: their header says so, and old and new kernels decode them to the same samples."""

from __future__ import annotations

import io
from dataclasses import replace

import exactness
import pytest
import rounds
import toy

from neuralcodec.bitstream import Arithmetic, StreamReader, StreamWriter
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import StreamError
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder


@pytest.mark.parametrize("level", [1, 2, 3])
def test_decoder_gives_the_encoders_pictures(exact_toy_path, level):
    loaded, frames = load_model(exact_toy_path), list(toy.moving_texture(5))
    encoded = rounds.encode(loaded, frames, rounds.video_of(frames), EncodeOptions(level=level, quality=40, gop=3))
    reader = StreamReader(io.BytesIO(encoded.data))
    assert reader.header.arithmetic is Arithmetic.EXACT
    decoded = [r.frame for r in StreamDecoder(reader, load_model(exact_toy_path), DecodeOptions(threads=2), rounds.CPU).run()]
    for a, b in zip(encoded.reconstructions(64, 96), decoded, strict=True):
        assert all((p == q).all() for p, q in zip(a.planes, b.planes, strict=True))


def test_a_header_that_disagrees_with_its_model_is_refused(exact_toy_path, toy_path):
    frames = list(toy.moving_texture(1))
    for path, claimed in ((exact_toy_path, Arithmetic.FLOAT_PICTURES), (toy_path, Arithmetic.EXACT)):
        loaded = load_model(path)
        header = StreamReader(io.BytesIO(rounds.encode(loaded, frames, rounds.video_of(frames), EncodeOptions()).data)).header
        file = io.BytesIO()
        StreamWriter(file, replace(header, arithmetic=claimed)).finish()
        file.seek(0)
        with pytest.raises(StreamError, match="exact"):
            StreamDecoder(StreamReader(file), loaded, DecodeOptions(), rounds.CPU)


def test_pictures_of_old_and_new_kernels_are_the_same(exact_toy_path, tmp_path):
    args = exactness.parse(["--model", str(exact_toy_path), "--frames", "3", "--quality", "20"])
    results = list(exactness.compare(args, tmp_path))
    assert len(results) == 6
    assert all(r["pictures_bit_exact"] and r["ok"] for r in results), results
