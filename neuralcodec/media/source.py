"""The reading side: one interface over files, pipes, pictures and raw planes."""

from __future__ import annotations

import os
import stat
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.core.types import Frame, SidePacket, SideStream, VideoProperties
from neuralcodec.media.pixels import Planes

_RAW_ENDINGS = (".yuv", ".raw", ".rgb")


@dataclass
class Picture:
    """A decoded picture whose samples are not yet converted. Times count in the video's time base."""

    pts: int
    duration: int
    payload: Any


class Source(ABC):
    """A video being read. Use it as a context manager and take everything from ``packets()`` once.

    ``properties`` and ``side_streams`` are known from the start. ``metadata`` and ``chapters`` (dicts with id, start,
    end, time_base, metadata, as in PyAV) belong to the whole file. ``frame_count_hint`` is the number of frames that
    will come, if the file says so. ``notes`` collects one-line messages for the user, each once; more may come while
    ``packets()`` runs.
    """

    properties: VideoProperties

    def __init__(self, name: str) -> None:
        self.name = name
        self.side_streams: list[SideStream] = []
        self.metadata: dict[str, str] = {}
        self.chapters: list[dict[str, Any]] = []
        self.frame_count_hint: int | None = None
        self.notes: list[str] = []
        self._range: tuple[int, int | None] | None = None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _limit(self, frames: tuple[int, int | None] | None) -> None:
        """Restrict ``packets()`` to the frames with index a up to, but without, b."""
        if frames is None:
            return
        first, last = frames[0] or 0, frames[1]
        if first < 0 or (last is not None and last <= first):
            raise UsageError(f"frame range {first}:{'' if last is None else last} is empty or starts below 0")
        self._range = (first, last)
        if self.frame_count_hint is not None:
            end = self.frame_count_hint if last is None else min(last, self.frame_count_hint)
            self.frame_count_hint = max(end - first, 0)

    def packets(self) -> Iterator[Frame | SidePacket]:
        """Frames in presentation order, with rising pts, interleaved with side packets in file order.

        Holds a bounded number of frames whatever the clip's length. Raises InputError when not a single picture can
        be decoded; what is damaged or missing later becomes a note.
        """
        events = self._events() if self._range is None else self._cut(*self._range)
        for event in events:
            if isinstance(event, Picture):
                yield Frame(self._planes(event.payload), event.pts, event.duration)
            else:
                yield event

    def _cut(self, first: int, last: int | None) -> Iterator[Picture | SidePacket]:
        """Frames [first, last) and the side packets that sound or show between their first and last instant."""
        time_base = self.properties.time_base
        start: Fraction | None = None
        end: Fraction | None = None
        # Side packets wait until the pictures have caught up with them: only then is it known which are inside.
        waiting: deque[SidePacket] = deque()
        index = -1
        for event in self._events():
            if isinstance(event, SidePacket):
                waiting.append(event)
            else:
                index += 1
                time = event.pts * time_base
                if index >= first and start is None:
                    start = time
                if last is not None and index == last:
                    end = time
                    self._stop_at(end)
                if start is None:
                    # Presentation time only rises: what ended before this picture can't reach into the range.
                    waiting = deque(packet for packet in waiting if self._overlaps(packet, time, None))
                elif end is None:
                    yield event
                    yield from self._release(waiting, start, time)
            if end is not None:
                yield from self._release(waiting, start, end)
                waiting.clear()
        if start is None:
            raise InputError(f"{self.name}: the frame range starts at {first}, but there are only {index + 1} frames")
        yield from self._release(waiting, start, None)

    def _release(self, waiting: deque[SidePacket], start: Fraction, until: Fraction | None) -> Iterator[SidePacket]:
        """Takes what begins before ``until`` out of ``waiting``, in order, and yields what overlaps the range."""
        kept = []
        while waiting:
            packet = waiting.popleft()
            if until is not None and not self._overlaps(packet, None, until):
                kept.append(packet)
            elif self._overlaps(packet, start, None):
                yield packet
        waiting.extend(kept)

    def _overlaps(self, packet: SidePacket, start: Fraction | None, end: Fraction | None) -> bool:
        """Whether a packet ends after ``start`` and begins before ``end`` (seconds; None: no such limit)."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return True
        base = self.side_streams[packet.stream].time_base
        if start is not None and not ((stamp + packet.duration) * base > start or stamp * base >= start):
            return False
        return end is None or stamp * base < end

    def _stop_at(self, time: Fraction) -> None:
        """No more pictures are wanted; ``_events`` may end once it has passed ``time`` (seconds) in every stream."""

    @abstractmethod
    def _events(self) -> Iterator[Picture | SidePacket]: ...

    @abstractmethod
    def _planes(self, payload: Any) -> Planes: ...

    @abstractmethod
    def close(self) -> None:
        """Release the file. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_source(
    path: str | os.PathLike[str],
    *,
    frames: tuple[int, int | None] | None = None,
    audio: bool = True,
    size: tuple[int, int] | None = None,
    pix_fmt: str | None = None,
    fps: Fraction | int | str | None = None,
) -> Source:
    """Open a video, picture, y4m pipe or raw file for reading.

    ``path`` is a file that PyAV can open, a ``.y4m`` file, a raw ``.yuv`` file, a numbered picture pattern
    (``frame_%04d.png``) or ``-`` for standard input (y4m, or a container that needs no seeking). ``frames=(a, b)``
    takes the frames with index a up to but without b (None: to the end). ``audio=False`` leaves out the audio streams.
    ``size`` (width, height), ``pix_fmt`` (FFmpeg's name, default yuv420p) and ``fps`` (default 25) describe a raw file;
    ``fps`` also paces a numbered pattern.

    Raises InputError with one clear line when this is no video, UsageError for options that make no sense.
    """
    from neuralcodec.media import container_source, headerless, y4m

    name = os.fspath(path)
    rate = _rate(fps)
    if name == "-":
        return _open_stream(sys.stdin.buffer, "standard input", frames, audio)
    suffix = Path(name).suffix.lower()
    if "%" in name and not os.path.exists(name):
        source: Source = headerless.open_pattern(name, rate or Fraction(25))
    else:
        _check_file(name)
        if suffix in _RAW_ENDINGS:
            source = headerless.open_raw(name, size, pix_fmt or "yuv420p", rate or Fraction(25))
        elif _starts_with(name, y4m.MAGIC):
            source = y4m.Y4mSource(_open_binary(name), name, own=True)
        else:
            source = container_source.ContainerSource(name, name, audio=audio)
        if suffix not in _RAW_ENDINGS and (size or pix_fmt or rate):
            source._note("size, pixel format and frame rate come from the file itself: those given are not used")
    return _limited(source, frames)


def _open_stream(stream: BinaryIO, name: str, frames: tuple[int, int | None] | None, audio: bool) -> Source:
    from neuralcodec.media import container_source, y4m

    head = stream.peek(len(y4m.MAGIC))[: len(y4m.MAGIC)] if hasattr(stream, "peek") else b""
    if head == b"" and hasattr(stream, "peek"):
        raise InputError(f"{name} is empty")
    if head == y4m.MAGIC or not hasattr(stream, "peek"):
        return _limited(y4m.Y4mSource(stream, name, own=False), frames)
    return _limited(container_source.ContainerSource(_NoSeek(stream), name, audio=audio), frames)


class _NoSeek:
    """What PyAV may do with a pipe: read on. (With a ``seek`` method it would try to use it.)"""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read


def _limited(source: Source, frames: tuple[int, int | None] | None) -> Source:
    try:
        source._limit(frames)
    except BaseException:
        source.close()
        raise
    return source


def _rate(fps: Fraction | int | str | None) -> Fraction | None:
    if fps is None:
        return None
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"frame rate {fps!r} is no number such as 25 or 30000/1001") from error
    if rate <= 0:
        raise UsageError(f"frame rate {fps} is not above 0")
    return rate


def _check_file(name: str) -> None:
    """One clear line for everything that the file system alone can tell."""
    try:
        status = os.stat(name)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{name!r} is no file name") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a directory, not a video")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise InputError(f"{name} is empty")
    if not os.access(name, os.R_OK):
        raise InputError(f"{name}: no permission to read it")


def _open_binary(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error


def _starts_with(name: str, magic: bytes) -> bool:
    # A FIFO must not be opened twice: what is read from it is gone.
    if not os.path.isfile(name):
        return name.lower().endswith(".y4m")
    with open(name, "rb") as file:
        return file.read(len(magic)) == magic
