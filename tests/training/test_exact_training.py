"""Exact models in training: stages take them as they take others, and conversion is a command."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from neuralcodec.cli.train import train
from neuralcodec.codecs.exact import ExactFlagship, declare_rounding, picture_convs, picture_gains, trunk_convs
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.folding import fold, to_float
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.nn.bfloat16 import BYTE_LIMIT
from neuralcodec.nn.exact_convs import NarrowConv2d
from neuralcodec.nn.selection import units
from neuralcodec.nn.slimmable import SlimmableBlock
from neuralcodec.training.data import Clips, Sampler, decode_pack
from neuralcodec.training.exact import all_exact, calibration_clips, holds_exact
from neuralcodec.training.inter import InterStage
from neuralcodec.training.intra import IntraStage
from neuralcodec.training.stages import StageOptions, load_initial, run_stage
from neuralcodec.training.widths import LearnedWidths, RandomWidths

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pack of two clips that is decoded already, and its flow."""
    root = tmp_path_factory.mktemp("exact")
    (root / "clips").mkdir()
    (root / "cache").mkdir()
    rng = np.random.default_rng(1)
    base = np.kron(rng.integers(60, 196, (20, 26)), np.ones((8, 8))).astype(np.uint8)
    frames = [np.concatenate([np.roll(base, (t, 2 * t), (0, 1))[:128, :192], np.full((64, 192), 110, np.uint8)]) for t in range(8)]
    np.save(root / "cache" / "clips.frames.npy", np.stack(frames))
    np.save(root / "cache" / "clips.flow.npy", np.zeros((2, 8, 16, 24, 2), np.float16))
    (root / "cache" / "clips.clips.json").write_text(json.dumps([5, 3]))
    return root


@pytest.fixture
def clips(root: Path) -> Clips:
    pack = decode_pack(root / "clips", root / "cache")
    pack.flow = np.load(root / "cache" / "clips.flow.npy")
    return pack


@pytest.fixture(scope="module")
def float_file(root: Path) -> Path:
    torch.manual_seed(1)
    model = Flagship(SMALL)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, SlimmableBlock):  # a new one is the identity, whose first layers have no gradient yet
                for conv in (module.spatial, module.project):
                    conv.weight.normal_(0, 0.1)
        model.inter.decoder.fuse.conv.weight.normal_(0, 0.2)
    count = len(units(model))
    save_model(root / "float.safetensors", model, [bytes([i]) * count for i in range(3)])
    return root / "float.safetensors"


@pytest.fixture(scope="module")
def exact_file(root: Path, float_file: Path) -> Path:
    """Made by the command."""
    patch = pytest.MonkeyPatch()
    patch.setattr("neuralcodec.codecs.flagship.Flagship", lambda config=None: Flagship(config or SMALL))
    output = root / "exact.safetensors"
    result = CliRunner().invoke(train, ["export", "--run", str(float_file), "--exact", "--data", str(root / "clips"), "--cache", str(root / "cache"),
                                        "--clips", "2", "-o", str(output)])
    patch.undo()
    assert result.exit_code == 0, result.output
    return output


def test_conversion_by_command(exact_file: Path, float_file: Path) -> None:
    loaded = load_model(exact_file)
    assert isinstance(loaded.model, ExactFlagship)
    assert len({c.frac_in for c in picture_convs(loaded.model).values() if isinstance(c, NarrowConv2d)}) > 2
    assert holds_exact(exact_file) and not holds_exact(float_file)
    assert not all_exact([])
    with pytest.raises(UsageError, match="convert"):
        all_exact([str(exact_file), f"{float_file}#inter"])
    garbage = exact_file.with_name("garbage.safetensors")
    garbage.write_bytes(b"no tensors")
    with pytest.raises(InputError):
        holds_exact(garbage)


def test_conversion_needs_clips(float_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["export", "--run", str(float_file), "--exact", "-o", str(tmp_path / "no.safetensors")])
    assert result.exit_code != 0 and "--data" in str(result.exception)
    result = CliRunner().invoke(train, ["export", "--run", str(float_file), "--bfloat16-trunks", "-o", str(tmp_path / "no.safetensors")])
    assert result.exit_code != 0 and "--exact" in str(result.exception)
    assert not (tmp_path / "no.safetensors").exists()


def test_the_command_passes_on_that_trunks_round(root: Path, float_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(model: Flagship, *_: object, bfloat16_trunks: bool) -> ExactFlagship:
        assert bfloat16_trunks
        exact = fold(model)
        declare_rounding(exact, trunk_convs(exact))
        return exact

    monkeypatch.setattr("neuralcodec.codecs.flagship.Flagship", lambda config=None: Flagship(config or SMALL))
    monkeypatch.setattr("neuralcodec.codecs.conversion.from_float", convert)
    result = CliRunner().invoke(train, ["export", "--run", str(float_file), "--exact", "--bfloat16-trunks", "--data", str(root / "clips"),
                                        "--cache", str(root / "cache"), "-o", str(tmp_path / "rounded.safetensors")])
    assert result.exit_code == 0, result.output
    # Training goes on with what was declared.
    model = ExactFlagship(SMALL)
    load_initial(model, tmp_path / "rounded.safetensors")
    assert {n for n, c in picture_convs(model).items() if c.rounds} == set(trunk_convs(model)) != set()
    assert model.intra.synthesis.trunk[0].expand.limit_out == BYTE_LIMIT


@pytest.mark.parametrize("policy", [RandomWidths(1.0), LearnedWidths()])
def test_inter_stage_trains_the_integers(exact_file: Path, clips: Clips, policy: RandomWidths | LearnedWidths) -> None:
    torch.manual_seed(0)
    random.seed(3)
    model = ExactFlagship(SMALL)
    load_initial(model, exact_file)
    if isinstance(policy, LearnedWidths):
        LearnedWidths.initialise(model)
    model.train()
    before = {n: c.integer_parameters()[0].clone() for n, c in picture_convs(model).items()}
    stage = InterStage(model, Sampler([clips], 0), policy, size=64, pixels=2 * 2 * 64 * 64, joint_from=0.0, intra_boost=0)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        loss, metrics = stage.step(0.1)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
    assert np.isfinite(metrics["psnr"])
    moved = [n for n, c in picture_convs(model).items() if not torch.equal(before[n], c.integer_parameters()[0])]
    assert {n for n in before if not n.startswith("intra.")} - set(moved) == set()
    assert all((getattr(g, t).grad != 0).any() for n, g in picture_gains(model).items() if n in ("inter.gain", "inter.decoder.units") for t in g.exact)


def test_intra_stage_trains_the_integers(exact_file: Path, clips: Clips) -> None:
    model = ExactFlagship(SMALL)
    load_initial(model, exact_file)
    loss, _ = IntraStage(model.train().intra, Sampler([clips], 0), 64, 2, slim_share=0.0).step(0.5)
    loss.backward()
    assert all((c.weight.grad != 0).any() for n, c in picture_convs(model).items() if n.startswith("intra."))


def test_a_stage_goes_on_with_an_exact_model(root: Path, exact_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("neuralcodec.training.stages.ExactFlagship", "neuralcodec.codecs.exact.ExactFlagship"):
        monkeypatch.setattr(place, lambda config=None: ExactFlagship(config or SMALL))
    run_stage(StageOptions(stage="long", data=(root / "clips",), run=tmp_path / "run", cache=root / "cache", init=(str(exact_file),), minutes=0.03, size=64, batch=1,
                           frames=3, threads=1, hypotheses=True))
    assert holds_exact(tmp_path / "run")
    result = CliRunner().invoke(train, ["export", "--run", str(tmp_path / "run"), "-o", str(tmp_path / "on.safetensors")])
    assert result.exit_code == 0, result.output
    first, then = (load_model(p).model for p in (exact_file, tmp_path / "on.safetensors"))
    assert isinstance(then, ExactFlagship)
    formats = [{n: c.format.tolist() for n, c in picture_convs(m).items() if isinstance(c, NarrowConv2d)} for m in (first, then)]
    assert formats[0] == formats[1]
    assert any(not torch.equal(c.weight, picture_convs(then)[n].weight) for n, c in picture_convs(first).items())


def test_a_stage_goes_on_in_floating_point_if_told_so(root: Path, exact_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights of the exact model's twin, which read planes in other units."""
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    options = StageOptions(stage="long", data=(root / "clips",), run=tmp_path / "run", cache=root / "cache", init=(str(exact_file),), minutes=0.02, size=64, batch=1,
                           frames=2, threads=1, rate=1e-12, floating=True)
    run_stage(options)
    assert not holds_exact(tmp_path / "run")
    trained = Flagship(SMALL)
    load_initial(trained, tmp_path / "run")
    twin = to_float(load_model(exact_file).model)
    for name in ("intra.analysis.enter.weight", "inter.extraction.enter.conv.weight"):
        torch.testing.assert_close(trained.state_dict()[name], twin.state_dict()[name])
    steps = load_progress(tmp_path / "run")
    run_stage(replace(options, minutes=0.04))  # resumes: the run's own state is in floating point already
    assert load_progress(tmp_path / "run") > steps


def load_progress(run: Path) -> int:
    with safe_open(run / "state.safetensors", "pt") as f:
        return int(f.metadata()["step"])


def test_calibration_clips_are_cut_from_the_packs(clips: Clips) -> None:
    drawn = list(calibration_clips([clips], 6, 4))
    assert sorted({len(c) for c in drawn}) == [4, 5]  # clips of 3 and 5 pictures, a cut, and one picture more
    assert all(p[0].shape == (128, 192) and p[1].shape == p[2].shape == (64, 96) and p[0].dtype == np.uint8 for c in drawn for p in c)
    assert [c[0][0].tobytes() for c in drawn] == [c[0][0].tobytes() for c in calibration_clips([clips], 6, 4)]
