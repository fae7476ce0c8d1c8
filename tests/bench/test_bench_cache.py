"""What was measured is found again by content, and by nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from neuralcodec.bench import cache
from neuralcodec.bench import run as run_module
from neuralcodec.bench.cache import Store
from neuralcodec.bench.keep import keeping
from neuralcodec.bench.run import Plan, run


@pytest.fixture
def plan(clip_file, tiny_model, tmp_path) -> Plan:
    return Plan(
        (str(clip_file),),
        str(tiny_model),
        ("x264",),
        (1,),
        (50.0,),
        frames=2,
        cache=tmp_path / "cache",
        settings=2,
        jobs=1,
    )


def cached(plan: Plan) -> list[bool]:
    steps = []
    result = run(plan, steps.append)
    assert (
        not result.failures
        and [s.done for s in steps] == list(range(1, len(steps) + 1))
        and steps[-1].count == len(steps)
    )
    return [s.cached for s in steps]


def test_a_second_run_measures_nothing(plan, monkeypatch):
    first = run(plan)
    monkeypatch.setattr(run_module, "run_task", None)
    second = run(plan)
    assert second.points == first.points and second.bd == first.bd
    assert second.crops == first.crops and len(first.crops) == 3
    assert second.sources == first.sources


def test_a_copy_of_the_clip_under_another_name_is_the_same(plan, tmp_path):
    assert cached(plan) == [False] * 3
    copy = tmp_path / "copy.y4m"
    shutil.copy(plan.clips[0], copy)
    result = run(replace(plan, clips=(str(copy),)))
    assert {p.clip for p in result.points} == {"copy.y4m"}
    assert cached(replace(plan, clips=(str(copy),))) == [True] * 3


@pytest.mark.parametrize(
    "change", [{"frames": 3}, {"qualities": (60.0,)}, {"gop": 1}, {"effort": 0}, {"threads": 1}, {"measures": ("xpsnr",)}], ids=str
)
def test_what_changes_a_figure_is_measured_anew(plan, change):
    cached(plan)
    assert False in cached(
        replace(plan, threads=2, **{k: v for k, v in change.items() if k != "threads"})
        if "threads" not in change
        else replace(plan, **change, gop=31)
    )
    assert cached(plan) == [True] * 3


def test_another_program_or_clip_is_another_key(plan, monkeypatch, tmp_path):
    cached(plan)
    monkeypatch.setattr(cache, "program", lambda ours: f"another {ours}")
    assert cached(plan) == [False] * 3
    monkeypatch.undo()
    other = tmp_path / "other.y4m"
    other.write_bytes(Path(plan.clips[0]).read_bytes()[:-1] + b"\x01")
    assert cached(replace(plan, clips=(str(other),), frames=None)) == [False] * 3


def test_an_interrupted_run_goes_on(plan):
    def stop(step) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, stop)
    assert cached(plan) == [True, True, False]


def test_an_untimed_point_is_served_by_a_timed_one(plan):
    cached(replace(plan, qualities=(20.0, 50.0, 80.0)))
    steps = []
    run(replace(plan, qualities=(20.0, 50.0, 80.0), jobs=2), steps.append)
    assert all(s.cached for s in steps)


def test_a_damaged_entry_counts_as_missing(plan):
    cached(plan)
    files = sorted(plan.cache.rglob("*.json"))
    assert len(files) == 4  # three points and the facts about the clip
    for path, text in zip(files, ("", "[]", "{", '{"point": {"clip": 1}, "crop": null}'), strict=True):
        path.write_text(text)
    assert cached(plan) == [False] * 3


def test_nothing_is_kept_without_a_folder_or_where_it_cannot_be(plan, tmp_path):
    run(replace(plan, cache=None))
    assert not (tmp_path / "cache").exists()
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = run(replace(plan, cache=blocked / "below"))
    assert len(result.points) == 3 and [n for n in result.notes if "are not kept" in n]


def test_entries_are_whole(tmp_path):
    store = Store(tmp_path)
    store.put("abcd", {"a": 1})
    assert store.get("abcd") == {"a": 1} and store.get("abce") is None
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["abcd.json"]


def test_the_folder_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default_folder() == Path("/somewhere/neuralcodec/bench")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.default_folder() == Path.home() / ".cache" / "neuralcodec" / "bench"


def test_a_report_names_the_tool_and_the_model_of_vmaf(monkeypatch):
    from page_samples import plan, result

    from neuralcodec.bench import vmaf
    from neuralcodec.bench.page_data import View
    from neuralcodec.bench.page_words import about_rows
    from neuralcodec.bench.report import facts

    monkeypatch.setattr(vmaf, "find", lambda: vmaf.Tool("vmaf", "/somewhere/vmaf", "VMAF version 9.9"))
    cache.versions.cache_clear()
    try:
        about = facts("flagship")
    finally:
        cache.versions.cache_clear()
    assert about["versions"]["vmaf"] == f"VMAF version 9.9, model {vmaf.VMAF_MODEL}"
    shown = dict(about_rows(View(plan(), result()), about))["versions"]
    assert f"vmaf VMAF version 9.9, model {vmaf.VMAF_MODEL}" in shown


def test_code_that_makes_a_point_is_part_of_its_key():
    folder = Path(cache.__file__).parent
    assert all((folder / f"{name}.py").is_file() for name in cache._MEASURING)
    assert {"ours", "classical", "tables_times", "tables_counters", "tables_counting"} <= set(cache._MEASURING)


def test_tables_measure_through_the_cache(clip, tiny_model, tmp_path, monkeypatch):
    from neuralcodec.bench import ours
    from neuralcodec.codecs.files import load_model

    loaded, measure = load_model(tiny_model), keeping(Store(tmp_path))
    first = measure(clip, loaded, 1, 40.0, timed=False)
    assert measure(clip, loaded, 1, 40.0, timed=False) == first
    monkeypatch.setattr(ours, "measure", None)
    assert measure(clip, loaded, 1, 40.0, timed=False) == first
    with pytest.raises(TypeError):
        measure(clip, loaded, 1, 40.0, timed=False, variant=ours.Variant("narrow", widths=b"\2"))
    assert json.loads(next(tmp_path.rglob("*.json")).read_text())["clip"] == clip.name
