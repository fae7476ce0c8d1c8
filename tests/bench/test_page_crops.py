"""Crops: which window, and that its samples are those of the picture."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

from neuralcodec.bench.crops import Place, choose_place, cut
from neuralcodec.bench.points import Clip
from neuralcodec.core.errors import MeasureError
from neuralcodec.core.types import ColourTags, Frame, VideoProperties
from neuralcodec.media.pixels import rgb_of

Image = pytest.importorskip("PIL.Image")


def flat(width: int, height: int, count: int = 5) -> Clip:
    chroma = (-(-height // 2), -(-width // 2))
    frames = [Frame((np.full((height, width), 100, np.uint8), np.full(chroma, 90, np.uint8), np.full(chroma, 140, np.uint8)), n) for n in range(count)]
    return Clip("flat", VideoProperties(width, height, Fraction(1, 25)), frames)


def test_the_window_is_where_the_middle_frame_has_detail():
    clip = flat(200, 120)
    clip.frames[2].planes[0][60:110, 120:190] += np.random.default_rng(1).integers(0, 50, (50, 70), np.uint8)
    clip.frames[0].planes[0][:40, :40] += np.random.default_rng(2).integers(0, 99, (40, 40), np.uint8)
    place = choose_place(clip, 80, 64)
    assert place.frame == 2 and (place.width, place.height) == (80, 64)
    assert place.x <= 120 and place.x + 80 >= 190 and place.y <= 60 and place.y + 64 >= 110
    assert choose_place(clip, 80, 64) == place


def test_where_all_is_alike_the_first_window_is_taken():
    assert choose_place(flat(400, 300)) == Place(2, 0, 0, 320, 240)


@pytest.mark.parametrize("size", [(7, 5), (33, 400), (320, 240), (321, 243)])
def test_a_small_frame_is_taken_as_far_as_it_goes(size):
    place = choose_place(flat(*size, count=1))
    assert (place.frame, place.width, place.height) == (0, min(320, size[0]), min(240, size[1]))
    assert place.x % 2 == place.y % 2 == 0
    assert place.x + place.width <= size[0] and place.y + place.height <= size[1]


def test_the_png_holds_the_pictures_samples():
    clip = flat(70, 50)
    planes = clip.frames[2].planes
    planes[0][...] = np.random.default_rng(3).integers(16, 235, planes[0].shape, np.uint8)
    colour = ColourTags(matrix=1, full_range=True)
    data = cut(planes, Place(2, 8, 16, 33, 21), colour)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image.convert("RGB")), rgb_of(planes, colour)[16:37, 8:41])


def test_a_window_outside_is_refused():
    with pytest.raises(MeasureError, match="not inside 70x50"):
        cut(flat(70, 50).frames[0].planes, Place(0, 40, 0, 32, 32), ColourTags())
