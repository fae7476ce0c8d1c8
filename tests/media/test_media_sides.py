"""Sound, subtitles and attachments travel as packets and play after the journey."""

from fractions import Fraction

import av
import numpy as np
import pytest

from neuralcodec.core.types import SideStream
from neuralcodec.media import open_sink


@pytest.fixture(scope="module")
def two_tracks(media, tmp_path_factory):
    pictures = [media.planes(64, 48, seed) for seed in range(13)]
    path = tmp_path_factory.mktemp("sides") / "in.mp4"
    return media.video(path, pictures, sounds=(("aac", 440.0, "eng"), ("aac", 300.0, "deu")))


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_copied_aac_decodes_to_the_same_samples(extension, two_tracks, media, tmp_path):
    target = tmp_path / f"out.{extension}"
    sink = media.copy(two_tracks, target)
    for track in (0, 1):
        source, copied = media.sound_of(two_tracks, track), media.sound_of(target, track)
        count = min(source.shape[1], copied.shape[1])
        # Matroska may keep the last packet's padding; what was sound is there in full.
        assert 0 <= copied.shape[1] - source.shape[1] < 1024, extension
        assert np.array_equal(source[:, :count], copied[:, :count])
    assert not [note for note in sink.notes if "left out" in note or "refuses" in note]


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_packets_languages_and_extradata_survive(extension, two_tracks, media, tmp_path):
    media.copy(two_tracks, tmp_path / f"out.{extension}")
    source, frames, packets = media.read(two_tracks)
    again, copied_frames, copied = media.read(tmp_path / f"out.{extension}")
    assert [s.metadata["language"] for s in again.side_streams] == ["eng", "deu"]
    assert [(s.kind, s.codec, s.extradata, s.disposition) for s in again.side_streams] == [
        (s.kind, s.codec, s.extradata, s.disposition) for s in source.side_streams
    ]
    for track in (0, 1):
        left, right = ([p for p in ps if p.stream == track] for ps in (packets, copied))
        assert [p.data for p in left] == [p.data for p in right]
        bases = source.side_streams[track].time_base, again.side_streams[track].time_base
        tolerance = 0 if extension == "mp4" else Fraction(1, 1000)
        assert max(abs(a.pts * bases[0] - b.pts * bases[1]) for a, b in zip(left, right, strict=True)) <= tolerance
    # The sound's priming lies before zero, and that must not push the pictures away.
    assert left[0].pts < 0
    assert [f.pts * source.properties.time_base for f in frames] == [
        f.pts * again.properties.time_base for f in copied_frames
    ]


@pytest.mark.parametrize(
    ("codec", "container", "extensions"),
    [
        ("libopus", "mkv", ["mkv", "webm"]),
        ("flac", "mkv", ["mkv", "mp4"]),
        ("pcm_s16le", "mkv", ["mkv", "mov", "mp4"]),
        ("libmp3lame", "mp4", ["mp4", "mkv"]),
        ("ac3", "mp4", ["mp4", "mkv"]),
    ],
)
def test_other_audio_codecs(codec, container, extensions, media, tmp_path):
    path = media.video(
        tmp_path / f"in.{container}",
        [media.planes(64, 48, seed) for seed in range(5)],
        codec="libx264",
        sounds=((codec, 440.0, "eng"),),
    )
    source = media.sound_of(path)
    for extension in extensions:
        media.copy(path, tmp_path / f"out.{extension}")
        copied = media.sound_of(tmp_path / f"out.{extension}")
        count = min(source.shape[1], copied.shape[1])
        assert count > 20000 and np.array_equal(source[:, :count], copied[:, :count]), extension


def test_audio_can_be_left_out(two_tracks, media):
    source, frames, packets = media.read(two_tracks, audio=False)
    assert source.side_streams == [] and packets == [] and len(frames) == 13


def test_frame_range_cuts_the_sound_to_the_same_span(two_tracks, media):
    source, frames, packets = media.read(two_tracks, frames=(3, 8))
    _, every, _ = media.read(two_tracks)
    assert [f.pts for f in frames] == [f.pts for f in every[3:8]] and source.frame_count_hint == 5
    assert media.same_samples(frames, every[3:8])
    base = source.properties.time_base
    start, end = frames[0].pts * base, every[8].pts * base
    spans = [
        (p.pts * source.side_streams[p.stream].time_base, p.duration * source.side_streams[p.stream].time_base)
        for p in packets
    ]
    assert {p.stream for p in packets} == {0, 1}
    assert all(a + d > start and a < end for a, d in spans)
    assert min(a for a, _ in spans) <= start and max(a + d for a, d in spans) >= end


@pytest.mark.parametrize("bounds", [(0, 4), (2, None), (12, 13), (10, 99)])
def test_frame_range_bounds(bounds, two_tracks, media):
    source, frames, _ = media.read(two_tracks, frames=bounds)
    expected = list(range(13))[bounds[0] : bounds[1]]
    assert [f.pts for f in frames] == [f.pts for f in media.read(two_tracks)[1][bounds[0] : bounds[1]]]
    assert len(frames) == len(expected) == source.frame_count_hint


def _with_subtitles(media, path):
    lines = [(0, 100, b"Hello"), (120, 200, "Grüße".encode()), (340, 100, b"Bye")]

    def extra(output):
        stream = output.add_mux_stream("subrip")
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = "fra"
        stream.metadata["title"] = "Songs"
        stream.disposition = 64
        output.add_attachment("font.ttf", "font/ttf", b"\0\1\2 not really a font")
        extra.stream = stream

    media.video(
        path,
        [media.planes(64, 48, seed) for seed in range(12)],
        codec="ffv1",
        container="matroska",
        extra=lambda output: (extra(output), _subtitle_packets(output, extra.stream, lines)),
    )
    return path, [text for _, _, text in lines]


def _subtitle_packets(output, stream, lines):
    for start, duration, text in lines:
        packet = av.Packet(text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = duration
        output.mux(packet)


def test_subtitles_and_attachment_into_matroska(media, tmp_path):
    path, texts = _with_subtitles(media, tmp_path / "in.mkv")
    source, _, packets = media.read(path)
    assert [s.kind for s in source.side_streams] == ["subtitle", "attachment"]
    assert [p.data for p in packets] == texts
    sink = media.copy(path, tmp_path / "out.mkv")
    again, _, copied = media.read(tmp_path / "out.mkv")
    assert [(p.data, p.pts, p.duration) for p in copied] == [(p.data, p.pts, p.duration) for p in packets]
    subtitle, attachment = again.side_streams
    assert (subtitle.codec, subtitle.metadata["language"], subtitle.metadata["title"]) == ("subrip", "fra", "Songs")
    assert subtitle.disposition == 64
    assert attachment.extradata == b"\0\1\2 not really a font" and attachment.metadata["filename"] == "font.ttf"
    assert sink.notes == []


def test_what_a_container_cannot_hold_is_said_and_left_out(media, tmp_path):
    path, _ = _with_subtitles(media, tmp_path / "in.mkv")
    sink = media.copy(path, tmp_path / "out.mp4")
    assert sink.notes == [
        "subtitle stream 0 left out: mp4 cannot hold subrip",
        "attachment stream 1 left out: mp4 has no attachments",
    ]
    again, frames, _ = media.read(tmp_path / "out.mp4")
    assert again.side_streams == [] and len(frames) == 12


def test_mp4_subtitles_into_mp4(media, tmp_path):
    def extra(output):
        stream = output.add_mux_stream("mov_text")
        stream.time_base = Fraction(1, 1000)
        output.start_encoding()
        _subtitle_packets(output, stream, [(0, 100, b"\0\5Hello"), (200, 100, b"\0\3Bye")])

    path = media.video(tmp_path / "in.mp4", [media.planes(64, 48, seed) for seed in range(12)], extra=extra)
    source, _, packets = media.read(path)
    assert [s.codec for s in source.side_streams] == ["mov_text"]
    sink = media.copy(path, tmp_path / "out.mp4")
    again, _, copied = media.read(tmp_path / "out.mp4")
    assert sink.notes == [] and again.side_streams[0].codec == "mov_text"
    assert [p.data for p in copied if len(p.data) > 2] == [p.data for p in packets if len(p.data) > 2]


def test_unknown_codec_is_left_out_not_fatal(media, tmp_path):
    source, frames, _ = media.read(media.video(tmp_path / "in.mp4", [media.planes(64, 48)]))
    strange = SideStream("audio", "no_such_codec", Fraction(1, 1000), parameters={"sample_rate": "8000"})
    with open_sink(tmp_path / "out.mkv", source.properties, [strange]) as sink:
        sink.write(frames[0])
    assert sink.notes == ["audio stream 0 left out: matroska cannot hold no_such_codec without its original header"]


def test_metadata_and_chapters(media, tmp_path):
    path = media.video(tmp_path / "plain.mp4", [media.planes(64, 48, seed) for seed in range(12)])
    source, frames, _ = media.read(path)
    chapters = [
        {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
        {"id": 2, "start": 200, "end": 480, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
    ]
    for extension in ("mkv", "mp4"):
        out = tmp_path / f"out.{extension}"
        with open_sink(out, source.properties, metadata={"title": "A test"}, chapters=chapters) as sink:
            for frame in frames:
                sink.write(frame)
        again, _, _ = media.read(out)
        assert again.metadata["title"] == "A test"
        spans = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in again.chapters]
        assert spans == [(0, "One"), (Fraction(1, 5), "Two")]


def test_starts_between_milliseconds_are_exact_in_mp4(media, tmp_path):
    path = media.video(
        tmp_path / "in.ts",
        [media.planes(64, 48, seed) for seed in range(10)],
        time_base=Fraction(1, 90000),
        pts=[3600 * index for index in range(10)],
        sounds=(("aac", 440.0, "eng"),),
    )
    source, frames, _ = media.read(path)
    assert (frames[0].pts * source.properties.time_base * 1000).denominator != 1
    media.copy(path, tmp_path / "out.mp4")
    again, copied, _ = media.read(tmp_path / "out.mp4")
    assert [f.pts for f in copied] == [f.pts for f in frames]
    assert again.properties.time_base == source.properties.time_base == Fraction(1, 90000)


def test_time_code_track_is_made_again(media, tmp_path):
    def extra(output):
        output.streams[0].metadata["timecode"] = "01:00:00:00"

    path = media.video(tmp_path / "in.mov", [media.planes(64, 48, seed) for seed in range(3)], extra=extra)
    assert media.copy(path, tmp_path / "out.mp4").notes == []
    side = media.read(tmp_path / "out.mp4")[0].side_streams[0]
    assert side.kind == "data" and side.metadata["timecode"] == "01:00:00:00"


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_cut_clip_keeps_its_time_stamps(extension, two_tracks, media, tmp_path):
    media.copy(two_tracks, tmp_path / f"out.{extension}", options={"frames": (3, 8)}, lossless=True)
    source, frames, _ = media.read(two_tracks, frames=(3, 8))
    again, copied, packets = media.read(tmp_path / f"out.{extension}")
    assert media.same_samples(frames, copied) and packets
    bases = source.properties.time_base, again.properties.time_base
    assert [f.pts * bases[0] for f in frames] == [f.pts * bases[1] for f in copied]
