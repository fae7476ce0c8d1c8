"""Fixtures of the training tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralcodec.training.data import Clips, decode_pack


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors here are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pack of one clip that is decoded already."""
    root = tmp_path_factory.mktemp("pack")
    (root / "clips").mkdir()
    (root / "cache").mkdir()
    rng = np.random.default_rng(1)
    base = np.kron(rng.integers(40, 216, (24, 32)), np.ones((8, 8))).astype(np.uint8)
    frames = [np.concatenate([np.roll(base, (5 * t, 3 * t), (0, 1))[:144, :192], np.full((72, 192), 90 + 10 * t, np.uint8)]) for t in range(4)]
    np.save(root / "cache" / "clips.frames.npy", np.stack(frames))
    (root / "cache" / "clips.clips.json").write_text(json.dumps([4]))
    return root


@pytest.fixture
def clips(root: Path) -> Clips:
    """Its clip."""
    return decode_pack(root / "clips", root / "cache")
