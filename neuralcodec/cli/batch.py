"""Many files in one command: workers, progress, one line for each that fails, a summary."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from neuralcodec.cli.common import Talk
from neuralcodec.core.errors import InputError, NcodecError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from neuralcodec.media.sink import PendingFile

INTERNAL_ERROR = 70


@dataclass(frozen=True)
class Task:
    """A file to be made of another."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of a task: luma samples of its picture, bytes in and out, lines for the user; or ``error`` with its exit code."""

    task: Task
    pixels: int = 0
    size_in: int = 0
    size_out: int = 0
    notes: Sequence[str] = ()
    error: str | None = None
    code: int = 0
    skipped: bool = False


class Batch:
    """Runs tasks and tells of them. ``code`` is the exit code in the end: 0, that of all failures, or 1 where they differ."""

    def __init__(self, talk: Talk, what: str, force: bool, skip_existing: bool) -> None:
        self._talk, self._what, self._force, self._skip = talk, what, force, skip_existing
        self._pending: set[PendingFile] = set()
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []

    @property
    def code(self) -> int:
        codes = {o.code for o in self.outcomes if o.code}
        return codes.pop() if len(codes) == 1 else int(bool(codes))

    def admit(self, tasks: Iterable[Task]) -> list[Task]:
        """Those that are to be done: settles what exists already, and what two files would be called."""
        made: dict[Path, Path] = {}
        wanted = []
        for task in tasks:
            if task.target in made:
                self._settle(Outcome(task, error=f"{task.source}: {task.target} is made of {made[task.target]} already", code=OutputError.exit_code))
                continue
            made[task.target] = task.source
            if task.target.exists() and self._skip:
                self._settle(Outcome(task, skipped=True))
            elif task.target.exists() and not self._force:
                text = f"{task.target} exists already (allow overwriting with --force, or pass over it with --skip-existing)"
                self._settle(Outcome(task, error=text, code=OutputError.exit_code))
            else:
                wanted.append(task)
        return wanted

    def run(self, tasks: Sequence[Task], work: Callable[[Task], Outcome], workers: int) -> None:
        """Does the tasks, several at a time. What is not finished when an exception passes through, as Ctrl-C does, leaves nothing behind."""
        from neuralcodec.pipeline.jobs import Job, JobRunner

        def process(job: Job[Task, Outcome]) -> None:
            for task in job:
                job.put(self._attempt(task, work))

        def feed(start: Callable[[], None], add: Callable[[Task], None]) -> None:
            for task in tasks:
                start()
                add(task)

        runner: JobRunner = JobRunner(process, workers=max(1, min(workers, len(tasks))), budget=2 * workers, cost=lambda task: 1)
        try:
            with self._talk.progress(self._what, len(tasks), unit="files/s") as advance:
                for done, outcome in enumerate(runner.run(feed), 1):
                    self._settle(outcome)
                    advance(done, outcome.task.source.name)
        finally:
            with self._lock:
                for file in self._pending:
                    file.discard()

    @contextmanager
    def output(self, target: Path) -> Iterator[BinaryIO]:
        """The target for writing, under its name once the block ends well."""
        from neuralcodec.media.sink import PendingFile

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{target.parent}: {error.strerror}") from error
        pending = PendingFile(str(target), self._force)
        with self._lock:
            self._pending.add(pending)
        try:
            with pending.open() as file:
                yield file
            pending.commit()
        except OSError as error:
            raise error if isinstance(error, NcodecError) else OutputError(f"{target}: {error.strerror or error}") from error
        finally:
            pending.discard()
            with self._lock:
                self._pending.discard(pending)

    def fail(self, task: Task, error: NcodecError) -> None:
        """A task that cannot even begin."""
        self._settle(_failure(task, error))

    def summary(self) -> None:
        """One line."""
        done = [o for o in self.outcomes if o.error is None and not o.skipped]
        pixels, total_in, total_out = (sum(getattr(o, name) for o in done) for name in ("pixels", "size_in", "size_out"))
        coded = total_out if self._what == "encode" else total_in
        rate = f", {8 * coded / pixels:.4f} bits/pixel" if pixels else ""
        skipped, failed = (sum(map(bool, found)) for found in ((o.skipped for o in self.outcomes), (o.error for o in self.outcomes)))
        if not self._talk.quiet:
            self._talk.line(f"{len(done)} files, {total_in} bytes in, {total_out} bytes out{rate}, {skipped} skipped, {failed} failed")

    def _attempt(self, task: Task, work: Callable[[Task], Outcome]) -> Outcome:
        from neuralcodec.pipeline.jobs import Stopped

        try:
            return work(task)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - one bad file must not stop the others
            return _failure(task, error)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._talk.notes(list(outcome.notes))
        if outcome.error is not None:
            self._talk.line(f"ncodec: {outcome.error}")


def _failure(task: Task, error: Exception) -> Outcome:
    if isinstance(error, NcodecError):
        text = str(error)
        return Outcome(task, error=text if str(task.source) in text else f"{task.source}: {text}", code=error.exit_code)
    if isinstance(error, MemoryError):
        return Outcome(task, error=f"{task.source}: out of memory: fewer --workers may help", code=INTERNAL_ERROR)
    return Outcome(task, error=f"{task.source}: internal error: {type(error).__name__}: {error}", code=INTERNAL_ERROR)


def is_batch(sources: Sequence[str], output: str) -> bool:
    """Whether these are many files, or one, for a folder."""
    return len(sources) > 1 or any(Path(s).is_dir() for s in sources) or Path(output).is_dir()


def collect(sources: Sequence[str], output: str, recursive: bool, taken: Sequence[str], ending: str) -> list[Task]:
    """Tasks for files and for what lies in folders and has one of the endings ``taken``. Raises UsageError, InputError, OutputError."""
    folder = Path(output)
    if output == "-" or "-" in sources:
        raise UsageError("several files need names, and a folder to go to")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{output} is a file; several files need a folder to go to")
    tasks = []
    for source in map(Path, sources):
        if source.is_dir():
            found = sorted(p for p in (source.rglob("*") if recursive else source.iterdir()) if p.suffix.lower() in taken and p.is_file())
            tasks += [Task(p, (folder / p.relative_to(source)).with_suffix(ending)) for p in found]
        else:
            tasks.append(Task(source, (folder / source.name).with_suffix(ending)))
    if not tasks:
        raise InputError(f"{', '.join(sources)}: no file that could be taken ({' '.join(taken)}; --recursive looks into folders of folders)")
    return tasks
