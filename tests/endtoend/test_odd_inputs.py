"""Odd files through the whole chain: source, encoder, stream, decoder, output file. What is no sample survives unchanged."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import pytest
import rounds

import tests.media.conftest as make
from neuralcodec.bitstream import Chapter, StreamReader
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.errors import InputError
from neuralcodec.core.types import Frame
from neuralcodec.media import open_sink, open_source
from neuralcodec.pipeline import DecodeOptions, EncodeOptions
from tests.media.test_media_roundtrip import CASES, FFV1
from tests.media.test_media_sides import _with_subtitles


def _pictures(width, height, count=3):
    return [make.planes(width, height, seed) for seed in range(count)]


def _cut_mp4(folder):
    """An MP4 with its index in front, cut off within the pictures."""
    path = make.video(folder / "whole.mp4", _pictures(64, 48, 25), muxer={"movflags": "faststart"}, sounds=(("aac", 440.0, "eng"),))
    data = path.read_bytes()
    (folder / "in.mp4").write_bytes(data[: len(data) * 3 // 5])
    return folder / "in.mp4"


def _gray_y4m(folder):
    make.y4m(folder / "in.y4m", 33, 18, "mono", 1, [(18, 33)])
    return folder / "in.y4m"


def _raw(folder):
    (folder / "in.yuv").write_bytes(b"".join(p.tobytes() for picture in _pictures(48, 32) for p in picture))
    return folder / "in.yuv"


MORE = {
    "size_64x1": lambda p: make.video(p / "in.mkv", _pictures(64, 1), **FFV1),
    "size_1x64": lambda p: make.video(p / "in.mkv", _pictures(1, 64), **FFV1),
    "size_17x16": lambda p: make.video(p / "in.mkv", _pictures(17, 16), **FFV1),
    "size_65x49": lambda p: make.video(p / "in.mkv", _pictures(65, 49), **FFV1),
    "two_audio_tracks": lambda p: make.video(p / "in.mp4", _pictures(64, 48, 9), sounds=(("aac", 440.0, "eng"), ("aac", 300.0, "deu"))),
    "opus_and_flac": lambda p: make.video(p / "in.mkv", _pictures(64, 48, 9), sounds=(("libopus", 440.0, "eng"), ("flac", 300.0, "deu"))),
    "subtitles_and_attachment": lambda p: _with_subtitles(make, p / "in.mkv")[0],
    "cut_mp4": _cut_mp4,
    "gray_y4m": _gray_y4m,
    "raw_yuv": _raw,
    "still_png": lambda p: make.video(p / "in.png", _pictures(31, 23, 1), codec="png", pix_fmt="rgb24", container="image2", muxer={"update": "1"}),
}
ALL = {name: (lambda p, f=f: f(make, p)) for name, f in CASES.items()} | MORE
OPTIONS = {"raw_yuv": {"size": (48, 32), "fps": 30}}


def _encode(path, loaded, **options):
    """(source, its frames, its side packets, stream) of a file."""
    with open_source(path, **options) as source:
        items = list(source.packets())
    chapters = tuple(Chapter(c["start"], c["end"], c["time_base"], c["metadata"]) for c in source.chapters)
    stream = rounds.encode(loaded, items, source.properties, EncodeOptions(quality=50, gop=4), side_streams=tuple(source.side_streams),
                           metadata=source.metadata, chapters=chapters)
    frames = [item for item in items if isinstance(item, Frame)]
    return source, frames, [item for item in items if not isinstance(item, Frame)], stream


def test_there_are_enough_of_them():
    assert len(ALL) >= 35


@pytest.mark.parametrize("case", ALL)
def test_everything_but_the_samples_comes_back(case, loaded, tmp_path):
    source, frames, sides, stream = _encode(ALL[case](tmp_path), loaded, **OPTIONS.get(case, {}))
    header = StreamReader(io.BytesIO(stream.data)).header
    decoded = rounds.decode(stream.data, loaded)

    assert frames and not decoded.damages
    assert header.video == source.properties
    assert [(f.frame.pts, f.frame.duration) for f in decoded.frames] == [(f.pts, f.duration) for f in frames]
    assert all([p.shape for p in d.frame.planes] == [p.shape for p in f.planes] for d, f in zip(decoded.frames, frames, strict=True))
    assert [md5_of_frame(f.frame) for f in decoded.frames] == [
        md5_of_frame(f) for f in stream.reconstructions(header.video.height, header.video.width)]
    assert header.side_streams == tuple(source.side_streams) and len(decoded.sides) == len(sides)
    for number in range(len(source.side_streams)):  # each in its order; among each other they stand where their time is
        assert [s for s in decoded.sides if s.stream == number] == [s for s in sides if s.stream == number]
    assert header.metadata == source.metadata


@pytest.mark.parametrize("case", ["size_3x5", "vfr_b_frames", "rotated_90", "aspect_ratio", "full_range", "two_audio_tracks", "subtitles_and_attachment"])
def test_into_a_file_and_out_again(case, loaded, tmp_path):
    source, frames, sides, stream = _encode(ALL[case](tmp_path), loaded)
    header = StreamReader(io.BytesIO(stream.data)).header
    decoded = rounds.decode(stream.data, loaded)
    out = tmp_path / "out.mkv"
    with open_sink(out, header.video, header.side_streams, header.metadata, lossless=True) as sink:
        for frame in decoded.frames:
            sink.write(frame.frame)
        for packet in decoded.sides:
            sink.write_side(packet)
    again, copied, copied_sides = make.read(out)
    assert [md5_of_frame(f) for f in copied] == [md5_of_frame(f.frame) for f in decoded.frames]
    bases = source.properties.time_base, again.properties.time_base
    assert all(abs(a.pts * bases[0] - b.pts * bases[1]) <= Fraction(1, 2000) for a, b in zip(frames, copied, strict=True))
    kept = replace(again.properties.colour, chroma_location=source.properties.colour.chroma_location)
    assert (again.properties.rotation, again.properties.sample_aspect_ratio, again.properties.width, again.properties.height) == (
        source.properties.rotation, source.properties.sample_aspect_ratio, source.properties.width, source.properties.height)
    if source.properties.colour.full_range is not None:
        assert kept == source.properties.colour
    for number in range(len(source.side_streams)):
        assert [p.data for p in copied_sides if p.stream == number] == [p.data for p in sides if p.stream == number]


def test_a_range_of_an_odd_clip_by_the_decoder(loaded, tmp_path):
    _, frames, _, stream = _encode(ALL["vfr_b_frames"](tmp_path), loaded)
    decoded = rounds.decode(stream.data, loaded, DecodeOptions(frames=(2, 6)))
    assert [f.frame.pts for f in decoded.frames] == [f.pts for f in frames[2:6]]


def test_an_mp4_without_its_index_is_one_clear_line(tmp_path):
    data = make.video(tmp_path / "whole.mp4", _pictures(64, 48)).read_bytes()
    (tmp_path / "in.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off or damaged") as error:
        open_source(tmp_path / "in.mp4")
    assert "\n" not in str(error.value)
