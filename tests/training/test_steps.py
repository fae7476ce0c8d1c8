"""Runs whose length is a number of steps."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from torch import nn

from neuralcodec.cli.train import train
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.training.loop import Loop, Schedule
from neuralcodec.training.stages import StageOptions

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1))
STAGES = ("slimcae", "adanic", "adanic-agent", "intra", "motion", "inter", "long", "levels")


class Line:
    """A step that keeps the progress and the learning rate that it is taken with, and may interrupt its run."""

    def __init__(self, folder: Path, steps: int, interrupt: int = 0) -> None:
        self.model, self.seen, self.rates, self.interrupt = nn.Linear(3, 1), [], [], interrupt
        self.loop = Loop(folder, self.model, {"all": self.model}, Schedule(steps=steps, rate=1.0, warmup=1))
        self.loop.resume()
        self.loop.run(self.step)

    def step(self, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        self.seen.append(progress)
        self.rates.append(self.loop.optimiser.param_groups[0]["lr"])
        if len(self.seen) == self.interrupt:
            os.kill(os.getpid(), signal.SIGINT)
        return self.model(torch.ones(1, 3)).sum(), {}


def test_progress_and_learning_rate_follow_the_steps(tmp_path: Path) -> None:
    line = Line(tmp_path, 4)
    assert line.seen == [0, 0.25, 0.5, 0.75] and line.loop.step_count == 4
    assert line.rates == pytest.approx([1, 0.02 + 0.98 * (2 + 2**0.5) / 4, 0.51, 0.02 + 0.98 * (2 - 2**0.5) / 4])


def test_an_interrupted_run_goes_on_to_its_last_step(tmp_path: Path) -> None:
    assert Line(tmp_path, 5, interrupt=2).seen == [0, 0.2]
    assert Line(tmp_path, 5).seen == pytest.approx([0.4, 0.6, 0.8])
    assert Line(tmp_path, 5).seen == [], "it is over"
    assert Line(tmp_path, 10).seen == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9]), "more steps"


def test_the_command_ends_after_its_steps(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    command = ["intra", "--data", str(root / "clips"), "--cache", str(root / "cache"), "--run", str(tmp_path / "run"), "--size", "64", "--batch", "1"]
    for steps in (2, 3):
        result = CliRunner().invoke(train, [*command, "--steps", str(steps)])
        assert result.exit_code == 0, result.output
        with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
            assert int(f.metadata()["step"]) == steps
            assert json.loads(f.metadata()["schedule"])["steps"] == steps


@pytest.mark.parametrize("stage", STAGES)
def test_minutes_and_steps_exclude_each_other(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [stage, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--minutes", "1", "--steps", "10"])
    assert isinstance(result.exception, UsageError)
    assert "--minutes" in str(result.exception) and "--steps" in str(result.exception) and "\n" not in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_without_either_a_run_has_its_minutes(tmp_path: Path) -> None:
    options = StageOptions(stage="long", data=(tmp_path,), run=tmp_path, cache=tmp_path)
    assert options.schedule(1e-3) == Schedule(minutes=30.0, rate=1e-3, optimiser="soap")
    with pytest.raises(UsageError, match="--steps 0"):
        StageOptions(stage="long", data=(tmp_path,), run=tmp_path, cache=tmp_path, steps=0)
