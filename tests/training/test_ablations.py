"""Design elements that are switched off by weights: off in the real coder too, after training, export and loading, and on in a control."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import save_file

from neuralcodec.cli.train import train
from neuralcodec.codecs.coding import CONTEXTUAL, MOTION, FlagshipCoder, Parsed, Planes
from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig, Reference
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.codecs.part_coding import code_parts
from neuralcodec.core.errors import UsageError
from neuralcodec.entropy import Elements
from neuralcodec.nn.fixed import Fixed
from neuralcodec.training.ablations import ABLATIONS, Ablations
from neuralcodec.training.motion import code_motion
from neuralcodec.training.stages import StageOptions, run_stage
from neuralcodec.training.widths import RandomWidths

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))
SIZE = (80, 112)
GRID = (5, 7)
SUMS, DIFFERENCES = [0, 4], [1, 2, 3, 5, 6, 7]
QUALITIES = (0, 100, 200)


def disturbed(kind: type[Flagship] = Flagship) -> Flagship:
    """A new model reads many things by weights that are zero."""
    torch.manual_seed(3)
    model = kind(SMALL)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    return model


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a disturbed model."""
    folder = tmp_path_factory.mktemp("start")
    save_file({f"model.{n}": t.contiguous() for n, t in disturbed().state_dict().items()}, folder / "state.safetensors")
    return folder


@pytest.fixture(scope="module")
def trained(root: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Flagship]]:
    """Ablations -> the folder of a run with them, and the model that its export gives."""

    @functools.cache
    def train_and_export(*names: str) -> tuple[Path, Flagship]:
        run = tmp_path_factory.mktemp("_".join(names) or "control")
        options = [option for name in names for option in ("--ablate", name)]
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode(False):
            for place in ("neuralcodec.training.stages.Flagship", "neuralcodec.codecs.flagship.Flagship"):
                patch.setattr(place, lambda config=None: Flagship(config or SMALL))
            patch.setattr("neuralcodec.training.stages.RandomWidths", lambda: RandomWidths(0.0))
            patch.setattr("neuralcodec.training.runs.time", SimpleNamespace(time=lambda: 7))  # the seed
            for command in (["long", "--data", str(root / "clips"), "--cache", str(root / "cache"), "--run", str(run), "--init", str(start), *options, "--steps", "3",
                             "--rate", "0.3", "--frames", "3", "--size", "64", "--batch", "1"],
                            ["export", "--run", str(run), "-o", str(run / "model.safetensors")]):
                result = CliRunner().invoke(train, command)
                assert result.exit_code == 0, (result.output, result.exception)
        return run, load_model(run / "model.safetensors").model

    return train_and_export


def pictures() -> list[Planes]:
    """A texture that moves by (6, -4) samples a frame."""
    rng = np.random.default_rng(6)
    base = np.kron(rng.integers(30, 226, (40, 40)), np.ones((6, 6))).astype(np.float32)
    cut = [base[80 - 4 * n : 80 - 4 * n + SIZE[0], 6 * n : 6 * n + SIZE[1]] for n in range(3)]
    return [Planes(torch.from_numpy(y.copy())[None, None], torch.from_numpy(np.stack([y[::2, ::2]] * 2))[None]) for y in cut]


def code(model: Flagship, quality: int, previous: Callable[[Parsed], Parsed] = lambda p: p):
    """The third of three frames; ``previous`` may change what its priors read of the second one."""
    coder, (first, second, third) = FlagshipCoder(model), pictures()
    intra = coder.encode_intra(first, quality, SIZE)
    before = coder.encode_inter(second, quality, SIZE, first, intra.planes, intra.parsed)
    coded = coder.encode_inter(third, quality, SIZE, second, before.planes, previous(before.parsed))
    parsed = coder.parse("P", coded.payload, coded.modes, quality, SIZE, previous(before.parsed))
    assert parsed.digest_parts() == coded.parsed.digest_parts()
    return coded, before


def random_latent(channels: int, seed: int, size: int = 400) -> Fixed:
    g = torch.Generator().manual_seed(seed)
    return Fixed.from_integers(torch.randint(-size, size, (1, channels, *GRID), generator=g), 4, 32767)


def hyper(channels: int) -> Fixed:
    return Fixed.from_integers(torch.randint(-5, 6, (1, channels, 2, 2), generator=torch.Generator().manual_seed(9)), 0, 127)


def statistics(prior, temporal: list[Fixed], symbols: int = 1) -> list[list[np.ndarray]]:
    """What each part is coded with: scale, mean in sixteenths and derived mask, where parts before have ``symbols`` all over."""
    seen = []

    def record(part, scale, mean, derived):
        seen.append([scale.copy(), mean.copy(), derived.copy()])
        return Elements.of(np.full(mean.shape, symbols)), np.ones_like(derived)

    code_parts(prior, hyper(prior.hyper), temporal, 100, SIZE, record)
    return seen


def same(a: list[list[np.ndarray]], b: list[list[np.ndarray]]) -> list[bool]:
    """Of each part."""
    return [all(np.array_equal(x, y) for x, y in zip(*part, strict=True)) for part in zip(a, b, strict=True)]


# -- temporal --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "off"), [((), False), (("temporal",), True), (("temporal", "grid"), True)])
@torch.inference_mode()
def test_latents_of_the_frame_before_change_no_statistics(names: tuple[str, ...], off: bool, trained) -> None:
    _, model = trained(*names)
    motion, inter = model.motion.prior, model.inter.prior
    assert all(same(*(statistics(motion, [random_latent(8, seed)]) for seed in (1, 2)))) == off
    own = random_latent(8, 5)
    assert all(same(*(statistics(inter, [random_latent(24, seed), own]) for seed in (1, 2)))) == off
    assert not any(same(*(statistics(inter, [random_latent(24, 1), random_latent(8, seed)]) for seed in (5, 6))))
    replaced = Parsed({MOTION: random_latent(8, 7), CONTEXTUAL: random_latent(24, 8)}, {})
    coded, other = code(model, 100)[0], code(model, 100, lambda _: replaced)[0]
    assert (coded.payload == other.payload) == off


# -- parts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "off"), [((), False), (("parts",), True)])
@torch.inference_mode()
def test_parts_before_change_no_statistics_of_later_ones(names: tuple[str, ...], off: bool, trained) -> None:
    _, model = trained(*names)
    for prior, temporal in ((model.motion.prior, [random_latent(8, 1)]), (model.inter.prior, [random_latent(24, 1), random_latent(8, 2)])):
        parts = same(*(statistics(prior, temporal, symbols) for symbols in (2, -9)))
        assert parts == [True, off, off, off]
    intra = same(*(statistics(model.intra.prior, [], symbols) for symbols in (2, -9)))
    assert intra == [True, False, False, False], "intra frames keep their parts"


@torch.inference_mode()
def test_in_one_pass_sums_of_cells_begin_as_the_first_of_them() -> None:
    model = disturbed()
    prior, latents = model.motion.prior, [random_latent(8, 1)]
    features = prior.features(hyper(prior.hyper), latents, torch.tensor([100]), GRID)
    known = random_latent(8, 2)

    def values(part: int) -> list[torch.Tensor]:
        s = prior.statistics(features, torch.tensor([100]), part, known if part else None)
        return [s.mean.integers, s.scale_index()]

    last = values(3)
    Ablations(model, ["temporal"]).begin()
    assert not torch.equal(values(0)[0], values(1)[0])
    Ablations(model, ["parts"]).begin()
    assert all(torch.equal(a, b) for part in (1, 2) for a, b in zip(values(0), values(part), strict=True))
    with torch.no_grad():
        prior.later[1].mean_head.bias.add_(1)
    trained_on = values(2)
    Ablations(model, ["parts"]).begin()
    assert torch.equal(values(2)[0], trained_on[0]), "a stage that starts from a run without parts goes on with what that learned"
    assert len(values(0)[0].unique()) > 3 and not torch.equal(values(3)[0], values(0)[0]) and not torch.equal(values(3)[0], last[0])


# -- motion ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", QUALITIES)
@torch.inference_mode()
def test_without_motion_vectors_are_zero_and_cost_nothing(quality: int, trained) -> None:
    _, model = trained("motion")
    coded, before = code(model, quality)
    latent = coded.parsed.latents[MOTION]
    assert not latent.integers.any() and not coded.parsed.masks[MOTION].any()
    q = torch.tensor([quality])
    _, _, vectors = model.predict(latent.values, q, Reference(before.planes.y, before.planes.uv))
    assert vectors.shape == (1, 2, SIZE[0] // 8, SIZE[1] // 8) and not vectors.any()
    bits = coded.parsed.bits
    assert sum(n for name, n in bits.items() if name.startswith(MOTION)) < 0.1 < bits[CONTEXTUAL]


@torch.inference_mode()
def test_a_control_has_motion(trained) -> None:
    _, model = trained()
    coded, before = code(model, 200)
    latent = coded.parsed.latents[MOTION]
    assert latent.integers[:, SUMS].any() and latent.integers[:, DIFFERENCES].any()
    _, _, vectors = model.predict(latent.values, torch.tensor([200]), Reference(before.planes.y, before.planes.uv))
    assert vectors.any() and coded.parsed.bits[MOTION] > 10


def test_a_run_without_motion_predicts_the_frame_before(trained) -> None:
    run, _ = trained("motion")
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["psnr_prediction"] == pytest.approx(row["psnr_copy"], abs=1e-3)
    assert row["bpp_motion"] < 2e-3 < row["bpp_contextual"] and all(np.isfinite(v) for v in row.values())


# -- grid ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", QUALITIES)
@torch.inference_mode()
def test_a_coarse_grid_has_sums_of_cells_alone(quality: int, trained) -> None:
    _, model = trained("grid")
    coded, _ = code(model, quality)
    latent = coded.parsed.latents[MOTION].integers
    assert not latent[:, DIFFERENCES].any() and not coded.parsed.masks[MOTION][DIFFERENCES].any()
    assert latent[:, SUMS].any()


# -- training --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "zero"), [("motion", SUMS + DIFFERENCES), ("grid", DIFFERENCES)])
@pytest.mark.parametrize("skip", [None, 1.0])
def test_training_sees_the_same_latents(name: str, zero: list[int], skip: float | None, trained) -> None:
    _, model = trained(name)
    first, second, _ = pictures()
    reference, quality = Reference(first.y, first.uv), torch.tensor([150])
    flow = torch.tensor([6.0, -4.0]).view(1, 2, 1, 1).expand(1, 2, SIZE[0] // 8, SIZE[1] // 8)
    torch.manual_seed(0)
    m = code_motion(model.motion.train(), flow, second.y, reference, model.previous(reference)[1], quality, skip=skip)
    assert not m.value[:, zero].any() and not m.fixed.values[:, zero].any()
    assert bool(m.value[:, SUMS].any()) == (name == "grid")
    assert m.bits.isfinite().all() and m.hyper_bits.isfinite().all()
    vectors, _ = model.motion.eval().synthesise(m.value, quality, model.layers.pack(first.y, first.uv))
    assert bool(vectors.any()) == (name == "grid")


@pytest.mark.parametrize("names", [*((n,) for n in ABLATIONS), tuple(ABLATIONS)], ids="_".join)
def test_what_is_held_stays_and_the_rest_is_trained(names: tuple[str, ...], trained, start: Path) -> None:
    run, _ = trained(*names)
    with safe_open(run / "state.safetensors", "pt") as after, safe_open(start / "state.safetensors", "pt") as before:
        state, first = ({n.removeprefix("model."): f.get_tensor(n) for n in f.keys() if n.startswith("model.")} for f in (after, before))  # noqa: SIM118
    model = Flagship(SMALL)
    model.load_state_dict(state)
    Ablations(model, names).hold()
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items()), "it has drifted"
    model.load_state_dict(first)
    Ablations(model, names).hold()
    assert any(not torch.equal(t, first[n]) for n, t in model.state_dict().items()), "it was so before"
    with safe_open(run / "state.safetensors", "pt") as f:
        moments = {n: f.get_tensor(f"m.{n}") for n in state if f"m.{n}" in set(f.keys())}
    zeroed = Flagship(SMALL)
    zeroed.load_state_dict({n: moments.get(n, torch.zeros_like(t)) for n, t in state.items()})
    Ablations(zeroed, names).hold()
    skipped = "motion.prior.mode.leave.bias"
    assert all(torch.equal(t, moments[n]) for n, t in zeroed.state_dict().items() if n in moments and n != skipped), "it had gradients"
    fuse = "inter.prior.later.2.fuse.weight"
    features = model.inter.prior.fuse.cin
    assert not torch.equal(state[fuse][:, :features], first[fuse][:, :features])
    assert all(not torch.equal(state[n], first[n]) for n in ("inter.analysis.down.weight", "inter.decoder.head.weight", "motion.decoder.up.conv.weight"))


def test_no_optimiser_moves_what_is_held() -> None:
    """Weight decay moves it without a gradient, averages of earlier steps too."""
    model = disturbed()
    optimiser = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)

    def step() -> None:
        optimiser.zero_grad()
        sum(p.sum() for p in model.parameters()).backward()
        optimiser.step()

    step()
    Ablations(model, list(ABLATIONS)).hold_through(optimiser)
    step()
    after = {n: p.clone() for n, p in model.named_parameters()}
    Ablations(model, list(ABLATIONS)).hold()
    assert all(torch.equal(p, after[n]) for n, p in model.named_parameters())
    assert after["motion.prior.mode.leave.bias"].tolist() == [-2] * 8 and (after["motion.gain.encode"] == -16).all()


@torch.inference_mode()
def test_exact_models_are_held_too() -> None:
    model = disturbed(ExactFlagship)
    Ablations(model, ["motion"]).hold()
    coded, before = code(model.eval(), 200)
    assert not coded.parsed.latents[MOTION].integers.any()
    assert not model.predict(coded.parsed.latents[MOTION].values, torch.tensor([200]), Reference(before.planes.y, before.planes.uv))[2].any()


# -- options ---------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_as_it_began(trained, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    common = {"stage": "long", "data": (root / "clips",), "cache": root / "cache", "steps": 3, "size": 64, "batch": 1, "frames": 3}
    run, _ = trained("grid")
    for names in ((), ("temporal",), ("grid", "temporal")):
        with pytest.raises(UsageError, match="--ablate grid"):
            run_stage(StageOptions(run=run, ablate=names, **common))
    run_stage(StageOptions(run=run, ablate=("grid",), **common))
    with pytest.raises(UsageError, match="no ablations"):
        run_stage(StageOptions(run=trained()[0], ablate=("grid",), **common))


@pytest.mark.parametrize("stage", ["intra", "motion", "inter"])
def test_ablations_belong_to_stages_that_train_all_of_the_p_frames(stage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train, [stage, "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--ablate", "grid"])
    assert isinstance(result.exception, UsageError) and "--ablate" in str(result.exception)


def test_the_command_offers_what_there_is() -> None:
    for stage in ("long", "levels"):
        option = next(p for p in train.commands[stage].params if p.name == "ablate")
        assert list(option.type.choices) == list(ABLATIONS)
    with pytest.raises(UsageError, match="unknown ablation 'colour'"):
        Ablations(Flagship(SMALL), ["colour"])
