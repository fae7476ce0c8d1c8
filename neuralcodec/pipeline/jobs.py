"""Groups of pictures as jobs: a feeder hands items to jobs, workers turn them into results, the consumer takes the results in order.

::

    feeder thread:  items --> job 0 | job 1 | job 2 ...      (each a queue of its own; a shared budget bounds what waits)
    workers:        job k: process(job) -> results of job k  (each result queue is bounded)
    consumer:       results of job 0, then of job 1, ...     (in order, whatever finished first)

The first unfinished job's results are always being taken, so its worker never waits for long and nothing can deadlock.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
_END = object()


class Stopped(Exception):
    """Raised inside threads whose work is no longer wanted."""


class Job(Generic[In, Out]):
    """One group: an iterable of its items, and ``put`` for its results."""

    def __init__(self, runner: JobRunner[In, Out], number: int) -> None:
        self.number = number
        self._runner = runner
        self._items: queue.Queue = queue.Queue()
        self._results: queue.Queue = queue.Queue(runner.result_limit)

    def __iter__(self) -> Iterator[In]:
        while (item := self._runner.take(self._items)) is not _END:
            yield item
            self._runner.release(item)

    def put(self, result: Out) -> None:
        self._runner.give(self._results, result)

    def go_on(self) -> None:
        """For a worker to call within long work. Raises Stopped where nobody wants it any more."""
        self._runner.go_on()


class JobRunner(Generic[In, Out]):
    """Runs ``process`` on jobs in ``workers`` threads.

    ``budget`` items with ``cost(item)`` of 1 may wait or be in work at a time (items of cost 0 are free). Errors of the feeder or of
    a worker are raised in the consumer, in their place; results before them are delivered first.
    """

    def __init__(self, process: Callable[[Job[In, Out]], None], *, workers: int, budget: int, cost: Callable[[In], int],
                 result_limit: int = 8) -> None:
        self.result_limit = result_limit
        self._process, self._workers, self._cost = process, workers, cost
        self._budget = threading.Semaphore(budget)
        self._jobs: queue.Queue = queue.Queue()
        self._order: queue.Queue = queue.Queue()
        self._stop = threading.Event()

    def run(self, groups: Callable[[Callable[[], None], Callable[[In], None]], None]) -> Iterator[Out]:
        """``groups(start, add)`` runs in the feeder thread: it calls ``start()`` at each group's begin and ``add(item)`` for its items."""
        threads = [threading.Thread(target=self._feed, args=(groups,), daemon=True)]
        threads += [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
        for t in threads:
            t.start()
        try:
            while (job := self.take(self._order)) is not _END:
                if isinstance(job, BaseException):
                    raise job
                while (result := self.take(job._results)) is not _END:
                    if isinstance(result, _Failure):
                        raise result.error
                    yield result
        finally:
            self._stop.set()
            for t in threads[1:]:
                t.join(timeout=30)
            threads[0].join(timeout=2)  # it may wait for a pipe that stays silent

    # Queue operations that give up when the run is over: neither a blocked thread nor one that still finds work must outlive it.

    def take(self, q: queue.Queue):
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return q.get(timeout=0.2)
        raise Stopped

    def give(self, q: queue.Queue, item: object) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return q.put(item, timeout=0.2)
        raise Stopped

    def go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def release(self, item: In) -> None:
        for _ in range(self._cost(item)):
            self._budget.release()

    def _feed(self, groups: Callable) -> None:
        current: list[Job] = []

        def start() -> None:
            if current:
                current[-1]._items.put(_END)
            current.append(Job(self, len(current)))
            del current[:-1]
            self._jobs.put(current[-1])
            self._order.put(current[-1])

        def add(item: In) -> None:
            for _ in range(self._cost(item)):
                while not self._stop.is_set() and not self._budget.acquire(timeout=0.2):
                    pass
            self.go_on()
            current[-1]._items.put(item)

        last: object = _END
        try:
            groups(start, add)
        except Stopped:
            return
        except BaseException as e:  # noqa: BLE001 - handed to the consumer
            last = e
        if current:
            current[-1]._items.put(_END)
        self._order.put(last)
        for _ in range(self._workers):
            self._jobs.put(_END)

    def _work(self) -> None:
        try:
            while (job := self.take(self._jobs)) is not _END:
                try:
                    self._process(job)
                except Stopped:
                    return
                except BaseException as e:  # noqa: BLE001 - handed to the consumer
                    self.give(job._results, _Failure(e))
                    return
                self.give(job._results, _END)
        except Stopped:
            return


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def chunked(items: Iterable[In], starts_group: Callable[[In], bool]) -> Callable:
    """A feeder for ``JobRunner.run``: a new group at each item for which ``starts_group`` says so (and at the first)."""

    def feed(start: Callable[[], None], add: Callable[[In], None]) -> None:
        begun = False
        for item in items:
            if not begun or starts_group(item):
                start()
                begun = True
            add(item)

    return feed
