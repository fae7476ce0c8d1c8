"""y4m, raw planes and PNG: what has no container."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from neuralcodec.core.digest import RunningMd5, md5_of_frame
from neuralcodec.core.errors import InputError, OutputError, UsageError
from neuralcodec.core.types import ColourTags, Frame, VideoProperties
from neuralcodec.media import open_sink, open_source

PROPERTIES = VideoProperties(7, 5, Fraction(1001, 30000), Fraction(30000, 1001), Fraction(4, 3))


def _frames(media, count=3, width=7, height=5):
    return [Frame(media.planes(width, height, index), index, 1) for index in range(count)]


def _write(path, frames, properties=PROPERTIES, **options):
    with open_sink(path, properties, **options) as sink:
        for frame in frames:
            sink.write(frame)
    return sink


@pytest.mark.parametrize("location", [0, 1, 2, 3])
@pytest.mark.parametrize("full_range", [None, False, True])
def test_y4m_round_trip(location, full_range, media, tmp_path):
    properties = replace(PROPERTIES, colour=ColourTags(full_range=full_range, chroma_location=location))
    frames = _frames(media)
    assert _write(tmp_path / "a.y4m", frames, properties).notes == []
    source, copied, _ = media.read(tmp_path / "a.y4m")
    assert source.properties == properties and source.notes == []
    assert media.same_samples(frames, copied) and [f.pts for f in copied] == [0, 1, 2]


def test_y4m_is_what_ffmpeg_reads(media, tmp_path):
    frames = _frames(media, width=64, height=48)
    _write(tmp_path / "a.y4m", frames, VideoProperties(64, 48, Fraction(1, 25), Fraction(25), Fraction(4, 3)))
    with av.open(str(tmp_path / "a.y4m")) as container:
        decoded = [picture.to_ndarray() for picture in container.decode(video=0)]
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    expected = [np.concatenate([plane.reshape(-1) for plane in f.planes]) for f in frames]
    assert all(np.array_equal(a.reshape(-1), b) for a, b in zip(decoded, expected, strict=True))


def test_y4m_written_by_ffmpeg_is_read(media, tmp_path):
    made = [media.planes(64, 48, seed) for seed in range(3)]
    path = media.video(tmp_path / "in.y4m", made, codec="wrapped_avframe", container="yuv4mpegpipe")
    source, frames, _ = media.read(path)
    assert source.properties.frame_rate == 25 and len(frames) == 3
    assert all(
        np.array_equal(a, b) for p, f in zip(made, frames, strict=True) for a, b in zip(p, f.planes, strict=True)
    )


@pytest.mark.parametrize(
    ("space", "shapes", "depth"),
    [
        ("420", [(5, 7), (3, 4), (3, 4)], 1),
        ("", [(5, 7), (3, 4), (3, 4)], 1),
        ("422", [(5, 7), (5, 4), (5, 4)], 1),
        ("444", [(5, 7), (5, 7), (5, 7)], 1),
        ("mono", [(5, 7)], 1),
        ("420p10", [(5, 7), (3, 4), (3, 4)], 2),
        ("444p10", [(5, 7), (5, 7), (5, 7)], 2),
    ],
)
def test_y4m_variants(space, shapes, depth, media, tmp_path):
    raw = media.y4m(tmp_path / "in.y4m", 7, 5, space, depth, shapes)
    source, frames, _ = media.read(tmp_path / "in.y4m")
    assert len(frames) == 2 and source.properties.frame_rate == Fraction(30000, 1001)
    assert [p.shape for p in frames[0].planes] == [(5, 7), (3, 4), (3, 4)]
    if depth == 1:  # luma needs no conversion, whatever the chroma
        assert all(np.array_equal(f.planes[0], planes[0]) for f, planes in zip(frames, raw, strict=True))
    if space in ("420", ""):
        assert np.array_equal(frames[1].planes[2], raw[1][2]) and source.notes == []
    else:
        assert len(source.notes) == 1 and source.notes[0].startswith("converted from ")
    if space == "mono":
        assert (frames[0].planes[1] == 128).all()
    _write(tmp_path / "out.y4m", frames, source.properties)
    assert media.same_samples(frames, media.read(tmp_path / "out.y4m")[1])


def test_y4m_damage(media, tmp_path):
    _write(tmp_path / "a.y4m", _frames(media))
    data = (tmp_path / "a.y4m").read_bytes()
    (tmp_path / "cut.y4m").write_bytes(data[:-10])
    source, frames, _ = media.read(tmp_path / "cut.y4m")
    assert len(frames) == 2 and source.notes == ["the y4m stream ends inside frame 2: that frame is left out"]
    for broken in (data[:60].split(b"\n")[0] + b"\n", b"YUV4MPEG2 W0 H4 F25:1\n", b"YUV4MPEG2 F25:1\n"):
        (tmp_path / "bad.y4m").write_bytes(broken)
        with pytest.raises(InputError):
            media.read(tmp_path / "bad.y4m")
    (tmp_path / "bad.y4m").write_bytes(b"YUV4MPEG2 W4 H4 F25:1 Cyuv9\n")
    with pytest.raises(InputError, match="unknown y4m colour space Cyuv9"):
        media.read(tmp_path / "bad.y4m")


def test_variable_frame_rate_into_y4m_is_said_once(media, tmp_path):
    properties = VideoProperties(7, 5, Fraction(1, 600), Fraction(25))
    frames = [replace(f, pts=pts) for f, pts in zip(_frames(media), (0, 20, 100), strict=True)]
    sink = _write(tmp_path / "a.y4m", frames, properties)
    assert sink.notes == [
        "variable frame rate: y4m has no time stamps, frames are written one after another at 25 a second"
    ]
    steady = [replace(f, pts=24 * i + i % 2) for i, f in enumerate(frames)]
    assert _write(tmp_path / "b.y4m", steady, properties).notes == []


def test_standard_output_and_input(media, tmp_path, monkeypatch):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"buffer": pipe}))
    frames = _frames(media)
    _write("-", frames)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdin", type("In", (), {"buffer": io.BufferedReader(io.BytesIO(pipe.getvalue()))}))
    source, copied, _ = media.read("-", frames=(1, 3))
    assert media.same_samples(frames[1:], copied) and source.properties == PROPERTIES


def test_matroska_on_standard_input(media, tmp_path, monkeypatch):
    path = media.video(tmp_path / "in.mkv", [media.planes(64, 48, seed) for seed in range(3)])
    with open(path, "rb") as file:
        monkeypatch.setattr(sys, "stdin", type("In", (), {"buffer": file}))
        frames = media.read("-")[1]
    assert media.same_samples(frames, media.read(path)[1])


def test_reader_that_goes_away_is_a_broken_pipe(media, tmp_path):
    script = (
        "import sys, numpy as np\n"
        "from fractions import Fraction\n"
        "from neuralcodec.core.types import Frame, VideoProperties\n"
        "from neuralcodec.media import open_sink\n"
        "planes = tuple(np.zeros(s, np.uint8) for s in ((512, 512), (256, 256), (256, 256)))\n"
        "try:\n"
        "    with open_sink('-', VideoProperties(512, 512, Fraction(1, 25), Fraction(25))) as sink:\n"
        "        for i in range(100): sink.write(Frame(planes, i))\n"
        "except BrokenPipeError:\n"
        "    import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 1); sys.exit(42)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    process.stdout.read(1000)
    process.stdout.close()
    assert process.wait(timeout=20) == 42


def test_raw_planes(media, tmp_path):
    frames = _frames(media)
    sink = _write(tmp_path / "a.yuv", frames)
    assert sink.notes == []
    source, copied, _ = media.read(tmp_path / "a.yuv", size=(7, 5), fps="30000/1001")
    assert media.same_samples(frames, copied) and source.notes == []
    assert source.properties.time_base == Fraction(1001, 30000) and source.frame_count_hint == 3
    digest = RunningMd5()
    for frame in frames:
        digest.update(frame)
    import hashlib

    data = (tmp_path / "a.yuv").read_bytes()
    assert digest.hexdigest() == hashlib.md5(data).hexdigest()
    assert md5_of_frame(frames[0]) == hashlib.md5(data[: len(data) // 3]).hexdigest()


def test_raw_planes_with_a_rest(media, tmp_path):
    _write(tmp_path / "a.yuv", _frames(media))
    with open(tmp_path / "a.yuv", "ab") as file:
        file.write(b"\0" * 20)
    source, frames, _ = media.read(tmp_path / "a.yuv", size=(7, 5))
    assert len(frames) == 3
    assert source.notes == ["the file ends with 20 bytes of an incomplete frame (of 59): left out"]


@pytest.mark.parametrize(("pix_fmt", "count"), [("yuv444p", 105), ("gray", 35), ("yuv420p10le", 118), ("rgb24", 105)])
def test_raw_pixel_formats(pix_fmt, count, media, tmp_path):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256 if not pix_fmt.endswith("le") else 3, 2 * count).astype(np.uint8)
    (tmp_path / "a.yuv").write_bytes(data.tobytes())
    source, frames, _ = media.read(tmp_path / "a.yuv", size=(7, 5), pix_fmt=pix_fmt)
    assert len(frames) == 2 and source.notes == [f"converted from {pix_fmt} to 8-bit 4:2:0"]


def test_raw_mistakes(media, tmp_path):
    (tmp_path / "a.yuv").write_bytes(bytes(30))
    with pytest.raises(InputError, match="does not say its size"):
        open_source(tmp_path / "a.yuv")
    with pytest.raises(InputError, match="30 bytes are less than one frame of 7x5 yuv420p"):
        open_source(tmp_path / "a.yuv", size=(7, 5))
    with pytest.raises(UsageError, match="unknown pixel format"):
        open_source(tmp_path / "a.yuv", size=(7, 5), pix_fmt="yuv999")
    with pytest.raises(UsageError, match="frame rate"):
        open_source(tmp_path / "a.yuv", size=(7, 5), fps="fast")


def test_png_pattern_and_back(media, tmp_path):
    frames = _frames(media, width=64, height=48)
    properties = VideoProperties(64, 48, Fraction(1, 25), Fraction(25), colour=ColourTags(1, 1, 6, False))
    _write(tmp_path / "f_%04d.png", frames, properties)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f_0000.png", "f_0001.png", "f_0002.png"]
    source, copied, _ = media.read(tmp_path / "f_%04d.png", fps=50)
    assert len(copied) == 3 and source.properties.frame_rate == 50
    assert max(np.abs(a.planes[0].astype(int) - b.planes[0]).mean() for a, b in zip(frames, copied, strict=True)) < 3


@pytest.mark.parametrize(
    ("colour", "luma", "chroma", "rgb"),
    [
        (ColourTags(matrix=6, full_range=False), 235, (128, 128), (255, 255, 255)),
        (ColourTags(matrix=6, full_range=True), 235, (128, 128), (235, 235, 235)),
        (ColourTags(matrix=6, full_range=False), 81, (90, 240), (255, 0, 0)),
        (ColourTags(matrix=1, full_range=False), 63, (102, 240), (255, 0, 0)),
        (ColourTags(matrix=1, full_range=True), 54, (99, 255), (254, 0, 0)),
        (ColourTags(matrix=9, full_range=False), 74, (97, 240), (255, 0, 0)),
    ],
)
def test_png_obeys_matrix_and_range(colour, luma, chroma, rgb, media, tmp_path):
    planes = tuple(np.full((8, 8) if i == 0 else (4, 4), v, np.uint8) for i, v in enumerate((luma, *chroma)))
    _write(tmp_path / "a.png", [Frame(planes, 0)], VideoProperties(8, 8, Fraction(1, 25), colour=colour))
    with av.open(str(tmp_path / "a.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(picture.astype(int) - rgb).max() <= 2


def test_png_is_upright_and_keeps_the_aspect(media, tmp_path):
    planes = (np.full((48, 64), 16, np.uint8), np.full((24, 32), 128, np.uint8), np.full((24, 32), 128, np.uint8))
    planes[0][:24, :32] = 235  # white in the top left
    properties = VideoProperties(64, 48, Fraction(1, 25), rotation=90, sample_aspect_ratio=Fraction(2))
    sink = _write(tmp_path / "a.png", [Frame(planes, 0)], properties)
    with av.open(str(tmp_path / "a.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="gray")
        assert container.streams.video[0].sample_aspect_ratio == Fraction(1, 2)
    assert picture.shape == (64, 48)
    assert picture[5, 40] > 200 and picture[5, 5] < 50  # clockwise: top left becomes top right
    assert sink.notes == ["pictures are turned upright by 90 degrees"]


def test_one_png_holds_one_picture(media, tmp_path):
    frames = _frames(media)
    with pytest.raises(OutputError, match="pattern"):
        _write(tmp_path / "a.png", frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pix_fmt", ["rgb24", "rgba", "gray", "pal8", "rgb48be"])
def test_png_input(pix_fmt, media, tmp_path):
    picture = media.colour_picture(33, 17, pix_fmt, 77)
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 33, 17, pix_fmt, Fraction(1, 25)
    (tmp_path / "a.png").write_bytes(b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)]))
    source, frames, _ = media.read(tmp_path / "a.png")
    assert source.properties.still and len(frames) == 1 and source.frame_count_hint == 1
    luma, expected = frames[0].planes[0], 77 if pix_fmt == "gray" else 82
    assert luma.shape == (17, 33) and np.abs(luma.astype(int) - expected).max() <= 1
    assert source.properties.colour.full_range is (pix_fmt == "gray")
    assert any(note.startswith("converted from") for note in source.notes)
    assert ("alpha channel dropped" in source.notes) == (pix_fmt == "rgba")


def test_jpeg_and_bmp_input(media, tmp_path):
    rgb = np.zeros((31, 47, 3), np.uint8)
    rgb[:10] = (250, 20, 20)
    for name, codec, pix_fmt in (("a.jpg", "mjpeg", "yuvj420p"), ("a.bmp", "bmp", "bgr24")):
        picture = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pix_fmt, dst_color_range=2)
        context = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt, context.time_base = 47, 31, pix_fmt, Fraction(1, 25)
        context.options = {"strict": "unofficial"}
        data = b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)])
        (tmp_path / name).write_bytes(data)
        source, frames, _ = media.read(tmp_path / name)
        luma = frames[0].planes[0].astype(int)
        assert source.properties.still and luma[3, 20] > luma[25, 20] + 40, name  # the red is at the top
        assert source.properties.colour.full_range is (name == "a.jpg")
