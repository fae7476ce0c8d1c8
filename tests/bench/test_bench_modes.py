"""``ncodec bench`` with several processes, and its modes: tables, timing twice, a quick subset."""

from __future__ import annotations

import html
import json
import math

import pytest
from bench_command import run

from neuralcodec.bench import memory, timing
from neuralcodec.bench.plan import Plan
from neuralcodec.bench.quick import SAMPLES, quick
from neuralcodec.bench.run import run as run_bench
from neuralcodec.bench.timing import UNSTEADY, Steadiness


def test_several_processes_find_the_same(capsys, clip_file, tiny_model, tmp_path):
    common = (clip_file, "--model", tiny_model, "--against", "none", "--levels", "1", "--qualities", "20,50,80", "--frames", 2, "--no-memory", "--no-cache",
              "--out")
    assert run(capsys, *common, tmp_path / "one", "--jobs", 1)[0] == 0
    assert run(capsys, *common, tmp_path / "two", "--jobs", 2)[0] == 0
    one, two = (json.loads((tmp_path / name / "report.json").read_text())["points"] for name in ("one", "two"))
    assert [p["bits"] for p in one] == [p["bits"] for p in two]
    assert [p["encode_s"] is None for p in one] == [False] * 3
    assert [p["encode_s"] is None for p in two] == [True, False, True]  # the one in the middle is timed, alone


def test_quick_is_a_subset(clip_file, demo_clip, tmp_path):
    plan = quick(Plan((str(tmp_path / "missing.y4m"), str(demo_clip), str(clip_file)), "", memory=True))
    assert plan.clips == (str(demo_clip), str(clip_file), str(tmp_path / "missing.y4m"))
    assert plan.levels == (1, 3) and plan.settings == 3 and len(plan.qualities) == 3 and not plan.memory
    assert 12 <= plan.frames <= 32 and plan.frames * (360 * 240 + 70 * 50) <= SAMPLES
    assert quick(Plan((str(demo_clip),), "", frames=5, levels=(2,)), levels=False, frames=False).frames == 5


def test_the_papers_tables_are_printed_and_shown_by_the_page(capsys, clip_file, tiny_model, tmp_path):
    report = tmp_path / "report"
    common = (clip_file, "--model", tiny_model, "--levels", "1", "--qualities", "20,80", "--frames", 2, "--out", report)
    code, out, err = run(capsys, *common, "--tables", "-v")
    assert code == 0 and "missing" in out and "1/" in err
    tables = json.loads((report / "tables.json").read_text())
    assert len(tables) >= 5 and all((report / f"table-{n}.tsv").read_text().startswith("# ") for n in range(1, len(tables) + 1))
    assert run(capsys, *common, "--against", "none", "--no-memory", "--metrics", "none")[0] == 0
    assert tables[0]["title"] in html.unescape((report / "index.html").read_text())


def test_timing_is_checked_twice(capsys, clip_file, tiny_model, monkeypatch):
    code, out, err = run(capsys, clip_file, "--model", tiny_model, "--levels", "1,2", "--frames", 2, "--check-timing")
    assert code in (0, UNSTEADY) and not err
    assert [line.split()[1] for line in out.splitlines() if "texture" in line] == ["ours-l1", "ours-l2"]
    for second, expected in ((3.2, 0), (3.4, UNSTEADY)):
        row = Steadiness("ours-l1", (0.3, 0.3), (3.0, second))
        assert row.percent == pytest.approx(100 * (second / 3 - 1)) and math.isclose(row.ratios[0], 3)
        monkeypatch.setattr(timing, "check", lambda *a, row=row, **k: [row])
        assert run(capsys, clip_file, "--model", tiny_model, "--check-timing")[0] == expected


def test_memory_is_measured_on_the_largest_picture_and_kept(clip_file, demo_clip, tiny_model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "measure", lambda task: asked.append(task) or (3_000_000, 2_000_000))
    plan = Plan((str(clip_file), str(demo_clip)), str(tiny_model), ("x264",), (1,), (50.0,), frames=1, settings=3, jobs=1, memory=True, cache=tmp_path)
    steps = []
    result = run_bench(plan, steps.append)
    assert [(t.codec, t.setting, t.level) for t in asked] == [("ours-l1", 50.0, 1), ("x264-medium-ld32", 28, None)]
    assert {t.clip for t in asked} == {str(demo_clip)}
    assert [s.doing for s in steps if s.doing] == ["peak memory of ours-l1", "peak memory of x264-medium-ld32"]
    with_memory = [p for p in result.points if p.encode_memory]
    assert [(p.clip, p.setting, p.encode_memory, p.decode_memory) for p in with_memory] == [("frog.mp4", 50, 3_000_000, 2_000_000), ("frog.mp4", 28, 3_000_000, 2_000_000)]
    assert [s.decode_memory for s in result.speeds] == [2_000_000, 2_000_000]
    assert [p.encode_memory for p in run_bench(plan).points] == [p.encode_memory for p in result.points] and len(asked) == 2
