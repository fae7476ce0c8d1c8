"""The README's figures come from a report by a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuralcodec.bench.readme import BEGIN, END
from neuralcodec.cli import main

ROOT = Path(__file__).resolve().parents[2]
MEAN = {"bd_rate": 12.34, "bd_psnr": -0.5, "clips": 1, "of": 2}
REPORT = {
    "date": "2031-05-06T07:08:09+00:00", "commit": "abc123def456", "program": "neuralcodec 1", "model": {"name": "flagship", "identity": "0" * 64},
    "machine": {"processor": "A Processor", "cores": 2}, "plan": {"levels": [1, 3], "qualities": [30.0, 60.0]},
    "points": [{"clip": "a.y4m", "frames": 32}, {"clip": "b.y4m", "frames": 16}],
    "bd_mean": {"x264-medium-ld32": {"ours-l1": MEAN, "ours-l3": MEAN | {"bd_rate": -3.0, "clips": 2}},
                "svtav1-p6": {"ours-l1": MEAN | {"bd_rate": None, "clips": 0}}},
    "bd_measures": {"xpsnr": {"mean": {"x264-medium-ld32": {"ours-l1": MEAN | {"bd_rate": 20.0}}}}},
    "bd": {"x264-medium-ld32": {"ours-l1": {"a.y4m": {"rate": 40.0}, "b.y4m": {"rate": -10.0}}}},
    "speeds": [{"codec": "ours-l1", "encode_fps": 1.5, "decode_fps": 3.25, "first_ms": 250.0, "decode_ratio": 40.0, "encode_memory": 400e6,
                "decode_memory": None}],
}


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--figures", *map(str, arguments)])
    return stop.value.code


@pytest.fixture
def files(tmp_path):
    report, readme = tmp_path / "report.json", tmp_path / "README.md"
    report.write_text(json.dumps(REPORT))
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    return report, readme


def test_wins_and_losses_alike(files):
    assert run(*files) == 0
    text = files[1].read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n") and text.endswith(f"{END}\n\nmore\n") and "old" not in text
    for part in ("2031-05-06", "abc123def456", "A Processor, 2 cores", "2 clips, 16-32 frames",
                 "| x264-medium-ld32 | +12.3 % (1 of 2) | -3.0 % |", "| svtav1-p6 | refused |  |", "XPSNR", "worst clip a.y4m (+40.0 %), best b.y4m (-10.0 %)",
                 "| level 1 | 1.50 | 3.25 | 250.0 | 40.0 | 400 / - |"):
        assert part in text, part
    assert run(*files) == 0 and files[1].read_text() == text


def test_what_is_no_report_or_has_no_marks(files, capsys):
    report, readme = files
    readme.write_text("# Title\n")
    assert run(report, readme) == 3 and readme.read_text() == "# Title\n"
    report.write_text("[]")
    assert run(report, readme) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_our_readme_has_the_marks():
    text = (ROOT / "README.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)
