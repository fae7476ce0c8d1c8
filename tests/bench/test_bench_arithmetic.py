"""``ncodec bench --arithmetic``: an exact model beside its float twin."""

from __future__ import annotations

import pytest
from bench_command import run

from neuralcodec.bench import arithmetic, ours
from neuralcodec.bench.arithmetic import SpeedRow, costs, relabelled, speeds, step_count
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.twins import PARTS, float_twin
from neuralcodec.core.errors import UsageError
from neuralcodec.pipeline import EncodeOptions


@pytest.fixture(scope="module")
def exact(tiny_exact_model):
    return load_model(tiny_exact_model)


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(arithmetic, "ROUNDS", 2)


def test_a_relabelled_stream_decodes_with_the_twin(clip, exact):
    twin = float_twin(exact)
    stream = ours.encode(clip, exact, EncodeOptions(quality=60, gop=2)).data
    again = relabelled(stream, twin)
    assert len(again) - len(stream) == 2 * (len(twin.name) - len(exact.name))  # the header stands there twice
    found = [ours.decode(*pair).frames for pair in ((stream, exact), (again, twin))]
    for a, b in zip(*found, strict=True):
        assert (a.pts, a.duration) == (b.pts, b.duration)
        assert all(abs(p.astype(int) - q).mean() < 1 for p, q in zip(a.planes, b.planes, strict=True))
    with pytest.raises(Exception, match="made with model"):
        ours.decode(stream, twin)


def test_times_are_taken_in_turn(clip, exact, monkeypatch):
    calls = []
    decode = ours.decode
    monkeypatch.setattr(ours, "decode", lambda data, model, *rest: calls.append(model.exact) or decode(data, model, *rest))
    rows = speeds(clip, exact, (1, 3), 50.0, gop=4, threads=1, rounds=3)
    assert [(r.codec, r.frames, len(r.exact), len(r.floating)) for r in rows] == [("ours-l1", 4, 3, 3), ("ours-l3", 4, 3, 3)]
    assert calls[:8] == calls[8:] == [True, False, False, True, True, False, False, True]
    assert all(t > 0 for r in rows for t in r.exact + r.floating)


def test_ratios_of_times():
    row = SpeedRow("ours-l1", 4, (3.0, 2.0, 8.0), (1.0, 2.0, 2.0))
    assert (row.least, row.median) == (2.0, 3.0)


def test_costs_of_the_whole_and_of_each_part(clip, exact):
    steps = []
    rows = costs(clip, exact, (1, 2), (20.0, 80.0), gop=4, threads=1, on_step=steps.append)
    assert [r.codec for r in rows] == ["ours-l1 float", "ours-l1 exact", *(f"ours-l1 {p} exact" for p in PARTS), "ours-l2 float", "ours-l2 exact"]
    assert [r.against for r in rows] == ["ours-l1 float"] * 8 + ["ours-l2 float"] * 2
    assert len(steps) == step_count((1, 2), (20.0, 80.0)) - 2
    for row in rows:
        plain = next(r for r in rows if r.codec == row.against)
        for own, other in zip(row.settings, plain.settings, strict=True):
            assert own["psnr"] == pytest.approx(other["psnr"], abs=0.3) and own["bits"] == pytest.approx(other["bits"], rel=0.05)
    assert len({tuple(s["psnr"] for s in r.settings) for r in rows}) > 4, "parts that change nothing"


def test_the_command(capsys, clip_file, tiny_exact_model):
    code, out, err = run(capsys, clip_file, "--model", tiny_exact_model, "--arithmetic", "--levels", "2", "--qualities", "20,80", "--frames", 2, "-v")
    assert code == 0
    assert "Decoding exactly and in floating point" in out and "2 rounds in turn" in out and "quality 80" in out
    assert all(f"ours-l2 {name} exact" in out for name in PARTS) and "Cost of exactness" in out
    count = step_count((2,), (20.0, 80.0))
    assert f"{count - 1}/{count} texture.y4m: level 2, inter.decoder exact, quality 80" in err


def test_what_it_refuses(capsys, clip_file, tiny_model, tiny_exact_model, tmp_path):
    code, out, err = run(capsys, clip_file, "--model", tiny_model, "--arithmetic")
    assert code == UsageError.exit_code and not out and err == "ncodec: the pictures of model 'tiny' are not exact: there is nothing to hold against floating point\n"
    for wrong in (("--levels", "4"), ("--qualities", "101"), ("--saec",)):
        code, out, err = run(capsys, clip_file, "--model", tiny_exact_model, "--arithmetic", *wrong)
        assert code == 2 and not out and len(err.splitlines()) == 1
    assert run(capsys, "--arithmetic")[0] == 2
    code, out, err = run(capsys, tmp_path / "none.y4m", "--model", tiny_exact_model, "--arithmetic")
    assert code == 3 and not out and len(err.splitlines()) == 1
