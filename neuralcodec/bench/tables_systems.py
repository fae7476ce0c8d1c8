"""Which systems the papers' tables are about, which of them there are, and under what conditions tables are
measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from neuralcodec.bench import cache
from neuralcodec.bench.keep import clip_digest, model_facts
from neuralcodec.bench.ours import CPU
from neuralcodec.bench.points import Clip
from neuralcodec.bench.table import Cell
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.errors import NcodecError
from neuralcodec.pipeline.device import core_count

_Computed = TypeVar("_Computed")
HOSTS = ("DVC", "FVC", "DCVC")
"""The hosts of cgSlimDecoder in paper 000. A model is of a host when its architecture begins with the host's name
("dcvc-1")."""
SLIMVC = "SlimVC"
CGSLIM_PAPER = "Complexity-guided Slimmable Decoder for Efficient Deep Video Compression, CVPR 2023"


def full(loaded: LoadedModel) -> bytes:
    """The width table with all channels everywhere."""
    return bytes(len(loaded.widths[0]))


def printed(figures: Sequence[float], levels: Sequence[int]) -> list[Cell]:
    """Figures of paper 000 for the columns that we show: its original, then the levels that it has."""
    return [figures[0], *(figures[n] if n < len(figures) else None for n in levels)]


def system_of(loaded: LoadedModel) -> str:
    """A model's system, in lower case: its architecture without the version."""
    return loaded.metadata["architecture"].rpartition("-")[0].lower()


def found(models: Sequence[LoadedModel], system: str) -> list[LoadedModel]:
    """Those of the models that are of a system."""
    return [loaded for loaded in models if system_of(loaded) == system.lower()]


def without(models: Sequence[LoadedModel], systems: Sequence[str]) -> list[str]:
    """Those of the systems that no model is of."""
    return [system for system in systems if not found(models, system)]


def label(loaded: LoadedModel) -> str:
    """How a model is called in a table."""
    host = next((host for host in HOSTS if system_of(loaded) == host.lower()), None)
    return f"cgSlimDecoder({host}), {loaded.name}" if host else loaded.name


class Usable:
    """Clips on which nothing failed so far. What fails on a clip is told to ``on_failure``, and the clip is left out;
    without ``on_failure`` it is raised."""

    def __init__(self, clips: Iterable[Clip], on_failure: Callable[[Clip, NcodecError], None] | None = None) -> None:
        self.clips, self._on_failure = list(clips), on_failure

    def attempt(self, clip: Clip, compute: Callable[[], _Computed]) -> _Computed | None:
        """``compute()`` for a clip, None where it failed. Raises NcodecError without ``on_failure``."""
        try:
            return compute()
        except NcodecError as error:
            if self._on_failure is None:
                raise
            self.clips = [other for other in self.clips if other.name != clip.name]
            self._on_failure(clip, error)
            return None

    def names(self) -> set[str]:
        """Names of the clips that are left."""
        return {clip.name for clip in self.clips}


@dataclass(frozen=True)
class Setting:
    """How tables are measured: frames in a group of pictures, the device and the threads of the networks, how often a
    timed run is repeated, and where what was timed is kept."""

    gop: int = 32
    device: torch.device = CPU
    threads: int | None = None
    repeats: int = 3
    store: cache.Store = field(default_factory=lambda: cache.Store(None))

    def kept(
        self, clip: Clip, loaded: LoadedModel, compute: Callable[[], dict[str, Any]], **facts: Any
    ) -> dict[str, Any]:
        """``compute()``, or what it gave before for the same clip, model, conditions and ``facts`` on this machine."""
        key = cache.key(
            "tables",
            clip=clip_digest(clip),
            **model_facts(loaded),
            gop=self.gop,
            device=cache.device_name(str(self.device)),
            threads=self.threads or core_count(),
            repeats=self.repeats,
            program=cache.program(ours=True),
            machine=cache.machine(),
            **facts,
        )
        found = self.store.get(key)
        if found is None:
            found = compute()
            self.store.put(key, found)
        return found

    def threads_note(self) -> str:
        """A sentence on processors for tables with times."""
        threads = self.threads or core_count()
        return (
            f"One group of pictures at a time; threads of the networks: {threads}, on {self.device}; processors: "
            f"{core_count()}. Nothing else of this program ran meanwhile; other programs may have."
        )

    def notes(self, clips: Sequence[Clip], days: Iterable[str]) -> tuple[str, ...]:
        """What was measured on, and on which days."""
        names = ", ".join(f"{c.name} {c.video.width}x{c.video.height}, {len(c.frames)} frames" for c in clips)
        return (f"Clips: {names}; groups of {self.gop or 'all'} frames; measured {', '.join(sorted(days))}.",)
