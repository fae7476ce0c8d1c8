"""All the points of a bench: which there are, in this process or in several, and what they come to."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neuralcodec.bench import classical, ours
from neuralcodec.bench.bd import BdResult, Curve, bd
from neuralcodec.bench.compare import SKIPPING, KindRow, VariantRow, beside, uniform_widths, variant_row
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Clip, Point, curve, read_clip
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import InputError, NcodecError, UsageError
from neuralcodec.pipeline import EncodeOptions, choose_device

KIND_ANCHOR = "x265-medium-ld32"
"""What I and P frames are held against."""


@dataclass(frozen=True)
class Plan:
    """What to measure. ``against`` holds conditions by full names, whichever were given (UsageError for unknown ones). ``anchors`` are precomputed
    curves: {clip: {"n": frames, condition: [{"value", "bpp", "psnr"}, ...]}}."""

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
    jobs: int = 1
    anchors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "against", tuple(dict.fromkeys(classical.condition_name(n) for n in self.against)))


@dataclass(frozen=True)
class Task:
    """One point. ``level`` None: the classical condition ``codec``; ``timed``: nothing else runs at the same time."""

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


@functools.lru_cache(maxsize=2)
def _clip(path: str, frames: int | None) -> Clip:
    return read_clip(path, frames)


def run_task(task: Task) -> Point:
    """Measure one point. Raises NcodecError."""
    clip = _clip(task.clip, task.frames)
    if task.level is None:
        return classical.measure(clip, task.codec, task.setting, timed=task.timed)
    return ours.measure(clip, by_name(task.model), task.level, task.setting, gop=task.gop, variant=task.variant, device=choose_device(task.device),
                        workers=None if task.timed else 1, timed=task.timed, entropy=task.entropy)


def _run_safely(task: Task) -> Point | str:
    """For other processes: an error as its one line."""
    try:
        return run_task(task)
    except NcodecError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one point must not end the others
        return f"internal error: {type(error).__name__}: {error}"


@dataclass
class Result:
    """Everything that a bench found. ``anchor_curves``: precomputed curves by clip and condition. ``failures``: one line each, with the exit
    code of the first in ``exit_code``."""

    points: list[Point] = field(default_factory=list)
    bd: dict[str, dict[str, dict[str, BdResult]]] = field(default_factory=dict)
    """By anchor, codec and clip."""
    kinds: list[KindRow] = field(default_factory=list)
    saec: list[VariantRow] = field(default_factory=list)
    widths: list[VariantRow] = field(default_factory=list)
    anchor_curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    exit_code: int = 0

    def fail(self, line: str, code: int) -> None:
        self.failures.append(line)
        self.exit_code = self.exit_code or code

    def of(self, clip: str, codec: str) -> list[Point]:
        """The points of a codec on a clip, by rising setting."""
        return sorted((p for p in self.points if (p.clip, p.codec) == (clip, codec)), key=lambda p: p.setting)


def load_anchors(path: Path) -> dict[str, dict[str, Any]]:
    """Precomputed curves from a JSON file. Raises InputError."""
    try:
        anchors = json.loads(path.read_text())
        curves = [c for entry in anchors.values() for c in entry.values() if isinstance(c, list)]
        ok = all(isinstance(entry["n"], int) for entry in anchors.values()) and all(p["bpp"] > 0 and p["psnr"] >= 0 for c in curves for p in c)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, LookupError):
        ok = False
    if not ok:
        raise InputError(f"{path}: no anchor curves (expected are, for each clip, n and lists of points with bpp and psnr)")
    return anchors


def run(plan: Plan, on_point: Callable[[int, int, Point | None], None] = lambda done, count, point: None) -> Result:
    """Measure all points of a plan; ``on_point(done, all, point)`` after each. What fails becomes a line of the result, and the rest goes on.

    Raises ModelError and UsageError for what concerns every clip."""
    result = Result()
    loaded = by_name(plan.model)
    for level in plan.levels:
        if not 1 <= level <= loaded.levels:
            raise UsageError(f"level {level}: model {loaded.name!r} has levels {', '.join(map(str, range(1, loaded.levels + 1)))}")
    for quality in plan.qualities:
        EncodeOptions(quality=quality).quality_index()
    tasks = []
    for path in dict.fromkeys(plan.clips):
        try:
            clip = _clip(path, plan.frames)
        except NcodecError as error:
            result.fail(str(error), error.exit_code)
            continue
        if clip.name in result.anchor_curves:
            result.fail(f"{path}: another clip has this name; only the first one is measured", UsageError.exit_code)
            continue
        result.anchor_curves[clip.name] = _precomputed(plan, clip)
        tasks += _tasks(plan, path, clip.name, result)
    for done, (task, outcome) in enumerate(_outcomes(tasks, plan.jobs), 1):
        if isinstance(outcome, str):
            result.fail(f"{Path(task.clip).name}, {task.codec}, {task.setting:g}: {outcome}", 1)
        else:
            result.points.append(outcome)
        on_point(done, len(tasks), None if isinstance(outcome, str) else outcome)
    _evaluate(plan, result)
    return result


def _tasks(plan: Plan, path: str, clip: str, result: Result) -> Iterator[Task]:
    known = result.anchor_curves[clip]
    for name in plan.against:
        if name not in known or name == KIND_ANCHOR:  # frames by kind are not among precomputed figures
            yield from (Task(path, plan.frames, name, crf) for crf in classical.CONDITIONS[name].crf)
    for level in plan.levels:
        variants = [Variant()]
        variants += SKIPPING if plan.saec and level == plan.levels[0] else ()
        variants += uniform_widths(by_name(plan.model), level) if plan.widths and level > 1 else ()
        for variant in variants:
            for quality in plan.qualities:
                yield Task(path, plan.frames, ours.codec_name(level, variant), quality, level, variant, plan.model, plan.gop, plan.device,
                           entropy=plan.saec and (variant in SKIPPING or level == plan.levels[0]))


def _outcomes(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Point | str]]:
    """Without other processes every point is timed. With them, only some are, after all others and alone: the middle setting of each codec on
    each clip, and points that ask for the time of entropy decoding."""
    if jobs <= 1:
        yield from ((task, _run_safely(task)) for task in tasks)
        return
    alone = _timed_alone(tasks)
    together = [replace(t, timed=False) for t in tasks if t not in alone]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        futures = {pool.submit(_run_safely, task): task for task in together}
        for future in as_completed(futures):
            yield futures[future], future.result()
    yield from ((task, _run_safely(task)) for task in alone)


def _timed_alone(tasks: Sequence[Task]) -> list[Task]:
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        if task.variant == Variant():
            groups.setdefault((task.clip, task.codec), []).append(task)
    chosen = {id(group[len(group) // 2]) for group in groups.values()} | {id(t) for t in tasks if t.entropy}
    return [t for t in tasks if id(t) in chosen]


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"


def _precomputed(plan: Plan, clip: Clip) -> dict[str, Curve]:
    entry = plan.anchors.get(clip.name, {})
    if entry.get("n") != len(clip.frames):
        return {}  # another clip, or a part of it
    return {name: [(p["bpp"], p["psnr"]) for p in entry[name]] for name in plan.against if name in entry}


def _evaluate(plan: Plan, result: Result) -> None:
    level_names = [ours.codec_name(level) for level in plan.levels]
    for clip in result.anchor_curves:
        anchors = {name: result.anchor_curves[clip].get(name) or curve(result.of(clip, name)) for name in plan.against}
        anchors[level_names[0]] = curve(result.of(clip, level_names[0]))
        for name, anchor in anchors.items():
            for codec in level_names:
                tested = curve(result.of(clip, codec))
                if tested and anchor and codec != name:
                    result.bd.setdefault(name, {}).setdefault(codec, {})[clip] = bd(anchor, tested)
        their = result.of(clip, KIND_ANCHOR)
        for codec in level_names:
            result.kinds += beside(result.of(clip, codec), their) if their else []
        for level in plan.levels:
            plain = result.of(clip, ours.codec_name(level))
            own = {"saec": SKIPPING if plan.saec and level == plan.levels[0] else (),
                   "widths": uniform_widths(by_name(plan.model), level) if plan.widths and level > 1 else ()}
            for table, variants in own.items():
                rows = [result.of(clip, ours.codec_name(level, v)) for v in variants]
                getattr(result, table).extend(variant_row(points, plain) for points in ([plain, *rows] if rows else []) if points and plain)
