"""Flow labels of a pack, computed once and kept beside its frames: the teacher of the motion stage (DESIGN D7)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np

from neuralcodec.codecs.estimation import CELL, estimate_flow
from neuralcodec.training.data import Clips

log = logging.getLogger(__name__)


def load_flow(clips: Clips, cache: Path, name: str) -> np.ndarray:
    """(2, N, H/8, W/8, 2) float16: row i belongs to the frames i and i + 1 of the pack (zero at a clip's last frame).

    [0, i] leads from frame i + 1 back to frame i, [1, i] from frame i to frame i + 1 (for reversed clips).
    """
    path = cache / f"{name}.flow.npy"
    if not path.exists():
        luma, height = clips.frames, clips.height
        out = np.zeros((2, len(luma), height // CELL, clips.width // CELL, 2), np.float16)
        told = time.monotonic()
        for start, length in zip(clips.starts, clips.lengths):
            for i in range(start, start + length - 1):
                a, b = luma[i, :height], luma[i + 1, :height]
                out[0, i], out[1, i] = estimate_flow(b, a), estimate_flow(a, b)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                log.info("flow labels of %s: %.0f %%", name, 100 * (start + length) / len(luma))
        with open(path.with_suffix(".part"), "wb") as f:
            np.save(f, out)
        os.replace(path.with_suffix(".part"), path)
    return np.load(path, mmap_mode="r")
