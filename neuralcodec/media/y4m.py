"""YUV4MPEG2, the uncompressed pipe format that FFmpeg, x264, SVT-AV1 and mpv speak: reading and writing.

A stream is one header line and, for each frame, one line that begins with ``FRAME`` and then the planes. It has a
constant frame rate and no time stamps; colour is limited to subsampling, chroma location and range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from neuralcodec.core.errors import InputError
from neuralcodec.core.types import ColourTags, VideoProperties
from neuralcodec.media.pixels import Planes, ToYuv420, chroma_size, plane_array
from neuralcodec.media.source import Picture, Source

MAGIC = b"YUV4MPEG2"
_LINE_LIMIT = 4096
_SIZE_LIMIT = 65535

# Colour space tag: FFmpeg's pixel format and chroma location (0 unspecified, 1 left, 2 centre, 3 top left).
_COLOUR_SPACES = {
    "420": ("yuv420p", 0),
    "420jpeg": ("yuv420p", 2),
    "420mpeg2": ("yuv420p", 1),
    "420paldv": ("yuv420p", 3),
    "411": ("yuv411p", 0),
    "422": ("yuv422p", 0),
    "444": ("yuv444p", 0),
    "444alpha": ("yuva444p", 0),
    "mono": ("gray", 0),
    "mono9": ("gray9le", 0),
    "mono10": ("gray10le", 0),
    "mono12": ("gray12le", 0),
    "mono16": ("gray16le", 0),
    **{f"{s}p{d}": (f"yuv{s}p{d}le", 0) for s in ("420", "422", "444") for d in (9, 10, 12, 14, 16)},
}
_TAG_OF_LOCATION = {1: "420mpeg2", 2: "420jpeg", 3: "420paldv"}


def _ratio(text: str, name: str) -> Fraction | None:
    """A ratio such as 30000:1001; None for 0:0, which stands for unknown."""
    try:
        numerator, denominator = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise InputError(f"{name}: broken ratio {text!r} in the y4m header") from error
    return Fraction(numerator, denominator) if numerator > 0 and denominator > 0 else None


class Y4mSource(Source):
    """Reads a y4m stream that need not be seekable. Frame n has pts n in a time base of one frame."""

    def __init__(self, stream: BinaryIO, name: str, *, own: bool) -> None:
        super().__init__(name)
        self._stream, self._own = stream, own
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        line = self._stream.readline(_LINE_LIMIT)
        words = line.rstrip(b"\n").decode("ascii", "replace").split(" ")
        if words[0] != MAGIC.decode() or not line.endswith(b"\n"):
            raise InputError(f"{self.name}: not a y4m stream (no {MAGIC.decode()} header)")
        fields = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
        extra = [word[1:] for word in words[1:] if word.startswith("X")]
        try:
            width, height = int(fields["W"]), int(fields["H"])
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.name}: the y4m header has no size") from error
        if not (0 < width <= _SIZE_LIMIT and 0 < height <= _SIZE_LIMIT):
            raise InputError(f"{self.name}: the y4m header's size {width}x{height} is out of range")
        space = fields.get("C", "420jpeg")
        if space not in _COLOUR_SPACES:
            raise InputError(f"{self.name}: unknown y4m colour space C{space}")
        self._format, location = _COLOUR_SPACES[space]
        full = {"COLORRANGE=FULL": True, "COLORRANGE=LIMITED": False}
        full_range = next((full[word] for word in extra if word in full), None)
        if fields.get("I", "p") not in ("p", "?"):
            self._note("the source is interlaced: its fields are coded together as frames")
        rate = _ratio(fields.get("F", "0:0"), self.name)
        if rate is None:
            self._note("the y4m header has no frame rate: 25 frames a second assumed")
            rate = Fraction(25)
        self.properties = VideoProperties(
            width=width,
            height=height,
            time_base=1 / rate,
            frame_rate=rate,
            sample_aspect_ratio=_ratio(fields.get("A", "0:0"), self.name) or Fraction(1),
            colour=ColourTags(full_range=full_range, chroma_location=location),
        )
        self._blank = av.VideoFrame(width, height, self._format)
        if full_range:
            self._blank.color_range = 2
        self._converter: ToYuv420 | None = None
        if self._format != "yuv420p":
            self._converter = ToYuv420(self._blank, location, self._note)
            tags = replace(self._converter.colour, full_range=full_range)
            self.properties = replace(self.properties, colour=tags)
        sample = 2 if self._format.endswith("le") else 1
        if self._format == "yuv420p":
            cw, ch = chroma_size(width, height)
            self._planes_shape = [(height, width), (ch, cw), (ch, cw)]
        else:
            self._planes_shape = [(plane.height, plane.width * sample) for plane in self._blank.planes]
        self._frame_bytes = sum(h * w for h, w in self._planes_shape)

    def _read(self, count: int) -> bytes:
        """Exactly ``count`` bytes, or fewer at the end of the stream (a raw pipe may give short reads)."""
        data = self._stream.read(count)
        if len(data) == count or not data:
            return data
        parts = [data]
        count -= len(data)
        while count and (data := self._stream.read(count)):
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def _events(self) -> Iterator[Picture]:
        index = 0
        while line := self._stream.readline(_LINE_LIMIT):
            if not line.startswith(b"FRAME") or not line.endswith(b"\n"):
                self._note(f"frame {index} of the y4m stream does not begin with FRAME: reading ends there")
                break
            data = self._read(self._frame_bytes)
            if len(data) < self._frame_bytes:
                self._note(f"the y4m stream ends inside frame {index}: that frame is left out")
                break
            yield Picture(index, 1, data)
            index += 1
            if self._range and self._range[1] is not None and index >= self._range[1]:
                return
        if index == 0:
            raise InputError(f"{self.name}: the y4m stream has no complete frame")

    def _planes(self, payload: Any) -> Planes:
        samples, planes, offset = np.frombuffer(bytearray(payload), np.uint8), [], 0
        for height, width in self._planes_shape:
            planes.append(samples[offset : offset + height * width].reshape(height, width))
            offset += height * width
        if self._converter is None:
            return tuple(planes)
        for target, plane in zip(self._blank.planes, planes, strict=True):
            plane_array(target)[: plane.shape[0], : plane.shape[1]] = plane
        return self._converter(self._blank)

    def close(self) -> None:
        if self._own:
            self._stream.close()


def header(properties: VideoProperties, rate: Fraction) -> bytes:
    """The header line of a progressive 8-bit 4:2:0 stream."""
    sar = properties.sample_aspect_ratio
    tags = [
        MAGIC.decode(),
        f"W{properties.width}",
        f"H{properties.height}",
        f"F{rate.numerator}:{rate.denominator}",
        "Ip",
        f"A{sar.numerator}:{sar.denominator}",
        "C" + ("444" if properties.full_chroma else _TAG_OF_LOCATION.get(properties.colour.chroma_location, "420")),
    ]
    if properties.colour.full_range is not None:
        tags.append("XCOLORRANGE=" + ("FULL" if properties.colour.full_range else "LIMITED"))
    return " ".join(tags).encode() + b"\n"
