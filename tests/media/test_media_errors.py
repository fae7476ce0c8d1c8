"""What is no video ends in one clear line; what is damaged gives what can be had."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from neuralcodec.core.errors import InputError, OutputError, UsageError
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.media import open_sink, open_source

PROPERTIES = VideoProperties(64, 48, Fraction(1, 25), Fraction(25))


def _one_line(error):
    return "\n" not in str(error.value) and 10 < len(str(error.value)) < 250


def _refused(path, match):
    with pytest.raises(InputError, match=match) as error, open_source(path) as source:
        list(source.packets())
    assert _one_line(error), str(error.value)


def test_missing_empty_directory_text(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.txt").write_text("This is not a film.\n" * 100)
    (tmp_path / "text.mp4").write_text("Neither is this.\n" * 100)
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(1).bytes(5000))
    _refused(tmp_path / "missing.mp4", "no such file")
    _refused(tmp_path / "empty.mp4", "is empty")
    _refused(tmp_path, "is a directory")
    for name in ("text.txt", "text.mp4", "noise.mkv", "noise.bin"):
        _refused(tmp_path / name, "no media file|not a video|no picture|no video")
    _refused(tmp_path / "f_%04d.png", "no pictures found")


def test_audio_only(media, tmp_path):
    import av

    with av.open(str(tmp_path / "a.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    _refused(tmp_path / "a.wav", r"no video stream \(only audio\)")


@pytest.fixture(scope="module")
def fifty_frames(media, tmp_path_factory):
    pictures = [media.planes(64, 48, seed) for seed in range(50)]
    folder = tmp_path_factory.mktemp("damage")
    options = {"qp": "10", "g": "10"}
    fast = media.video(folder / "fast.mp4", pictures, muxer={"movflags": "+faststart"}, options=options)
    slow = media.video(folder / "slow.mp4", pictures, options=options)
    return fast, slow, media.video(folder / "a.mkv", pictures, options=options)


def test_truncated_mp4_with_its_index_in_front(fifty_frames, media, tmp_path):
    data = fifty_frames[0].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    source, frames, _ = media.read(tmp_path / "cut.mp4")
    assert 15 <= len(frames) < 45
    assert media.same_samples(frames[:15], media.read(fifty_frames[0])[1][:15])
    assert any("announces 50 frames" in note or "cut off" in note for note in source.notes), source.notes


def test_truncated_mp4_without_index(fifty_frames, tmp_path):
    data = fifty_frames[1].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    _refused(tmp_path / "cut.mp4", "cut off or damaged")


def test_truncated_matroska(fifty_frames, media, tmp_path):
    data = fifty_frames[2].read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    source, frames, _ = media.read(tmp_path / "cut.mkv")
    assert 15 <= len(frames) < 45
    assert source.notes, "the loss is not mentioned"


def test_damaged_middle_still_gives_frames(fifty_frames, media, tmp_path):
    data = bytearray(fifty_frames[2].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / "bad.mkv").write_bytes(data)
    _, frames, _ = media.read(tmp_path / "bad.mkv")
    assert len(frames) >= 20
    assert all(b.pts > a.pts for a, b in itertools.pairwise(frames))


def test_frame_range_beyond_the_end(fifty_frames):
    with open_source(fifty_frames[0], frames=(60, 70)) as source, pytest.raises(InputError, match="only 50 frames"):
        list(source.packets())
    for bad in ((5, 5), (7, 3), (-1, 4)):
        with pytest.raises(UsageError):
            open_source(fifty_frames[0], frames=bad)


def _frame(media, seed=0):
    return Frame(media.planes(64, 48, seed), seed, 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.yuv", "f_%03d.png"])
def test_abort_leaves_nothing(name, media, tmp_path):
    with pytest.raises(KeyboardInterrupt), open_sink(tmp_path / name, PROPERTIES) as sink:
        sink.write(_frame(media))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m", "a.yuv", "f_%03d.png"])
def test_nothing_under_the_final_name_before_close(name, media, tmp_path):
    first = tmp_path / (name % 0 if "%" in name else name)
    first.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        open_sink(tmp_path / name, PROPERTIES)
    sink = open_sink(tmp_path / name, PROPERTIES, overwrite=True)
    if "%" not in name:
        sink.write(_frame(media))
        assert first.read_bytes() == b"old"
        sink.abort()
        assert first.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
        sink = open_sink(tmp_path / name, PROPERTIES, overwrite=True)
    sink.write(_frame(media))
    sink.close()
    sink.close()
    sink.abort()
    assert first.read_bytes() != b"old" and len(list(tmp_path.iterdir())) == 1


def test_output_mistakes(media, tmp_path):
    for name in ("a.xyz", "noending"):
        with pytest.raises(UsageError, match="unknown output format"):
            open_sink(tmp_path / name, PROPERTIES)
    with pytest.raises(UsageError, match="no_such_encoder"):
        open_sink(tmp_path / "a.mp4", PROPERTIES, vcodec="no_such_encoder")
    with pytest.raises(UsageError, match="aac"):
        open_sink(tmp_path / "a.mp4", PROPERTIES, vcodec="aac")
    with pytest.raises(UsageError, match="odd size"):
        open_sink(tmp_path / "a.mp4", replace(PROPERTIES, width=63), vcodec="libx264")
    with pytest.raises(UsageError, match="lossless"):
        open_sink(tmp_path / "a.mp4", PROPERTIES, vcodec="libsvtav1", lossless=True)
    with pytest.raises(UsageError, match="stored as they are"):
        open_sink(tmp_path / "a.y4m", PROPERTIES, vcodec="libx264")
    with pytest.raises(UsageError, match="pattern"):
        open_sink(tmp_path / "a_%s.png", PROPERTIES)
    with pytest.raises(OutputError, match="no such directory"):
        open_sink(tmp_path / "no" / "a.mp4", PROPERTIES)
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        open_sink(tmp_path / "dir.mp4", PROPERTIES, overwrite=True)
    with open_sink(tmp_path / "a.y4m", PROPERTIES) as sink, pytest.raises(OutputError, match="another size"):
        sink.write(Frame(media.planes(32, 48), 0))
    assert {p.name for p in tmp_path.iterdir()} == {"dir.mp4", "a.y4m"}


def test_memory_does_not_grow_with_the_clip(media, tmp_path):
    """Frames are handed out one by one: after 400 frames the reader holds no more than after 40."""
    import tracemalloc

    path = media.video(tmp_path / "a.mp4", [media.planes(256, 128, seed) for seed in range(120)])
    tracemalloc.start()
    peaks = []
    with open_source(path) as source:
        for index, _ in enumerate(source.packets()):
            if index in (20, 119):
                peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * 256 * 128


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_container_without_frames_is_an_error(name, tmp_path):
    with pytest.raises(OutputError, match="not a single frame"):
        open_sink(tmp_path / name, PROPERTIES).close()
    assert list(tmp_path.iterdir()) == []
