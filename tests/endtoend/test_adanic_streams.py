"""AdaNIC through the pipeline: videos, stills with alpha, damage, and the commands."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from PIL import Image
from rounds import decode, encode, video_of

from neuralcodec.bitstream import Arithmetic, StreamReader
from neuralcodec.cli import main
from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.pipeline import EncodeOptions

HEIGHT, WIDTH, FRAMES = 70, 130, 2


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("adanic") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AdaNIC(AdaNICConfig((12, 10, 8, 6, 4), (20, 16, 12, 8, 4), 4)).eval()
    save_model(path, model, model.width_tables())
    return path


@pytest.fixture
def loaded(path):
    return load_model(path)


@pytest.fixture(scope="module")
def frames():
    return list(toy.moving_texture(FRAMES, HEIGHT, WIDTH))


@pytest.fixture
def _tolerant(monkeypatch):
    """Labels differ from block to block."""
    monkeypatch.setattr("neuralcodec.codecs.adanic_coding.tolerance", lambda: 0.6)


@pytest.mark.usefixtures("_tolerant")
@pytest.mark.parametrize(("level", "route"), [(1, "jumc"), (2, None), (1, "C2")])
def test_each_route_comes_back_as_the_encoder_saw_it(loaded, frames, level, route):
    stream = encode(loaded, frames, video_of(frames), EncodeOptions(level=level, quality=70, workers=1, route=route))
    maps = [c.parsed.capacities for c in stream.coded]
    assert len(np.unique(maps[0])) > 1 if route == "jumc" else (maps[0] == (1 if route is None else 3)).all()
    result = decode(stream.data, loaded)
    assert not result.damages
    assert result.latents() == {n: b"".join(c.parsed.digest_parts()) for n, c in enumerate(stream.coded)}
    assert result.md5s() == {n: md5_of_frame(f) for n, f in enumerate(stream.reconstructions(HEIGHT, WIDTH))}


def test_a_damaged_payload_is_reported_and_other_frames_play(loaded, frames):
    stream = encode(loaded, frames, video_of(frames), EncodeOptions(workers=1, route="C3"))
    good = decode(stream.data, loaded).md5s()
    at = stream.data.index(stream.packets[1].payload) + len(stream.packets[1].payload) - 1
    damaged = bytearray(stream.data)
    damaged[at] ^= 255
    result = decode(bytes(damaged), loaded)
    assert result.damages and {n: m for n, m in good.items() if n != 1} == result.md5s()
    with pytest.raises(StreamError):
        decode(bytes(damaged), loaded, strict=True)


def test_routes_that_cannot_be_are_refused_before_anything_is_coded(loaded, frames):
    with pytest.raises(UsageError, match="above level 3"):
        encode(loaded, frames[:1], video_of(frames), EncodeOptions(level=3, route="C5", workers=1))
    with pytest.raises(UsageError, match="choose full"):
        encode(loaded, frames[:1], video_of(frames), EncodeOptions(route="C6", workers=1))


@pytest.mark.usefixtures("_tolerant")
def test_commands_code_a_picture_with_alpha(path, frames, tmp_path):
    picture, stream, out = tmp_path / "in.png", tmp_path / "out.nvc", tmp_path / "out.png"
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    samples = np.stack([2 * row, column, 128 + 60 * np.sin(row * column / 40), 255 * (column > 40)], -1).astype(np.uint8)
    Image.fromarray(samples, "RGBA").save(picture)
    command = ["encode", str(picture), "-o", str(stream), "--model", str(path), "--device", "cpu"]
    run = CliRunner().invoke(main, [*command, "--route", "jumc"])
    assert run.exit_code == 0, run.output
    header = StreamReader(io.BytesIO(stream.read_bytes())).header
    assert header.arithmetic is Arithmetic.FLOAT_PICTURES and header.level_locked and header.levels == 5
    run = CliRunner().invoke(main, ["decode", str(stream), "-o", str(out), "--model", str(path), "--device", "cpu"])
    assert run.exit_code == 0, run.output
    decoded = np.asarray(Image.open(out))
    assert decoded.shape == samples.shape and abs(decoded[..., 3].astype(int) - samples[..., 3])[:, 60:].mean() < 60
    run = CliRunner().invoke(main, ["inspect", str(stream), "--model", str(path), "--json"])
    assert run.exit_code == 0 and "capacity map" in run.output
    run = CliRunner().invoke(main, ["models", "--model", str(path)])
    assert run.exit_code == 0 and "memory by level" in run.output and "P frame" not in run.output
    run = CliRunner().invoke(main, [*command, "--force", "--quiet", "--level", "4", "--route", "C5"])
    assert run.exit_code == 2 and "above level 4" in run.output and len(run.output.splitlines()) == 1
    assert stream.stat().st_size > 0


def test_the_command_refuses_a_route_for_other_models(tmp_path):
    picture = tmp_path / "in.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    run = CliRunner().invoke(main, ["encode", str(picture), "-o", str(tmp_path / "out.nvc"), "--route", "jumc", "--device", "cpu", "--quiet"])
    assert run.exit_code == 2 and "no capacities" in run.output and len(run.output.splitlines()) == 1
    assert not (tmp_path / "out.nvc").exists()
