"""SlimCAE in training: the loss falls, the schedule finds its place, runs resume, export gives a model."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from neuralcodec.cli.train import train
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.slimcae import WIDTHS, SlimCAE, SlimCAEConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.training import loop, slimcae
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.slimcae import SlimCAEOptions, SlimCAEStage, export_slimcae, read_record, run_slimcae
from neuralcodec.training.slimcae_lambdas import FACTOR, MOST_STEPS, LambdaSchedule, slope

SMALL = SlimCAEConfig((12, 8, 4))


def options(root: Path, run: Path, **more) -> SlimCAEOptions:
    return SlimCAEOptions(data=(root / "clips",), run=run, cache=root / "cache", seed=1, size=64, batch=2, **more)


def stage(clips: Clips, config: SlimCAEConfig = SMALL, **more) -> SlimCAEStage:
    torch.manual_seed(2)
    return SlimCAEStage(SlimCAE(config).train(), Sampler([clips], 0), LambdaSchedule([1.0] * len(config.widths)), 64, 2, **more)


@pytest.mark.parametrize("gdn", ["switch", "slim", "slim-plus"])
def test_steps_lower_the_loss(clips, gdn):
    one = stage(clips, SlimCAEConfig((12, 8, 4), gdn), scheduled=None)
    optimiser = torch.optim.Adam(one.model.parameters(), lr=5e-3)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        torch.manual_seed(7)  # the same qualities and noise each time
        one.sampler.rng = np.random.default_rng(3)
        loss, metrics = one.step(0.5)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], losses
    assert {f"{name}_{w}" for name in ("bpp", "psnr_y", "share") for w in (12, 8, 4)} == metrics.keys()


def test_every_parameter_of_every_width_learns(clips):
    one = stage(clips, scheduled=None)
    one.step(0.5)[0].backward()
    without = [n for n, p in one.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert one.model.prior.scale_bias.anchors.grad.flatten(1).any(1).all()


def test_transforms_wait_for_the_entropy_model(clips):
    one = stage(clips, scheduled=None)
    one.step(0.0)[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in (*one.model.analysis.parameters(), *one.model.synthesis.parameters()))
    assert one.model.prior.fuse.weight.grad.any()


def test_steps_are_on_both_chroma_formats(clips):
    one = stage(clips, scheduled=None)
    shapes = {one._draw(torch.device("cpu"))[1].shape[-1] for _ in range(20)}
    assert shapes == {32, 64}
    one.size = 128
    assert {one._draw(torch.device("cpu"))[1].shape[-1] for _ in range(5)} == {64}  # clips are too small for 256


# -- lambdas ---------------------------------------------------------------------------------------------------------------


def curve(shares: list[float], capacity: list[float]) -> list[tuple[float, float]]:
    """Points of made-up widths: a common curve up to what a width can hold; beyond, bits buy next to nothing."""
    points = []
    for share, most in zip(shares, capacity, strict=True):
        rate = share**0.5
        points.append((rate, 30 + 6 * math.log2(min(rate, most)) + 0.3 * (rate - min(rate, most))))
    return points


def test_lambdas_fall_to_where_a_width_is_used_up():
    schedule, capacity = LambdaSchedule([1.0] * 4), [1.0, 0.7, 0.5, 0.3]
    for _ in range(schedule.most_measurements):
        schedule.advance(curve(schedule.shares, capacity))
    assert schedule.done
    assert schedule.shares == sorted(schedule.shares, reverse=True) and schedule.shares[0] == 1.0
    for share, most in zip(schedule.shares[1:], capacity[1:], strict=True):
        assert 0.7 * most <= share**0.5 <= 1.4 * most
    final = list(schedule.shares)
    schedule.advance(curve(schedule.shares, capacity))
    assert schedule.shares == final


def test_a_step_that_made_the_slope_worse_is_taken_back():
    schedule = LambdaSchedule([1.0, 1.0])
    for now in (9.0, 8.0, 8.5):
        schedule.advance([(1.0, now), (0.0, 0.0)])
    assert schedule.done and schedule.shares == pytest.approx([1.0, FACTOR])


def test_a_pair_has_a_most_of_steps():
    schedule = LambdaSchedule([1.0, 1.0])
    for n in range(schedule.most_measurements):
        assert not schedule.done
        schedule.advance([(1.0, 30.0 - n), (0.0, 0.0)])
    assert schedule.done and schedule.shares == pytest.approx([1.0, FACTOR**MOST_STEPS])


def test_a_narrow_width_that_needs_more_bits_is_lowered_further():
    assert slope((1.0, 30.0), (1.0, 29.0)) == math.inf
    schedule = LambdaSchedule([1.0, 1.0])
    for _ in range(3):
        schedule.advance([(1.0, 30.0), (1.1, 29.0)])
    assert schedule.shares == pytest.approx([1.0, FACTOR**3])


def test_one_width_has_nothing_to_schedule():
    assert LambdaSchedule([0.4]).done


# -- runs ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _clock(monkeypatch):
    """A clock for the loop on which each step takes 0.3 s, whatever the machine does."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.3 * next(ticks)))


@pytest.mark.usefixtures("_clock")
def test_a_run_resumes_with_its_schedule_and_is_exported(root, tmp_path):
    run = tmp_path / "run"
    run_slimcae(options(root, run, minutes=0.03), SMALL)
    config, schedule = read_record(run)
    assert config == SMALL and schedule.measured > 0 and schedule.shares[0] == 1.0
    run_slimcae(options(root, run, minutes=0.05), SMALL)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[1]["step"] > rows[0]["step"] == 6 and rows[1]["minutes"] > rows[0]["minutes"]
    later = read_record(run)[1]
    assert later == schedule if schedule.done else later.measured > schedule.measured
    identity, model = export_slimcae(run, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.identity == identity and loaded.levels == 3 and loaded.model.config == SMALL
    assert loaded.metadata["lambda shares"] == ", ".join(f"{w}: {s:.3f}" for w, s in zip(SMALL.widths, later.shares, strict=True))
    assert torch.equal(loaded.model.prior.scale_head.integer_parameters()[0], model.prior.scale_head.integer_parameters()[0])
    run_slimcae(options(root, tmp_path / "other", minutes=0.001, init=(str(tmp_path / "model.safetensors"),), one_lambda=True), SMALL)
    assert read_record(tmp_path / "other")[1].shares == [1.0] * 3


def test_a_run_of_other_sizes_is_not_gone_on_with(root, tmp_path):
    (tmp_path / "run").mkdir()
    slimcae.write_record(tmp_path / "run", SMALL, LambdaSchedule([1.0] * 3))
    with pytest.raises(UsageError, match="widths 12, 8, 4"):
        run_slimcae(options(root, tmp_path / "run"))
    with pytest.raises(UsageError, match="lambda share"):
        run_slimcae(options(root, tmp_path / "new", lambda_share=0.0))
    with pytest.raises(UsageError, match="no run"):
        export_slimcae(tmp_path, tmp_path / "model.safetensors")


def test_commands_train_one_width_and_export_it(root, tmp_path):
    run, model = tmp_path / "run", tmp_path / "alone.safetensors"
    command = ["slimcae", "--data", str(root / "clips"), "--cache", str(root / "cache"), "--run", str(run), "--minutes", "0.005", "--size", "64",
               "--batch", "1", "--width", "48", "--lambda-share", "0.3", "--gdn", "slim"]
    result = CliRunner().invoke(train, command)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(train, ["export", "--run", str(run), "-o", str(model)])
    assert result.exit_code == 0 and "level 1: width 48" in result.output
    assert load_model(model).model.config == SlimCAEConfig((48,), "slim")
    assert read_record(run)[1].shares == [0.3]
    result = CliRunner().invoke(train, ["export", "--run", str(run), "--exact", "-o", str(model)])
    assert isinstance(result.exception, UsageError)


def test_the_default_widths_are_the_paper_s():
    assert WIDTHS == (192, 144, 96, 72, 48) and options(Path(), Path()).config() == SlimCAEConfig()
