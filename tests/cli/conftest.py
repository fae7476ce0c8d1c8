"""Small clips, streams of them, and a way to call the command line inside this process."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from cli_clips import FRAMES, HEIGHT, WIDTH, picture, planes
from click.testing import CliRunner

from neuralcodec.cli import main


class Cli:
    """Calls ``ncodec``; ``ok`` wants exit code 0."""

    def __init__(self, model: Path) -> None:
        self.model = str(model)

    def __call__(self, *args: object, stdin: bytes | None = None):
        return CliRunner().invoke(main, [str(a) for a in args], input=stdin)

    def ok(self, *args: object, stdin: bytes | None = None):
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    def encode(self, source: object, output: object, *args: object):
        return self.ok("encode", source, "-o", output, "--model", self.model, *args)

    def decode(self, source: object, *args: object):
        return self.ok("decode", source, "--model", self.model, *args)

    def md5(self, source: object, *args: object) -> str:
        return self.decode(source, "--md5", *args).stdout.split()[0]


@pytest.fixture(scope="session")
def cli(tiny_model) -> Cli:
    return Cli(tiny_model)


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """FRAMES raw frames of WIDTH x HEIGHT."""
    path = tmp_path_factory.mktemp("raw") / "clip.yuv"
    path.write_bytes(planes())
    return path


@pytest.fixture(scope="session")
def y4m(tmp_path_factory) -> Path:
    """The same frames with a header, at 25 frames a second."""
    path = tmp_path_factory.mktemp("y4m") / "clip.y4m"
    frames = (b"FRAME\n" + b"".join(p.tobytes() for p in picture(n)) for n in range(FRAMES))
    path.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode() + b"".join(frames))
    return path


@pytest.fixture(scope="session")
def sounding(tmp_path_factory) -> Path:
    """20 frames at 25 a second with 0.8 s of AAC sound, in Matroska."""
    path = tmp_path_factory.mktemp("sound") / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT)
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="mono")
        for n in range(20):
            frame = av.VideoFrame.from_ndarray(np.concatenate([p.reshape(-1, WIDTH) for p in picture(n)]), "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for n in range(35):
            wave = (np.sin(np.arange(n * 1024, (n + 1) * 1024) / 20) / 2).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, n * 1024, Fraction(1, 44100)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@pytest.fixture(scope="session")
def stream(cli, y4m, tmp_path_factory) -> Path:
    """The y4m clip as a stream of three groups of pictures, level 1."""
    path = tmp_path_factory.mktemp("stream") / "clip.nvc"
    cli.encode(y4m, path, "--gop", 3)
    return path


@pytest.fixture(scope="session")
def sounding_stream(cli, sounding, tmp_path_factory) -> Path:
    """The clip with sound as a stream of groups of 8."""
    path = tmp_path_factory.mktemp("stream") / "sound.nvc"
    cli.encode(sounding, path, "--gop", 8)
    return path
