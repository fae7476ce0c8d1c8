"""Pictures as people have them: what is read of them, and what is written."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageCms

from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.core.types import VideoProperties
from neuralcodec.media.orientation import PREFIX, upright_exif, upright_xmp
from neuralcodec.media.still_colour import GRAY, SRGB
from neuralcodec.media.still_files import save, thumbnail, to_image, upright
from neuralcodec.media.stills import EXIF, ICC, XMP, is_picture, open_still

WIDTH, HEIGHT = 30, 20
ORIENTATION, MAKER, PHOTO, TAKEN = 0x0112, 271, 0x8769, 0x9003
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DESCRIPTION = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="1"/>'


def picture() -> Image.Image:
    """Bright at the left, red at the top."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([255 - 4 * x - 2 * y, 200 - 6 * x, 190 - 6 * x], -1).astype(np.uint8))


def exif(orientation: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION], found[MAKER] = orientation, "Maker"
    found.get_ifd(PHOTO)[TAKEN] = "2020:02:02 20:20:20"
    found[PHOTO] = found.get_ifd(PHOTO)
    return found


def rgb(source) -> np.ndarray:
    video = source.properties
    return np.asarray(to_image(source.planes(0, video.height), video).convert("RGB")).astype(int)


def stored(tmp_path, image: Image.Image, ending: str, **options) -> str:
    path = tmp_path / f"picture.{ending}"
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("ending", "options", "error"),
    [("png", {}, 4), ("jpg", {"quality": 97}, 10), ("webp", {"lossless": True}, 4), ("tif", {}, 4), ("bmp", {}, 4), ("avif", {"quality": 97}, 10), ("gif", {}, 40)],
)
def test_formats_are_read(tmp_path, ending, options, error):
    source = open_still(stored(tmp_path, picture(), ending, **options))
    video = source.properties
    assert (video.width, video.height, video.still, video.gray, video.rotation) == (WIDTH, HEIGHT, True, False, 0)
    assert video.colour == SRGB and not source.has_alpha
    assert np.abs(rgb(source) - np.asarray(picture())).max() <= error
    assert source.notes == ["converted from RGB to 8-bit 4:2:0"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_pictures_come_upright_and_say_so(tmp_path, orientation, ending):
    options = {"quality": 97} if ending == "jpg" else {}
    xmp = DESCRIPTION.replace(b'"1"', f'"{orientation}"'.encode())
    path = stored(tmp_path, picture(), ending, exif=exif(orientation), **options, **({"xmp": xmp} if ending == "jpg" else {}))
    source = open_still(path)
    attached = dict(source.attachments)
    loaded = Image.Exif()
    loaded.load(PREFIX + attached[EXIF])
    assert loaded[MAKER] == "Maker" and loaded.get(ORIENTATION, 1) == 1 and TAKEN in loaded.get_ifd(PHOTO)
    assert attached.get(XMP, DESCRIPTION) == DESCRIPTION
    turned = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}[orientation]
    expected = picture()
    for turn in turned:
        expected = expected.transpose(Image.Transpose(turn))
    assert (source.properties.width, source.properties.height) == expected.size
    assert np.abs(rgb(source) - np.asarray(expected)).max() <= 10


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_orientation_of_exif_changes(order):
    data = exif(6).tobytes().removeprefix(PREFIX)
    if order == ">":
        swapped = Image.Exif()
        swapped.load(PREFIX + data)
        swapped.endian = ">"
        data = swapped.tobytes().removeprefix(PREFIX)
    reset = upright_exif(data)
    assert sum(a != b for a, b in zip(data, reset, strict=True)) == 1
    assert upright_exif(reset) == reset
    for broken in (b"", b"II", data[:9], b"II*\0" + b"\xff" * 4, b"XX" + data[2:]):
        assert upright_exif(broken) == broken


def test_only_the_orientation_of_xmp_changes():
    element = b"<a><tiff:Orientation>8</tiff:Orientation><b>8</b></a>"
    assert upright_xmp(element) == element.replace(b">8</tiff", b">1</tiff")


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "LA"])
def test_gray_stays_gray(tmp_path, mode):
    gray = picture().convert("L")
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    source = open_still(stored(tmp_path, image, "png"))
    assert source.properties.gray and source.properties.colour == GRAY and not source.has_alpha
    y, u, v = source.planes(0, HEIGHT)
    assert np.array_equal(y, np.asarray(image.convert("L") if mode != "I;16" else gray)) and (u == 128).all() and (v == 128).all()
    assert source.notes == (["more than 8 bits a sample: converted to 8"] if mode == "I;16" else [])


def png16(rgb16: np.ndarray) -> bytes:
    import av

    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = rgb16.shape[1], rgb16.shape[0], "rgb48be", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(rgb16.astype(">u2").view(np.uint16), "rgb48be")
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def test_sixteen_bits_are_told(tmp_path):
    (tmp_path / "deep.png").write_bytes(png16(np.asarray(picture()).astype(np.uint16) * 257))
    source = open_still(str(tmp_path / "deep.png"))
    assert "more than 8 bits a sample: converted to 8" in source.notes
    assert np.abs(rgb(source) - np.asarray(picture())).max() <= 4


def test_alpha_is_kept_where_there_is_some(tmp_path):
    alpha = np.tile(np.arange(WIDTH, dtype=np.uint8) * 8, (HEIGHT, 1))
    image = picture()
    image.putalpha(Image.fromarray(alpha))
    source = open_still(stored(tmp_path, image, "png"))
    assert np.array_equal(np.vstack([source.alpha(0, 7), source.alpha(7, HEIGHT)]), alpha)
    palette = picture().quantize(8)
    source = open_still(stored(tmp_path, palette, "gif", transparency=0))
    assert np.array_equal(source.alpha(0, HEIGHT) == 0, np.asarray(palette) == 0)
    image.putalpha(255)
    assert not open_still(stored(tmp_path, image, "png")).has_alpha


def test_cmyk_becomes_rgb_and_loses_its_profile(tmp_path):
    source = open_still(stored(tmp_path, picture().convert("CMYK"), "jpg", icc_profile=PROFILE, quality=97))
    assert "converted from CMYK to RGB" in source.notes and source.attachments == []
    assert np.abs(rgb(source) - np.asarray(picture())).mean() < 8


def test_strips_are_the_whole(tmp_path):
    source = open_still(stored(tmp_path, picture(), "png"))
    whole = source.planes(0, HEIGHT)
    parts = [source.planes(0, 6), source.planes(6, 14), source.planes(14, HEIGHT)]
    for n in range(3):
        assert np.array_equal(np.vstack([p[n] for p in parts]), whole[n])


def test_a_profile_leaves_the_primaries_open(tmp_path):
    source = open_still(stored(tmp_path, picture(), "png", icc_profile=PROFILE))
    assert dict(source.attachments)[ICC] == PROFILE
    assert (source.properties.colour.primaries, source.properties.colour.transfer) == (2, 2)


def test_long_samples_keep_their_shape(tmp_path):
    assert open_still(stored(tmp_path, picture(), "jpg", dpi=(100, 200))).properties.sample_aspect_ratio == 2
    assert open_still(stored(tmp_path, picture(), "jpg", dpi=(72, 72))).properties.sample_aspect_ratio == 1


def test_animations_and_other_files_are_not_taken(tmp_path):
    for ending in ("gif", "webp", "png"):
        path = stored(tmp_path, picture(), ending, save_all=True, append_images=[picture().transpose(0)], duration=100)
        assert open_still(path) is None
    (tmp_path / "text.jpg").write_text("no picture")
    assert open_still(str(tmp_path / "text.jpg")) is None
    assert open_still(str(tmp_path)) is None and open_still(str(tmp_path / "nothing.png")) is None


def test_a_pipe_is_looked_into(monkeypatch):
    file = io.BytesIO()
    picture().save(file, "PNG")
    for data, taken in ((file.getvalue(), True), (b"YUV4MPEG2 W2 H2", False)):
        pipe = io.BufferedReader(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
        source = open_still("-")
        assert (source is not None) == taken and (taken or pipe.read() == data)


def test_bad_pictures_are_one_clear_line(tmp_path, monkeypatch):
    data = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(data, "PNG")
    (tmp_path / "cut.png").write_bytes(data.getvalue()[:1000])
    (tmp_path / "head.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (tmp_path / "photo.nef").write_bytes(b"MM\0*" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for name, says in (("cut.png", "truncated"), ("head.jpg", "no picture"), ("photo.nef", "raw"), ("photo.heic", "pillow-heif")):
        with pytest.raises(InputError, match=says) as caught:
            open_still(str(tmp_path / name))
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="floating point"):
        open_still(stored(tmp_path, Image.fromarray(np.zeros((4, 4), np.float32)), "tif"))


def test_pictures_are_known_by_their_first_bytes():
    assert is_picture(b"\x89PNG\r\n\x1a\n") and is_picture(b"RIFF1234WEBPVP8 ") and is_picture(b"\0\0\0\x20ftypavif")
    assert not is_picture(b"\0\0\0\x20ftypisom") and not is_picture(b"YUV4MPEG2") and not is_picture(b"RIFF1234AVI ") and not is_picture(b"")


ATTACHED = {ICC: PROFILE, EXIF: exif().tobytes().removeprefix(PREFIX), XMP: DESCRIPTION, 77: b"?"}


@pytest.mark.parametrize(("kind", "lost"), [("PNG", []), ("JPEG", []), ("WEBP", []), ("TIFF", []), ("AVIF", []), ("BMP", ["the ICC profile", "EXIF", "XMP"])])
def test_what_was_attached_is_written_or_told(kind, lost):
    file = io.BytesIO()
    notes = save(picture(), file, kind, ATTACHED)
    assert [note.split(" hold ")[1] for note in notes] == [f"{what}: left out" for what in lost]
    with Image.open(file) as image:
        assert image.size == (WIDTH, HEIGHT)
        if kind == "BMP":
            return
        image.load()
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[MAKER] == "Maker" and image.getexif().get_ifd(PHOTO)[TAKEN].startswith("2020")
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        assert (xmp.encode() if isinstance(xmp, str) else xmp).rstrip(b"\0") == DESCRIPTION


def test_what_is_too_long_for_jpeg_is_told():
    file = io.BytesIO()
    (note,) = save(picture(), file, "JPEG", {EXIF: ATTACHED[EXIF], XMP: bytes(70000)})
    assert "XMP of 70000 bytes" in note
    assert Image.open(file).getexif()[MAKER] == "Maker"


def test_alpha_goes_where_there_is_a_place():
    image = picture()
    image.putalpha(Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH)))
    for kind in ("PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        assert save(image, file, kind, {}, lossless=True) == []
        assert np.array_equal(np.asarray(Image.open(file))[..., 3], np.asarray(image)[..., 3])
    for kind in ("JPEG", "BMP"):
        assert save(image, io.BytesIO(), kind, {}) == [f"{kind} does not hold alpha: left out"]
    with pytest.raises(UsageError, match="lossless"):
        save(image, io.BytesIO(), "JPEG", {}, lossless=True)


def test_a_picture_is_made_upright_and_gray():
    planes = (np.asarray(picture().convert("L")), *(np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8),) * 2)
    video = VideoProperties(WIDTH, HEIGHT, Fraction(1, 25), colour=GRAY, still=True, gray=True)
    image = to_image(planes, video)
    assert image.mode == "L" and np.array_equal(np.asarray(image), planes[0])
    assert upright(image, 90).size == (HEIGHT, WIDTH) and upright(image, 90).getpixel((HEIGHT - 1, 0)) == planes[0][0, 0]


def test_a_thumbnail_keeps_the_shape():
    small = Image.fromarray(np.zeros((3, 5, 3), np.uint8))
    assert thumbnail(small, 37, 20, 4, 8).size == (4, 2)
    assert thumbnail(picture(), WIDTH, HEIGHT, 15, 1).size == (15, 10)
    assert thumbnail(picture(), WIDTH, HEIGHT, 500, 1).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("ending", [".mjpeg", ".MJPG"])
def test_motion_jpeg_is_a_video(tmp_path, ending):
    path = tmp_path / f"clip{ending}"
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16)).save(buffer, "JPEG")
    path.write_bytes(3 * buffer.getvalue())
    assert open_still(str(path)) is None
