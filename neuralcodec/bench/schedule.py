"""Tasks in this process or in several: timed ones alone, after all others; an estimate of the time that is left."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace

from neuralcodec.bench.ours import Variant
from neuralcodec.bench.plan import Task
from neuralcodec.bench.points import Point
from neuralcodec.core.errors import NcodecError

_COST = {"ours": 3.0, "x265-veryslow": 5.0, "x265": 0.5, "x264": 0.2, "svtav1": 0.2, "avif": 0.5}
"""Seconds for a million luma samples, by how a codec's name begins, until its first point says better."""
WORTH_PROCESSES = 4
"""Untimed points that it takes to start other processes."""


@dataclass(frozen=True)
class Found:
    """What a task found: its point and crop (PNG), after how many seconds."""

    point: Point
    crop: bytes | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Failed:
    """Why a task found nothing, as one line, and the exit code for it."""

    line: str
    code: int = 1


Outcome = Found | Failed
Runner = Callable[[Task], Found]


def run_safely(run: Runner, task: Task) -> Outcome:
    """``run(task)``; whatever goes wrong ends this task only."""
    started = time.perf_counter()
    try:
        found = run(task)
    except NcodecError as error:
        return Failed(str(error), error.exit_code)
    except MemoryError:
        return Failed("out of memory")
    except Exception as error:  # noqa: BLE001 - one point must not end the others
        return Failed(f"internal error: {type(error).__name__}: {error}", 70)
    return replace(found, seconds=time.perf_counter() - started)


def split(tasks: Sequence[Task], jobs: int) -> tuple[list[Task], list[Task]]:
    """Tasks that run beside each other, untimed, and those that run alone, timed.

    With one job every point is timed. With more, only some are: the middle setting of each codec on each clip, and points that ask for the time
    of entropy decoding."""
    if jobs <= 1:
        return [], list(tasks)
    groups: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if task.variant == Variant():
            groups[task.clip, task.codec].append(task)
    chosen = {id(group[len(group) // 2]) for group in groups.values()} | {id(t) for t in tasks if t.entropy}
    return [replace(t, timed=False) for t in tasks if id(t) not in chosen], [t for t in tasks if id(t) in chosen]


def outcomes(run: Runner, together: Sequence[Task], alone: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Outcome]]:
    """Each task with its outcome, as they are done. Leaving the iterator early ends the other processes."""
    if together:
        yield from _parallel(run, together, jobs)
    for task in alone:
        yield task, run_safely(run, task)


def _parallel(run: Runner, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Outcome]]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), multiprocessing.get_context("spawn"), initializer=_worker)
    try:
        with _interrupts_ignored():
            futures = {pool.submit(run_safely, run, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except BrokenExecutor:
                outcome = Failed("its process ended suddenly (out of memory?)")
            yield futures[future], outcome
        pool.shutdown()
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        # The program may end without any tidying after this; the pool's semaphores would outlive it.
        futures = future = pool = None
        gc.collect()
        raise


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C from their first moment: it goes to the whole group, and the one that talks to the user ends the
    others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


class Remaining:
    """Seconds that are left, from what points have taken so far. ``samples``: luma samples of each clip, by path."""

    def __init__(self, samples: Mapping[str, int], together: Sequence[Task], alone: Sequence[Task], jobs: int) -> None:
        self._samples, self._jobs = samples, max(1, min(jobs, len(together)))
        self._waiting = {id(t): (t, 1 / self._jobs) for t in together} | {id(t): (t, 1.0) for t in alone}
        self._spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def done(self, task: Task, seconds: float) -> float:
        """After a task that took ``seconds``: the seconds left."""
        self._waiting.pop(id(task), None)
        spent = self._spent[task.codec]
        spent[0] += seconds
        spent[1] += self._guess(task)
        whole = [sum(figures) for figures in zip(*self._spent.values(), strict=True)]
        return sum(share * self._guess(t) * self._factor(self._spent.get(t.codec, whole)) for t, share in self._waiting.values())

    @staticmethod
    def _factor(spent: Sequence[float]) -> float:
        return spent[0] / spent[1] if spent[1] > 0 else 1.0

    def _guess(self, task: Task) -> float:
        cost = next((c for name, c in _COST.items() if task.codec.startswith(name)), 0.2)
        return cost * self._samples.get(task.clip, 10**6) / 1e6
