"""Still pictures: formats of Pillow and intra frames beside our codec, on the same planes and on RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralcodec.bench import classical, ours, stills
from neuralcodec.bench.conditions import STILLS
from neuralcodec.bench.points import read_clip, rgb_source
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import UsageError
from neuralcodec.media.still_colour import SRGB
from neuralcodec.media.still_files import to_image
from neuralcodec.media.stills import open_still

MEASURES = ("psnr_rgb",)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    rows, columns = np.mgrid[:90, :120]
    rgb = np.stack([128 + 90 * np.sin(columns / 15), 40 + rows, 200 - columns], -1).clip(0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("stills") / "still.png"
    Image.fromarray(rgb).save(path)
    return path


@pytest.mark.parametrize("name", STILLS)
def test_a_format_of_pillow(picture, name):
    if stills.missing(name):
        pytest.skip("this Pillow does not write it")
    clip = read_clip(picture)
    fine, coarse = (classical.measure(clip, name, STILLS[name].crf[i], measures=MEASURES) for i in (-1, 0))
    assert fine.kinds == "I" and fine.bits == 8 * fine.file_bytes == fine.frame_bits[0]
    assert fine.bits > coarse.bits and fine.psnr > coarse.psnr and fine.psnr_rgb > coarse.psnr_rgb
    assert 0 < fine.decode_s == fine.first_frame_s and 0 < fine.encode_s
    image = Image.open(picture)
    expected = np.asarray(
        Image.open(io.BytesIO(stills.encode(image, STILLS[name], STILLS[name].crf[-1]))).convert("RGB")
    )
    mse = np.mean((np.asarray(image).astype(float) - expected) ** 2)
    assert fine.psnr_rgb == pytest.approx(10 * np.log10(255**2 / mse))


def test_jpeg_is_optimised_and_subsampled(picture):
    data = stills.encode(Image.open(picture), STILLS["jpeg"], 85)
    plain, whole = io.BytesIO(), io.BytesIO()
    Image.open(picture).save(plain, "JPEG", quality=85, subsampling="4:2:0", optimize=False)
    Image.open(picture).save(whole, "JPEG", quality=85, subsampling="4:4:4", optimize=True)
    assert len(data) < len(plain.getvalue()) and len(data) < len(whole.getvalue())


def test_intra_frames_and_ours_code_the_planes(picture, tiny_model):
    clip = read_clip(picture)
    points = (
        [classical.measure(clip, "x265-intra", 28, measures=MEASURES)] if not classical.missing("x265-intra") else []
    )
    pictures: list = []
    points.append(
        ours.measure(clip, load_model(tiny_model), 1, 60.0, workers=1, measures=MEASURES, keep=pictures.extend)
    )
    assert all(p.kinds == "I" and p.psnr_rgb is not None for p in points)
    mse = np.mean((np.asarray(Image.open(picture)).astype(float) - np.asarray(to_image(pictures[0], clip.video))) ** 2)
    assert points[-1].psnr_rgb == pytest.approx(10 * np.log10(255**2 / mse))


def test_grey_pictures(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray((np.mgrid[:40, :60][1] * 4).astype(np.uint8)).save(path)
    point = classical.measure(read_clip(path), "jpeg", 95, measures=MEASURES)
    assert point.psnr_y > 40 and point.psnr_u == 100
    assert point.psnr_rgb == pytest.approx(point.psnr_y)


def test_gray_pictures_of_16_bits_are_measured_as_they_are_coded(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray((np.mgrid[:40, :60][1] * 1000).astype(np.uint16)).save(path)
    point = classical.measure(read_clip(path), "jpeg", 95, measures=MEASURES)
    assert point.psnr_rgb == pytest.approx(point.psnr_y) and point.psnr_y > 40


def test_the_conversion_is_no_error_of_a_format(picture, monkeypatch):
    monkeypatch.setattr(stills, "decode", lambda data, mode: np.asarray(Image.open(picture)))
    point = stills.measure(read_clip(picture), "jpeg", 50, timed=False, measures=MEASURES)
    assert point.psnr_y == point.psnr_u == point.psnr_v == point.psnr_rgb == 100


def test_a_video_is_refused(clip):
    with pytest.raises(UsageError, match="jpeg is for still pictures"):
        classical.measure(clip, "jpeg", 80)


def test_pictures_are_read_as_the_command_reads_them(tmp_path):
    """Upright; as a video of one frame the picture would lie."""
    path = tmp_path / "lying.jpg"
    samples = np.zeros((48, 64, 3), np.uint8)
    samples[:, 32:] = (255, 255, 240)
    image = Image.fromarray(samples)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, quality=95, exif=exif)
    read = read_clip(path)
    assert read.still and read.video.colour == SRGB and (read.video.width, read.video.height) == (48, 64)
    assert all(np.array_equal(a, b) for a, b in zip(read.planes[0], open_still(str(path)).planes(0, 64), strict=True))
    assert read.planes[0][0][:24].max() < 24 and read.planes[0][0][40:].min() > 227
    assert rgb_source(read).shape == (64, 48, 3)
    assert stills.measure(read, "jpeg", 90, timed=False).psnr > 40
