"""SlimCAE through the pipeline: whole streams at each width, damage, levels, and the commands."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from rounds import decode, encode, video_of

from neuralcodec.bitstream import Arithmetic, StreamReader
from neuralcodec.cli import main
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.slimcae import SlimCAE, SlimCAEConfig
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder

HEIGHT, WIDTH, FRAMES = 50, 70, 3
ONE = EncodeOptions(workers=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("slimcae") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = SlimCAE(SlimCAEConfig((16, 12, 8, 6, 4))).eval()
    save_model(path, model, model.width_tables())
    return path


@pytest.fixture
def loaded(path):
    return load_model(path)


@pytest.fixture(scope="module")
def frames():
    return list(toy.moving_texture(FRAMES, HEIGHT, WIDTH))


def psnr(a, b) -> float:
    return 10 * np.log10(255**2 / np.mean((a.planes[0].astype(float) - b.planes[0]) ** 2))


@pytest.mark.parametrize("level", range(1, 6))
def test_each_width_comes_back_as_the_encoder_saw_it(loaded, frames, level):
    stream = encode(loaded, frames, video_of(frames), EncodeOptions(level=level, quality=70, workers=1))
    result = decode(stream.data, loaded)
    assert not result.damages
    assert result.latents() == {n: b"".join(c.parsed.digest_parts()) for n, c in enumerate(stream.coded)}
    assert result.md5s() == {n: md5_of_frame(f) for n, f in enumerate(stream.reconstructions(HEIGHT, WIDTH))}
    assert min(psnr(f.frame, source) for f, source in zip(result.frames, frames, strict=True)) > 20


def test_every_frame_is_an_intra_frame_and_the_header_says_what_is_exact(loaded, frames):
    from neuralcodec.bitstream import StreamReader

    stream = encode(loaded, frames, video_of(frames), EncodeOptions(gop=32, workers=1))
    assert all(p.intra for p in stream.packets)
    header = StreamReader(io.BytesIO(stream.data)).header
    assert header.arithmetic is Arithmetic.FLOAT_PICTURES and header.level_locked and header.gop_size == 1 and header.levels == 5
    assert {p.quality for p in stream.packets} == {100}
    group = decode(stream.data, loaded, DecodeOptions(frames=(2, 3), workers=1, threads=1))
    assert list(group.md5s()) == [2]


def test_another_level_than_the_stream_s_is_refused(loaded, frames):
    stream = encode(loaded, frames[:1], video_of(frames), EncodeOptions(level=2, workers=1))
    with pytest.raises(UsageError, match="level 2 only"):
        decode(stream.data, loaded, DecodeOptions(level=3, workers=1))
    with pytest.raises(UsageError, match="levels 1, 2, 3, 4, 5"):
        encode(loaded, frames[:1], video_of(frames), EncodeOptions(level=6, workers=1))


def test_a_damaged_payload_is_reported_and_other_frames_play(loaded, frames):
    stream = encode(loaded, frames, video_of(frames), ONE)
    good = decode(stream.data, loaded).md5s()
    at = stream.data.index(stream.packets[1].payload) + len(stream.packets[1].payload) // 2
    damaged = bytearray(stream.data)
    damaged[at] ^= 255
    result = decode(bytes(damaged), loaded)
    assert result.damages and {n: m for n, m in good.items() if n != 1} == result.md5s()
    with pytest.raises(StreamError):
        decode(bytes(damaged), loaded, strict=True)


def test_commands_code_with_a_model_file(path, frames, tmp_path):
    clip, stream, out = tmp_path / "in.y4m", tmp_path / "out.nvc", tmp_path / "out.y4m"
    with open(clip, "wb") as f:
        f.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 C420jpeg\n".encode())
        f.writelines(b"FRAME\n" + b"".join(p.tobytes() for p in frame.planes) for frame in frames)
    run = CliRunner().invoke(main, ["encode", str(clip), "-o", str(stream), "--model", str(path), "--level", "3", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert run.output.count("--gop is 1") == 1
    run = CliRunner().invoke(main, ["decode", str(stream), "-o", str(out), "--model", str(path), "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert out.stat().st_size == clip.stat().st_size + out.read_bytes().index(b"\n") - clip.read_bytes().index(b"\n")
    run = CliRunner().invoke(main, ["models", "--model", str(path)])
    assert run.exit_code == 0 and "memory by level" in run.output and "P frame" not in run.output
    for option in ("--tables", "--saec", "--widths"):
        run = CliRunner().invoke(main, ["bench", str(clip), "--model", str(path), option, "--cache", str(tmp_path / "cache")])
        assert run.exit_code == 2 and f"{option} is not for model" in run.output


def test_loop_filters_are_not_for_it(loaded, frames):
    """A header that claims them is refused before anything is read."""
    stream = encode(loaded, frames, video_of(frames), ONE)
    reader = StreamReader(io.BytesIO(stream.data))
    assert not reader.header.loop_filter and not reader.header.sparse
    reader.header = replace(reader.header, loop_filter=True)
    with pytest.raises(StreamError, match="loop filters"):
        StreamDecoder(reader, loaded, DecodeOptions(), torch.device("cpu"))


def test_nothing_is_searched_for_with_it(loaded, frames):
    with pytest.raises(UsageError, match="effort 1: model 'tiny'"):
        encode(loaded, frames, video_of(frames), replace(ONE, effort=1))
