"""The sweep over settings, in a short version: sweep.py has the long one."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
import sweep
import torch
from sweep_compare import Meant, SweepError, Trial, compared, first_difference, paired, published
from sweep_work import EVERYTHING, INSTRUCTION_SETS, Record, Setting, Worker

from neuralcodec.nn.fixed import Fixed

X86 = platform.machine() in ("x86_64", "AMD64")
OLD = Setting("SSE41" if X86 else EVERYTHING, 1, "contiguous", False)
MIDDLE = Setting("AVX2" if "AVX2" not in sweep.lacking() else OLD.isa)
NEW = Setting(threads=2)
CARRIED = Setting(OLD.isa, carriers="bfloat16")
STREAM = sweep.CONFORMANCE / "level1_derived.nvc"
ROUNDED = sweep.ROUNDING / "level2_exceptions.nvc"


def test_settings_agree(exact_toy_path, tmp_path):
    jobs = {name: {"kind": "decode", "path": str(stream), "model": str(next(stream.parent.glob("*.safetensors"))), "rounds": name == "rounded"}
            for name, stream in (("stream", STREAM), ("rounded", ROUNDED))}
    jobs["random"] = {"kind": "random", "rounds": True}
    options = {"model": str(exact_toy_path), "clip": "made-up", "frames": 2, "gop": 0, "level": 1, "quality": 30.0}
    trial = Trial("pairs", [OLD, NEW], [OLD, CARRIED, NEW], options)
    found, decoded = sweep.sweep([OLD, CARRIED, MIDDLE, NEW], jobs, [trial], tmp_path)
    meant = {name: published(stream.parent / "conformance.json", [stream])[str(stream)] for name, stream in (("stream", STREAM), ("rounded", ROUNDED))}
    lines = [line for name, records in found.items() for line in compared(name, records, meant.get(name))]
    assert len(lines) == 11 and all(line["ok"] for line in lines), lines
    assert [len(records) for records in found.values()] == [3, 4, 4]  # carriers are nothing to the first
    assert len(found["stream"][NEW].frames) == len(found["rounded"][CARRIED].frames) == 4
    assert len({records[NEW].pictures for records in found.values()}) == 3
    pairs = list(paired(trial, decoded["pairs"]))
    assert [(p["ok"], p["decoders"], p["frames"], p["exact"]) for p in pairs] == [(True, 2, 2, True)] * 2, pairs


def test_every_combination_is_a_setting():
    settings = sweep.all_settings(["SSE41", EVERYTHING], "cuda")
    assert len(settings) == len({s.name for s in settings}) == 36
    assert [s.layout for s in settings if s.device == "cuda"] == ["channels_last", "channels_last", "contiguous", "contiguous"]
    environment = Setting("AVX512_CORE_BF16", 2).environment()
    assert environment["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE_BF16" and environment["ATEN_CPU_CAPABILITY"] == "avx512"
    assert set(Setting().environment()).isdisjoint(environment.keys() - {"OMP_NUM_THREADS", "OMP_WAIT_POLICY"})


def test_what_the_processor_lacks_is_named(capsys, monkeypatch):
    monkeypatch.setattr(sweep, "lacking", lambda: {"AVX512_CORE_BF16": "the processor lacks it"})
    monkeypatch.setattr(sweep, "results", lambda args, settings, folder, say: [{"ok": s.isa == "AVX2"} for s in settings])
    for isas, code in ((("AVX2", "AVX512_CORE_BF16"), 0), (("SSE41",), 1)):
        monkeypatch.setattr(sys, "argv", ["sweep.py", "--device", "cpu", "--isa", *isas])
        assert sweep.main() == code
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["skipped"] for line in lines if "skipped" in line] == [n for n in isas if n == "AVX512_CORE_BF16"]
        assert len(lines) == 16 + len(isas) - 1
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--device", "cpu", "--isa", "AVX512_CORE_BF16"])
    assert sweep.main() == 2 and capsys.readouterr().err == "sweep: no setting is left\n"
    assert set(INSTRUCTION_SETS) >= {"SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_BF16"}


def test_a_difference_is_found():
    one, other = Record(True, "a", "x", ["1", "2", "3"]), Record(True, "b", "x", ["1", "9", "8"])
    assert first_difference(one, other) == 1 and first_difference(one, one) is None
    lines = list(compared("s", {OLD: one, NEW: other, MIDDLE: one}))
    assert [line["ok"] for line in lines] == [True, False, True] and lines[1]["first_different_frame"] == 1
    for record in (one, other):
        record.exact = False  # latents alone are promised
    assert all(line["ok"] for line in compared("s", {OLD: one, NEW: other}))
    other.latents = "y"
    assert [line["ok"] for line in compared("s", {OLD: one, NEW: other})] == [True, False]
    trial = Trial("t", [OLD, NEW], [OLD, NEW], {}, made={OLD: (one, "d1"), NEW: (one, "d2")})
    assert [(p["ok"], len(p["differ"])) for p in paired(trial, {"d1": {OLD: one, NEW: other}, "d2": {OLD: one, NEW: one}})] == [(False, 1), (True, 0)]


def test_a_clip_is_encoded_once_at_each_level(exact_toy_path, tmp_path):
    args = sweep.parse(["--clip", "made-up", "--frames", "2", "--levels", "1", "3", "--model", str(exact_toy_path)])
    spoken: list[str] = []
    lines = list(sweep.results(args, [CARRIED, NEW], tmp_path, spoken.append))
    assert [(p["trial"], p["encoder"], p["decoders"], p["frames"], p["ok"]) for p in lines] == [
        (f"clip, level {level}", NEW.name, 1, 2, True) for level in (1, 3)]
    assert len({p["pictures"] for p in lines}) == 2 and all(sum(p["pictures"] in text for text in spoken) == 1 for p in lines)
    both = [OLD, CARRIED]
    for rounds in (False, True):
        trial = Trial("t", both, both, {}, rounds)
        assert trial.encoders == trial.decoders == (both if rounds else [OLD])
    assert sweep.rounds(str(sweep.ROUNDING / "bfloat16.safetensors"), ROUNDED) and not sweep.rounds(str(exact_toy_path))


def test_published_md5s_are_held_against(tmp_path):
    record = Record(True, "a" * 32, "x", ["1" * 32])
    assert Meant().met(record) and Meant("a" * 32, ("1" * 32,), "x").met(record)
    assert not any(m.met(record) for m in (Meant("b" * 32), Meant(frames=("2" * 32,)), Meant(latents="y")))
    assert not next(compared("s", {OLD: record}, Meant("b" * 32)))["ok"]
    file = tmp_path / "clip.md5"
    file.write_text("a" * 32 + "  clip.nvc\n")
    assert published(file, [STREAM]) == {str(STREAM): Meant("a" * 32)}
    with pytest.raises(SweepError, match="one stream"):
        published(file, [STREAM, STREAM])
    with pytest.raises(SweepError, match="no md5 of clip.nvc"):
        published(sweep.CONFORMANCE / "conformance.json", [tmp_path / "clip.nvc"])
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SweepError, match="no list"):
        published(tmp_path / "list.json", [STREAM])


def test_the_other_layout_reaches_every_layer():
    seen = []
    layer = torch.nn.Identity()
    layer.register_forward_pre_hook(lambda _, given: seen.append((given[0].values if isinstance(given[0], Fixed) else given[0]).is_contiguous()))
    x = torch.ones(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    layer(x)
    worker = Worker(Setting(layout="contiguous"))
    try:
        layer(x)
        layer(Fixed(x, 0, 1))
    finally:
        worker.hook.remove()
    assert seen == [False, True, True]


@pytest.mark.parametrize(("arguments", "words"), [(["none.nvc"], "no such file"), (["--device", "cuda", str(STREAM)], "cuda"), ([__file__], "not")])
def test_what_cannot_be_had_is_a_line(capsys, monkeypatch, arguments, words):
    if words == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sweep, "lacking", dict)
    monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments])
    monkeypatch.setattr(sweep, "all_settings", lambda isas, device: [Setting()])
    assert sweep.main() == 2
    out, err = capsys.readouterr()
    assert not out and err.splitlines()[-1].startswith("sweep: ") and words in err.splitlines()[-1]


def test_another_kernel_than_the_settings_is_an_error(tmp_path, monkeypatch):
    setting = Setting("AVX2")

    def pretend(command, **_):
        (tmp_path / "result.json").write_text('{"kernels": "DEFAULT", "records": {}}')
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(subprocess, "run", pretend)
    with pytest.raises(SweepError, match="DEFAULT, not AVX2"):
        sweep.run(setting, {"random": {"kind": "random", "rounds": False}}, tmp_path)
