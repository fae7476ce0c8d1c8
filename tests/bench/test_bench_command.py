"""``ncodec bench`` as a user runs it."""

from __future__ import annotations

import json

import pytest

from neuralcodec.bench.run import Plan, load_anchors
from neuralcodec.cli import main
from neuralcodec.core.errors import InputError


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_tables_files_and_an_unreadable_clip(capsys, clip_file, tiny_model, tmp_path):
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"no video at all")
    code, out, err = run(capsys, broken, clip_file, "--model", tiny_model, "--against", "x265", "--levels", "1,2", "--qualities", "20,80", "--frames", 3,
                         "--saec", "--widths", "--out", tmp_path / "report")
    assert code == 3
    assert [line for line in err.splitlines() if "broken.mkv" in line] and "Traceback" not in err
    for text in ("texture.y4m, 70x50, 3 frames", "ours-l1", "x265-medium-ld32", "BD-rate", "Ways to skip", "no skipping", "regular mixture"):
        assert text in out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    ours = [p for p in report["points"] if p["codec"] == "ours-l1"]
    assert [p["setting"] for p in ours] == [20, 80]
    assert all(p["bits"] == 8 * p["file_bytes"] for p in ours)
    assert len(report["failures"]) == 1 and "broken.mkv" in report["failures"][0]
    assert {row["codec"] for row in report["skipping"]} > {"ours-l1", "ours-l1 derived only"}
    assert {row["kind"] for row in report["frame_kinds"]} == {"I", "P"}
    lines = (tmp_path / "report" / "points.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["clip", "codec", "setting"]
    assert len(lines) == 1 + len(report["points"])
    assert {len(line.split("\t")) for line in lines} == {16}


def test_precomputed_curves_stand_in_for_an_encoder_on_the_whole_clip(capsys, clip_file, tiny_model, tmp_path):
    anchors = tmp_path / "anchors.json"
    points = [{"value": 20, "bpp": 0.5, "psnr": 40.0}, {"value": 30, "bpp": 0.1, "psnr": 5.0}]
    common = (clip_file, "--model", tiny_model, "--against", "x264", "--levels", "3", "--qualities", "50", "--anchors", anchors)
    anchors.write_text(json.dumps({"texture.y4m": {"n": 4, "x264-medium-ld32": points}}))
    code, out, _ = run(capsys, *common)
    assert code == 0
    assert not [line for line in out.splitlines() if line.split()[:2] == ["x264-medium-ld32", "20"]]
    code, out, _ = run(capsys, *common, "--frames", 2)
    assert [line for line in out.splitlines() if line.split()[:2] == ["x264-medium-ld32", "20"]]


def test_several_processes_find_the_same(capsys, clip_file, tiny_model, tmp_path):
    common = (clip_file, "--model", tiny_model, "--against", "none", "--levels", "1", "--qualities", "20,50,80", "--frames", 2, "--out")
    assert run(capsys, *common, tmp_path / "one")[0] == 0
    assert run(capsys, *common, tmp_path / "two", "--jobs", 2)[0] == 0
    one, two = (json.loads((tmp_path / name / "report.json").read_text())["points"] for name in ("one", "two"))
    two.sort(key=lambda p: p["setting"])
    assert [p["bits"] for p in one] == [p["bits"] for p in two]
    assert [p["encode_s"] is None for p in one] == [False] * 3
    assert [p["encode_s"] is None for p in two] == [True, False, True]  # the one in the middle is timed, alone


@pytest.mark.parametrize(("arguments", "text"), [(("--levels", "4"), "level 4"), (("--qualities", "3.3"), "steps of 0.5"), (("--levels", "x"), "1,2,3"),
                                                 (("--against", "x266"), "x266")])
def test_wrong_usage_is_one_line(capsys, clip_file, tiny_model, arguments, text):
    code, out, err = run(capsys, clip_file, "--model", tiny_model, *arguments)
    assert code == 2
    assert text in err and len(err.splitlines()) == 1 and not out


def test_a_plan_knows_encoders_by_their_full_names():
    assert Plan((), "", ("x264", "x264-medium-ld32", "svtav1")).against == ("x264-medium-ld32", "svtav1-p6")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"n": 1, "x": [{"bpp": 0, "psnr": 1}]}}'])
def test_a_file_that_holds_no_curves_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: no anchor curves"):
        load_anchors(tmp_path / "a.json")
