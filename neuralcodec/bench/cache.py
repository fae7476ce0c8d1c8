"""Measured points, kept by content: whoever asks again for the same clip, settings, model and program gets what was
found.

A key is a hash over everything that a figure depends on. What is kept is one JSON file for each key, written under a
temporary name first, so that an interrupted bench leaves whole entries only. Times belong to a machine: its processor
is part of every key.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy

from neuralcodec import __version__
from neuralcodec.bench import vmaf

FORMAT = 1
_OURS = ("core", "bitstream", "entropy", "nn", "codecs", "pipeline", "media")
_MEASURING = (
    "bd",
    "classical",
    "conditions",
    "crops",
    "metrics",
    "ours",
    "perceptual",
    "points",
    "scores",
    "stills",
    "vmaf",
    "memory",
    "tables_times",
    "tables_counters",
    "tables_counting",
)


def default_folder() -> Path:
    """neuralcodec/bench in the user's cache folder, by the XDG rules (an absolute XDG_CACHE_HOME, or ~/.cache)."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "neuralcodec" / "bench"


class Store:
    """Entries by key in a folder; without one nothing is kept. ``broken`` says once why writing failed."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.broken = folder, ""

    def get(self, key: str) -> dict[str, Any] | None:
        """An entry, or None. A damaged one counts as missing."""
        if self.folder is None:
            return None
        try:
            found = json.loads(self._path(key).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry. A folder that cannot be written costs the entry only."""
        if self.folder is None or self.broken:
            return
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(entry))
            os.replace(part, path)
        except OSError as error:
            self.broken = f"{self.folder}: points are not kept ({error.strerror})"
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def key(kind: str, **facts: Any) -> str:
    """A hash over facts that JSON can hold."""
    text = json.dumps([FORMAT, kind, facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str) -> str | None:
    """sha256 of a regular file; None for what is none (a pattern, a pipe) or cannot be read."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


@functools.cache
def program(ours: bool) -> str:
    """The version of what makes a point: the package's version and a hash over the modules that take part, with the
    versions of the libraries. Classical points do not depend on our codec's code."""
    package = Path(__file__).resolve().parents[1]
    rooms = _OURS if ours else ("core", "media")
    files = sorted(p for room in rooms for p in (package / room).rglob("*") if p.suffix in (".py", ".json"))
    digest = hashlib.sha256()
    for path in [*files, *(package / "bench" / f"{name}.py" for name in _MEASURING)]:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return key("program", version=__version__, code=digest.hexdigest(), libraries=versions(), ours=ours)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what takes part, by name."""
    import av
    import PIL
    import torch

    found = {
        "neuralcodec": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "av": av.__version__,
        "pillow": PIL.__version__,
    }
    for name in ("pytorch-msssim", "bjontegaard", "scipy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if (tool := vmaf.find()) is not None:
        found["vmaf"] = f"{tool.version}, model {vmaf.VMAF_MODEL}"
    return found | {name: ".".join(map(str, v)) for name, v in sorted(av.library_versions.items())}


@functools.cache
def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory and system, without the machine's name."""
    from neuralcodec.pipeline.device import core_count

    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        memory = None
    return {
        "processor": _processor(),
        "cores": core_count(),
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def device_name(device: str) -> str:
    """A device in words: "cpu" (its processor is in ``machine``), or a GPU's name."""
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def now() -> str:
    """Date and time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text().splitlines()
        for line in lines:
            name, colon, value = line.partition(":")
            if colon and name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or sys.platform
