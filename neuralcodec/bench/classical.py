"""x264, x265 and SVT-AV1 through FFmpeg (PyAV), in named conditions with literal options.

The rate is that of the elementary stream without supplemental information units (SEI: the encoder's advertisement of itself, which decoding
does not need). AV1 has no elementary stream format of its own: its rate is of the IVF file, 32 bytes and 12 for each frame included.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from av.video.frame import PictureType

from neuralcodec.bench.metrics import Planes, clip_psnr
from neuralcodec.bench.points import Clip, Point, make_point
from neuralcodec.core.errors import MeasureError, UsageError

_LOW_DELAY = "bframes=0:keyint=32:min-keyint=32:scenecut=0"


@dataclass(frozen=True)
class Condition:
    """An encoder with its options. ``crf`` are the settings of a curve; ``sei`` the SEI unit types of the format, ``shift`` and ``mask`` find a unit's
    type in its first byte."""

    encoder: str
    container: str
    options: dict[str, str]
    crf: tuple[int, ...] = (20, 24, 28, 32, 36)
    sei: tuple[int, ...] = field(default=(), repr=False)
    shift: int = field(default=0, repr=False)
    mask: int = field(default=31, repr=False)


def _x264(params: str = "", **options: str) -> Condition:
    return Condition("libx264", "h264", options | ({"x264-params": params} if params else {}), sei=(6,))


def _x265(params: str = "", **options: str) -> Condition:
    params = f"{params}:log-level=error" if params else "log-level=error"
    return Condition("libx265", "hevc", options | {"x265-params": params}, sei=(39, 40), shift=1, mask=63)


CONDITIONS = {
    "x264-medium-ld32": _x264(_LOW_DELAY, preset="medium"),
    "x265-medium-ld32": _x265(_LOW_DELAY, preset="medium"),
    "x264-medium-ld32-psnr": _x264(_LOW_DELAY, preset="medium", tune="psnr"),
    "x265-medium-ld32-psnr": _x265(_LOW_DELAY, preset="medium", tune="psnr"),
    "x264-medium": _x264(preset="medium"),
    "x265-medium": _x265(preset="medium"),
    "x265-veryslow": _x265(preset="veryslow"),
    "svtav1-p6": Condition("libsvtav1", "ivf", {"preset": "6"}, (25, 33, 41, 49, 57)),
}
"""Conditions by name. "ld32": low delay, no B frames, an intra frame every 32; "psnr": tuned for the measure; the others as a user gets them."""

ALIASES = {"x264": "x264-medium-ld32", "x265": "x265-medium-ld32", "svtav1": "svtav1-p6"}


def condition_name(name: str) -> str:
    """The full name of a condition. Raises UsageError, naming those there are."""
    name = ALIASES.get(name, name)
    if name not in CONDITIONS:
        raise UsageError(f"unknown classical encoder {name!r}; choose from {', '.join((*ALIASES, *CONDITIONS))}")
    return name


def sei_bytes(data: bytes, condition: Condition) -> int:
    """Bytes of SEI units in an Annex B byte stream, start codes of three bytes included."""
    if not condition.sei:
        return 0
    total, start = 0, data.find(b"\0\0\1")
    while start >= 0:
        end = data.find(b"\0\0\1", start + 3)
        if start + 3 < len(data) and data[start + 3] >> condition.shift & condition.mask in condition.sei:
            total += (end if end >= 0 else len(data)) - start
        start = end
    return total


def _pictures(clip: Clip) -> Iterator[av.VideoFrame]:
    for number, frame in enumerate(clip.frames):
        picture = av.VideoFrame(clip.video.width, clip.video.height, "yuv420p")
        for target, plane in zip(picture.planes, frame.planes, strict=True):
            rows = np.zeros((target.height, target.line_size), np.uint8)
            rows[:, : target.width] = plane
            target.update(rows)
        picture.pts = number
        yield picture


def _encode(clip: Clip, condition: Condition, crf: float) -> tuple[bytes, list[tuple[int, bool, int]]]:
    """The file, and for each packet (presentation number, whether a key frame, bits without SEI)."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes its settings to standard error otherwise
    file, packets = io.BytesIO(), []
    try:
        container = av.open(file, "w", format=condition.container)
        stream = container.add_stream(condition.encoder, rate=clip.rate, options=condition.options | {"crf": f"{crf:g}"})
    except (av.FFmpegError, ValueError) as error:
        raise UsageError(f"{condition.encoder}: this FFmpeg does not have it ({error})") from error
    with container:
        stream.width, stream.height, stream.pix_fmt = clip.video.width, clip.video.height, "yuv420p"

        def put(packet: av.Packet) -> None:
            data = bytes(packet)
            if data:
                packets.append((packet.pts, packet.is_keyframe, 8 * (len(data) - sei_bytes(data, condition))))
                container.mux(packet)

        try:
            for picture in _pictures(clip):
                for packet in stream.encode(picture):
                    put(packet)
            for packet in stream.encode():
                put(packet)
        except av.FFmpegError as error:
            raise MeasureError(f"{clip.name}: {condition.encoder} does not take this clip ({error})") from error
    return file.getvalue(), packets


def _decode(data: bytes, started: float) -> tuple[list[Planes], str, float]:
    """Pictures, whether each is a B frame or another ("B", "P"), and the seconds until the first one."""
    pictures, kinds, first = [], [], 0.0
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            if not pictures:
                first = time.perf_counter() - started
            converted = frame.reformat(format="yuv420p")
            rows = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in converted.planes]
            pictures.append(tuple(rows))
            kinds.append("B" if frame.pict_type == PictureType.B else "P")
    return pictures, "".join(kinds), first


def measure(clip: Clip, name: str, crf: float, *, timed: bool = True) -> Point:
    """A clip through a classical encoder and decoder. Raises UsageError for an unknown or missing encoder."""
    condition = CONDITIONS[condition_name(name)]
    started = time.perf_counter()
    data, packets = _encode(clip, condition, crf)
    encoded = time.perf_counter()
    pictures, kinds, first = _decode(data, encoded)
    decode_s = time.perf_counter() - encoded
    psnr = clip_psnr(clip.planes, pictures)
    ordered = sorted(packets)
    # Only a key frame counts as I: a group may start there, as with each of our I frames.
    kinds = "".join("I" if key else kind for (_, key, _), kind in zip(ordered, kinds, strict=True))
    return make_point(clip, condition_name(name), crf, psnr, bits=8 * (len(data) - sei_bytes(data, condition)), file_bytes=len(data), kinds=kinds,
                      frame_bits=[bits for _, _, bits in ordered], times=(encoded - started, decode_s, first) if timed else None)
