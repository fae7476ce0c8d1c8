"""Writing of still pictures through Pillow, with what was attached to them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from neuralcodec.core.errors import OutputError, UsageError
from neuralcodec.core.types import VideoProperties
from neuralcodec.media.orientation import PREFIX
from neuralcodec.media.pixels import Planes
from neuralcodec.media.still_colour import rgb_strips
from neuralcodec.media.stills import EXIF, ICC, XMP

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF", "bmp": "BMP", "avif": "AVIF"}
"""Pillow's names of the formats by ending."""
_NAMES = {ICC: "the ICC profile", EXIF: "EXIF", XMP: "XMP"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "optimize": True, "subsampling": "4:2:0"},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 95, "speed": 8},
}
_LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True, "exact": True}}
_OPAQUE = ("JPEG", "BMP")
_JPEG_SEGMENT = 65533
_TIFF_XMP = 700
_GROUPS = (0x8769, 0x8825)
"""Tags of TIFF under which EXIF and GPS data stand."""
_TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}


def format_of(name: str) -> str | None:
    """Pillow's format for a file's name, None where it is no picture's."""
    return FORMATS.get(Path(name).suffix.lower().removeprefix("."))


def to_image(planes: Planes, video: VideoProperties, alpha: np.ndarray | None = None) -> Image.Image:
    """The picture in RGB, or gray, as coded. ``planes`` in 4:2:0, or of one size; ``alpha`` of the size of Y."""
    height, width = planes[0].shape
    image = Image.new("L" if video.gray else "RGB", (width, height))
    for top, strip in rgb_strips(planes, video.colour):
        image.paste(Image.fromarray(np.ascontiguousarray(strip[..., 1]) if video.gray else strip), (0, top))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def upright(image: Image.Image, rotation: int) -> Image.Image:
    """Turned clockwise by 0, 90, 180 or 270 degrees."""
    return image.transpose(_TURNS[rotation]) if rotation else image


def thumbnail(image: Image.Image, width: int, height: int, most: int, shrink: int) -> Image.Image:
    """A picture of ``width`` x ``height``, of which ``image`` has 1 of ``shrink`` samples in each direction (the last ones may lie beyond it), with
    ``most`` samples at most on each side. Never enlarged."""
    scale = min(1.0, most / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return image.resize(size, Image.Resampling.LANCZOS, box=(0, 0, width / shrink, height / shrink))


def save(image: Image.Image, file: BinaryIO, kind: str, attachments: Mapping[int, bytes], aspect: Fraction = Fraction(1), lossless: bool = False) -> list[str]:
    """Writes a picture in Pillow's format ``kind``; returns a line for each thing that the format cannot hold.

    ``aspect``: width of a sample over its height. Raises UsageError where ``lossless`` is asked for in vain, or this Pillow lacks the format, OutputError."""
    if lossless and kind not in _LOSSLESS:
        raise UsageError(f"{kind} has no lossless mode here: take PNG, TIFF or WebP")
    options, lost = _options(kind, attachments)
    options = (_LOSSLESS[kind] if lossless and kind == "WEBP" else _OPTIONS.get(kind, {})) | options
    if kind in _OPAQUE and image.mode in ("LA", "RGBA"):
        lost.append("alpha")
        image = image.convert(image.mode[:-1])
    if aspect != 1:
        options["dpi"] = (72, round(72 * float(aspect)))
    try:
        image.save(file, kind, **options)
    except KeyError as error:
        raise UsageError(f"this Pillow does not write {kind}") from error
    except (OSError, ValueError) as error:
        raise OutputError(f"{kind} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return [f"{kind} does not hold {what}: left out" for what in lost]


def _options(kind: str, attachments: Mapping[int, bytes]) -> tuple[dict[str, Any], list[str]]:
    """Pillow's options for what is attached, and the names of what cannot be."""
    options: dict[str, Any] = {}
    known = {k: data for k, data in attachments.items() if k in _NAMES}
    if kind == "BMP":
        return {}, [_NAMES[k] for k in known]
    lost = [k for k, data in known.items() if kind == "JPEG" and k != ICC and len(data) > _JPEG_SEGMENT - 40]
    for k, data in known.items():
        if k in lost:
            continue
        if k == ICC:
            options["icc_profile"] = data
        elif kind == "TIFF":
            # libtiff, which compresses, does not write the tags below a group.
            options |= {"exif": _tiff_tags(options.get("exif") or Image.Exif(), k, data), "compression": None}
        elif k == EXIF:
            options["exif"] = PREFIX + data
        elif kind == "PNG":
            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", data.decode("utf-8", "replace"))
        else:
            options["xmp"] = data
    return options, [f"{_NAMES[k]} of {len(known[k])} bytes" for k in lost]


def _tiff_tags(tags: Image.Exif, kind: int, data: bytes) -> Image.Exif:
    """EXIF or XMP among a TIFF file's own tags."""
    if kind == XMP:
        tags[_TIFF_XMP] = data
    else:
        found = Image.Exif()
        found.load(PREFIX + data)
        for tag in found:
            if tag not in _GROUPS:
                tags[tag] = found[tag]
        for tag in _GROUPS:
            if group := found.get_ifd(tag):
                tags.get_ifd(tag).update(group)
                tags[tag] = group
    return tags
