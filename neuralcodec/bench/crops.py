"""Crops of decoded pictures, to be looked at beside each other (page_pictures.py): which part of which frame.

The place follows from the source alone, so that a point's crop can be cut where the point is measured, kept with it, and chosen later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from neuralcodec.bench.metrics import Planes
from neuralcodec.bench.points import Clip
from neuralcodec.core.errors import MeasureError
from neuralcodec.core.types import ColourTags
from neuralcodec.media.pixels import rgb_of
from neuralcodec.media.plain_sinks import png_bytes

WIDTH, HEIGHT = 320, 240
"""The largest crop, in luma samples."""
_GRID = 8
_MOST = 32


@dataclass(frozen=True)
class Place:
    """Part of a frame: its index from 0, and the window's upper left corner (even) and size in luma samples."""

    frame: int
    x: int
    y: int
    width: int
    height: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


def choose_place(clip: Clip, width: int = WIDTH, height: int = HEIGHT) -> Place:
    """The window with most detail (absolute differences of neighbours in Y, of which no single one counts for more than 32) in the middle frame; the first one where several are equal.

    Candidates lie on a grid of eight samples. A frame smaller than the window is taken whole."""
    index = len(clip.frames) // 2
    y = clip.frames[index].planes[0].astype(np.float32)
    rows, columns = y.shape
    height, width = min(height, rows), min(width, columns)
    detail = np.zeros((rows + 1, columns + 1))
    detail[2:, 1:] += _detail(y, 0)
    detail[1:, 2:] += _detail(y, 1)
    area = detail.cumsum(0).cumsum(1)  # area[i, j]: sum over the first i rows and j columns
    tops, lefts = np.arange(0, rows - height + 1, _GRID), np.arange(0, columns - width + 1, _GRID)
    sums = (area[np.ix_(tops + height, lefts + width)] - area[np.ix_(tops, lefts + width)]
            - area[np.ix_(tops + height, lefts)] + area[np.ix_(tops, lefts)])
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return Place(index, int(lefts[left]), int(tops[top]), width, height)


def _detail(y: np.ndarray, axis: int) -> np.ndarray:
    # Else the border of a letterboxed picture would be what is most worth seeing.
    return np.minimum(np.abs(np.diff(y, axis=axis)), _MOST)


def cut(planes: Planes, place: Place, colour: ColourTags) -> bytes:
    """A window of one picture (the frame ``place.frame``) as a PNG file in RGB, by the matrix and range of the colour tags. Raises MeasureError
    where the window is not inside the picture."""
    rows, columns = planes[0].shape
    if place.x + place.width > columns or place.y + place.height > rows:
        raise MeasureError(f"a crop of {place.width}x{place.height} at {place.x},{place.y} is not inside {columns}x{rows} samples")
    # Converted whole and cut then: chroma at the window's edge needs its neighbours, the choice of an unspecified matrix the size.
    rgb = rgb_of(planes, colour)
    return png_bytes(np.ascontiguousarray(rgb[place.y : place.y + place.height, place.x : place.x + place.width]))
