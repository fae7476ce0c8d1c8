"""x264, x265 and SVT-AV1 through FFmpeg (PyAV), in the named conditions of conditions.py.

The rate is that of the elementary stream without supplemental information units (SEI: the encoder's advertisement of itself, which decoding
does not need). AV1 has no elementary stream format of its own: its rate is of the IVF file, 32 bytes and 12 for each frame included.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.video.frame import PictureType

from neuralcodec.bench import stills
from neuralcodec.bench.conditions import CONDITIONS, STILLS, Condition, condition_name
from neuralcodec.bench.metrics import Planes, clip_psnr
from neuralcodec.bench.points import Clip, Point, Times, make_point
from neuralcodec.bench.scores import repeat, scores
from neuralcodec.bench.zeroed_memory import zeroed_memory
from neuralcodec.core.errors import MeasureError, UsageError
from neuralcodec.media.own_priority import own_priority

Packets = list[tuple[int, bool, int]]
"""For each packet its presentation number, whether it is a key frame, and its bits without SEI."""


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


def encoder_says(data: bytes) -> str:
    """What an encoder writes about itself and its settings at a stream's start; empty where it writes nothing."""
    found = re.search(rb"x26[45] (?:- core|\(build)[ -~]*", data[:16384])
    return found[0].decode() if found else ""


def encode(file: BinaryIO, pictures: Iterable[Planes], size: tuple[int, int], rate: Fraction, condition: Condition, setting: float,
           on_packet: Callable[[], None] = lambda: None) -> Packets:
    """Encode 8-bit 4:2:0 pictures of ``size`` (width, height) into ``file``. Raises UsageError for an encoder that this FFmpeg does not have,
    MeasureError where it refuses the pictures or its options."""
    os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 writes its settings to standard error otherwise; errors are reported below
    packets: Packets = []
    try:
        av.Codec(condition.encoder, "w")
    except (av.FFmpegError, ValueError) as error:
        raise UsageError(f"{condition.encoder}: this FFmpeg does not have it ({error})") from error
    try:
        with zeroed_memory(), own_priority(), av.open(file, "w", format=condition.container) as container:
            stream = container.add_stream(condition.encoder, rate=rate, options=condition.options | {condition.key: f"{setting:g}"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"

            def put(packet: av.Packet) -> None:
                data = bytes(packet)
                if data:
                    on_packet()
                    packets.append((packet.pts, packet.is_keyframe, 8 * (len(data) - sei_bytes(data, condition))))
                    container.mux(packet)

            for picture in _pictures(pictures, size):
                for packet in stream.encode(picture):
                    put(packet)
            for packet in stream.encode():
                put(packet)
    except (av.FFmpegError, ValueError) as error:
        raise MeasureError(f"{condition.encoder} does not take {size[0]}x{size[1]} with these options ({getattr(error, 'strerror', None) or error})") from error
    return packets


def _pictures(pictures: Iterable[Planes], size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    for number, planes in enumerate(pictures):
        picture = av.VideoFrame(*size, "yuv420p")
        for target, plane in zip(picture.planes, planes, strict=True):
            rows = np.zeros((target.height, target.line_size), np.uint8)
            rows[:, : target.width] = plane
            target.update(rows)
        picture.pts = number
        yield picture


def decode(file: BinaryIO, threads: int) -> Iterator[tuple[Planes, str]]:
    """Pictures of a stream, each with "B" or "P" (all that is no B frame), decoded on ``threads`` threads."""
    with av.open(file) as container:
        context = container.streams.video[0].codec_context
        context.thread_count, context.thread_type = threads, "AUTO"
        for frame in container.decode(video=0):
            converted = frame.reformat(format="yuv420p")
            planes = tuple(np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in converted.planes)
            yield planes, "B" if frame.pict_type == PictureType.B else "P"


def timed_decode(data: bytes, threads: int) -> tuple[list[Planes], str, float, float]:
    """All pictures, their kinds, the seconds for them and until the first one."""
    started, first = time.perf_counter(), 0.0
    pictures, kinds = [], []
    for planes, kind in decode(io.BytesIO(data), threads):
        first = first or time.perf_counter() - started
        pictures.append(planes)
        kinds.append(kind)
    return pictures, "".join(kinds), time.perf_counter() - started, first


def measure(clip: Clip, name: str, setting: float, *, timed: bool = True, threads: int = 1, measures: Sequence[str] = (),
            keep: Callable[[list[Planes]], None] = lambda pictures: None) -> Point:
    """A clip through a classical encoder and decoder, the latter on ``threads`` threads; ``measures`` beyond PSNR as in metrics.MEASURES;
    ``keep`` gets the decoded pictures. Raises UsageError for an unknown or missing encoder or a video given to a format of stills, MeasureError."""
    name = condition_name(name)
    if name in STILLS:
        return stills.measure(clip, name, setting, timed=timed, measures=measures, keep=keep)
    condition, file, first = CONDITIONS[name], io.BytesIO(), []
    started = time.perf_counter()
    size = clip.video.width, clip.video.height
    packets = encode(file, clip.planes, size, clip.rate, condition, setting, lambda: first.append(time.perf_counter()) if not first else None)
    encoded = time.perf_counter() - started
    data = file.getvalue()
    pictures, kinds, _, warmup = timed_decode(data, threads)
    times = None
    if timed:
        times = Times(encoded, first[0] - started, *repeat(lambda: timed_decode(data, threads)[2:]), warmup, threads)
    psnr = clip_psnr(clip.planes, pictures)
    keep(pictures)
    ordered = sorted(packets)
    # Only a key frame counts as I: a group may start there, as with each of our I frames.
    kinds = "".join("I" if key else kind for (_, key, _), kind in zip(ordered, kinds, strict=True))
    return make_point(clip, name, setting, psnr, bits=8 * (len(data) - sei_bytes(data, condition)), file_bytes=len(data), kinds=kinds,
                      frame_bits=[bits for _, _, bits in ordered], times=times, encoder=encoder_says(data), **scores(clip, pictures, measures))


def missing(name: str) -> str | None:
    """Why a condition cannot be measured here, as one line; None if it can."""
    encoder = CONDITIONS[name].encoder
    try:
        av.Codec(encoder, "w")
    except (av.FFmpegError, ValueError) as error:
        return f"this PyAV's FFmpeg has no encoder {encoder} ({error})"
    return None
