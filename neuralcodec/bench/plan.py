"""What to measure, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuralcodec.bench import ours
from neuralcodec.bench.bd import BdResult, Curve
from neuralcodec.bench.compare import SKIPPING, KindRow, VariantRow, uniform_widths
from neuralcodec.bench.conditions import condition, condition_names
from neuralcodec.bench.crops import Place
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Point
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import InputError
from neuralcodec.pipeline import EncodeOptions

KIND_ANCHOR = "x265-medium-ld32"
"""What I and P frames are held against."""
SPEED_ANCHOR, SPEED_SETTING = "x264-medium-ld32", 28
"""Whose decoding time speeds are held against. It is taken anew beside every timed point, so that the ratio does not
depend on what the machine did when another point, perhaps kept from another day, was timed."""


@dataclass(frozen=True)
class Plan:
    """What to measure. ``against`` holds conditions by full names, whichever were given (UsageError for unknown ones).
    ``anchors`` are precomputed curves: {clip: {"n": frames, condition: [{"value", "bpp", "psnr"}, ...]}}. ``measures``
    beyond PSNR as in metrics.MEASURES. ``settings`` limits the settings of a classical curve (None: all). ``jobs`` and
    ``threads`` None: one for each core; ``cache`` None: nothing is kept. ``effort`` as in
    EncodeOptions."""

    clips: tuple[str, ...]
    model: str
    against: tuple[str, ...] = ("x264-medium-ld32", "x265-medium-ld32")
    levels: tuple[int, ...] = (1, 2, 3)
    qualities: tuple[float, ...] = (10.0, 30.0, 50.0, 70.0, 90.0)
    gop: int = 32
    frames: int | None = None
    device: str = "auto"
    saec: bool = False
    widths: bool = False
    jobs: int | None = None
    anchors: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: tuple[str, ...] = ()
    settings: int | None = None
    threads: int | None = None
    memory: bool = False
    cache: Path | None = None
    effort: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "against", condition_names(self.against))

    def effort_of(self, still: bool) -> int:
        """Of our encoder, for a video or a single picture."""
        return EncodeOptions(gop=self.gop, effort=self.effort).search_effort(by_name(self.model), still)

    def settings_of(self, name: str) -> tuple[int, ...]:
        """The settings of a classical curve: all, or ``settings`` of them spread over its range."""
        values = condition(name).crf
        if self.settings is None or self.settings >= len(values):
            return values
        last = max(1, self.settings - 1)
        return tuple(dict.fromkeys(values[round(i * (len(values) - 1) / last)] for i in range(self.settings)))


@dataclass(frozen=True)
class Task:
    """One point. ``level`` None: the classical condition ``codec``; ``timed``: nothing else runs at the same time;
    ``place``: the crop to keep."""

    clip: str
    frames: int | None
    codec: str
    setting: float
    level: int | None = None
    variant: Variant = field(default_factory=Variant)
    model: str = ""
    gop: int = 32
    device: str = "cpu"
    timed: bool = True
    entropy: bool = False
    threads: int = 1
    measures: tuple[str, ...] = ()
    place: Place | None = None
    effort: int = 0


@dataclass
class Result:
    """Everything that a bench found. ``anchor_curves``: precomputed curves by clip and condition. ``failures``: one
    line each, with the exit code of the first in ``exit_code``; ``notes``: lines about what is as it should be.
    ``stills`` are the clips that are single pictures."""

    points: list[Point] = field(default_factory=list)
    bd: dict[str, dict[str, dict[str, BdResult]]] = field(default_factory=dict)
    """By anchor, codec and clip."""
    bd_measures: dict[str, dict[str, dict[str, dict[str, BdResult]]]] = field(default_factory=dict)
    """By measure of quality other than PSNR, then as ``bd``."""
    kinds: list[KindRow] = field(default_factory=list)
    saec: list[VariantRow] = field(default_factory=list)
    widths: list[VariantRow] = field(default_factory=list)
    speeds: list[SpeedRow] = field(default_factory=list)
    anchor_curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0
    plan: Plan | None = None
    """What was measured in the end: without what this machine lacks, with the numbers of jobs and threads."""
    stills: set[str] = field(default_factory=set)
    places: dict[str, Place] = field(default_factory=dict)
    """Where crops are cut, by clip."""
    sources: dict[str, bytes] = field(default_factory=dict)
    """The source's crop by clip, as PNG."""
    crops: dict[tuple[str, str, float], bytes] = field(default_factory=dict)
    """Crops by clip, codec and setting, as PNG."""

    def fail(self, line: str, code: int) -> None:
        """Note a failure as one line; the first one's exit code is the bench's."""
        self.failures.append(line)
        self.exit_code = self.exit_code or code

    def of(self, clip: str, codec: str) -> list[Point]:
        """The points of a codec on a clip, by rising setting."""
        return sorted((p for p in self.points if (p.clip, p.codec) == (clip, codec)), key=lambda p: p.setting)


@dataclass(frozen=True)
class SpeedRow:
    """A codec's speed over the points of all clips that were timed: frames a second end to end, milliseconds until the
    first picture (mean), the decoding time for each second that SPEED_ANCHOR took beside it (geometric mean; None
    without x264), and peak memory in bytes."""

    codec: str
    points: int
    encode_fps: float
    decode_fps: float
    first_ms: float
    decode_ratio: float | None
    encode_memory: int | None
    decode_memory: int | None


def load_anchors(path: Path) -> dict[str, dict[str, Any]]:
    """Precomputed curves from a JSON file. Raises InputError."""
    try:
        anchors = json.loads(path.read_text())
        curves = [c for entry in anchors.values() for c in entry.values() if isinstance(c, list)]
        ok = all(isinstance(entry["n"], int) for entry in anchors.values()) and all(
            p["bpp"] > 0 and p["psnr"] >= 0 for c in curves for p in c
        )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, LookupError):
        ok = False
    if not ok:
        raise InputError(
            f"{path}: no anchor curves (expected are, for each clip, n and lists of points with bpp and psnr)"
        )
    return anchors


def tasks(plan: Plan, path: str, clip: str, result: Result, threads: int, device: str) -> Iterator[Task]:
    """The points that a plan asks for on one clip."""
    known, still = result.anchor_curves[clip], clip in result.stills
    effort = plan.effort_of(still)
    common = {
        "threads": threads,
        "place": result.places.get(clip),
        "measures": tuple(m for m in plan.measures if still or m != "psnr_rgb"),
    }
    for name in plan.against:
        if name not in known or name == KIND_ANCHOR:  # frames by kind are not among precomputed figures
            yield from (Task(path, plan.frames, name, crf, **common) for crf in plan.settings_of(name))
    for level in plan.levels:
        variants = [Variant()]
        variants += SKIPPING if plan.saec and level == plan.levels[0] else ()
        variants += uniform_widths(by_name(plan.model), level) if plan.widths and level > 1 else ()
        for variant in variants:
            for quality in plan.qualities:
                yield Task(
                    path,
                    plan.frames,
                    ours.codec_name(level, variant),
                    quality,
                    level,
                    variant,
                    plan.model,
                    plan.gop,
                    device,
                    entropy=plan.saec and (variant in SKIPPING or level == plan.levels[0]),
                    effort=effort,
                    **common,
                )
