"""Exact models in training: which sources hold one, and clips to calibrate a conversion on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from neuralcodec.codecs.conversion import Picture
from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.training.data import Clips

SIDE = 384
"""Most luma samples of a calibration picture in each direction."""


def source_file(source: str | Path) -> tuple[Path, tuple[str, ...]]:
    """"PATH#PART,PART" -> the safetensors file, of a run when PATH is a folder, and the parts. Raises InputError when there is none."""
    name, _, parts = str(source).partition("#")
    path = Path(name)
    file = path / "state.safetensors" if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{path}: no training state or model file")
    return file, tuple(parts.split(",")) if parts else ()


def holds_exact(source: str | Path) -> bool:
    """Whether a run's folder or a model file holds an exact model. Raises InputError."""
    file, _ = source_file(source)
    try:
        with safe_open(file, "pt") as f:
            return any(name.endswith(".format") for name in f.keys())  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: not a readable model file ({error})") from error


def all_exact(sources: list[str]) -> bool:
    """Whether sources, if there are any, hold exact models. Raises UsageError when they hold both kinds, InputError for one that is none."""
    kinds = {holds_exact(source) for source in sources}
    if len(kinds) > 1:
        raise UsageError("some of the sources are exact models, some are not: convert those first (ncodec train export --exact)")
    return True in kinds


def calibration_clips(packs: list[Clips], count: int, frames: int, seed: int = 0) -> Iterator[list[Picture]]:
    """``count`` clips of ``frames`` consecutive pictures from random places of random clips, and one of another place after them, cut to SIDE: what
    follows a change of scene has the largest values of all."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        pack = packs[rng.integers(len(packs))]
        pictures: list[Picture] = []
        for wanted in (frames, 1):
            clip = rng.integers(len(pack.lengths))
            length = min(wanted, pack.lengths[clip])
            first = pack.starts[clip] + rng.integers(pack.lengths[clip] - length + 1)
            sides = [min(SIDE, size) // 16 * 16 for size in (pack.height, pack.width)]
            top, left = (int(rng.integers((size - side) // 2 + 1)) * 2 for size, side in zip((pack.height, pack.width), sides, strict=True))
            pictures += [_picture(raw, pack, top, left, *sides) for raw in pack.frames[first : first + length]]
        yield pictures


def _picture(raw: np.ndarray, pack: Clips, top: int, left: int, height: int, width: int) -> Picture:
    y = np.array(raw[top : top + height, left : left + width])
    chroma = raw[pack.height :].reshape(2, pack.height // 2, pack.width // 2)
    u, v = np.array(chroma[:, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2])
    return y, u, v
