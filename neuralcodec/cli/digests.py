"""md5 of decoded pictures at the command line: printing them, and comparing with those in a file."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import click

from neuralcodec.cli.common import output_file
from neuralcodec.core.errors import UsageError, VerifyError

if TYPE_CHECKING:
    from neuralcodec.core.types import Frame, VideoProperties

LINE_MAX = 8192
"""Bytes of a line of an md5 file; none is that long, and a file without lines must not fill the memory."""

_WHOLE = re.compile(r"(?:MD5=|MD5 \(.*\) = )?([0-9a-f]{32})(?:\s.*)?", re.IGNORECASE)
_FRAME = re.compile(r"(\d+)(?:,\s*-?\d+){3},\s*\d+,\s*([0-9a-f]{32})(?:,.*)?", re.IGNORECASE)
_VIDEO = re.compile(r"#media_type (\d+): video")


@dataclass(frozen=True)
class Expected:
    """md5s of a file, in lower case: ``whole`` that of all frames together, ``frames`` those of single ones in order; one may be missing."""

    name: str
    whole: str | None
    frames: tuple[str, ...] | None


def read_md5_file(path: Path) -> Expected:
    """Reads a line as of md5sum (also a bare md5, or as FFmpeg's muxer md5 and BSD's md5 write it) or lines as of FFmpeg's framemd5.

    Of several streams in a framemd5 the first that is video counts. Raises UsageError for anything else, naming the line."""
    whole, frames, video = None, [], None
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    with file:
        for number, raw in enumerate(iter(lambda: file.readline(LINE_MAX), b""), 1):
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith("#"):
                if video is None and (found := _VIDEO.fullmatch(line)):
                    video = found[1]
            elif found := _FRAME.fullmatch(line):
                if found[1] == (video or "0"):
                    frames.append(found[2].lower())
            elif found := _WHOLE.fullmatch(line):
                if whole is not None:
                    raise UsageError(f"{path}: line {number} is a second md5; a file of one video is needed")
                whole = found[1].lower()
            elif line:
                raise UsageError(f"{path}: line {number} is neither md5sum's nor framemd5's form")
    if whole is None and not frames:
        raise UsageError(f"{path}: holds no md5")
    return Expected(str(path), whole, tuple(frames) or None)


def frame_header(video: VideoProperties) -> str:
    """The comment lines that FFmpeg's framemd5 begins with, but for the program's version, so that files can be compared."""
    ratio, base = video.sample_aspect_ratio, video.time_base
    return (
        "#format: frame checksums\n#version: 2\n#hash: MD5\n"
        f"#tb 0: {base.numerator}/{base.denominator}\n#media_type 0: video\n#codec_id 0: rawvideo\n"
        f"#dimensions 0: {video.width}x{video.height}\n#sar 0: {ratio.numerator}/{ratio.denominator}\n"
        "#stream#, dts,        pts, duration,     size, hash"
    )


def frame_line(frame: Frame, md5: str) -> str:
    """A frame's line of a framemd5: stream, decoding and presentation time, duration, bytes, md5."""
    size = sum(plane.size for plane in frame.planes)
    return f"0, {frame.pts:>10}, {frame.pts:>10}, {frame.duration:>8}, {size:>8}, {md5}"


class Digests:
    """md5s of frames that come one by one: those that were asked for are printed or written, those of a file compared.

    ``whole`` and ``each`` ask for md5sum's line with ``name`` and for framemd5's lines. They go to the file ``path`` (as
    ``output_file`` makes it: the object is a context manager), or else to standard output or error. ``first`` is the
    number of the first frame that is due. ``update`` and ``finish`` raise VerifyError at the first difference.
    """

    def __init__(
        self,
        video: VideoProperties,
        name: str,
        *,
        whole: bool = False,
        each: bool = False,
        path: str | None = None,
        force: bool = False,
        to_stderr: bool = False,
        expected: Expected | None = None,
        first: int = 0,
    ) -> None:
        from neuralcodec.core.digest import RunningMd5

        self._video, self._name, self._whole, self._each = video, name, whole, each
        self._path, self._force, self._to_stderr = path, force, to_stderr
        self.expected, self._first = expected, first
        self._running = RunningMd5() if whole or (expected and expected.whole) else None
        self._frames = 0
        self._stack = ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._stack.enter_context(output_file(self._path, self._force))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, number: int, frame: Frame) -> None:
        """The next decoded frame, by its number in the stream."""
        from neuralcodec.core.digest import md5_of_frame

        if self._running is not None:
            self._running.update(frame)
        if self._each or (self.expected and self.expected.frames):
            md5 = md5_of_frame(frame)
            if self._each:
                if self._frames == 0:
                    self._say(frame_header(self._video))
                self._say(frame_line(frame, md5))
            if self.expected and self.expected.frames:
                self._compare(number, md5, self.expected.frames, self.expected.name)
        self._frames += 1

    def finish(self) -> None:
        """After the last frame."""
        if self._running is not None and self._whole:
            self._say(f"{self._running.hexdigest()}  {self._name}")
        expected = self.expected
        if expected is None:
            return
        if expected.frames and self._frames < len(expected.frames):
            raise VerifyError(f"{self._name} has {self._frames} frames, {expected.name} {len(expected.frames)}")
        if expected.whole and (md5 := self._running.hexdigest()) != expected.whole:
            raise VerifyError(f"the pictures of {self._name} differ: md5 {md5}, in {expected.name} {expected.whole}")

    def _compare(self, number: int, md5: str, frames: tuple[str, ...], name: str) -> None:
        if number != self._first + self._frames:
            raise VerifyError(f"frame {self._first + self._frames} is missing in {self._name}")
        if self._frames == len(frames):
            raise VerifyError(f"{self._name} has more frames than {name} ({len(frames)})")
        if md5 != frames[self._frames]:
            raise VerifyError(f"frame {number} differs: md5 {md5}, in {name} {frames[self._frames]}")

    def _say(self, text: str) -> None:
        click.echo(text.encode() if self._file else text, file=self._file, err=self._to_stderr)
