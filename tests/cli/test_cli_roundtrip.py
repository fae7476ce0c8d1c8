"""Files in, files out: every kind of output, ranges, sound, digests, pipes."""

from __future__ import annotations

import hashlib
import json

import av
import numpy as np
import pytest
from cli_clips import FRAMES, HEIGHT, WIDTH, picture, planes

FRAME_BYTES = WIDTH * HEIGHT * 3 // 2


def y4m_planes(data: bytes) -> bytes:
    """Samples of a y4m file without its headers."""
    header, _, rest = data.partition(b"\n")
    assert header.startswith(b"YUV4MPEG2")
    pieces = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        assert line == b"FRAME"
        pieces.append(rest[:FRAME_BYTES])
        rest = rest[FRAME_BYTES:]
    return b"".join(pieces)


@pytest.fixture(scope="module")
def decoded(cli, stream, tmp_path_factory) -> bytes:
    """The stream's frames as raw planes."""
    path = tmp_path_factory.mktemp("decoded") / "out.yuv"
    cli.decode(stream, "-o", path)
    return path.read_bytes()


def test_raw_planes_have_all_frames_and_the_printed_md5(cli, stream, decoded):
    assert len(decoded) == FRAMES * FRAME_BYTES
    assert decoded != planes()
    assert cli.md5(stream) == hashlib.md5(decoded).hexdigest() == cli.md5(stream)


def test_y4m_file_and_pipe_hold_the_same_frames(cli, stream, decoded, tmp_path):
    cli.decode(stream, "-o", tmp_path / "out.y4m")
    piped = cli.decode(stream, "-o", "-")
    assert piped.stderr == ""
    assert piped.stdout_bytes == (tmp_path / "out.y4m").read_bytes()
    assert y4m_planes(piped.stdout_bytes) == decoded


def test_md5_beside_a_pipe_goes_to_standard_error(cli, stream, decoded):
    result = cli.decode(stream, "-o", "-", "--md5")
    assert y4m_planes(result.stdout_bytes) == decoded
    assert result.stderr.split()[0] == hashlib.md5(decoded).hexdigest()


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_lossless_containers_hold_the_decoded_samples(cli, stream, decoded, tmp_path, ending):
    path = tmp_path / f"out.{ending}"
    cli.decode(stream, "-o", path, "--lossless")
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="yuv420p").tobytes() for frame in container.decode(video=0)]
    assert b"".join(frames) == decoded


def test_a_pattern_gives_numbered_pictures(cli, stream, tmp_path):
    cli.decode(stream, "-o", tmp_path / "f%03d.png", "--frames", "2:5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f000.png", "f001.png", "f002.png"]


def test_a_stream_comes_through_a_pipe_both_ways(cli, y4m, stream, decoded, tmp_path):
    through = cli.ok("encode", "-", "-o", "-", "--model", cli.model, "--gop", 3, stdin=y4m.read_bytes())
    assert through.stdout_bytes == stream.read_bytes()
    assert through.stderr == ""
    result = cli.ok("decode", "-", "-o", "-", "--model", cli.model, stdin=stream.read_bytes())
    assert y4m_planes(result.stdout_bytes) == decoded


def test_raw_input_needs_its_size_and_gives_the_same_pictures(cli, raw, stream, tmp_path):
    cli.encode(raw, tmp_path / "raw.nvc", "--size", f"{WIDTH}x{HEIGHT}", "--fps", 25, "--gop", 3)
    assert cli.md5(tmp_path / "raw.nvc") == cli.md5(stream)


def test_the_bytes_do_not_depend_on_the_number_of_workers(cli, y4m, stream, tmp_path):
    for workers in (1, 3):
        cli.encode(y4m, tmp_path / "again.nvc", "--gop", 3, "--workers", workers, "--force")
        assert (tmp_path / "again.nvc").read_bytes() == stream.read_bytes()
        assert cli.md5(stream, "--workers", workers, "--threads", 1) == cli.md5(stream)


def test_a_range_decodes_to_the_same_frames(cli, stream, decoded, tmp_path):
    for text, first, end in (("2:5", 2, 5), ("4:", 4, FRAMES), (":1", 0, 1)):
        cli.decode(stream, "-o", tmp_path / "part.yuv", "--frames", text, "--force")
        assert (tmp_path / "part.yuv").read_bytes() == decoded[first * FRAME_BYTES : end * FRAME_BYTES]


def test_a_range_is_encoded(cli, y4m, tmp_path):
    cli.encode(y4m, tmp_path / "part.nvc", "--frames", "1:4")
    lines = cli.decode(tmp_path / "part.nvc", "--md5-frames").stdout.splitlines()
    assert sum(not line.startswith("#") for line in lines) == 3


def test_gop_zero_is_one_intra_frame(cli, y4m, tmp_path):
    cli.encode(y4m, tmp_path / "one.nvc", "--gop", 0)
    kinds = cli.ok("inspect", tmp_path / "one.nvc", "--packets", "--model", cli.model).stdout
    assert (kinds.count("I frame"), kinds.count("P frame")) == (1, FRAMES - 1)


def test_another_level_plays_with_a_note(cli, stream, tmp_path):
    result = cli.decode(stream, "--md5", "--level", 3)
    assert "drift" in result.stderr and len(result.stderr.splitlines()) == 1
    assert result.stdout.split()[0] != cli.md5(stream)


def audio(path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        return [(p.pts, bytes(p)) for p in container.demux(audio=0) if p.size]


def test_sound_travels_along_unchanged(cli, sounding, sounding_stream, tmp_path):
    cli.decode(sounding_stream, "-o", tmp_path / "out.mkv")
    assert audio(tmp_path / "out.mkv") == audio(sounding)
    cli.decode(sounding_stream, "-o", tmp_path / "out.mp4")
    assert [data for _, data in audio(tmp_path / "out.mp4")] == [data for _, data in audio(sounding)]


def test_no_audio_leaves_it_out(cli, sounding, tmp_path):
    cli.encode(sounding, tmp_path / "mute.nvc", "--no-audio", "--frames", "0:2")
    cli.decode(tmp_path / "mute.nvc", "-o", tmp_path / "mute.mkv")
    with av.open(str(tmp_path / "mute.mkv")) as container:
        assert not container.streams.audio


def test_a_range_takes_its_own_sound_only(cli, sounding, sounding_stream, tmp_path):
    cli.decode(sounding_stream, "-o", tmp_path / "part.mkv", "--frames", "10:15")
    seconds = [pts / 1000 for pts, _ in audio(tmp_path / "part.mkv")]
    assert 0.4 - 1024 / 44100 - 0.001 < min(seconds) <= 0.4
    assert 0.6 - 1024 / 44100 - 0.001 < max(seconds) < 0.6
    whole = audio(sounding)
    assert set(audio(tmp_path / "part.mkv")) < set(whole)


def test_formats_without_sound_say_so_once(cli, sounding_stream, tmp_path):
    result = cli.decode(sounding_stream, "-o", tmp_path / "out.yuv", "--frames", "0:1")
    assert len(result.stderr.splitlines()) == 1 and "audio" in result.stderr


def test_a_picture_goes_round(cli, stream, tmp_path):
    cli.decode(stream, "-o", tmp_path / "one.png", "--frames", "0:1")
    result = cli.encode(tmp_path / "one.png", tmp_path / "one.nvc")
    assert "4:2:0" in result.stderr and len(result.stderr.splitlines()) == 1
    cli.decode(tmp_path / "one.nvc", "-o", tmp_path / "again.png")
    with av.open(str(tmp_path / "again.png")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (WIDTH, HEIGHT)


def test_quiet_in_a_pipe_and_more_with_v(cli, y4m, tmp_path):
    assert cli.encode(y4m, tmp_path / "a.nvc", "--frames", "0:1").output == ""
    told = cli.encode(y4m, tmp_path / "b.nvc", "--frames", "0:1", "-v").stderr
    assert "level 1" in told and "bits/pixel" in told


def test_how_a_video_is_coded_is_the_same_in_a_batch(cli, tmp_path):
    """Options that belong to videos hold for each of several files too."""
    rng = np.random.default_rng(0)
    grainy = [b"".join((p + rng.integers(-4, 5, p.shape)).clip(0, 255).astype(np.uint8).tobytes() for p in picture(0)) for _ in range(4)]
    clips = [tmp_path / "first.y4m", tmp_path / "second.y4m"]
    for clip in clips:
        clip.write_bytes(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode() + b"".join(b"FRAME\n" + g for g in grainy))
    coded = {}
    for number, flags in enumerate(((), ("--no-temporal-filter",), ("--no-hypotheses", "--no-scene-cuts"), ("--no-loop-filter",), ("--no-adaptation",), ("--no-corrections",))):
        folder, alone = tmp_path / f"out{number}", tmp_path / f"alone{number}.nvc"
        cli.ok("encode", *clips, "-o", folder, "--model", cli.model, "--quality", 80, *flags)
        cli.encode(clips[0], alone, "--quality", 80, *flags)
        coded[flags] = alone.read_bytes()
        assert {(folder / f"{clip.stem}.nvc").read_bytes() for clip in clips} == {coded[flags]}
        header = json.loads(cli.ok("inspect", "--json", alone, "--model", cli.model).stdout)["header"]
        assert header["hypotheses"] is header["sparse"] is ("--no-hypotheses" not in flags)
        assert header["loop_filter"] is ("--no-loop-filter" not in flags)
        assert header["adaptive"] is ("--no-adaptation" not in flags)
        assert header["corrected"] is not bool({"--no-loop-filter", "--no-corrections"} & set(flags))
    assert len(set(coded.values())) == 6, "each option does something"
