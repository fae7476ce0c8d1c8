"""Steps of P frames that go on from what the step before decoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from neuralcodec.cli.train import train
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.training import stages
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.inter import InterStage
from neuralcodec.training.widths import RandomWidths

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))
FRAMES, STEPS = 3, 4


class CountedWidths(RandomWidths):
    drawn = 0

    def draw(self, model, progress):
        self.drawn += 1
        return super().draw(model, progress)


@pytest.fixture
def clips() -> Clips:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (9, 96 * 3 // 2, 96), dtype=np.uint8)
    return Clips(frames, [9], np.zeros((2, 9, 12, 12, 2), np.float16))


def stage_of(clips: Clips, chain: int, foreign: float = 0.0, hypotheses: bool = False) -> InterStage:
    torch.manual_seed(1)
    return InterStage(Flagship(SMALL), Sampler([clips], 2, gamma=0.0, foreign=foreign), CountedWidths(0.0), size=64, pixels=2 * (FRAMES - 1) * 64**2,
                      frames=lambda _: FRAMES, joint_from=0.0, chain=chain, hypotheses=hypotheses)


@pytest.mark.parametrize("hypotheses", [False, True])
def test_each_step_goes_on_where_the_one_before_ended(clips: Clips, hypotheses: bool) -> None:
    stage = stage_of(clips, STEPS, hypotheses=hypotheses)
    while (chain := stage._begin(FRAMES)).left() < STEPS * (FRAMES - 1):  # how long one is, is drawn
        pass
    stage._chain = chain
    seen, references = [], []
    for _ in range(STEPS):
        loss, metrics = stage.step(0.5)
        loss.backward()  # must not run into the steps before, whose graph is gone
        seen.append(metrics["frame"])
        references.append(stage._chain.reference)
    assert seen == [FRAMES / 2 + (FRAMES - 1) * n for n in range(STEPS)]
    assert stage.widths.drawn == 0 and stage._chain is chain and chain.left() == 0
    assert len(chain.history.steps) == (2 if hypotheses else 0)
    assert all(not r.y.requires_grad and r.latent is not None for r in references)
    assert len({float(r.y.sum()) for r in references}) == STEPS
    assert stage.step(0.5)[1]["frame"] == FRAMES / 2 and stage.widths.drawn == 1, "then it begins anew, with an intra frame"


def test_without_a_chain_every_step_begins_anew(clips: Clips) -> None:
    stage = stage_of(clips, 1)
    assert [stage.step(0.5)[1]["frame"] for _ in range(3)] == [FRAMES / 2] * 3
    assert stage.widths.drawn == 3


def test_what_comes_into_a_picture_does_so_as_often_in_long_samples(clips: Clips) -> None:
    sampler = Sampler([clips], 3, gamma=0.0, foreign=0.05)
    often = [float(np.mean([sampler.batch(64, 2, n).foreign.flatten(2).any(2).any(0).float().mean() for _ in range(300)])) for n in (3, 9)]
    assert often == pytest.approx([1 - 0.95**2, 1 - 0.95**8], abs=0.06)


@pytest.fixture
def small(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "Flagship", lambda: Flagship(SMALL))
    monkeypatch.setattr(stages.StageOptions, "load_clips", lambda self: [clips])
    monkeypatch.setattr(stages, "load_flow", lambda *_: clips.flow)


@pytest.mark.parametrize(("frozen", "trained"), [(None, {"motion", "inter"}), ("motion", {"inter"}), ("inter", {"motion"})])
def test_a_part_can_stay_as_it_is(frozen: str | None, trained: set[str], small: None, tmp_path) -> None:
    torch.manual_seed(0)
    common = {"data": (tmp_path,), "size": 64, "batch": 1, "frames": 3, "stage": "long", "init": (), "floating": True, "cache": tmp_path}
    before = stages.run_stage(stages.StageOptions(run=tmp_path / "start", minutes=0.0001, **common))
    loaded = stages.run_stage(stages.StageOptions(run=tmp_path / "run", minutes=0.05, freeze=frozen, **common | {"init": (str(tmp_path / "start"),)}))
    changed = {n.split(".")[0] for n, p in loaded.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert changed == trained


def test_freezing_belongs_to_stages_that_train_both(small: None, tmp_path) -> None:
    result = CliRunner().invoke(train, ["inter", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--freeze", "motion"])
    assert result.exit_code != 0 and "--freeze" in str(result.exception)


def test_widths_that_are_still_to_be_learned_cannot_be_kept(small: None, tmp_path) -> None:
    result = CliRunner().invoke(train, ["levels", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--chain", "2", "--size", "64"])
    assert result.exit_code != 0 and "--chain" in str(result.exception)
