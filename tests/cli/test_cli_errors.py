"""Every error is one line and an exit code; what is interrupted or fails leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuralcodec.bitstream import FramePacket, Packet, StreamReader
from neuralcodec.pipeline.encoder import StreamEncoder

ROOT = Path(__file__).resolve().parents[2]


def one_line(result, code: int) -> str:
    """The only line on standard error of a call that ended with ``code``."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("ncodec: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--level", "4"], 2, "levels 1, 2, 3"),
        (["--level", "0"], 2, "levels 1, 2, 3"),
        (["--quality", "50.25"], 2, "steps of 0.5"),
        (["--quality", "101"], 2, "0 to 100"),
        (["--quality", "nan"], 2, "0 to 100"),
        (["--effort", "4"], 2, "0 to 3"),
        (["--effort", "-1"], 2, "0 to 3"),
        (["--gop", "-1"], 2, "--gop"),
        (["--frames", "5"], 2, "no range"),
        (["--frames", "5:5"], 2, "empty"),
        (["--frames", "100:"], 3, "only 7 frames"),
        (["--device", "tpu"], 2, "unknown device"),
        (["--device", "cuda:99"], 2, "not available"),
        (["--workers", "0"], 2, "--workers"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_wrong_options_of_encode(cli, y4m, tmp_path, arguments, code, words):
    result = cli("encode", y4m, "-o", tmp_path / "out.nvc", "--model", cli.model, *arguments)
    assert words in one_line(result, code)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_named(cli, y4m, tmp_path):
    assert "'nothing'" in one_line(cli("encode", y4m, "-o", tmp_path / "o.nvc", "--model", "nothing"), 7)


@pytest.mark.parametrize(
    ("content", "code"), [(None, 3), (b"", 3), (b"no video at all" * 20, 3), (b"YUV4MPEG2 W16 H16 F25:1\n", 3)]
)
def test_sources_that_are_no_video(cli, tmp_path, content, code):
    source = tmp_path / "in.y4m"
    if content is not None:
        source.write_bytes(content)
    assert "in.y4m" in one_line(cli("encode", source, "-o", tmp_path / "o.nvc", "--model", cli.model), code)
    assert not (tmp_path / "o.nvc").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "{}/out.xyz"], 2, "unknown output format"),
        ([], 2, "name an output"),
        (["-o", "{}/out.y4m", "--level", "9"], 2, "levels 1, 2, 3"),
        (["-o", "{}/out.y4m", "--frames", "7:9"], 2, "the stream has 7"),
        (["-o", "{}/out.y4m", "--vcodec", "libx264"], 2, "no use"),
        (["-o", "{}/out.mp4", "--vcodec", "nonsense"], 2, "unknown video encoder"),
        (["--md5", "--lossless"], 2, "need an output"),
        (["--md5-file", "{}/sums", "-o", "{}/out.y4m"], 2, "--md5-file needs"),
        (["-o", "{}/none/out.y4m"], 4, "no such directory"),
    ],
)
def test_wrong_options_of_decode(cli, stream, tmp_path, arguments, code, words):
    result = cli("decode", stream, "--model", cli.model, *(a.format(tmp_path) for a in arguments))
    assert words in one_line(result, code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["decode", "inspect"])
@pytest.mark.parametrize(("content", "code"), [(None, 3), (b"", 5), (b"not a stream" * 9, 5)])
def test_files_that_are_no_stream(cli, tmp_path, command, content, code):
    path = tmp_path / "x.nvc"
    if content is not None:
        path.write_bytes(content)
    output = ["-o", tmp_path / "o.y4m"] if command == "decode" else []
    one_line(cli(command, path, *output), code)


def test_a_model_that_is_missing_is_named(cli, stream, tmp_path):
    assert "'tiny'" in one_line(cli("decode", stream, "-o", tmp_path / "o.y4m"), 7)


def test_an_existing_output_stays_as_it_is(cli, y4m, stream, tmp_path):
    output = tmp_path / "out"
    for name, command, source in (("out.nvc", "encode", y4m), ("out.y4m", "decode", stream)):
        output = tmp_path / name
        output.write_bytes(b"precious")
        assert "--force" in one_line(cli(command, source, "-o", output, "--model", cli.model), 4)
        assert output.read_bytes() == b"precious"
        cli.ok(command, source, "-o", output, "--model", cli.model, "--force", "--frames", "0:1")
        assert output.read_bytes() != b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_source_is_refused_before_the_output_is_touched(cli, tmp_path):
    (tmp_path / "out.nvc").write_bytes(b"precious")
    one_line(cli("encode", tmp_path / "none.mp4", "-o", tmp_path / "out.nvc", "--model", cli.model, "--force"), 3)
    assert (tmp_path / "out.nvc").read_bytes() == b"precious"


def test_wrong_usage_is_one_line(cli):
    assert "IN" in one_line(cli("encode"), 2)
    assert "nonsense" in one_line(cli("nonsense"), 2)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(KeyboardInterrupt, 130, "interrupted"), (RuntimeError("odd\nthing"), 70, "RuntimeError: odd thing")],
)
def test_what_stops_an_encoding_leaves_nothing(cli, y4m, tmp_path, monkeypatch, error, code, words):
    def run(self, items, writer, on_frame=None):
        writer.start_gop(0)
        raise error

    monkeypatch.setattr(StreamEncoder, "run", run)
    line = one_line(cli("encode", y4m, "-o", tmp_path / "out.nvc", "--model", cli.model), code)
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_v_shows_the_traceback(cli, y4m, tmp_path, monkeypatch):
    def run(self, items, writer, on_frame=None):
        raise RuntimeError("odd")

    monkeypatch.setattr(StreamEncoder, "run", run)
    result = cli("encode", y4m, "-o", tmp_path / "out.nvc", "--model", cli.model, "-v")
    assert result.exit_code == 70
    assert (
        "Traceback" in result.stderr and result.stderr.splitlines()[-1] == "ncodec: internal error: RuntimeError: odd"
    )


# --- processes ---


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "neuralcodec", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_encoding_whose_source_is_silent(cli, y4m, tmp_path, number):
    # A process that a test runner starts in the background may have inherited "ignore" for SIGINT.
    process = start(
        "encode",
        "-",
        "-o",
        tmp_path / "out.nvc",
        "--model",
        cli.model,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        process.stdin.write(y4m.read_bytes()[:-100])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [p.name for p in tmp_path.iterdir()] != ["out.nvc"]
        process.send_signal(number)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read().decode().splitlines() == ["ncodec: interrupted"]
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_goes_away_ends_decoding_quietly(cli, tmp_path):
    # Three frames of 98 kB: more than any pipe holds, so the program is still writing when its reader leaves.
    (tmp_path / "in.yuv").write_bytes(bytes(3 * 256 * 256 * 3 // 2))
    cli.encode(tmp_path / "in.yuv", tmp_path / "in.nvc", "--size", "256x256")
    process = start("decode", tmp_path / "in.nvc", "-o", "-", "--model", cli.model)
    assert process.stdout.read(20)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_help_comes_at_once():
    """Processor time, which does not depend on what else the machine does; one import of torch takes 1 s and more."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "neuralcodec", "encode", "--help"], cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.7


# --- damage ---


@pytest.fixture(scope="module")
def damaged(stream, tmp_path_factory) -> Path:
    """The stream with a byte changed in the payload of frame 4, in the second of three groups of three."""
    data = bytearray(stream.read_bytes())
    with open(stream, "rb") as file:
        frames = [p for p in StreamReader(file) if isinstance(p, Packet) and isinstance(p.content, FramePacket)]
    data[frames[4].offset + frames[4].size // 2] ^= 0xFF
    path = tmp_path_factory.mktemp("damaged") / "damaged.nvc"
    path.write_bytes(data)
    return path


def test_damage_costs_its_group_and_is_told(cli, stream, damaged):
    result = cli("decode", damaged, "--md5-frames", "--model", cli.model)
    assert result.exit_code == 6
    places, summary = result.stderr.splitlines()
    assert "damage at byte" in places and "5 frames were decoded" in summary
    whole = cli.decode(stream, "--md5-frames").stdout.splitlines()
    header, frames = whole[:-7], whole[-7:]
    assert result.stdout.splitlines() == [*header, *(frames[n] for n in (0, 1, 2, 3, 6))]


def test_strict_refuses_damage_and_writes_nothing(cli, damaged, tmp_path):
    one_line(cli("decode", damaged, "-o", tmp_path / "o.y4m", "--strict", "--model", cli.model), 5)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_stream_plays_to_its_end(cli, stream, tmp_path):
    (tmp_path / "cut.nvc").write_bytes(stream.read_bytes()[:-120])
    result = cli("decode", tmp_path / "cut.nvc", "-o", tmp_path / "o.yuv", "--model", cli.model)
    assert result.exit_code == 6
    assert (tmp_path / "o.yuv").stat().st_size > 0


def test_inspect_shows_a_damaged_stream(cli, damaged):
    result = cli("inspect", damaged, "--model", cli.model)
    assert result.exit_code == 6
    assert "damaged" in result.stdout and "damage at byte" in result.stderr
