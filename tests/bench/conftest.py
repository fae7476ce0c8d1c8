"""A moving texture as a clip, in memory and as a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from neuralcodec.bench.points import Clip
from neuralcodec.core.types import Frame, VideoProperties

WIDTH, HEIGHT, COUNT = 70, 50, 4


def texture(count: int = COUNT) -> list[Frame]:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, (HEIGHT + 60, WIDTH + 60))
    for axis in (0, 1):
        noise = sum(np.roll(noise, n, axis) for n in range(-3, 4)) / 7
    picture = np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)
    frames = []
    for n in range(count):
        y = picture[n : n + HEIGHT, 2 * n : 2 * n + WIDTH].copy()
        frames.append(Frame((y, picture[20 : 20 + HEIGHT // 2, n : n + WIDTH // 2].copy(), picture[n : n + HEIGHT // 2, : WIDTH // 2].copy()), n, 1))
    return frames


@pytest.fixture(autouse=True)
def short_timing(monkeypatch):
    """Times need not be good here: no more than the least number of runs."""
    from neuralcodec.bench import scores

    monkeypatch.setattr(scores, "ENOUGH_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """No test finds or leaves points in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def clip() -> Clip:
    return Clip("texture.y4m", VideoProperties(WIDTH, HEIGHT, Fraction(1, 25), Fraction(25)), texture())


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory, clip) -> Path:
    path = tmp_path_factory.mktemp("clips") / clip.name
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode())
        file.writelines(b"FRAME\n" + b"".join(plane.tobytes() for plane in frame.planes) for frame in clip.frames)
    return path
