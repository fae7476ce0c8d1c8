"""md5s of decoded pictures against a file of them, and encodings that are decoded again at once."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from cli_clips import FRAMES, HEIGHT, WIDTH, picture

from neuralcodec.bitstream import Arithmetic, StreamReader, StreamWriter
from neuralcodec.bitstream.header import write_header
from neuralcodec.codecs.coding import FlagshipCoder
from neuralcodec.pipeline import verify

FRAME_BYTES = WIDTH * HEIGHT * 3 // 2


@pytest.fixture(scope="module")
def pieces(cli, stream, tmp_path_factory) -> list[bytes]:
    """The samples of each decoded frame."""
    path = tmp_path_factory.mktemp("decoded") / "out.yuv"
    cli.decode(stream, "-o", path)
    data = path.read_bytes()
    return [data[n : n + FRAME_BYTES] for n in range(0, len(data), FRAME_BYTES)]


@pytest.fixture(scope="module")
def listed(cli, stream) -> list[str]:
    """The lines of --md5-frames."""
    return cli.decode(stream, "--md5-frames").stdout.splitlines()


@pytest.fixture(scope="module")
def total(pieces) -> str:
    return hashlib.md5(b"".join(pieces)).hexdigest()


def failed(result) -> str:
    """The last line of a call that found a difference."""
    assert result.exit_code == 1 and result.stdout == "", result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith("ncodec: ")
    return line


# --- what is printed ---


def test_lines_of_frames_are_what_ffmpegs_framemd5_writes(listed, pieces, tmp_path):
    path = tmp_path / "theirs"
    with av.open(str(path), "w", format="framemd5") as container:
        video = container.add_stream("rawvideo", rate=25, width=WIDTH, height=HEIGHT)
        video.pix_fmt = "yuv420p"
        for n, piece in enumerate(pieces):
            samples = np.frombuffer(piece, np.uint8).reshape(-1, WIDTH)
            frame = av.VideoFrame.from_ndarray(samples, "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    theirs = path.read_text().splitlines()
    # PyAV does not hand the sample aspect ratio on.
    unlike = ("#software", "#sar")
    assert [x for x in listed if not x.startswith(unlike)] == [x for x in theirs if not x.startswith(unlike)]
    assert [line.split()[-1] for line in listed[-FRAMES:]] == [hashlib.md5(p).hexdigest() for p in pieces]


def test_md5_lines_go_to_a_file_beside_the_pictures(cli, stream, listed, pieces, total, tmp_path):
    sums, video = tmp_path / "sums", tmp_path / "out.yuv"
    assert cli.decode(stream, "-o", video, "--md5", "--md5-file", sums).output == ""
    assert sums.read_text() == f"{total}  {stream}\n"
    assert video.read_bytes() == b"".join(pieces)
    result = cli("decode", stream, "--md5-frames", "--md5-file", sums, "--model", cli.model)
    assert result.exit_code == 4 and "--force" in result.stderr
    cli.decode(stream, "--md5-frames", "--md5-file", sums, "--force")
    assert sums.read_text().splitlines() == listed
    assert cli("decode", stream, "-o", video, "--force", "--md5-file", sums, "--model", cli.model).exit_code == 2


# --- decode --verify ---


@pytest.mark.parametrize("form", ["{}  clip.nvc", "{} *out.yuv", "{}", "MD5={}", "MD5 (out.yuv) = {}", "# of today\n\n{}  -"])
def test_every_form_of_one_md5_is_read(cli, stream, total, tmp_path, form):
    (tmp_path / "sums").write_text(form.format(total) + "\n")
    result = cli.decode(stream, "--verify", tmp_path / "sums")
    assert result.stdout == ""
    (note,) = result.stderr.splitlines()
    assert "floating point" in note and "one machine" in note
    other = total[:-1] + ("0" if total[-1] != "0" else "1")
    (tmp_path / "sums").write_text(form.format(other))
    line = failed(cli("decode", stream, "--verify", tmp_path / "sums", "--model", cli.model, "-q"))
    assert total in line and other in line


def test_what_md5_and_md5_frames_wrote_passes(cli, stream, tmp_path):
    for options in (["--md5"], ["--md5-frames"], ["--md5", "--md5-frames"]):
        cli.decode(stream, *options, "--md5-file", tmp_path / "sums", "--force")
        assert cli.decode(stream, "--verify", tmp_path / "sums", "-q").output == ""
    assert f"{FRAMES} frames, as in {tmp_path / 'sums'}" in cli.decode(stream, "--verify", tmp_path / "sums", "-v").stderr


@pytest.mark.parametrize("wrong", [0, 4, FRAMES - 1])
def test_the_first_frame_that_differs_is_named_and_no_output_is_left(cli, stream, listed, tmp_path, wrong):
    lines = listed.copy()
    for n in range(wrong, FRAMES):
        lines[n - FRAMES] = lines[n - FRAMES][:-32] + "0" * 32
    (tmp_path / "sums").write_text("\n".join(lines))
    result = cli("decode", stream, "-o", tmp_path / "out.y4m", "--verify", tmp_path / "sums", "--model", cli.model)
    assert f"frame {wrong} differs" in failed(result)
    assert [p.name for p in tmp_path.iterdir()] == ["sums"]


def test_other_numbers_of_frames_fail(cli, stream, listed, tmp_path):
    for lines, words in ((listed[:-1], f"more frames than {tmp_path / 'sums'} (6)"), ([*listed, listed[-1]], "has 7 frames")):
        (tmp_path / "sums").write_text("\n".join(lines))
        assert words in failed(cli("decode", stream, "--verify", tmp_path / "sums", "--model", cli.model))


def test_a_range_is_compared_with_md5s_of_that_range(cli, stream, listed, tmp_path):
    lines = listed[-FRAMES:][2:5]
    (tmp_path / "sums").write_text("\n".join(lines))
    cli.decode(stream, "--verify", tmp_path / "sums", "--frames", "2:5")
    (tmp_path / "sums").write_text("\n".join([lines[0], lines[0], lines[2]]))
    assert "frame 3 differs" in failed(cli("decode", stream, "--verify", tmp_path / "sums", "--frames", "2:5", "--model", cli.model))


def test_only_the_video_of_a_framemd5_counts(cli, stream, listed, tmp_path):
    sound = f"0, 0, 0, 1024, 2048, {'f' * 32}"
    lines = ["#media_type 0: audio", "#media_type 1: video", sound, *("1" + x[1:] for x in listed[-FRAMES:]), sound]
    (tmp_path / "sums").write_text("\n".join(lines))
    cli.decode(stream, "--verify", tmp_path / "sums")


def test_a_frame_that_damage_took_is_missing(cli, stream, listed, tmp_path):
    data = bytearray(stream.read_bytes())
    data[[p.offset for p in StreamReader(io.BytesIO(data)) if "Frame" in type(p.content).__name__][4] + 8] ^= 0xFF
    (tmp_path / "damaged.nvc").write_bytes(data)
    (tmp_path / "sums").write_text("\n".join(listed))
    line = failed(cli("decode", tmp_path / "damaged.nvc", "--verify", tmp_path / "sums", "--model", cli.model))
    assert "frame 4 is missing" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "holds no md5"),
        (b"# nothing\n", "holds no md5"),
        (b"d41d8cd98f00b204e9800998ecf8427  short.nvc\n", "line 1"),
        (b"d41d8cd98f00b204e9800998ecf8427eaa  long.nvc\n", "line 1"),
        (b"0,          0,          0,        1,     2592, abc\n", "line 1"),
        (b"0,          0,          0,        1,     2592, " + b"a" * 64 + b"\n", "line 1"),
        (b"d41d8cd98f00b204e9800998ecf8427e  a\nd41d8cd98f00b204e9800998ecf8427e  b\n", "line 2"),
        (b"\x89PNG\r\n" + bytes(range(256)) * 100, "line 1"),
    ],
)
def test_files_that_hold_no_md5s(cli, stream, tmp_path, content, words):
    if content is not None:
        (tmp_path / "sums").write_bytes(content)
    result = cli("decode", stream, "--verify", tmp_path / "sums", "--model", cli.model)
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert words in line and "sums" in line


# --- encode --verify ---


def encode(cli, source: Path, folder: Path, *arguments: object):
    """Encodes in groups of three into a folder of its own."""
    return cli("encode", source, "-o", folder / "out.nvc", "--model", cli.model, "--gop", 3, "--force", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "3 frames verified"),
        (["--workers", 2], "3 frames verified"),
        (["--verify", "all"], "7 frames verified"),
        (["--verify", "all", "--workers", 2, "--frames", "0:5"], "5 frames verified"),
        (["--verify", "none"], "no frames verified"),
        (["--frames", "0:2", "--level", 3], "2 frames verified"),
        (["--gop", 0], "5 frames verified"),
        (["--gop", 1], "1 frames verified"),
    ],
)
def test_encodings_are_decoded_again(cli, y4m, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(verify, "FIRST_FRAMES", 5)
    result = encode(cli, y4m, tmp_path, "-v", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1].endswith(words)


def test_sound_is_passed_over(cli, sounding, tmp_path):
    for which, words in (("first", "3 frames verified"), ("all", "20 frames verified")):
        result = encode(cli, sounding, tmp_path, "--verify", which, "-v")
        assert result.exit_code == 0 and result.stderr.splitlines()[-1].endswith(words), result.output


def test_verifying_does_not_change_the_bytes(cli, y4m, stream, tmp_path):
    for which in ("first", "all", "none"):
        assert encode(cli, y4m, tmp_path, "--verify", which).exit_code == 0
        assert (tmp_path / "out.nvc").read_bytes() == stream.read_bytes()


def test_a_still_is_verified(cli, stream, tmp_path):
    cli.decode(stream, "-o", tmp_path / "one.png", "--frames", "0:1")
    assert encode(cli, tmp_path / "one.png", tmp_path, "-v").stderr.endswith(", verified\n")


def test_all_of_a_pipe_cannot_be_verified(cli, y4m):
    result = cli("encode", y4m, "-o", "-", "--model", cli.model, "--verify", "all")
    assert result.exit_code == 2 and result.stdout == "" and "pipe" in result.stderr


@pytest.fixture
def broken_frame(monkeypatch):
    """Makes the encoder's reference of one P frame of the clip another picture than the decoder's."""

    def make(number: int) -> None:
        original = FlagshipCoder.encode_inter

        def encode_inter(self, source, *arguments, **options):
            coded = original(self, source, *arguments, **options)
            if np.array_equal(source.y[0, 0, :HEIGHT, :WIDTH].numpy(), picture(number)[0]):
                y = coded.planes.y.clone()
                y[0, 0, 3, 5] = 255 - y[0, 0, 3, 5]
                coded.planes = replace(coded.planes, y=y)
            return coded

        monkeypatch.setattr(FlagshipCoder, "encode_inter", encode_inter)

    return make


@pytest.mark.parametrize("arguments", [[], ["--workers", 2], ["--verify", "all"], ["--frames", "0:2"]])
def test_a_reference_that_is_not_the_decoders_picture_is_found(cli, y4m, tmp_path, broken_frame, arguments):
    broken_frame(1)
    (tmp_path / "out.nvc").write_bytes(b"precious")
    result = encode(cli, y4m, tmp_path, *arguments)
    assert "frame 1 decodes to another picture" in failed(result)
    assert len(result.stderr.splitlines()) == 1
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.nvc", b"precious")]


def test_later_groups_are_compared_where_it_is_asked_for(cli, y4m, tmp_path, broken_frame):
    broken_frame(4)
    for which, code in (("first", 0), ("none", 0), ("all", 1)):
        result = encode(cli, y4m, tmp_path, "--verify", which)
        assert result.exit_code == code
    assert "frame 4 decodes to another picture" in failed(result)


def test_a_failure_ends_the_encoding_before_the_source_ends(cli, y4m, tmp_path, monkeypatch, broken_frame):
    header, _, rest = y4m.read_bytes().partition(b"\n")
    (tmp_path / "long.y4m").write_bytes(header + b"\n" + rest * 30)
    original, groups = FlagshipCoder.encode_intra, []
    monkeypatch.setattr(FlagshipCoder, "encode_intra", lambda *a: groups.append(a) or original(*a))
    broken_frame(1)
    assert "frame 1 decodes" in failed(encode(cli, tmp_path / "long.y4m", tmp_path, "--workers", 1))
    assert len(groups) < 35  # of 70


def test_latents_that_differ_are_found(cli, y4m, tmp_path, monkeypatch):
    original = FlagshipCoder.parse

    def parse(self, *arguments):
        parsed = original(self, *arguments)
        return replace(parsed, masks={name: ~mask for name, mask in parsed.masks.items()})

    monkeypatch.setattr(FlagshipCoder, "parse", parse)
    assert "frame 0 decodes to other latents" in failed(encode(cli, y4m, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--verify", "all"]])
def test_payloads_that_were_written_wrong_are_found(cli, y4m, tmp_path, monkeypatch, arguments):
    original = StreamWriter.write_frame
    monkeypatch.setattr(StreamWriter, "write_frame", lambda self, f: original(self, replace(f, payload=f.payload[:-1])))
    assert "verification failed after 0 frames, at byte" in failed(encode(cli, y4m, tmp_path, *arguments))
    assert list(tmp_path.iterdir()) == []


# --- inspect ---


def test_inspect_says_what_the_arithmetic_means(cli, stream, tmp_path):
    assert "exact entropy path; pictures in floating point" in cli.ok("inspect", stream).stdout
    data = stream.read_bytes()
    reader = StreamReader(io.BytesIO(data))
    header = write_header(replace(reader.header, arithmetic=Arithmetic.EXACT))
    (tmp_path / "exact.nvc").write_bytes(header + data[reader.header_size :])
    assert "everything exact: one md5 on every machine" in cli("inspect", tmp_path / "exact.nvc").stdout
