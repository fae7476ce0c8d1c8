"""All the points of a bench: found in the cache or measured, and what they come to."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from neuralcodec.bench import cache, classical, memory, ours
from neuralcodec.bench.check import check, with_what_there_is
from neuralcodec.bench.conditions import CONDITIONS, STILLS, condition
from neuralcodec.bench.crops import Place, choose_place, cut
from neuralcodec.bench.evaluate import evaluate
from neuralcodec.bench.keep import clip_digest, model_facts, variant_facts
from neuralcodec.bench.memory import MemoryTask
from neuralcodec.bench.metrics import Planes
from neuralcodec.bench.plan import SPEED_ANCHOR, SPEED_SETTING, Plan, Result, Task, tasks
from neuralcodec.bench.points import Clip, Point, read_clip
from neuralcodec.bench.schedule import WORTH_PROCESSES, Failed, Found, Remaining, outcomes, split
from neuralcodec.bench.scores import repeat
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import NcodecError, UsageError
from neuralcodec.pipeline import choose_device
from neuralcodec.pipeline.device import core_count

__all__ = ["Plan", "Result", "Step", "run", "run_task"]


@dataclass(frozen=True)
class Step:
    """How far a bench is: points done and all, the last one (None where it failed), whether it came from the cache,
    seconds left if known; after all points, what is measured beside them."""

    done: int
    count: int
    point: Point | None
    cached: bool
    left: float | None
    doing: str = ""


@dataclass
class _Facts:
    """A clip without its pictures; ``content`` is a hash over the file and the frames that are taken."""

    name: str
    content: str
    frames: int
    width: int
    height: int
    still: bool
    notes: tuple[str, ...]
    place: Place
    source: bytes

    @property
    def samples(self) -> int:
        return self.frames * self.width * self.height


@functools.lru_cache(maxsize=2)
def _clip(path: str, frames: int | None) -> Clip:
    return read_clip(path, frames)


def run_task(task: Task) -> Found:
    """Measure one point. Raises NcodecError."""
    clip, kept = _clip(task.clip, task.frames), []

    def keep(pictures: list[Planes]) -> None:
        if task.place is not None and task.place.frame < len(pictures):
            kept.append(cut(pictures[task.place.frame], task.place, clip.video.colour))

    reference = _reference(task.clip, task.frames) if task.timed else None
    common = {"timed": task.timed, "threads": task.threads, "measures": task.measures, "keep": keep}
    if task.level is None:
        point = classical.measure(clip, task.codec, task.setting, **common)
    else:
        point = ours.measure(
            clip,
            by_name(task.model),
            task.level,
            task.setting,
            gop=task.gop,
            effort=task.effort,
            variant=task.variant,
            entropy=task.entropy,
            device=choose_device(task.device),
            workers=task.threads if task.timed else 1,
            **common,
        )
    if reference is not None:
        point = replace(point, reference_s=repeat(lambda: classical.timed_decode(reference, task.threads)[2:])[0])
    return Found(replace(point, measured=cache.now()), kept[0] if kept else None)


@functools.lru_cache(maxsize=2)
def _reference(path: str, frames: int | None) -> bytes | None:
    """A clip as the stream whose decoding time others are held against; None where x264 cannot be had."""
    clip, file = _clip(path, frames), io.BytesIO()
    try:
        classical.encode(
            file, clip.planes, (clip.video.width, clip.video.height), clip.rate, CONDITIONS[SPEED_ANCHOR], SPEED_SETTING
        )
    except NcodecError:
        return None
    return file.getvalue()


def run(plan: Plan, on_step: Callable[[Step], None] = lambda step: None) -> Result:
    """Measure all points of a plan; ``on_step`` is called after each. What fails becomes a line of the result, and the
    rest goes on.

    Raises ModelError and UsageError for what concerns every clip. An interruption loses the points in progress, not
    those in the cache."""
    result, store = Result(), cache.Store(plan.cache)
    device, threads = str(choose_device(plan.device)), plan.threads or core_count()
    check(by_name(plan.model), plan.levels, plan.qualities, plan.effort)
    plan = with_what_there_is(plan, result)
    facts: dict[str, _Facts] = {}
    wanted: list[Task] = []
    for path in dict.fromkeys(plan.clips):
        try:
            found = _facts(plan, path, store)
        except NcodecError as error:
            # Without folders: reports are for other machines too.
            result.fail(str(error).replace(path, Path(path).name), error.exit_code)
            continue
        if found.name in result.anchor_curves:
            result.fail(
                f"{found.name}: another clip has this name; only the first one is measured", UsageError.exit_code
            )
            continue
        facts[path] = found
        wanted += _tasks_of(plan, path, found, result, threads, device)
    jobs = plan.jobs or (core_count() if device == "cpu" and len(wanted) > 2 * WORTH_PROCESSES else 1)
    result.plan = plan = replace(plan, jobs=jobs, threads=threads, device=device)
    together, alone = split(wanted, jobs)
    steps = _Steps(on_step, len(wanted))
    missing = []
    for group in (together, alone):
        left = []
        for task in group:
            hit = _cached(task, facts[task.clip], store)
            if hit is None:
                left.append(task)
            else:
                _add(result, facts[task.clip], hit)
                steps(hit.point, True, None)
        missing.append(left)
    remaining = Remaining({path: f.samples for path, f in facts.items()}, *missing, jobs)
    for task, outcome in outcomes(run_task, *missing, jobs):
        if isinstance(outcome, Failed):
            line = f"{Path(task.clip).name}, {task.codec}: {outcome.line}"
            if line not in result.failures:
                result.fail(line, outcome.code)
            steps(None, False, remaining.done(task, 0.0))
            continue
        store.put(_key(task, facts[task.clip]), _entry(outcome))
        _add(result, facts[task.clip], outcome)
        steps(outcome.point, False, remaining.done(task, outcome.seconds))
    order = {f.name: number for number, f in enumerate(facts.values())}
    result.points.sort(key=lambda p: (order[p.clip], not p.ours, p.codec, p.setting))
    if plan.memory and facts:
        _measure_memory(plan, facts, result, store, steps.say)
    if store.broken:
        result.notes.append(store.broken)
    evaluate(plan, result)
    return result


class _Steps:
    def __init__(self, on_step: Callable[[Step], None], count: int) -> None:
        self.on_step, self.count, self.number = on_step, count, 0

    def __call__(self, point: Point | None, cached: bool, left: float | None) -> None:
        self.number += 1
        self.on_step(Step(self.number, self.count, point, cached, left))

    def say(self, doing: str) -> None:
        self.on_step(Step(self.number, self.count, None, False, None, doing))


def _facts(plan: Plan, path: str, store: cache.Store) -> _Facts:
    digest = cache.file_digest(path)
    key = cache.key(
        "clip", file=digest, name=Path(path).suffix.lower(), frames=plan.frames, program=cache.program(ours=False)
    )
    if digest and (found := store.get(key)):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return _Facts(
                **found
                | {
                    "name": Path(path).name,
                    "notes": tuple(found["notes"]),
                    "place": Place(**found["place"]),
                    "source": base64.b64decode(found["source"]),
                }
            )
    clip = _clip(path, plan.frames)
    content = f"{digest} {plan.frames}"
    if digest is None:
        content = clip_digest(clip)
    place = choose_place(clip)
    facts = _Facts(
        clip.name,
        hashlib.sha256(content.encode()).hexdigest(),
        len(clip.frames),
        clip.video.width,
        clip.video.height,
        clip.still,
        clip.notes,
        place,
        cut(clip.frames[place.frame].planes, place, clip.video.colour),
    )
    if digest:
        store.put(key, asdict(facts) | {"source": base64.b64encode(facts.source).decode()})
    return facts


def _tasks_of(plan: Plan, path: str, facts: _Facts, result: Result, threads: int, device: str) -> Sequence[Task]:
    entry = plan.anchors.get(facts.name, {})
    known = entry.get("n") == facts.frames  # otherwise of another clip, or of another part of it
    result.anchor_curves[facts.name] = (
        {n: [(p["bpp"], p["psnr"]) for p in entry[n]] for n in plan.against if n in entry} if known else {}
    )
    result.notes += [f"{facts.name}: {note}" for note in facts.notes]
    if facts.still:
        result.stills.add(facts.name)
    result.places[facts.name], result.sources[facts.name] = facts.place, facts.source
    found = list(tasks(plan, path, facts.name, result, threads, device))
    wrong = {t.codec for t in found if t.codec in STILLS and not facts.still}
    for name in sorted(wrong):
        result.fail(f"{facts.name}: {name} is for still pictures", UsageError.exit_code)
    return [t for t in found if t.codec not in wrong]


def _key(task: Task, facts: _Facts) -> str:
    common = {
        "clip": facts.content,
        "setting": float(task.setting),
        "timed": task.timed,
        "threads": task.threads if task.timed else 1,
        "measures": sorted(task.measures),
        "place": task.place and asdict(task.place),
        "machine": cache.machine(),
        "program": cache.program(ours=task.level is not None),
    }
    if task.level is None:
        return cache.key(
            "classical", condition=condition(task.codec).facts() | {"settings": None, "what": None}, **common
        )
    return cache.key(
        "ours",
        **model_facts(by_name(task.model)),
        level=task.level,
        variant=variant_facts(task.variant),
        gop=task.gop,
        effort=task.effort,
        device=cache.device_name(task.device),
        entropy=task.entropy,
        **common,
    )


def _cached(task: Task, facts: _Facts, store: cache.Store) -> Found | None:
    # A timed point serves where none is asked for, too.
    candidates = [task] if task.timed else [replace(task, timed=True), task]
    for candidate in candidates:
        entry = store.get(_key(candidate, facts))
        try:
            if entry is not None:
                return Found(
                    Point.from_dict(entry["point"] | {"clip": facts.name}),
                    base64.b64decode(entry["crop"]) if entry["crop"] else None,
                )
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _entry(found: Found) -> dict:
    return {"point": found.point.to_dict(), "crop": base64.b64encode(found.crop).decode() if found.crop else None}


def _add(result: Result, facts: _Facts, found: Found) -> None:
    result.points.append(found.point)
    if found.crop:
        result.crops[facts.name, found.point.codec, found.point.setting] = found.crop


def _measure_memory(
    plan: Plan, facts: dict[str, _Facts], result: Result, store: cache.Store, say: Callable[[str], None]
) -> None:
    """Peak memory on the clip with the largest picture, at each codec's middle setting."""
    path = max(facts, key=lambda p: facts[p].width * facts[p].height)
    clip = facts[path]
    if cache.file_digest(path) is None:
        return
    effort = plan.effort_of(clip.still)
    for codec in dict.fromkeys(p.codec for p in result.points if p.clip == clip.name and not p.variant):
        points = result.of(clip.name, codec)
        point = points[len(points) // 2]
        task = MemoryTask(
            path, plan.frames, codec, point.setting, point.level, plan.model, plan.gop, plan.device, plan.threads, effort
        )
        like = Task(
            path,
            plan.frames,
            codec,
            point.setting,
            point.level,
            model=plan.model,
            gop=plan.gop,
            device=plan.device,
            threads=plan.threads,
            effort=effort,
        )
        key = cache.key("memory", of=_key(like, clip))
        found = store.get(key)
        if found is None:
            say(f"peak memory of {codec}")
            try:
                peaks = memory.measure(task)
            except NcodecError as error:
                result.fail(f"{clip.name}, {codec}: peak memory: {error}", error.exit_code)
                continue
            found = {"encode": peaks[0], "decode": peaks[1]}
            store.put(key, found)
        result.points[result.points.index(point)] = replace(
            point, encode_memory=found["encode"], decode_memory=found["decode"]
        )
