"""``ncodec bench`` as a user runs it."""

from __future__ import annotations

import csv
import json
import math

import pytest
from bench_command import run

from neuralcodec.bench.plan import Plan, load_anchors
from neuralcodec.bench.report import COLUMNS
from neuralcodec.core.errors import InputError


def test_tables_files_and_an_unreadable_clip(capsys, clip_file, tiny_model, tmp_path):
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"no video at all")
    code, out, err = run(capsys, broken, clip_file, "--model", tiny_model, "--against", "x265", "--levels", "1,2", "--qualities", "20,80", "--frames", 3,
                         "--saec", "--widths", "--jobs", 1, "--no-memory", "--metrics", "xpsnr", "--out", tmp_path / "report")
    assert code == 3
    assert [line for line in err.splitlines() if "broken.mkv" in line] and "Traceback" not in err
    for text in ("texture.y4m, 70x50, 3 frames", "ours-l1", "x265-medium-ld32", "BD-rate by PSNR", "Speed", "Bits by syntax element", "P motion: skipped, %",
                 "Ways to skip", "no skipping", "regular mixture", "overlap"):
        assert text in out, text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    ours = [p for p in report["points"] if p["codec"] == "ours-l1"]
    assert [p["setting"] for p in ours] == [20, 80]
    assert all(p["bits"] == 8 * p["file_bytes"] and p["xpsnr"] > 0 and p["ms_ssim"] is None for p in ours)
    assert all(p["decode_ratio"] == pytest.approx(p["decode_s"] / p["reference_s"]) for p in ours)
    assert report["speeds"][0]["decode_ratio"] == pytest.approx(math.sqrt(math.prod(p["decode_ratio"] for p in ours)))
    assert len(report["failures"]) == 1 and "broken.mkv" in report["failures"][0]
    assert {row["codec"] for row in report["skipping"]} > {"ours-l1", "ours-l1 derived only"}
    assert {row["kind"] for row in report["frame_kinds"]} == {"I", "P"}
    assert report["conditions"]["x265-medium-ld32"]["options"]["x265-params"].startswith("bframes=0:keyint=32")
    assert report["conditions"]["x265-medium-ld32"]["says"].startswith("x265 (build")
    for name in ("date", "commit", "program", "machine", "versions", "model", "speeds", "bd_measures"):
        assert name in report, name
    assert "xpsnr" in report["bd_measures"] and report["machine"]["processor"]
    with open(tmp_path / "report" / "points.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(report["points"])
    assert all(row["measured"] and row["program"] and row["processor"] for row in rows)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "x265-medium-ld32" in page and str(tmp_path) not in page + (tmp_path / "report" / "report.json").read_text()


def test_a_second_run_is_found_in_the_users_cache(capsys, clip_file, tiny_model, tmp_path):
    common = (clip_file, "--model", tiny_model, "--against", "none", "--levels", "1", "--qualities", "50", "--frames", 2, "--no-memory", "-v")
    assert "(kept)" not in run(capsys, *common)[2]
    assert list((tmp_path / "cache" / "neuralcodec" / "bench").rglob("*.json"))
    assert "(kept)" in run(capsys, *common)[2]
    assert "(kept)" not in run(capsys, *common, "--no-cache")[2]
    assert "(kept)" not in run(capsys, *common, "--cache", tmp_path / "other")[2]
    assert run(capsys, *common, "--cache", tmp_path / "other", "--no-cache")[0] == 2


def test_precomputed_curves_stand_in_for_an_encoder_on_the_whole_clip(capsys, clip_file, tiny_model, tmp_path):
    anchors = tmp_path / "anchors.json"
    points = [{"value": 20, "bpp": 0.5, "psnr": 40.0}, {"value": 30, "bpp": 0.1, "psnr": 5.0}]
    common = (clip_file, "--model", tiny_model, "--against", "x264", "--levels", "3", "--qualities", "50", "--no-memory", "--anchors", anchors)
    anchors.write_text(json.dumps({"texture.y4m": {"n": 4, "x264-medium-ld32": points}}))
    code, out, _ = run(capsys, *common)
    assert code == 0
    assert not [line for line in out.splitlines() if line.split()[:2] == ["x264-medium-ld32", "20"]]
    code, out, _ = run(capsys, *common, "--frames", 2)
    assert [line for line in out.splitlines() if line.split()[:2] == ["x264-medium-ld32", "20"]]


@pytest.mark.parametrize(("arguments", "text"), [(("--levels", "4"), "level 4"), (("--qualities", "3.3"), "steps of 0.5"), (("--levels", "x"), "1,2,3"),
                                                 (("--against", "x266"), "x266"), (("--metrics", "ssim"), "ssim")])
def test_wrong_usage_is_one_line(capsys, clip_file, tiny_model, arguments, text):
    code, out, err = run(capsys, clip_file, "--model", tiny_model, "-q", *arguments)
    assert code == 2
    assert text in err and len(err.splitlines()) == 1 and not out


def test_no_clip_is_wrong_usage(capsys):
    code, _, err = run(capsys)
    assert code == 2 and "CLIP" in err


def test_a_plan_knows_encoders_by_their_full_names():
    assert Plan((), "", ("x264", "x264-medium-ld32", "svtav1")).against == ("x264-medium-ld32", "svtav1-p6")


def test_fewer_settings_keep_the_range():
    assert Plan((), "", settings=3).settings_of("x264") == (20, 28, 36)
    assert Plan((), "", settings=1).settings_of("x264") == (20,)
    assert Plan((), "").settings_of("svtav1") == (25, 33, 41, 49, 57)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"n": 1, "x": [{"bpp": 0, "psnr": 1}]}}'])
def test_a_file_that_holds_no_curves_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: no anchor curves"):
        load_anchors(tmp_path / "a.json")
