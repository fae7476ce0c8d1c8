"""``ncodec bench`` in its modes: what they heed, and what one clip that cannot be had costs."""

from __future__ import annotations

import pytest
from bench_command import run

from neuralcodec.bench import tables as tables_module
from neuralcodec.bench import timing
from neuralcodec.bench.table import Table
from neuralcodec.bench.timing import UNSTEADY, Steadiness
from neuralcodec.cli.bench_modes import DEMO_FRAMES
from neuralcodec.core.errors import MeasureError


@pytest.fixture
def asked(monkeypatch) -> list:
    """What the papers' tables are asked for, instead of the tables."""
    found = []

    def paper_tables(models, clips, **options):
        found.append((clips, options))
        return [Table("a table", "", ("system",), (("ours",),))]

    monkeypatch.setattr(tables_module, "paper_tables", paper_tables)
    return found


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.mkv"
    path.write_bytes(b"no video at all")
    return path


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("--tables", "--against", "x264"), "--against"),
        (("--tables", "--no-memory"), "--no-memory"),
        (("--tables", "--check-timing"), "--check-timing"),
        (("a.mkv", "--check-timing", "--out", "report"), "--out"),
        (("a.mkv", "--check-timing", "--quick", "--jobs", "1"), "--quick, --jobs"),
        (("--compare", "a.json", "b.json", "c.mkv"), "CLIP"),
        (("--compare", "a.json", "b.json", "--levels", "1"), "--levels"),
        (("--figures", "a.json", "README.md", "--model", "flagship"), "--model"),
    ],
)
def test_options_that_a_mode_does_not_heed_are_refused(capsys, arguments, wrong):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out
    assert err.startswith("ncodec: ") and f"{wrong}: of no use with --" in err.replace("--memory", "--no-memory")
    assert len(err.splitlines()) == 1


def test_what_the_modes_refuse_themselves(capsys, clip_file):
    assert run(capsys, "--check-timing")[0] == 2
    code, _, err = run(capsys, clip_file, "--check-timing", "--qualities", "20,80")
    assert code == 2 and "one quality" in err
    code, _, err = run(capsys, clip_file, "--tables", "--qualities", "3.3")
    assert code == 2 and len(err.splitlines()) == 1
    assert run(capsys, "--tables", "--cache", "somewhere", "--no-cache")[0] == 2


def test_tables_without_a_clip_take_the_beginning_of_the_demo_clip(capsys, asked, clip_file):
    assert run(capsys, "--tables")[0] == 0
    assert run(capsys, "--tables", "--frames", 2, "--no-cache")[0] == 0
    assert run(capsys, "--tables", clip_file)[0] == 0
    assert [[len(clip.frames) for clip in clips] for clips, _ in asked] == [[DEMO_FRAMES], [2], [4]]
    assert [options["store"].folder is None for _, options in asked] == [False, True, False]
    assert f"{DEMO_FRAMES} frames of the demo clip" in " ".join(run(capsys, "--help")[1].split())


def test_tables_go_on_without_a_clip_that_cannot_be_read(capsys, asked, broken, clip_file, tmp_path):
    twin = tmp_path / clip_file.name
    twin.write_bytes(clip_file.read_bytes())
    code, out, err = run(capsys, "--tables", broken, clip_file, twin)
    assert code == 3 and "a table" in out
    assert ["broken.mkv" in err.splitlines()[0], "another clip has this name" in err.splitlines()[1]] == [True, True]
    assert [clip.name for clip in asked[0][0]] == [clip_file.name] and len(err.splitlines()) == 2
    asked[0][1]["on_failure"](asked[0][0][0], MeasureError("what happened"))
    assert capsys.readouterr().err == f"ncodec: {clip_file.name}: what happened\n"


def test_tables_of_no_readable_clip_cost_a_line_for_each(capsys, asked, broken, tmp_path):
    code, out, err = run(capsys, "--tables", broken, tmp_path / "missing.mkv")
    assert code == 3 and not out and not asked
    assert len(err.splitlines()) == 2


def test_timing_goes_on_without_a_clip_that_cannot_be_had(capsys, broken, clip_file, tiny_model, tmp_path, monkeypatch):
    other = tmp_path / "other.y4m"
    other.write_bytes(clip_file.read_bytes())

    def check(clip, *arguments, **options):
        if clip.name == "other.y4m":
            raise MeasureError("damaged")
        return [Steadiness("ours-l1", (0.3, 0.3), (3.0, 3.0))]

    monkeypatch.setattr(timing, "check", check)
    common = ("--model", tiny_model, "--check-timing")
    code, out, err = run(capsys, broken, other, clip_file, *common)
    assert code == 3 and "texture.y4m" in out and "other.y4m" not in out
    assert "broken.mkv" in err.splitlines()[0] and err.splitlines()[1:] == ["ncodec: other.y4m: damaged"]
    assert run(capsys, other, clip_file, *common)[0] == MeasureError.exit_code != UNSTEADY
    code, out, err = run(capsys, broken, *common)
    assert code == 3 and not out and len(err.splitlines()) == 1
