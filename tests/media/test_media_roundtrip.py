"""Odd inputs: read, write without loss, read again; samples, times and properties survive."""

import os
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from neuralcodec.core.digest import md5_of_frame

FFV1 = {"codec": "ffv1", "container": "matroska", "options": {"level": "1"}}


def _some(media, width, height, count=3):
    return [media.planes(width, height, seed) for seed in range(count)]


def _rgb(media, width, height, pix_fmt, count=2):
    return [media.colour_picture(width, height, pix_fmt, seed=seed) for seed in range(count)]


CASES = {
    "size_1x1": lambda m, p: m.video(p / "in.mkv", _some(m, 1, 1), **FFV1),
    "size_3x5": lambda m, p: m.video(p / "in.mkv", _some(m, 3, 5), **FFV1),
    "size_4096x17": lambda m, p: m.video(p / "in.mkv", _some(m, 4096, 17), **FFV1),
    "size_2x2": lambda m, p: m.video(p / "in.mkv", _some(m, 2, 2), **FFV1),
    "one_row_short_of_a_block": lambda m, p: m.video(p / "in.mkv", _some(m, 64, 63), **FFV1),
    "one_frame": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48, 1)),
    "portrait": lambda m, p: m.video(p / "in.mp4", _some(m, 48, 128)),
    "ten_bit": lambda m, p: m.video(p / "in.mkv", _some(m, 64, 48), pix_fmt="yuv420p10le", **FFV1),
    "yuv444": lambda m, p: m.video(p / "in.mkv", _some(m, 63, 48), pix_fmt="yuv444p", **FFV1),
    "yuv422": lambda m, p: m.video(p / "in.mkv", _some(m, 64, 48), pix_fmt="yuv422p", **FFV1),
    "rgb_ffv1": lambda m, p: m.video(p / "in.mkv", _rgb(m, 64, 48, "bgr0"), pix_fmt="bgr0", **FFV1),
    "gray_ffv1": lambda m, p: m.video(p / "in.mkv", _rgb(m, 64, 48, "gray"), pix_fmt="gray", **FFV1),
    "alpha_ffv1": lambda m, p: m.video(p / "in.mkv", _some(m, 64, 48), pix_fmt="yuva420p", **FFV1),
    "gif": lambda m, p: m.video(p / "in.gif", _rgb(m, 32, 24, "rgb8"), codec="gif", pix_fmt="rgb8"),
    "vfr_b_frames": lambda m, p: m.video(
        p / "in.mp4",
        _some(m, 64, 48, 7),
        pts=[0, 20, 50, 53, 80, 81, 300],
        time_base=Fraction(1, 600),
        options={"qp": "0", "bf": "3", "b-adapt": "0"},
        muxer={"video_track_timescale": "600"},
    ),
    "late_start": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), pts=[50, 51, 52]),
    "rotated_90": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), rotation=90),
    "rotated_270": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), rotation=270),
    "rotated_odd_size": lambda m, p: m.video(p / "in.mkv", _some(m, 17, 33), rotation=180, **FFV1),
    "aspect_ratio": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), sar=Fraction(64, 45)),
    "full_range": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), colour=(2, 1, 1, 1)),
    "bt2020": lambda m, p: m.video(p / "in.mp4", _some(m, 64, 48), colour=(1, 9, 16, 9)),
    "chroma_top_left": lambda m, p: m.video(
        p / "in.mp4", _some(m, 64, 48), options={"qp": "0", "chroma_sample_location": "topleft"}
    ),
    "mjpeg_avi": lambda m, p: m.video(p / "in.avi", _some(m, 64, 48), codec="mjpeg", pix_fmt="yuvj420p"),
    "h264_elementary": lambda m, p: m.video(p / "in.h264", _some(m, 64, 48, 5), container="h264"),
    "webm_vp9": lambda m, p: m.video(
        p / "in.webm", _some(m, 65, 47), codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}
    ),
}


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
@pytest.mark.parametrize("case", CASES)
def test_container_round_trip(case, extension, media, tmp_path):
    path = CASES[case](media, tmp_path)
    source, frames, _ = media.read(path)
    sink = media.copy(path, tmp_path / f"out.{extension}", lossless=True)
    again, copied, _ = media.read(tmp_path / f"out.{extension}")

    assert frames and media.same_samples(frames, copied)
    base, copied_base = source.properties.time_base, again.properties.time_base
    if extension == "mp4":
        assert [f.pts * base for f in frames] == [f.pts * copied_base for f in copied]
    else:
        assert all(
            abs(f.pts * base - g.pts * copied_base) <= Fraction(1, 2000) for f, g in zip(frames, copied, strict=True)
        )
    kept = replace(again.properties, time_base=base, frame_rate=source.properties.frame_rate)
    if extension == "mp4" and source.properties.width % 2:  # VP9 in MP4 has no place for the chroma location
        kept = replace(kept, colour=replace(kept.colour, chroma_location=source.properties.colour.chroma_location))
    unset = source.properties.colour.chroma_location == 0
    if unset:  # decoders fill in H.264's default
        kept = replace(kept, colour=replace(kept.colour, chroma_location=0))
    if source.properties.colour.full_range is None:
        kept = replace(kept, colour=replace(kept.colour, full_range=kept.colour.full_range or None))
    assert kept == replace(source.properties, still=False), sink.notes


def test_made_samples_come_back_exactly(media, tmp_path):
    made = _some(media, 64, 48)
    _, frames, _ = media.read(media.video(tmp_path / "in.mp4", made))
    assert all(
        np.array_equal(a, b) for p, f in zip(made, frames, strict=True) for a, b in zip(p, f.planes, strict=True)
    )


def test_vfr_time_stamps_and_duration(media, tmp_path):
    source, frames, _ = media.read(CASES["vfr_b_frames"](media, tmp_path))
    assert source.properties.time_base == Fraction(1, 600)
    assert [f.pts for f in frames] == [0, 20, 50, 53, 80, 81, 300]
    media.copy(tmp_path / "in.mp4", tmp_path / "out.mp4", lossless=True)
    again, copied, _ = media.read(tmp_path / "out.mp4")
    assert [(f.pts, f.duration) for f in copied] == [(f.pts, f.duration) for f in frames]
    assert again.properties.time_base == Fraction(1, 600)


@pytest.mark.parametrize(
    ("case", "field", "value"),
    [
        ("rotated_90", "rotation", 90),
        ("rotated_270", "rotation", 270),
        ("rotated_odd_size", "rotation", 180),
        ("aspect_ratio", "sample_aspect_ratio", Fraction(64, 45)),
    ],
)
def test_geometry_tags_are_read(case, field, value, media, tmp_path):
    assert getattr(media.read(CASES[case](media, tmp_path))[0].properties, field) == value


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("full_range", (1, 1, 1, True)),
        ("bt2020", (9, 16, 9, False)),
        ("rgb_ffv1", (2, 2, 6, False)),
        ("mjpeg_avi", (2, 2, 5, True)),
    ],
)
def test_colour_tags_are_read(case, expected, media, tmp_path):
    colour = media.read(CASES[case](media, tmp_path))[0].properties.colour
    assert (colour.primaries, colour.transfer, colour.matrix, colour.full_range) == expected


@pytest.mark.parametrize(
    ("case", "notes"),
    [
        ("ten_bit", ["converted from yuv420p10le to 8-bit 4:2:0"]),
        ("rgb_ffv1", ["converted from bgr0 to 8-bit 4:2:0"]),
        ("alpha_ffv1", ["converted from yuva420p to 8-bit 4:2:0", "alpha channel dropped"]),
        ("full_range", []),
        ("h264_elementary", ["the source lacks time stamps: they follow from its frame rate"]),
    ],
)
def test_notes_are_said_once(case, notes, media, tmp_path):
    assert media.read(CASES[case](media, tmp_path))[0].notes == notes


def test_ten_bit_is_rounded_to_eight(media, tmp_path):
    made = _some(media, 64, 48)
    _, frames, _ = media.read(media.video(tmp_path / "in.mkv", made, pix_fmt="yuv420p10le", **FFV1))
    worst = max(
        int(np.abs(a.astype(int) - b).max())
        for p, f in zip(made, frames, strict=True)
        for a, b in zip(p, f.planes, strict=True)
    )
    assert worst <= 1


def test_size_change_in_mid_stream_is_scaled(media, tmp_path):
    first = media.video(tmp_path / "a.h264", _some(media, 64, 48), container="h264")
    second = media.video(tmp_path / "b.h264", _some(media, 96, 80), container="h264")
    (tmp_path / "both.h264").write_bytes(first.read_bytes() + second.read_bytes())
    source, frames, _ = media.read(tmp_path / "both.h264")
    assert len(frames) == 6 and {f.planes[0].shape for f in frames} == {(48, 64)}
    assert "the picture size changes to 96x80 in mid-stream: scaled to 64x48" in source.notes


def test_negative_start_moves_to_zero(media, tmp_path):
    source, frames, _ = media.read(media.video(tmp_path / "in.mp4", _some(media, 64, 48)))
    from neuralcodec.media import open_sink

    with open_sink(tmp_path / "out.mp4", source.properties, lossless=True) as sink:
        for frame in frames:
            sink.write(replace(frame, pts=frame.pts - 100))
    _, copied, _ = media.read(tmp_path / "out.mp4")
    assert media.same_samples(frames, copied)
    assert copied[0].pts == 0 and "before zero" in sink.notes[0]


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9", "ffv1"])
def test_other_encoders_lossless(codec, media, tmp_path):
    path = media.video(tmp_path / "in.mp4", _some(media, 64, 48))
    media.copy(path, tmp_path / "out.mkv", lossless=True, vcodec=codec)
    assert media.same_samples(media.read(path)[1], media.read(tmp_path / "out.mkv")[1])


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no scheduling policies")
def test_an_encoder_does_not_keep_real_time_priority(media, tmp_path):
    """SVT-AV1 takes it where its process runs as root."""
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this FFmpeg has no SVT-AV1")
    before = os.sched_getscheduler(0)
    media.copy(media.video(tmp_path / "in.mkv", _some(media, 64, 64), **FFV1), tmp_path / "out.mkv", vcodec="libsvtav1")
    assert os.sched_getscheduler(0) == before


def test_default_is_visually_lossless(media, tmp_path):
    path = media.video(tmp_path / "in.mp4", _some(media, 128, 96))
    media.copy(path, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    error = [
        np.mean((a.planes[0].astype(float) - b.planes[0]) ** 2)
        for a, b in zip(media.read(path)[1], media.read(tmp_path / "out.mp4")[1], strict=True)
    ]
    assert max(error) < 65.025  # 30 dB, on noise that no film has
    assert md5_of_frame(media.read(path)[1][0]) == md5_of_frame(media.read(path)[1][0])
