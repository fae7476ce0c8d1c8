"""Reading of still pictures through Pillow: samples upright, 8 bits, with their profile and descriptions."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from neuralcodec.core.errors import InputError
from neuralcodec.core.types import VideoProperties
from neuralcodec.media.orientation import PREFIX, upright_exif, upright_xmp
from neuralcodec.media.pixels import Planes
from neuralcodec.media.still_colour import GRAY, SRGB, STRIP_ROWS, full_chroma_of_rows, planes_of_rows

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".ppm", ".pgm")
"""What is taken from folders."""
ICC, EXIF, XMP = 1, 2, 3
"""Kinds of attachments."""
HEAD = 32
"""Bytes by which a picture is known."""
_MOTION_JPEG = (".mjpeg", ".mjpg")
"""One JPEG after the other: a video, though it begins as a picture does."""
_RAW_PHOTOS = (".dng", ".cr2", ".nef", ".arw", ".pef", ".orf", ".rw2")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"P5", b"P6")
_AVIF, _HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF")
_ORIENTATION = 0x0112
_GROUPS = (0x8769, 0x8825)
_PHOTO_TAGS = (270, 271, 272, 305, 306, 315, 33432, *_GROUPS)
"""Of a TIFF file's own tags those that describe a photo: title, camera, program, time, author, rights, EXIF, GPS."""
_MARGIN = 1


class StillSource:
    """A picture, upright. ``properties``; ``has_alpha``, false where it is opaque everywhere; ``attachments``, pairs of kind (1 ICC, 2 EXIF from its TIFF
    header on, 3 XMP) and bytes; ``notes``, one-line messages for the user. ``full_chroma``: colour is offered in 4:4:4."""

    def __init__(self, image: Image.Image, name: str, full_chroma: bool = False) -> None:
        self.name = name
        self.notes: list[str] = []
        self.attachments: list[tuple[int, bytes]] = []
        orientation = image.getexif().get(_ORIENTATION, 1)
        self._attach(image)
        aspect = _aspect(image)
        image = self._reduced(image)
        if orientation in range(2, 9):
            image = ImageOps.exif_transpose(_with_orientation(image, orientation))
            aspect = 1 / aspect if orientation >= 5 else aspect
        self._alpha = self._take_alpha(image)
        gray = image.mode in ("L", "LA")
        self._image = image
        colour = GRAY if gray else SRGB
        if any(kind == ICC for kind, _ in self.attachments):
            colour = replace(colour, primaries=2, transfer=2)
        self.properties = VideoProperties(*image.size, Fraction(1, 25), sample_aspect_ratio=aspect, colour=colour, still=True, gray=gray,
                                          full_chroma=full_chroma and not gray)
        if not gray:
            self.notes.append(f"converted from RGB to 8-bit {'4:4:4' if full_chroma else '4:2:0'}")

    @property
    def has_alpha(self) -> bool:
        return self._alpha is not None

    def planes(self, top: int, bottom: int) -> Planes:
        """8-bit 4:2:0 planes of the rows from ``top``, an even number, up to but without ``bottom``, even too unless it is the height."""
        parts = [self._strip(first, min(first + STRIP_ROWS, bottom)) for first in range(top, bottom, STRIP_ROWS)]
        y, u, v = (np.concatenate(planes) for planes in zip(*parts, strict=True))
        return y, u, v

    def _strip(self, top: int, bottom: int) -> Planes:
        width, height = self._image.size
        above, below = (_MARGIN if inside else 0 for inside in (top > 0, bottom < height))
        strip = self._image.crop((0, top - above, width, bottom + below))
        channels = [np.asarray(c) for c in strip.split()]
        if self.properties.gray:
            neutral = np.full(((bottom - top + 1) // 2, (width + 1) // 2), 128, np.uint8)
            return channels[0][above : len(channels[0]) - below], neutral, neutral
        return planes_of_rows(channels[:3], above, below)

    def chroma(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        """U and V of these rows at the size of Y."""
        parts = [full_chroma_of_rows([np.asarray(c) for c in self._image.crop((0, first, self._image.width, min(first + STRIP_ROWS, bottom))).split()[:3]])
                 for first in range(top, bottom, STRIP_ROWS)]
        u, v = (np.concatenate(planes) for planes in zip(*parts, strict=True))
        return u, v

    def alpha(self, top: int, bottom: int) -> np.ndarray:
        """Opacity of these rows, (bottom - top, W) uint8."""
        return np.asarray(self._alpha.crop((0, top, self._alpha.width, bottom)))

    # -- what the file is ------------------------------------------------------------------------------------------

    def _attach(self, image: Image.Image) -> None:
        info = image.info
        if profile := info.get("icc_profile"):
            self.attachments.append((ICC, bytes(profile)))
        if exif := _exif(image):
            self.attachments.append((EXIF, upright_exif(exif)))
        xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
        if xmp:
            self.attachments.append((XMP, upright_xmp(xmp.encode() if isinstance(xmp, str) else bytes(xmp)).rstrip(b"\0")))

    def _reduced(self, image: Image.Image) -> Image.Image:
        """The picture as L, LA, RGB or RGBA."""
        deep = image.mode.startswith("I") or re.search(r";16[BLNS]", getattr(image, "deep", "")) is not None
        if deep:
            self.notes.append("more than 8 bits a sample: converted to 8")
        if image.mode.startswith("I"):
            return Image.fromarray(_eight_bits(np.asarray(image)))
        if image.mode == "F":
            raise InputError(f"{self.name}: samples are in floating point, which is not supported")
        if image.mode in ("CMYK", "LAB"):
            self.notes.append(f"converted from {image.mode} to RGB")
            return self._separated(image)
        transparent = "transparency" in image.info
        wanted = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(image.mode, "RGB")
        if image.mode in ("L", "LA", "RGB", "RGBA"):
            wanted = image.mode
        if transparent and wanted in ("L", "RGB"):
            wanted = "LA" if image.mode == "L" else "RGBA"
        return image if image.mode == wanted else image.convert(wanted)

    def _separated(self, image: Image.Image) -> Image.Image:
        """CMYK or Lab in sRGB, by the picture's profile if it has one, which then no longer applies."""
        profile = next((data for kind, data in self.attachments if kind == ICC), None)
        self.attachments = [a for a in self.attachments if a[0] != ICC]
        try:
            if image.mode == "LAB":
                source: Any = ImageCms.createProfile("LAB")
            elif profile:
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            else:
                return image.convert("RGB")
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except ImageCms.PyCMSError:
            self.notes.append("its colour profile could not be used")
            if image.mode == "LAB":
                raise InputError(f"{self.name}: Lab colours cannot be converted here") from None
            return image.convert("RGB")

    @staticmethod
    def _take_alpha(image: Image.Image) -> Image.Image | None:
        if image.mode not in ("LA", "RGBA"):
            return None
        alpha = image.getchannel("A")
        return None if alpha.getextrema() == (255, 255) else alpha


def is_picture(head: bytes, name: str = "") -> bool:
    """Whether a file that begins so is a picture that Pillow may read."""
    if head[4:8] == b"ftyp":
        return head[8:12] in (*_AVIF, *_HEIF)
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or Path(name).suffix.lower() in _RAW_PHOTOS


def open_still(path: str, full_chroma: bool = False) -> StillSource | None:
    """Open a picture file, or "-" for one on standard input; None for anything else, an animation among them, from which nothing was taken then.
    ``full_chroma``: see StillSource.

    Raises InputError with one clear line for a picture that cannot be read."""
    if path == "-":
        stream = sys.stdin.buffer
        if not hasattr(stream, "peek") or not is_picture(stream.peek(HEAD)[:HEAD]):
            return None
        data = stream.read()
        opened = _open(io.BytesIO(data), "standard input", data[:HEAD], full_chroma)
        if opened is None:
            raise InputError("standard input: an animation cannot come through a pipe")
        return opened
    if not os.path.isfile(path) or Path(path).suffix.lower() in _MOTION_JPEG:
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            return _open(file, path, head, full_chroma) if is_picture(head, path) else None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _open(file: BinaryIO, name: str, head: bytes, full_chroma: bool) -> StillSource | None:
    if Path(name).suffix.lower() in _RAW_PHOTOS:
        raise InputError(f"{name}: a camera's raw photo; develop it first")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        _register_heif(name)
    try:
        with Image.open(file) as image:
            if getattr(image, "is_animated", False) and image.format in _ANIMATIONS:
                return None
            note = f"only the first of {image.n_frames} pictures is taken" if image.format == "TIFF" and image.n_frames > 1 else None
            image.deep = str(image.tile[0][3]) if image.tile else ""
            if image.format == "TIFF":
                image.info["exif"] = _photo_tags(image.getexif())  # what stands behind its tags can be read now only
            image.load()
            source = StillSource(image, name, full_chroma)
    except InputError:
        raise
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: too large a picture") from error
    except Exception as error:
        raise InputError(f"{name}: no picture that can be read ({' '.join(str(error).split()) or type(error).__name__})") from error
    if note:
        source.notes.append(note)
    return source


def _register_heif(name: str) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(f"{name}: reading HEIC needs the optional package pillow-heif") from error
    pillow_heif.register_heif_opener()


def _exif(image: Image.Image) -> bytes:
    """EXIF from its TIFF header on, as it stands in the file where that has a place for it."""
    raw = image.info.get("exif")
    if raw is None:
        exif = image.getexif()
        raw = exif.tobytes() if len(exif) else b""
    return bytes(raw).removeprefix(PREFIX)


def _photo_tags(exif: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in _PHOTO_TAGS:
        if tag in exif:
            kept[tag] = exif.get_ifd(tag) if tag in _GROUPS else exif[tag]
    return kept.tobytes() if len(kept) else b""


def _with_orientation(image: Image.Image, orientation: int) -> Image.Image:
    # exif_transpose asks the picture; a converted one may have lost the answer.
    image.getexif()[_ORIENTATION] = orientation
    return image


def _aspect(image: Image.Image) -> Fraction:
    """Width of a sample over its height."""
    x, y = image.info.get("dpi") or image.info.get("jfif_density") or image.info.get("aspect") or (1, 1)
    if not (x > 0 and y > 0) or abs(x / y - 1) < 0.01:
        return Fraction(1)
    return (Fraction(y).limit_denominator(1000) / Fraction(x).limit_denominator(1000)).limit_denominator(1000)


def _eight_bits(samples: np.ndarray) -> np.ndarray:
    most = 65535 if samples.max(initial=0) <= 65535 else 2**31 - 1
    return ((np.clip(samples, 0, most).astype(np.int64) * 255 + most // 2) // most).astype(np.uint8)


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
