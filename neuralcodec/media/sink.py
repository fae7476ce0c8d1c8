"""The writing side: one interface over containers, y4m, raw planes and PNG pictures."""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from neuralcodec.core.errors import OutputError, UsageError
from neuralcodec.core.types import Frame, SidePacket, SideStream, VideoProperties
from neuralcodec.media.pixels import chroma_size
from neuralcodec.media.still_colour import halve_chroma

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


class Sink(ABC):
    """A video being written. As a context manager it closes on success and aborts when an exception passes through.

    A file stands under a temporary name in the same folder until ``close()`` renames it; ``abort()`` removes it.
    ``notes`` collects one-line messages for the user, each once.
    """

    takes_full_chroma = False
    """Whether planes in 4:4:4 are written as they are; otherwise their chroma is halved, which a note says."""

    def __init__(self, properties: VideoProperties) -> None:
        self.properties = properties
        self.notes: list[str] = []

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def write(self, frame: Frame) -> None:
        """Append a frame; frames come in presentation order with rising pts.

        Raises OutputError when the frame does not fit the properties or cannot be written, and lets BrokenPipeError of
        a pipe whose reader has gone pass, as command-line programs do: catch it and end quietly.
        """
        height, width = self.properties.height, self.properties.width
        chroma = (height, width) if self.properties.full_chroma else chroma_size(width, height)[::-1]
        if tuple(plane.shape for plane in frame.planes) != ((height, width), chroma, chroma):
            raise OutputError(f"a frame of another size than {width}x{height} was to be written")
        if self.properties.full_chroma and not self.takes_full_chroma:
            self._note("4:4:4 halved to 4:2:0: formats of pictures, y4m and raw planes alone get it whole")
            y, *halves = frame.planes
            frame = replace(frame, planes=(y, *map(halve_chroma, halves)))
        self._write(frame)

    @abstractmethod
    def _write(self, frame: Frame) -> None: ...

    def write_side(self, packet: SidePacket) -> None:
        """Append a packet of a side stream; dropped where the format has no place for the stream."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file and give it its name. Safe to call twice."""

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written. Safe to call after ``close()``, which it does not undo."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class PendingFile:
    """A file that is complete under its name or not there at all: temporary name, then rename.

    What exists and is no regular file (a device, a FIFO) is written directly.
    """

    def __init__(self, path: str, overwrite: bool) -> None:
        self.target = path
        directory, name = os.path.split(path)
        if os.path.isdir(path):
            raise OutputError(f"{path} is a directory")
        if not os.path.isdir(directory or "."):
            raise OutputError(f"{directory}: no such directory")
        self.direct = os.path.exists(path) and not os.path.isfile(path)
        if os.path.exists(path) and not self.direct and not overwrite:
            raise OutputError(f"{path} exists already (allow overwriting with --force)")
        self.path = path if self.direct else os.path.join(directory, f".{name}.{os.getpid()}.part")
        self._open = True

    def open(self) -> BinaryIO:
        """The file for binary writing. Raises OutputError."""
        try:
            return open(self.path, "wb")
        except OSError as error:
            raise OutputError(f"{self.target}: {error.strerror}") from error

    def commit(self) -> None:
        """Give the file its final name. Raises OutputError."""
        if not self._open:
            return
        self._open = False
        try:
            if not self.direct:
                os.replace(self.path, self.target)
        except OSError as error:
            raise OutputError(f"{self.target}: {error.strerror}") from error

    def discard(self) -> None:
        """Remove the temporary file, if it is still one."""
        if self._open and not self.direct:
            Path(self.path).unlink(missing_ok=True)
        self._open = False


class Cadence:
    """Reports, once, frames that do not follow each other at one constant rate."""

    def __init__(self, properties: VideoProperties) -> None:
        self._step = 1 / (properties.frame_rate * properties.time_base) if properties.frame_rate else None
        self._first: int | None = None
        self._index = 0

    def regular(self, pts: int) -> bool:
        """Whether the next frame's pts lies where the constant rate puts it, within one unit of the time base."""
        if self._first is None:
            self._first = pts
        expected = self._first + self._index * self._step if self._step else pts
        self._index += 1
        return abs(pts - expected) <= 1


def open_sink(
    path: str | os.PathLike[str],
    properties: VideoProperties,
    side_streams: Sequence[SideStream] = (),
    metadata: Mapping[str, str] | None = None,
    *,
    chapters: Sequence[dict[str, Any]] = (),
    vcodec: str | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> Sink:
    """Open a file, pattern or pipe for writing; its name chooses the format.

    ``.mp4 .m4v .mov .mkv .webm``: a container with side streams, metadata and chapters; ``vcodec`` is an FFmpeg encoder
    (default: libx264 at a visually lossless setting, libvpx-vp9 for odd sizes and webm); ``lossless`` keeps every
    sample. ``.y4m`` and ``-`` (standard output): y4m. ``.yuv``: planes one after another. ``.png``: one picture, or
    with a pattern such as ``frame_%04d.png`` a numbered series from 0. An existing file is an error unless
    ``overwrite``.

    Raises UsageError for an unknown ending or impossible options, OutputError when the file cannot be made.
    """
    from neuralcodec.media import container_sink, plain_sinks

    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    sides = list(side_streams)
    if name != "-" and suffix in CONTAINERS:
        return container_sink.ContainerSink(
            PendingFile(name, overwrite),
            CONTAINERS[suffix],
            properties,
            sides,
            metadata or {},
            chapters,
            vcodec,
            lossless,
        )
    if vcodec is not None:
        raise UsageError(f"a video encoder ({vcodec}) has no use for {name}: its frames are stored as they are")
    if name == "-" or suffix == ".y4m":
        file = None if name == "-" else PendingFile(name, overwrite)
        sink: Sink = plain_sinks.Y4mSink(file, sys.stdout.buffer if file is None else file.open(), properties)
    elif suffix == ".yuv":
        file = PendingFile(name, overwrite)
        sink = plain_sinks.RawSink(file, file.open(), properties)
    elif suffix == ".png":
        if "%" in name and not re.fullmatch(r"[^%]*%0?\d*d[^%]*", name):
            raise UsageError(f"{name}: the pattern needs one number such as %04d")
        sink = plain_sinks.PngSink(name, properties, overwrite)
    else:
        known = " ".join([*CONTAINERS, ".y4m", ".yuv", ".png"])
        raise UsageError(f"{name}: unknown output format (known endings: {known}, and - for y4m on standard output)")
    if sides:
        kinds = ", ".join(sorted({side.kind for side in sides}))
        sink._note(f"{'y4m' if name == '-' else suffix[1:]} holds pictures only: {kinds} left out")
    return sink


def nominal_rate(properties: VideoProperties) -> Fraction:
    """The rate that formats without time stamps are given: the source's, else 25 frames a second."""
    return properties.frame_rate or Fraction(25)
