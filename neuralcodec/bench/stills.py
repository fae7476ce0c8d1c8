"""JPEG, WebP and AVIF through Pillow, as a user gets them: RGB (or grey) goes in and comes out.

The rate is of the file. For PSNR in the way of all other points, what comes out is converted to the 4:2:0 planes that
the source was converted to; PSNR of RGB is of what comes out itself. Other codecs code the planes, so the conversion is
theirs in PSNR of RGB instead.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence

import numpy as np

from neuralcodec.bench.conditions import STILLS, StillCondition
from neuralcodec.bench.metrics import Planes, clip_psnr
from neuralcodec.bench.points import Clip, Point, Times, make_point, rgb_source
from neuralcodec.bench.scores import repeat, scores
from neuralcodec.core.errors import MeasureError, UsageError
from neuralcodec.media.still_colour import planes_of_rows


def encode(image: object, condition: StillCondition, setting: float) -> bytes:
    """A Pillow image as a file. Raises UsageError where this Pillow lacks the format."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, condition.encoder, **{condition.key: round(setting)}, **condition.options)
    except (KeyError, OSError, ValueError) as error:
        raise UsageError(f"{condition.encoder}: this Pillow does not write it ({error})") from error
    return buffer.getvalue()


def decode(data: bytes, mode: str) -> np.ndarray:
    """The samples of a file: "RGB" (H, W, 3) or "L" (H, W), uint8."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


def measure(
    clip: Clip,
    name: str,
    setting: float,
    *,
    timed: bool = True,
    measures: Sequence[str] = (),
    keep: Callable[[list[Planes]], None] = lambda pictures: None,
) -> Point:
    """A still picture through a format; see classical.measure. Raises UsageError for a video, MeasureError."""
    if not clip.still or not clip.path:
        raise UsageError(f"{name} is for still pictures; {clip.name} is none")
    from PIL import Image

    mode = "L" if clip.video.gray else "RGB"
    source = Image.fromarray(rgb_source(clip)).convert(mode)
    started = time.perf_counter()
    data = encode(source, STILLS[name], setting)
    encoded = time.perf_counter() - started

    def decode_once() -> tuple[float, float]:
        begun = time.perf_counter()
        decode(data, mode)
        seconds = time.perf_counter() - begun
        return seconds, seconds

    warmup = decode_once()[0]
    times = Times(encoded, encoded, *repeat(decode_once), warmup, 1) if timed else None
    samples = decode(data, mode)
    if samples.shape[:2] != (clip.video.height, clip.video.width):
        raise MeasureError(f"{clip.name}: {name} gives {samples.shape[1]}x{samples.shape[0]} samples")
    if mode == "L":
        planes = (samples, *clip.planes[0][1:])  # grey pictures have no chroma to lose
        rgb = np.repeat(samples[:, :, None], 3, 2)
    else:
        # By the filter that made the clip's planes: another's difference would count as the format's error.
        planes, rgb = planes_of_rows([samples[..., c] for c in range(3)], 0, 0), samples
    keep([planes])
    return make_point(
        clip,
        name,
        setting,
        clip_psnr(clip.planes, [planes]),
        bits=8 * len(data),
        file_bytes=len(data),
        kinds="I",
        frame_bits=[8 * len(data)],
        times=times,
        **scores(clip, [planes], measures, rgb),
    )


def missing(name: str) -> str | None:
    """Why a format cannot be measured here, as one line; None if it can."""
    from PIL import Image

    Image.init()
    return None if STILLS[name].encoder in Image.SAVE else f"this Pillow does not write {STILLS[name].encoder}"
