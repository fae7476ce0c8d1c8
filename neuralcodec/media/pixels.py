"""Conversion between PyAV pictures and 8-bit 4:2:0 planes, with the colour tags that the samples then have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from neuralcodec.core.errors import InputError
from neuralcodec.core.types import ColourTags

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]

# Formats whose three planes, or whose Y and interleaved chroma, already are 8-bit 4:2:0 samples.
_PLANAR_420 = ("yuv420p", "yuvj420p")
_SAME_SAMPLES = ("nv12", "nv21")
_GRAY = ("gray", "gray8")

# FFmpeg's AVColorSpace is H.273's matrix coefficients; these are the values that swscale's tables know.
_SWS_601, _SWS_709, _SWS_FCC, _SWS_240M, _SWS_2020 = 5, 1, 4, 7, 9
_SWS_OF_MATRIX = {1: _SWS_709, 4: _SWS_FCC, 5: _SWS_601, 6: _SWS_601, 7: _SWS_240M, 9: _SWS_2020, 10: _SWS_2020}
_LIMITED, _FULL = 1, 2
_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)


def chroma_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of U and V of a 4:2:0 picture: half, rounded up."""
    return (width + 1) // 2, (height + 1) // 2


def sws_colourspace(matrix: int, width: int, height: int) -> int:
    """swscale's table for an H.273 matrix; what is unspecified is BT.709 from 720 rows (or 1280 columns) on."""
    return _SWS_OF_MATRIX.get(matrix, _SWS_709 if height >= 720 or width >= 1280 else _SWS_601)


def plane_array(plane) -> np.ndarray:
    """A view of a PyAV plane's memory as (rows, bytes per row), top row first, padding included."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, abs(plane.line_size))
    return rows[::-1] if plane.line_size < 0 else rows


def planes_of(picture: av.VideoFrame) -> Planes:
    """Copies Y (H, W), U and V (ceil(H/2), ceil(W/2)) out of a yuv420p or yuvj420p picture."""
    width, height = picture.width, picture.height
    sizes = ((width, height), chroma_size(width, height), chroma_size(width, height))
    return tuple(plane_array(p)[:h, :w].copy() for p, (w, h) in zip(picture.planes, sizes, strict=True))


def picture_of(planes: Planes, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A PyAV picture in a planar 8-bit 4:2:0 format that holds the samples of ``planes``."""
    height, width = planes[0].shape
    picture = av.VideoFrame(width, height, pix_fmt)
    for target, samples in zip(picture.planes, planes, strict=True):
        rows = np.asarray(memoryview(target)).view(np.uint8).reshape(target.height, target.line_size)
        rows[: samples.shape[0], : samples.shape[1]] = samples
    return picture


def _family(fmt: av.VideoFormat) -> str:
    """What the samples of a pixel format mean: "rgb", "gray" or "yuv"."""
    if fmt.is_rgb or fmt.has_palette or fmt.is_bayer or fmt.name.startswith("xyz"):
        return "rgb"
    return "gray" if fmt.name.startswith(("gray", "ya", "mono")) else "yuv"


def _has_alpha(fmt: av.VideoFormat) -> bool:
    # A palette's alpha is nearly always opaque; its "alpha component" is no news for the user.
    return not fmt.has_palette and any(component.is_alpha for component in fmt.components)


class ToYuv420:
    """Turns decoded pictures of any format and size into planes of one size with one set of colour tags.

    The first picture decides: size, and ``colour``, which says what the converted samples are. YUV and gray keep their
    range and matrix; RGB becomes limited-range YUV, by BT.709 from 720 rows or 1280 columns on, else by BT.601. Alpha
    is dropped. Each kind of change is reported once through ``note``.
    """

    def __init__(self, first: av.VideoFrame, chroma_location: int, note: Callable[[str], None]) -> None:
        self.width, self.height = first.width, first.height
        self._note = note
        self._reformatter = VideoReformatter()
        family = _family(first.format)
        self.colour = ColourTags(
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
            matrix=int(first.colorspace),
            full_range=self._range_of(first, family),
            chroma_location=chroma_location,
        )
        if family == "rgb":
            sws = sws_colourspace(2, self.width, self.height)
            self.colour = replace(self.colour, matrix=1 if sws == _SWS_709 else 6, full_range=False)
        elif self.colour.matrix in (0, 3):  # RGB or reserved: meaningless for YUV samples
            self.colour = replace(self.colour, matrix=2)
        if family == "rgb" or (family == "yuv" and first.format.chroma_width(self.width) == self.width > 1):
            # swscale averages pairs when it subsamples: the chroma samples lie half-way (measured on a ramp).
            self.colour = replace(self.colour, chroma_location=2)

    @staticmethod
    def _range_of(picture: av.VideoFrame, family: str) -> bool | None:
        if picture.format.name.startswith("yuvj") or int(picture.color_range) == _FULL:
            return True
        if family == "rgb":
            return True
        return False if int(picture.color_range) == _LIMITED else None

    def __call__(self, picture: av.VideoFrame) -> Planes:
        """Y (H, W), U and V (ceil(H/2), ceil(W/2)), uint8, of one decoded picture."""
        name = picture.format.name
        same_size = (picture.width, picture.height) == (self.width, self.height)
        if not same_size:
            self._note(
                f"the picture size changes to {picture.width}x{picture.height} in mid-stream: "
                f"scaled to {self.width}x{self.height}"
            )
        if same_size and name in _PLANAR_420:
            return planes_of(picture)
        if name not in _SAME_SAMPLES and name not in _PLANAR_420:
            self._note(f"converted from {name} to 8-bit 4:2:0")
        if _has_alpha(picture.format):
            self._note("alpha channel dropped")
        if same_size and name in _GRAY:
            luma = plane_array(picture.planes[0])[: self.height, : self.width].copy()
            width, height = chroma_size(self.width, self.height)
            return luma, np.full((height, width), 128, np.uint8), np.full((height, width), 128, np.uint8)
        return planes_of(self._reformat(picture))

    def _reformat(self, picture: av.VideoFrame) -> av.VideoFrame:
        family = _family(picture.format)
        source_range = _FULL if self._range_of(picture, family) else _LIMITED
        if family == "rgb":
            space = sws_colourspace(self.colour.matrix, self.width, self.height)
            target_range = _FULL if self.colour.full_range else _LIMITED
        else:
            # The same table on both sides: only depth, subsampling and size change, whatever the true matrix is.
            space, target_range = _SWS_601, source_range
        try:
            return self._reformatter.reformat(
                picture,
                self.width,
                self.height,
                "yuv420p",
                src_colorspace=space,
                dst_colorspace=space,
                interpolation=_FLAGS,
                src_color_range=source_range,
                dst_color_range=target_range,
                threads=1,
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise InputError(f"pixel format {picture.format.name} cannot be converted to 8-bit 4:2:0") from error


def rgb_of(planes: Planes, colour: ColourTags) -> np.ndarray:
    """RGB samples (H, W, 3), uint8, full range, of a 4:2:0 picture by the matrix and range of its tags."""
    height, width = planes[0].shape
    space = sws_colourspace(colour.matrix, width, height)
    picture = VideoReformatter().reformat(
        picture_of(planes),
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        interpolation=_FLAGS,
        src_color_range=_FULL if colour.full_range else _LIMITED,
        dst_color_range=_FULL,
        threads=1,
    )
    return plane_array(picture.planes[0])[:height, : 3 * width].reshape(height, width, 3).copy()
