"""--compare: what changed beyond noise, and whether it is worse."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from neuralcodec.bench.difference import WORSE, differences, got_worse, read_points, table
from neuralcodec.bench.plan import SPEED_ANCHOR
from neuralcodec.bench.points import Point
from neuralcodec.cli import main
from neuralcodec.core.errors import InputError

CURVE = [(0.05, 32.0), (0.1, 35.0), (0.2, 38.0), (0.4, 41.0)]


def point(codec: str, setting: float, bpp: float, psnr: float, seconds: float, slow: float) -> Point:
    bits = round(bpp * 100 * 100 * 10)
    return Point("a.y4m", codec, setting, 100, 100, bits, bits // 8, psnr, psnr, psnr, psnr, seconds, seconds, seconds / 10, "IPPPPPPPPP", [bits // 10] * 10,
                 [psnr] * 10, threads=2, reference_s=0.1 * slow, encode_memory=400_000_000, decode_memory=300_000_000)


def report(slow: float = 1.0) -> list[Point]:
    ours = [point("ours-l1", n, bpp, psnr, 2.0 * slow, slow) for n, (bpp, psnr) in enumerate(CURVE)]
    return ours + [point(SPEED_ANCHOR, n, 0.8 * bpp, psnr, 0.1 * slow, slow) for n, (bpp, psnr) in enumerate(CURVE)]


def verdicts(new: list[Point]) -> dict[str, str]:
    return {c.what: c.verdict for c in differences(report(), new) if c.codec == "ours-l1" and c.verdict != "same"}


def changed(**factors: float) -> list[Point]:
    def change(p: Point) -> Point:
        if not p.codec.startswith("ours"):
            return p
        return replace(p, **{name: type(getattr(p, name))(getattr(p, name) * factor) for name, factor in factors.items()})

    return [change(p) for p in report()]


def test_a_report_beside_itself():
    changes = differences(report(), report())
    assert {c.verdict for c in changes} == {"same"} and not got_worse(changes)


def test_ten_percent_more_bits_are_worse_by_ten_percent():
    changes = differences(report(), changed(bits=1.1))
    (rate,) = (c for c in changes if c.what.startswith("BD-rate") and c.codec == "ours-l1")
    assert rate.change == pytest.approx(10, abs=0.05) and rate.verdict == "worse" and got_worse(changes)
    assert not got_worse(differences(report(), changed(bits=0.9)))
    assert verdicts(changed(bits=0.9))["BD-rate, new against old"] == "better"


def test_more_bits_for_better_pictures_along_the_curve_are_neither():
    moved = [replace(p, bits=round(p.bits * 2**(0.3 / 3)), psnr=p.psnr + 0.3) if p.codec == "ours-l1" else p for p in report()]
    assert set(verdicts(moved).values()) == {"other"}  # bits and PSNR moved, the curve did not


def test_without_a_curve_points_are_judged():
    old, new = report()[:1], report()[:1]
    assert got_worse(differences(old, [replace(new[0], bits=2 * new[0].bits)]))
    assert got_worse(differences(old, [replace(new[0], psnr=new[0].psnr - 1)]))
    assert not got_worse(differences(old, [replace(new[0], psnr=new[0].psnr - 1, bits=new[0].bits // 2)]))


def test_what_the_last_frames_lose():
    old = [replace(p, clip=clip, kinds="I" + "P" * 39, frame_bits=[100] * 40, frame_psnr=[36.0] * 40) for p in report()[:1] for clip in ("a.y4m", "b.y4m")]
    new = [replace(p, frame_psnr=[36.0] * 24 + [36.0 - n] * 16) for n, p in enumerate(old)]
    found = {c.what: (c.old, c.new, c.verdict, c.over) for c in differences(old, new) if "last" in c.what}
    assert found == {"PSNR 6:1:1, last 16 frames": (36, 35.5, "other", 2), "PSNR 6:1:1, last 16 frames, least (b.y4m, 0)": (36, 35, "other", 1)}
    assert not got_worse(differences(old, new))
    assert not any("last" in c.what for c in differences(report(), report()))  # of clips that are no longer


def test_time_is_relative_to_x264_in_the_same_run():
    assert not got_worse(differences(report(), report(slow=3.0)))  # a slower machine
    assert verdicts(changed(decode_s=1.2)) == {"decoding time / x264's decoding": "worse"}
    assert verdicts(changed(decode_s=1.05)) == {}
    assert verdicts(changed(encode_s=0.5)) == {"encoding time / x264's decoding": "better"}


def test_memory():
    assert verdicts(changed(decode_memory=1.2)) == {"peak decoding memory, MB": "worse"}


def test_another_codecs_change_is_no_fault_of_ours():
    new = [replace(p, bits=2 * p.bits) if p.codec == SPEED_ANCHOR else p for p in report()]
    changes = differences(report(), new)
    assert not got_worse(changes) and "other" in {c.verdict for c in changes}


def test_reports_that_share_nothing():
    with pytest.raises(InputError, match="no point in common"):
        differences(report(), [replace(p, clip="b.y4m") for p in report()])


def test_the_command(capsys, tmp_path):
    for name, points in (("old", report()), ("worse", changed(bits=1.1)), ("better", changed(bits=0.9))):
        (tmp_path / name).write_text(json.dumps({"points": [p.to_dict() for p in points]}))
    assert read_points(tmp_path / "old") == report()

    def compare(new: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["bench", "--compare", str(tmp_path / "old"), str(tmp_path / new)])
        return stop.value.code

    assert compare("old") == 0 and compare("better") == 0
    capsys.readouterr()
    assert compare("worse") == WORSE == 9
    assert [line for line in capsys.readouterr().out.splitlines() if "BD-rate, new against old" in line and "worse" in line]
    (tmp_path / "none").write_text("{}")
    assert compare("none") == 3
    assert "no report of a bench" in capsys.readouterr().err


def test_the_table_counts_what_stayed():
    changes = differences(report(), changed(bits=1.1))
    shown = table(changes, ("old", "new"))
    assert len(shown.rows) + int(shown.notes[0].split()[0]) == len(changes)
