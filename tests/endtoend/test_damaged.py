"""Hundreds of damaged files: typed errors, the groups that were not hit, an exit code; see damaged.py, which runs on any stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import damaged
import pytest
from click.testing import CliRunner

from neuralcodec.cli import main
from tests.bitstream.damage import KINDS, repair, split

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30


def _counts() -> list[int]:
    """Variants for each of the processes: 512 in all, in whole rounds of all kinds with and without right CRCs."""
    # Threads hand every frame on; where other programs keep the processors busy, each hand-over waits for them.
    busy = os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    return [2 * len(KINDS)] if busy and not os.environ.get("NCODEC_FULL_TESTS") else [16 * len(KINDS)] * 2


def test_damaged_files(toy_path):
    counts = _counts()
    command = [sys.executable, str(ROOT / "tests/endtoend/damaged.py"), "--model", str(toy_path)]
    running = [subprocess.Popen([*command, "--count", str(count), "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
               for seed, count in enumerate(counts)]
    try:
        results = [json.loads(process.communicate(timeout=1200)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
    print(*results, sep="\n")
    for count, result in zip(counts, results, strict=True):
        assert result["failures"] == []
        assert result["variants"] == count and 0.4 * count < result["repaired"] < 0.6 * count
        assert result["memory"] < MEMORY
        # Both kinds of outcome are there, and most of what was not hit was decoded.
        assert result["outcomes"]["damaged"] > count / 4 and result["outcomes"]["whole"] and result["frames_exact"] > result["frames_lost"] > 0
        # Looking for the place where it goes on, and reading every seventh strictly, costs no more than decoding did.
        assert result["variant_cpu_seconds"] < 2 * result["clean_cpu_seconds"]


@pytest.fixture(scope="module")
def stream(toy_path, tmp_path_factory):
    from neuralcodec.codecs.files import load_model

    path = tmp_path_factory.mktemp("damaged") / "clip.nvc"
    path.write_bytes(damaged.toy_stream(load_model(toy_path)))
    return path


def _with(data: bytes, number: int, at: int, fix: bool = False) -> bytes:
    """A bit of one chunk flipped."""
    chunks = split(data)
    chunk = bytearray(chunks[number])
    chunk[at] ^= 16
    chunks[number] = repair(bytes(chunk), number == 0) if fix else bytes(chunk)
    return b"".join(chunks)


def _frame(data: bytes, number: int) -> int:
    return [i for i, chunk in enumerate(split(data)) if i and chunk[0] >> 4 in (2, 3)][number]


CASES = {  # name: (damage, exit code, number of frames, exit code with --strict)
    "none": (lambda d: d, 0, 8, 0),
    "first_frame": (lambda d: _with(d, _frame(d, 0), 20), 6, 6, 5),
    "p_frame": (lambda d: _with(d, _frame(d, 3), -6), 6, 7, 5),
    "payload_with_a_right_crc": (lambda d: _with(d, _frame(d, 2), -6, True), 6, 6, 5),
    "group_start": (lambda d: _with(d, 1, 12), 6, 6, 5),
    "side_packet": (lambda d: _with(d, 3, 8), 6, 8, 5),
    "header_repaired_by_its_copy": (lambda d: _with(d, 0, 40), 6, 8, 5),
    "index": (lambda d: _with(d, len(split(d)) - 2, 5), 6, 8, 5),
    "cut_in_the_middle": (lambda d: d[: len(d) // 2], 6, None, 5),
    "cut_in_the_header": (lambda d: d[:50], 5, 0, 5),
    "another_model": (lambda d: _with(d, 0, d.index(b"toy") - 5, True), 7, 0, 7),
    "all_frames_gone": (lambda d: b"".join(c for i, c in enumerate(split(d)) if not i or c[0] >> 4 not in (2, 3)), 6, 0, 5),
}


@pytest.mark.parametrize("case", CASES)
def test_exit_codes(case, stream, toy_path, tmp_path):
    damage, code, frames, strict_code = CASES[case]
    path = tmp_path / "clip.nvc"
    path.write_bytes(damage(stream.read_bytes()))
    for options, expected in (([], code), (["--strict"], strict_code)):
        output = tmp_path / f"out{len(options)}.yuv"
        result = CliRunner().invoke(main, ["decode", str(path), "-o", str(output), "-q", "--model", str(toy_path), *options])
        assert result.exit_code == expected, result.output
        assert result.stdout == "" and all(line.startswith("ncodec: ") for line in result.stderr.splitlines())
        assert bool(result.stderr) == bool(expected)
        if expected in (0, 6) and frames != 0:
            size = 32 * 32 * 3 // 2
            assert output.stat().st_size == frames * size if frames else 0 < output.stat().st_size < 8 * size
        else:
            assert not output.exists()


def test_what_was_not_hit_is_written_bit_by_bit(stream, toy_path, tmp_path):
    (tmp_path / "bad.nvc").write_bytes(CASES["first_frame"][0](stream.read_bytes()))
    for source, name in ((stream, "good"), (tmp_path / "bad.nvc", "bad")):
        CliRunner().invoke(main, ["decode", str(source), "-o", str(tmp_path / f"{name}.yuv"), "--model", str(toy_path)])
    good, bad = ((tmp_path / f"{name}.yuv").read_bytes() for name in ("good", "bad"))
    assert bad == good[2 * 32 * 32 * 3 // 2 :]
