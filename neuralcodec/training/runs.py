"""What the runs of all stages have in common: options, seed, clips in memory, the record of a model's sizes in a run's folder."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuralcodec.core.errors import UsageError
from neuralcodec.nn.mixed import use_precision
from neuralcodec.training.data import Clips, decode_pack
from neuralcodec.training.loop import Schedule


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """``data``: folders of clips (packs); ``cache``: where decoded frames and flow labels are kept; ``run``: the run's folder; ``init``: what to start
    from; ``minutes`` or ``steps``: how long to train, over all resumptions (at most one of them). None is a stage's own default.

    Raises UsageError."""

    data: tuple[Path, ...]
    run: Path
    cache: Path
    init: tuple[str, ...] = ()
    minutes: float | None = None
    steps: int | None = None
    rate: float | None = None
    size: int | None = None
    batch: int | None = None
    device: str = "cpu"
    threads: int | None = None
    seed: int | None = None
    optimiser: str = "soap"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.minutes is not None and self.steps is not None:
            raise UsageError("--minutes and --steps: a run ends after one or the other")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps {self.steps}: at least one")

    def schedule(self, rate: float) -> Schedule:
        """``rate``: the stage's own."""
        minutes = {} if self.minutes is None else {"minutes": self.minutes}
        return Schedule(**minutes, steps=self.steps, rate=self.rate or rate, optimiser=self.optimiser)

    def begin(self) -> int:
        """Set the processor threads, the precision and the seed of this process; returns the seed, the clock's where none was given."""
        if self.threads:
            torch.set_num_threads(self.threads)
        use_precision(self.precision)
        seed = self.seed if self.seed is not None else int(time.time())
        torch.manual_seed(seed)
        return seed

    def load_clips(self) -> list[Clips]:
        """The packs, frames in memory. Raises InputError."""
        packs = [decode_pack(folder, self.cache) for folder in self.data]
        for clips in packs:
            clips.frames = np.array(clips.frames)
        return packs


def keep_record(run: Path, name: str, content: Any) -> None:
    """Write ``content`` as JSON into a run's folder, atomically."""
    run.mkdir(parents=True, exist_ok=True)
    part = (run / name).with_suffix(".part")
    part.write_text(json.dumps(content))
    os.replace(part, run / name)


def find_record(run: Path, name: str) -> Any:
    """What ``keep_record`` wrote; None where there is none."""
    path = run / name
    return json.loads(path.read_text()) if path.is_file() else None
