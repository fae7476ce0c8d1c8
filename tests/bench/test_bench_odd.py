"""What cannot be measured costs one clear line, the rest goes on, and the exit code says so."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from neuralcodec.bench import classical, stills
from neuralcodec.bench.run import Plan, run


def video(path, sizes, *, encoder="ffv1", pix_fmt="yuv420p", transfer=2):
    """A Matroska file with one frame of plain colour for each of ``sizes``, (width, height), which are all the same."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream(encoder, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = *sizes[0], pix_fmt
        stream.codec_context.color_trc = transfer
        for number, (width, height) in enumerate(sizes):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 40 * number + 30, np.uint8), "rgb24").reformat(format=pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def bench(tiny_model, *clips, **options):
    return run(Plan(tuple(map(str, clips)), str(tiny_model), options.pop("against", ("x264",)), (1,), (50.0,), settings=1, jobs=1, **options))


def test_an_unreadable_clip(tiny_model, clip_file, tmp_path):
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"nothing")
    result = bench(tiny_model, broken, tmp_path / "missing.mkv", clip_file, frames=2)
    assert [("broken.mkv" in a, "missing.mkv" in b) for a, b in [result.failures]] == [(True, True)]
    assert len(result.points) == 2 and result.exit_code == 3


def test_an_hdr_clip(tiny_model, clip_file, tmp_path):
    hdr = video(tmp_path / "hdr.mkv", [(64, 48)], pix_fmt="yuv420p10le", transfer=16)
    result = bench(tiny_model, hdr, clip_file, frames=2)
    assert len(result.failures) == 1 and "HDR video (PQ)" in result.failures[0]
    assert len(result.points) == 2 and result.exit_code == 3


def test_more_than_eight_bits_without_hdr_are_measured_and_noted(tiny_model, tmp_path):
    result = bench(tiny_model, video(tmp_path / "ten.mkv", [(64, 48)] * 2, pix_fmt="yuv420p10le"))
    assert not result.failures and len(result.points) == 2
    assert [n for n in result.notes if "yuv420p10le" in n]


def test_clips_of_different_sizes(tiny_model, clip_file, tmp_path):
    other = video(tmp_path / "other.mkv", [(82, 66)] * 2)
    result = bench(tiny_model, clip_file, other, frames=2)
    assert not result.failures and {(p.width, p.height) for p in result.points} == {(70, 50), (82, 66)}


def test_a_clip_that_changes_its_size(tiny_model, clip_file, tmp_path):
    parts = [video(tmp_path / f"{w}.mkv", [(w, h)] * 2, encoder="mjpeg", pix_fmt="yuvj420p") for w, h in ((64, 48), (96, 64))]
    with open(tmp_path / "changing.mjpeg", "wb") as out:
        for part in parts:
            with av.open(part) as source:
                out.writelines(bytes(packet) for packet in source.demux() if packet.size)
    result = bench(tiny_model, tmp_path / "changing.mjpeg", clip_file, frames=4)
    assert len(result.failures) == 1 and "picture size changes" in result.failures[0]
    assert len(result.points) == 2 and result.exit_code == 3


def test_a_clip_of_one_frame(tiny_model, tmp_path):
    result = bench(tiny_model, video(tmp_path / "one.mkv", [(64, 48)]), against=("x264", "x265"))
    assert not result.failures and {p.kinds for p in result.points} == {"I"}
    assert [n for n in result.notes if n.startswith("one.mkv: one frame only")]
    assert len(result.points) == 3


def test_a_missing_encoder_is_said_once(tiny_model, clip_file, monkeypatch):
    monkeypatch.setattr(classical, "missing", lambda name: f"no {name} here" if name.startswith("x265") else None)
    result = bench(tiny_model, clip_file, frames=2, against=("x264", "x265"))
    assert result.failures == ["x265-medium-ld32 is left out: no x265-medium-ld32 here"]
    assert len(result.points) == 2 and result.exit_code == 2


def test_a_missing_format_of_pillow_and_a_video_given_to_one(tiny_model, clip_file, monkeypatch):
    monkeypatch.setattr(stills, "missing", lambda name: "not built in" if name == "avif" else None)
    result = bench(tiny_model, clip_file, frames=2, against=("jpeg", "avif"))
    assert result.failures == ["avif is left out: not built in", "texture.y4m: jpeg is for still pictures"]
    assert len(result.points) == 1 and result.exit_code == 2


def test_an_encoder_that_refuses_a_clip_is_one_line_for_all_settings(tiny_model, tmp_path, clip_file):
    if classical.missing("svtav1-elfvc"):
        pytest.skip("this FFmpeg has no SVT-AV1")
    tiny = video(tmp_path / "tiny.mkv", [(2, 2)] * 2)
    result = run(Plan((tiny, str(clip_file)), str(tiny_model), ("svtav1",), (1,), (50.0,), frames=2, settings=3, jobs=1))
    refused = [line for line in result.failures if "svtav1" in line]
    assert len(refused) == 1 and "tiny.mkv" in refused[0] and "2x2" in refused[0]
    assert len([p for p in result.points if p.codec == "svtav1-p6"]) == 3 and result.exit_code == 8


def test_two_clips_of_one_name(tiny_model, clip_file, tmp_path):
    copy = tmp_path / clip_file.name
    copy.write_bytes(clip_file.read_bytes())
    result = bench(tiny_model, clip_file, copy, frames=2)
    assert len(result.failures) == 1 and "another clip has this name" in result.failures[0] and len(result.points) == 2
