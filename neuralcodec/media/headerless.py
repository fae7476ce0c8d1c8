"""Inputs that do not say what they are: raw planes and numbered pictures."""

from __future__ import annotations

import os
from fractions import Fraction

import av

from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.media.container_source import ContainerSource
from neuralcodec.media.source import Source


def open_raw(name: str, size: tuple[int, int] | None, pix_fmt: str, rate: Fraction) -> Source:
    """Raw frames one after another, without any header. Raises InputError unless at least one whole frame is there."""
    if size is None:
        raise InputError(f"{name}: a raw file does not say its size: give --size WIDTHxHEIGHT (and --pix-fmt, --fps)")
    width, height = size
    if width < 1 or height < 1 or width > 65535 or height > 65535:
        raise UsageError(f"size {width}x{height} is out of range")
    try:
        av.VideoFormat(pix_fmt, width, height)
    except ValueError as error:
        raise UsageError(f"unknown pixel format {pix_fmt!r}") from error
    options = {"video_size": f"{width}x{height}", "pixel_format": pix_fmt, "framerate": str(rate)}
    try:
        source = ContainerSource(name, name, container_format="rawvideo", options=options)
    except InputError as error:
        length = os.path.getsize(name)
        raise InputError(f"{name}: {length} bytes are less than one frame of {width}x{height} {pix_fmt}") from error
    frame_bytes = _raw_frame_bytes(name, options)
    whole, rest = divmod(os.path.getsize(name), frame_bytes)
    if rest:
        source._note(f"the file ends with {rest} bytes of an incomplete frame (of {frame_bytes}): left out")
    source.frame_count_hint = whole
    return source


def _raw_frame_bytes(name: str, options: dict[str, str]) -> int:
    with av.open("file:" + name, format="rawvideo", options=options) as container:
        return next(iter(container.demux())).size


def open_pattern(name: str, rate: Fraction) -> Source:
    """Numbered pictures, paced at ``rate`` frames a second."""
    options = {"framerate": str(rate), "pattern_type": "sequence"}
    try:
        return ContainerSource(name, name, container_format="image2", options=options)
    except InputError as error:
        raise InputError(f"{name}: no pictures found for this pattern") from error
