"""Processes beside each other for what is not timed, one task at a time for what is; estimates; the end of other processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from neuralcodec.bench.plan import Task
from neuralcodec.bench.points import Point
from neuralcodec.bench.schedule import Failed, Found, Remaining, outcomes, run_safely, split
from neuralcodec.core.errors import MeasureError, UsageError

TASKS = [Task("a.y4m", None, codec, setting) for codec in ("x264-medium", "x265-medium") for setting in (20, 28, 36)]
SLEEP = 60


def found(task: Task) -> Found:
    return Found(Point(task.clip, task.codec, task.setting, 1, 1, os.getpid(), 1, 1.0, 1.0, 1.0, 1.0, None, None, None, "I", [8], [1.0]))


def slow(task: Task) -> Found:
    time.sleep(SLEEP)
    return found(task)


def dying(task: Task) -> Found:
    os._exit(1)


def failing(task: Task) -> Found:
    raise {20: MeasureError("no"), 28: MemoryError(), 36: ZeroDivisionError("x")}[task.setting]


def test_with_one_job_all_is_timed_and_with_more_the_middle_of_each_curve():
    assert split(TASKS, 1) == ([], TASKS)
    together, alone = split(TASKS, 2)
    assert [t.setting for t in alone] == [28, 28] and all(t.timed for t in alone)
    assert [t.setting for t in together] == [20, 36, 20, 36] and not any(t.timed for t in together)
    assert split([replace(TASKS[0], entropy=True), TASKS[1]], 2)[0] == []


def test_timed_tasks_run_here_after_all_others():
    together, alone = split(TASKS, 2)
    results = list(outcomes(found, together, alone, 1))
    assert {t.setting for t, _ in results[:4]} == {20, 36} and [t.setting for t, _ in results[4:]] == [28, 28]
    assert all(o.point.bits != os.getpid() for _, o in results[:4])
    assert all(o.point.bits == os.getpid() for _, o in results[4:])
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_ctrl_c_ends_the_other_processes_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests were started in the background
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(outcomes(slow, TASKS[:2], [], 2))
    for process in multiprocessing.active_children():
        process.join(5)
    signal.signal(signal.SIGINT, before)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - started < 0.5 * SLEEP


def test_a_process_that_dies_costs_lines_and_no_more():
    results = list(outcomes(dying, TASKS[:2], [], 1))
    assert len(results) == 2
    assert all(isinstance(o, Failed) and "ended suddenly" in o.line for _, o in results)


def test_errors_are_lines_with_codes():
    outcome = [run_safely(failing, t) for t in TASKS[:3]]
    assert [o.line for o in outcome] == ["no", "out of memory", "internal error: ZeroDivisionError: x"]
    assert [o.code for o in outcome] == [MeasureError.exit_code, 1, 70]
    assert UsageError.exit_code == 2


def test_the_time_left_follows_what_points_took():
    remaining = Remaining({"a.y4m": 10**6}, [], TASKS, 1)
    first = remaining.done(TASKS[0], 2.0)
    assert first == pytest.approx(2.0 * 2 + 3 * (2.0 / 0.2) * 0.5)  # x265 is taken to be as much slower than expected
    remaining.done(TASKS[1], 2.0)
    remaining.done(TASKS[2], 2.0)
    assert remaining.done(TASKS[3], 1.0) == pytest.approx(2.0)
    assert remaining.done(TASKS[4], 1.0) == pytest.approx(1.0)
    assert remaining.done(TASKS[5], 1.0) == 0
