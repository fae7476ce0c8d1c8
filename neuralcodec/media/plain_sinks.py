"""Outputs without time stamps: y4m (also on a pipe), raw planes, PNG pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from neuralcodec.core.errors import OutputError
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.media import y4m
from neuralcodec.media.pixels import rgb_of
from neuralcodec.media.sink import Cadence, PendingFile, Sink, nominal_rate


class _PlaneSink(Sink):
    """Planes one after another into a file or pipe."""

    takes_full_chroma = True
    _frame_header = b""
    _kind = "raw video"

    def __init__(self, file: PendingFile | None, stream: BinaryIO, properties: VideoProperties) -> None:
        super().__init__(properties)
        self._file, self._stream = file, stream
        self._cadence = Cadence(properties)
        self._rate = nominal_rate(properties)
        if properties.rotation:
            self._note(
                f"{self._kind} has no rotation tag: frames are written as coded, {properties.rotation} degrees off"
            )

    def _write(self, frame: Frame) -> None:
        if not self._cadence.regular(frame.pts):
            self._note(
                f"variable frame rate: {self._kind} has no time stamps, frames are written one after another "
                f"at {float(self._rate):g} a second"
            )
        self._put(self._frame_header)
        for plane in frame.planes:
            self._put(memoryview(np.ascontiguousarray(plane)).cast("B"))

    def _put(self, data: bytes | memoryview) -> None:
        try:
            self._stream.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._name()}: {error.strerror}") from error

    def _name(self) -> str:
        return self._file.target if self._file else "standard output"

    def close(self) -> None:
        """Flush; a file gets its name. Standard output stays open."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        try:
            stream.flush()
            if self._file:
                stream.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._name()}: {error.strerror}") from error
        if self._file:
            self._file.commit()

    def abort(self) -> None:
        """Remove the file; what went into a pipe is gone."""
        stream, self._stream = self._stream, None
        if self._file:
            if stream is not None:
                stream.close()
            self._file.discard()


class RawSink(_PlaneSink):
    """``.yuv``: Y, U and V of each frame, without any header."""


class Y4mSink(_PlaneSink):
    """``.y4m`` or standard output. The header goes out with the first frame or, for none, at the end."""

    _frame_header = b"FRAME\n"
    _kind = "y4m"

    def __init__(self, file: PendingFile | None, stream: BinaryIO, properties: VideoProperties) -> None:
        super().__init__(file, stream, properties)
        if properties.frame_rate is None and not properties.still:
            self._note("the frame rate is unknown: y4m says 25 frames a second")
        self._put(y4m.header(properties, self._rate))


class PngSink(Sink):
    """RGB pictures by the matrix and range of the colour tags, upright (PNG has no rotation that viewers obey)."""

    def __init__(self, name: str, properties: VideoProperties, overwrite: bool) -> None:
        super().__init__(properties)
        self._name, self._overwrite = name, overwrite
        self._written: list[str] = []
        self._done = False
        PendingFile(self._path(0), overwrite).discard()  # says at once what would go wrong later
        if properties.rotation:
            self._note(f"pictures are turned upright by {properties.rotation} degrees")

    def _path(self, index: int) -> str:
        return self._name % index if "%" in self._name else self._name

    def _write(self, frame: Frame) -> None:
        index = len(self._written)
        if index == 1 and "%" not in self._name:
            raise OutputError(f"{self._name} holds one picture: name a pattern such as frame_%04d.png for a video")
        rgb = np.ascontiguousarray(
            np.rot90(rgb_of(frame.planes, self.properties.colour), -self.properties.rotation // 90)
        )
        file = PendingFile(self._path(index), self._overwrite)
        try:
            with file.open() as stream:
                stream.write(png_bytes(rgb, self._aspect()))
        except OSError as error:
            file.discard()
            raise OutputError(f"{file.target}: {error.strerror or error}") from error
        file.commit()
        self._written.append(file.target)

    def _aspect(self) -> Fraction:
        aspect = self.properties.sample_aspect_ratio
        return 1 / aspect if self.properties.rotation % 180 else aspect

    def close(self) -> None:
        """Nothing is left to do: each picture is complete as soon as it is written."""
        self._done = True

    def abort(self) -> None:
        """Remove the pictures written so far."""
        if not self._done:
            for path in self._written:
                Path(path).unlink(missing_ok=True)
        self._done = True


def png_bytes(rgb: np.ndarray, aspect: Fraction = Fraction(1)) -> bytes:
    """A PNG file of RGB samples (H, W, 3), uint8, with a pixel aspect ratio (pHYs) unless that is 1."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = rgb.shape[1], rgb.shape[0], "rgb24"
    context.time_base = Fraction(1, 25)
    if aspect != 1:
        context.sample_aspect_ratio = aspect
    picture = av.VideoFrame.from_ndarray(rgb, "rgb24")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
