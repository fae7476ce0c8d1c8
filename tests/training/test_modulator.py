"""ELF-VC's loss modulator: what moves a factor, what a P frame is compared with, what a factor multiplies, and that a run keeps them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neuralcodec.cli.train import train
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.quality import ANCHORS
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.inter import InterStage, intra_errors
from neuralcodec.training.modulator import POSITIONS, STEP, IntraErrors, LossModulator
from neuralcodec.training.widths import RandomWidths

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))


def observe(modulator: LossModulator, position: int, quality: list[int], ratio: list[float]) -> list[bool]:
    """P frames whose errors are these multiples of the intra model's."""
    intra = torch.linspace(1e-4, 1e-2, len(ratio))
    return modulator.observe(position, torch.tensor(quality), intra * torch.tensor(ratio), intra).tolist()


# -- the rule --------------------------------------------------------------------------------------------------------------


def test_factors_start_at_one_and_grow_where_frames_are_behind() -> None:
    modulator = LossModulator()
    assert modulator.mu.shape == (POSITIONS, ANCHORS) and (modulator.mu == 1).all()
    assert observe(modulator, 2, [0, 12, 13, 100, 200], [1.6, 1.6, 1.4, 1.51, 1.49]) == [True, True, False, True, False]
    expected = torch.ones(POSITIONS, ANCHORS)
    expected[1, 0] = expected[1, 4] = STEP  # anchors are 25 apart: 12 is nearest to 0, 13 to 25
    assert torch.allclose(modulator.mu, expected), "the least that a factor can be is 1"
    assert modulator.factors(2, torch.tensor([5, 30, 111])).tolist() == pytest.approx([STEP, 1, STEP])
    assert modulator.factors(1, torch.tensor([5])).tolist() == modulator.factors(3, torch.tensor([5])).tolist() == [1]


def test_frames_of_one_level_count_together_by_their_psnr() -> None:
    modulator = LossModulator()
    observe(modulator, 1, [50, 51, 49], [1.2, 1.2, 2.4])  # their mean is 1.6, their geometric mean 1.51
    observe(modulator, 2, [50, 51, 49], [1.2, 1.1, 2.4])  # 1.57 and 1.47
    assert modulator.mu[0, 2] == pytest.approx(STEP) and modulator.mu[1, 2] == 1


def test_factors_stay_between_one_and_ten_and_come_down_again() -> None:
    modulator = LossModulator()
    for _ in range(200):
        observe(modulator, 1, [25], [2.0])
    assert modulator.mu[0, 1] == 10
    observe(modulator, 1, [25], [1.0])
    assert modulator.mu[0, 1] == pytest.approx(10 / STEP)
    for _ in range(200):
        observe(modulator, 1, [25], [1.0])
    assert modulator.mu[0, 1] == 1


def test_late_frames_share_their_factors() -> None:
    modulator = LossModulator()
    for position in (POSITIONS, POSITIONS + 1, 5 * POSITIONS):
        observe(modulator, position, [200], [9.0])
    assert modulator.mu[-1, -1] == pytest.approx(STEP**3) and (modulator.mu[:-1] == 1).all()
    assert modulator.factors(99, torch.tensor([200])).item() == pytest.approx(STEP**3)


# -- like quality ----------------------------------------------------------------------------------------------------------


def test_the_intra_models_error_is_interpolated_by_its_logarithm() -> None:
    errors = IntraErrors(torch.tensor([0, 89]), torch.tensor([40, 139]), torch.tensor([4e-3, 9e-4]), torch.tensor([1e-3, 1e-4]))
    for share, expected in ((0, [4e-3, 9e-4]), (0.5, [2e-3, 3e-4]), (1, [1e-3, 1e-4])):
        quality = torch.tensor([round(40 * share), 89 + round(50 * share)])
        assert torch.allclose(errors.at(quality), torch.tensor(expected), rtol=1e-4)


@pytest.fixture
def moving() -> Clips:
    base = np.kron(np.random.default_rng(0).integers(40, 216, (24, 24)), np.ones((8, 8))).astype(np.uint8)
    frames = [np.concatenate([np.roll(base, (t, 3 * t), (0, 1))[:96, :96], np.full((48, 96), 110, np.uint8)]) for t in range(7)]
    return Clips(np.stack(frames), [7], np.zeros((2, 7, 12, 12, 2), np.float16))


@pytest.fixture
def stage(moving: Clips) -> Callable[..., InterStage]:
    def build(modulator: LossModulator | None = None, **options) -> InterStage:
        torch.manual_seed(1)
        random.seed(1)
        model = Flagship(SMALL)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.02 * torch.randn(p.shape))
        stage = InterStage(model, Sampler([moving], 2, gamma=0.0), RandomWidths(0.0), size=64, pixels=2 * 2 * 64**2, joint_from=0.0, modulator=modulator, **options)
        torch.manual_seed(4)
        return stage

    return build


def test_both_errors_of_the_intra_model_enclose_all_qualities_of_a_chain(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    modulator = LossModulator()
    monkeypatch.setattr(modulator, "observe", lambda position, quality, *_: seen.append((position, quality)) or torch.zeros(2))
    trained = stage(modulator, chain=3)
    for _ in range(12):
        begun = len(seen)
        trained.step(0.5)
        intra = trained._chain.intra
        for position, quality in seen[begun:]:
            assert (intra.low <= quality).all() and (quality <= intra.high).all() and (intra.low < intra.high).all()
            assert trained._chain.at - 2 < position <= trained._chain.at
    assert 2 in {p for p, _ in seen}


def test_what_the_boost_of_an_intra_frame_gains_is_not_held_against_p_frames(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compared with the intra model at their own quality, not with the intra frame before them, which may be coded far better."""
    seen = {}
    for boost in (0, 90):
        modulator = LossModulator()
        monkeypatch.setattr(modulator, "observe", lambda _, quality, error, intra, boost=boost: seen.setdefault(boost, []).append((quality, error, intra)) or error)
        trained = stage(modulator, intra_boost=boost)
        trained.step(0.5)
        intra = trained._chain.intra
        picture = trained._chain.y[0].float(), trained._chain.uv[0].float()
        middle = (intra.low + intra.high) // 2
        again = intra_errors(trained.model, *picture, intra.low, middle)
        assert torch.allclose(again.low_error, intra.at(intra.low), rtol=1e-4) and torch.allclose(again.high_error, intra.at(middle), rtol=0.1)
    for (quality, error, intra), (other_quality, other_error, other_intra) in zip(seen[0], seen[90], strict=True):
        assert torch.equal(quality, other_quality) and torch.equal(intra, other_intra)
        assert not torch.equal(error, other_error), "the intra frames were other ones"


# -- the loss --------------------------------------------------------------------------------------------------------------


def test_a_factor_multiplies_the_distortion_and_nothing_else(stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuralcodec.training.inter.quality_weight", torch.ones_like)
    losses, bits = {}, None
    for mu in (None, 0.0, 1.0, 4.0, 10.0):
        modulator = None if mu is None else LossModulator()
        if modulator is not None:
            modulator.mu.fill_(mu)
        _, metrics = stage(modulator).step(0.5)
        losses[mu] = metrics["cost"]
        assert ("mu" in metrics) == ("behind" in metrics) == (mu is not None)
        if mu is not None:
            assert metrics["mu"] == mu
            bits = metrics["bpp_motion"] + metrics["bpp_contextual"]
    assert losses[1.0] == losses[None], "the same batches and noise"
    rate, reconstruction = losses[0.0], losses[1.0] - losses[0.0]
    assert rate == pytest.approx(bits, rel=1e-5) and reconstruction > 0
    for mu in (4.0, 10.0):
        assert losses[mu] == pytest.approx(rate + mu * reconstruction, rel=1e-4)


def test_a_step_moves_the_factors_of_what_it_saw(stage) -> None:
    modulator = LossModulator()
    modulator.mu.fill_(3.0)
    trained = stage(modulator)
    trained.step(0.5)
    changed = (modulator.mu != 3).nonzero()
    assert set(changed[:, 0].tolist()) == {0, 1} and 2 <= len(changed) <= 4
    assert all(float(m) == pytest.approx(3 * STEP) or float(m) == pytest.approx(3 / STEP) for m in modulator.mu[modulator.mu != 3])


# -- runs ------------------------------------------------------------------------------------------------------------------


def test_a_run_keeps_its_factors_and_exports_as_any_other(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("neuralcodec.training.stages.Flagship", "neuralcodec.codecs.flagship.Flagship"):
        monkeypatch.setattr(place, lambda config=None: Flagship(config or SMALL))

    def run(steps: int, *more: str) -> dict[str, torch.Tensor]:
        result = CliRunner().invoke(train, ["long", "--data", str(root / "clips"), "--cache", str(root / "cache"), "--run", str(tmp_path / "run"), "--steps", str(steps),
                                            "--frames", "3", "--size", "64", "--batch", "1", *more])
        assert result.exit_code == 0, (result.output, result.exception)
        return load_file(tmp_path / "run" / "state.safetensors")

    first = run(2, "--modulator")["kept.modulator"]
    assert first.shape == (POSITIONS, ANCHORS) and (first >= 1).all()
    with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
        metadata = f.metadata()
    state = load_file(tmp_path / "run" / "state.safetensors")
    save_file(state | {"kept.modulator": torch.full_like(first, 5.0)}, tmp_path / "run" / "state.safetensors", metadata)
    second = run(4, "--modulator")["kept.modulator"]
    assert (second[3:] == 5).all(), "it goes on from what was kept"
    assert (second[:2] != 5).any()
    result = CliRunner().invoke(train, ["export", "--run", str(tmp_path / "run"), "-o", str(tmp_path / "m.safetensors")])
    assert result.exit_code == 0 and not [n for n in load_model(tmp_path / "m.safetensors").model.state_dict() if "modulator" in n]
    assert "kept.modulator" not in run(5), "without the option there are no factors"


@pytest.mark.parametrize("stage", ["intra", "motion", "inter", "levels"])
def test_the_modulator_belongs_to_the_stage_long(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [stage, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--modulator"])
    assert isinstance(result.exception, UsageError) and "--modulator" in str(result.exception)
