"""ELF-VC's frozen channel normalisation: steps are those of a network with normalised inputs, and the model stays one without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from neuralcodec.cli.train import train
from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.errors import UsageError
from neuralcodec.training import normalisation
from neuralcodec.training.loop import OPTIMISERS, Schedule
from neuralcodec.training.normalisation import EPSILON, SITES, ChannelNormalisation
from neuralcodec.training.widths import RandomWidths

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))
SCALES = torch.tensor([10.0, 1.0, 0.1]).view(1, 3, 1, 1)


class OneLayer(nn.Module):
    """A model whose only site is a convolution."""

    layers = SimpleNamespace(exact=False)

    def __init__(self, kernel: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, kernel, dtype=torch.float64)  # SOAP divides by the root of what may be rounding alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.fixture
def one_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisation, "SITES", {"conv": ""})


def inputs(step: int) -> torch.Tensor:
    """Channels of different magnitudes, not about zero."""
    g = torch.Generator().manual_seed(step)
    return SCALES * (torch.randn(2, 3, 6, 6, generator=g, dtype=torch.float64) + torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1))


def loss_of(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    edge = (x.shape[-1] - y.shape[-1]) // 2
    return (y - (x / SCALES)[:, :2, edge : edge + y.shape[2], edge : edge + y.shape[3]]).square().mean()


# -- the steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adamw", "soap"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_steps_are_those_of_a_layer_with_normalised_inputs(optimiser: str, kernel: int, one_site: None) -> None:
    ours, theirs, plain = OneLayer(kernel), OneLayer(kernel), OneLayer(kernel)
    normalised = ChannelNormalisation(ours, 1)
    makers = [OPTIMISERS[optimiser](list(m.parameters()), Schedule(rate=0.01)) for m in (ours, theirs, plain)]
    normalised.attach(makers[0])
    ours(inputs(0))
    normalised._counts["steps"] += 1  # what it has seen by now is what stays
    mean, deviation = normalised._layers["conv"].statistics()
    with torch.no_grad():  # the same function, of normalised inputs
        theirs.conv.bias += (theirs.conv.weight * mean).sum((1, 2, 3))
        theirs.conv.weight *= deviation
    for step in range(30):
        x = inputs(step)
        for model, made, seen in zip((ours, theirs, plain), makers, (x, (x - mean) / deviation, x), strict=True):
            made.zero_grad()
            loss_of(model(seen), x).backward()
            made.step()
    x = inputs(99)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs((x - mean) / deviation), atol=1e-6)
        assert not torch.allclose(ours(x), plain(x), atol=1e-2)


def test_a_step_of_nothing_changes_nothing(one_site: None) -> None:
    model = OneLayer()
    before = [p.clone() for p in model.parameters()]
    optimiser = torch.optim.AdamW(model.parameters(), 0.0, weight_decay=0.0)
    ChannelNormalisation(model, 3).attach(optimiser)
    for step in range(6):  # while averages move, and after
        loss_of(model(inputs(step)), inputs(step)).backward()
        optimiser.step()
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(before, model.parameters(), strict=True))


def test_averages_are_those_of_what_was_seen_until_they_freeze(one_site: None) -> None:
    model = OneLayer()
    optimiser = torch.optim.SGD(model.parameters(), 0.0)
    normalised = ChannelNormalisation(model, 3)
    normalised.attach(optimiser)
    for step in range(8):
        loss_of(model(inputs(step)), inputs(step)).backward()
        optimiser.step()
    seen = torch.cat([inputs(step) for step in range(3)])
    mean, deviation = (t.flatten() for t in normalised._layers["conv"].statistics())
    assert normalised.frozen
    assert torch.allclose(mean, seen.mean((0, 2, 3)), rtol=1e-3)
    assert torch.allclose(deviation, (seen.var((0, 2, 3), correction=0) + EPSILON).sqrt(), rtol=1e-3)
    assert mean.tolist() == pytest.approx([10, -2, 0.3], rel=0.2)


def test_late_calls_move_an_average_little(one_site: None) -> None:
    model = OneLayer()
    normalised = ChannelNormalisation(model, 10_000)
    normalised.attach(torch.optim.SGD(model.parameters(), 0.0))
    for _ in range(1500):
        normalised._gather("conv", torch.ones(1, 3, 1, 1, dtype=torch.float64))
    normalised._gather("conv", torch.full((1, 3, 1, 1), 101.0, dtype=torch.float64))
    mean, _ = normalised._layers["conv"].statistics()
    assert mean.flatten().tolist() == pytest.approx([1.1] * 3)


# -- the model -------------------------------------------------------------------------------------------------------------


def test_sites_are_the_layers_that_read_concatenations() -> None:
    model = Flagship(SMALL)
    found = ChannelNormalisation(model, 1)._layers
    widths = {n: layer.conv.weight.shape[1] for n, layer in found.items()}
    assert widths == {"motion.encoder.enter": 5, "motion.refinement.enter": 16 + 96, "inter.refinement.enter": 16 + 16, "inter.analysis.enter": 96 + 96 + 16,
                      "inter.decoder.fuse": 16 + 16} and list(widths) == list(SITES)
    model.motion.requires_grad_(False)
    assert [n for n in ChannelNormalisation(model, 1)._layers] == [n for n in SITES if n.startswith("inter.")]


def test_exact_models_are_refused() -> None:
    with pytest.raises(UsageError, match="--floating"):
        ChannelNormalisation(ExactFlagship(SMALL), 1)


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, torch.Tensor]]:
    for place in ("neuralcodec.training.stages.Flagship", "neuralcodec.codecs.flagship.Flagship"):
        monkeypatch.setattr(place, lambda config=None: Flagship(config or SMALL))
    monkeypatch.setattr("neuralcodec.training.stages.RandomWidths", lambda: RandomWidths(0.0))  # narrow steps do not read the context

    def command(folder: str, steps: int, *more: str) -> dict[str, torch.Tensor]:
        result = CliRunner().invoke(train, ["long", "--data", str(root / "clips"), "--cache", str(root / "cache"), "--run", str(tmp_path / folder), "--steps", str(steps),
                                            "--frames", "3", "--size", "64", "--batch", "1", *more])
        assert result.exit_code == 0, (result.output, result.exception)
        return load_file(tmp_path / folder / "state.safetensors")

    return command


def test_a_run_keeps_what_it_gathered_and_exports_as_any_other(run, tmp_path: Path) -> None:
    first = run("run", 2, "--freeze-normalisation", "3")
    names = {n.removeprefix("kept.normalisation.") for n in first if n.startswith("kept.")}
    assert names == {"steps", *SITES, *(f"{n}.calls" for n in SITES)}
    assert first["kept.normalisation.steps"] == 2 and first["kept.normalisation.inter.analysis.enter.calls"] == 4
    for name in SITES:
        mean, square = first[f"kept.normalisation.{name}"]
        assert (square - mean.square() > 0).any() and mean.isfinite().all()
    second = run("run", 3, "--freeze-normalisation", "3")
    assert second["kept.normalisation.steps"] == 3 and second["kept.normalisation.inter.analysis.enter.calls"] == 6
    third = run("run", 5, "--freeze-normalisation", "3")
    for name in SITES:
        assert torch.equal(third[f"kept.normalisation.{name}"], second[f"kept.normalisation.{name}"]), "they are frozen"
        assert not torch.equal(first[f"kept.normalisation.{name}"], second[f"kept.normalisation.{name}"])
    assert not torch.equal(third["model.inter.analysis.enter.weight"], second["model.inter.analysis.enter.weight"])
    # What was kept rules, not what is gathered anew.
    with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
        metadata = f.metadata()
    kept = "kept.normalisation.inter.decoder.fuse"
    save_file(third | {kept: torch.full_like(third[kept], 2.0)}, tmp_path / "run" / "state.safetensors", metadata)
    assert (run("run", 6, "--freeze-normalisation", "3")[kept] == 2).all()
    result = CliRunner().invoke(train, ["export", "--run", str(tmp_path / "run"), "-o", str(tmp_path / "m.safetensors")])
    assert result.exit_code == 0, result.output
    loaded = load_model(tmp_path / "m.safetensors").model
    last = load_file(tmp_path / "run" / "state.safetensors")
    assert torch.allclose(loaded.inter.analysis.enter.weight, last["model.inter.analysis.enter.weight"], atol=1e-3)
    assert set(loaded.state_dict()) == set(Flagship(SMALL).state_dict())


def test_it_goes_with_ablations_and_the_modulator(run) -> None:
    state = run("all", 3, "--freeze-normalisation", "2", "--modulator", "--ablate", "grid")
    assert state["kept.normalisation.steps"] == 3 and (state["kept.modulator"] >= 1).all()
    assert not state["model.motion.encoder.down.weight"][[1, 2, 3, 5, 6, 7]].any() and state["model.motion.encoder.down.weight"].isfinite().all()


@pytest.mark.parametrize("stage", ["intra", "motion", "inter", "levels"])
def test_the_option_belongs_to_the_stage_long(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [stage, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--freeze-normalisation", "5"])
    assert isinstance(result.exception, UsageError) and "--freeze-normalisation" in str(result.exception)
