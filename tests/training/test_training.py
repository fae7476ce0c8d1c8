"""Training: data, losses, stages that resume, widths under a target, export."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import save_file

from neuralcodec.cli.train import train
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import pack
from neuralcodec.nn.selection import units
from neuralcodec.training.data import Batch, Clips, Sampler, chain_flow, decode_pack, paste_foreign
from neuralcodec.training.flow import load_flow
from neuralcodec.training.inter import InterStage
from neuralcodec.training.loss import psnr, quality_lambda, relative_cost, weighted_mse
from neuralcodec.training.stages import StageOptions, load_initial, run_stage
from neuralcodec.training.widths import LearnedWidths, RandomWidths, expected_complexity

SMALL = FlagshipConfig(IntraConfig(channels=16, latent=24, hyper=8, encoder_blocks=1, decoder_blocks=1),
                       MotionConfig(channels=16, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
                       InterConfig(channels=16, latent=24, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1,
                                   decoder_blocks=1, motion_channels=16, motion_latent=8))


def _write_clip(path: Path, seed: int, frames: int = 6) -> None:
    """A textured picture that moves by (3, 1) samples a frame."""
    import av

    rng = np.random.default_rng(seed)
    base = np.kron(rng.integers(40, 216, (24, 32)), np.ones((8, 8))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for t in range(frames):
            moved = np.roll(base, (t, 3 * t), (0, 1))[:128, :192]
            i420 = np.concatenate([moved, np.full((64, 192), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(i420, "yuv420p")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train")
    (root / "clips").mkdir()
    for seed in (1, 2):
        _write_clip(root / "clips" / f"{seed}.mp4", seed)
    return root


@pytest.fixture(scope="module")
def clips(folder: Path) -> Clips:
    pack_ = decode_pack(folder / "clips", folder / "cache")
    pack_.flow = load_flow(pack_, folder / "cache", "clips")
    return pack_


def test_pack_is_decoded_once_and_found_again(folder: Path, clips: Clips) -> None:
    assert clips.frames.shape == (12, 192, 192)
    assert clips.lengths == [6, 6]
    stamp = (folder / "cache" / "clips.frames.npy").stat().st_mtime_ns
    again = decode_pack(folder / "clips", folder / "cache")
    assert (folder / "cache" / "clips.frames.npy").stat().st_mtime_ns == stamp
    assert np.array_equal(again.frames, clips.frames)


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        decode_pack(tmp_path, tmp_path / "cache")


def test_flow_labels_point_backwards_in_luma_samples(clips: Clips) -> None:
    inner = clips.flow[0, :5, 4:-4, 4:-4].astype(float)  # the picture wraps round at its borders
    assert np.allclose(np.median(inner, (0, 1, 2)), [-3, -1], atol=0.3)
    assert np.allclose(np.median(clips.flow[1, :5, 4:-4, 4:-4].astype(float), (0, 1, 2)), [3, 1], atol=0.3)


@pytest.mark.parametrize(("skips", "scale"), [((1.0,), 0.0), ((0.0, 1.0), 0.0), ((1.0,), 0.4)])
@pytest.mark.parametrize("seed", range(6))
def test_crops_flips_and_reversal_keep_flow_and_frames_together(clips: Clips, seed: int, skips: tuple[float, ...], scale: float) -> None:
    """Warping the earlier frame of a batch by its flow label must give the later one, however it was turned and whatever was left out."""
    from neuralcodec.nn.compensation import compensate

    batch = Sampler([clips], seed, gamma=0.0, skips=skips, scale=scale).batch(64, 4, 3, flow=True)
    y, uv = batch.y.float(), batch.uv.float()
    for t in (1, 2):
        still = (y[t] - y[t - 1]).square().mean()
        moved = (y[t] - compensate(y[t - 1], uv[t - 1], batch.flow[t - 1])[0]).square().mean()
        assert moved < 0.5 * still


def test_half_of_the_samples_have_stronger_chroma(clips: Clips) -> None:
    """By one factor in all their frames, about gray, which stays; luma as it is."""
    frames = np.array(clips.frames)
    frames[:, clips.height :] = np.arange(clips.width) % 40 + 100
    plain, strong = (Sampler([replace(clips, frames=frames)], 5, gamma=0.0, saturation=s) for s in (0.0, 1.0))
    factors = []
    for _ in range(40):
        state = plain.rng.bit_generator.state
        before = plain.batch(64, 1, 3)
        strong.rng.bit_generator.state = state
        after = strong.batch(64, 1, 3)
        assert torch.equal(before.y, after.y)
        a, b = (x.uv.double() - 128 for x in (before, after))
        factor = float((a * b).sum() / (a * a).sum())
        assert (b - (a * factor).clamp(-128, 127)).abs().max() <= 1.5
        factors.append(factor)
    assert 10 < sum(f > 1.001 for f in factors) < 30 and min(factors) > 0.999 and 1.5 < max(factors) < 2.72


def test_chained_flow_follows_each_cell() -> None:
    flow = np.zeros((4, 1, 4, 2), np.float32)
    flow[1::2, ..., 0] = 16.0  # the later frame of each pair of steps points two cells to the right
    flow[0, 0, :, 1], flow[2, 0, :, 1] = [1, 2, 3, 4], [5, 6, 7, 8]
    chained = chain_flow(flow, 2)
    assert chained.shape == (2, 1, 4, 2)
    assert chained[0, 0].tolist() == [[16, 3], [16, 4], [16, 4], [16, 4]]
    assert chained[1, 0].tolist() == [[16, 7], [16, 8], [16, 8], [16, 8]]


def test_foreign_pictures_come_in_and_stay() -> None:
    count, size = 4, 64
    y = torch.arange(count, dtype=torch.uint8).view(1, count, 1, 1, 1).expand(4, count, 1, size, size).contiguous()
    batch = Batch(y, y[..., ::2, ::2].expand(4, count, 2, -1, -1).contiguous(), y[1:, ..., ::8, ::8].float().expand(3, count, 2, -1, -1).contiguous())
    pasted = paste_foreign(batch, np.random.default_rng(0), 1.0)
    assert torch.equal(pasted.y[0], batch.y[0]), "the first picture is what it was"
    for b in range(count):
        foreign = pasted.y[:, b, 0] != b  # (T, H, W)
        assert foreign.any(), "every sample was to have one"
        assert all((foreign[t] <= foreign[t + 1]).all() for t in range(3)), "what came in stays"
        assert torch.equal(pasted.foreign[:, b, 0], (foreign[1:] & ~foreign[:-1])[:, ::8, ::8]), "cells count as foreign where they come in"
        assert torch.equal(pasted.uv[:, b, 1], pasted.y[:, b, 0, ::2, ::2]) and torch.equal(pasted.flow[:, b, 0], pasted.y[1:, b, 0, ::8, ::8].float())
    none = paste_foreign(batch, np.random.default_rng(0), 0.0)
    assert torch.equal(none.y, batch.y)


def test_lambda_is_geometric_and_loss_weights_planes() -> None:
    lam = quality_lambda(torch.tensor([0, 100, 200]))
    assert torch.allclose(lam[1] ** 2, lam[0] * lam[2], rtol=1e-4)
    a, b = torch.zeros(1, 96, 2, 2), torch.zeros(1, 96, 2, 2)
    b[:, :64] = 0.1
    assert torch.allclose(weighted_mse(a, b), torch.tensor([6 / 8 * 0.01]))
    assert float(psnr(torch.tensor(0.01))) == pytest.approx(20.0, abs=1e-4)


def test_a_share_of_the_cost_counts_alike_in_all_samples() -> None:
    """But for those that cost next to nothing."""
    cost = torch.tensor([0.001, 0.5, 5.0], requires_grad=True)
    relative_cost(cost).backward()
    share = 3 * cost.grad * cost.detach()
    assert share[0] < 0.01
    assert share[1:].tolist() == pytest.approx([5 / 6, 50 / 51], abs=1e-5)


def test_inter_stage_learns_on_a_moving_texture(clips: Clips) -> None:
    torch.manual_seed(0)
    random.seed(0)
    model = Flagship(SMALL)
    stage = InterStage(model, Sampler([clips], 0), RandomWidths(0.0), size=64, pixels=4 * 2 * 64 * 64, joint_from=0.0, intra_boost=0)
    for p in model.intra.parameters():
        p.requires_grad_(False)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 2e-3)

    @torch.no_grad()
    def same_batches() -> float:
        """The cost of four steps that are the same whenever this is called: a step's own varies with its quality."""
        fixed = replace(stage, sampler=Sampler([clips], 1))
        torch.manual_seed(1)
        return float(np.mean([fixed.step(0.3)[1]["cost"] for _ in range(4)]))

    before = same_batches()
    for _ in range(25):
        loss, metrics = stage.step(0.3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert same_batches() < 0.9 * before
    assert {"bpp_motion", "bpp_contextual", "psnr", "psnr_prediction", "psnr_copy"} <= set(metrics)
    for name in ("motion.encoder", "motion.decoder", "inter.analysis", "inter.decoder", "inter.prior"):
        module = model.get_submodule(name)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters()), f"{name} gets no gradient"


def test_stage_resumes_where_it_stopped_and_export_loads(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    monkeypatch.setattr("neuralcodec.codecs.flagship.Flagship", lambda config=None: Flagship(config or SMALL))
    options = StageOptions(stage="intra", data=(folder / "clips",), run=tmp_path / "run", cache=folder / "cache", minutes=0.03, size=64, batch=2, threads=1)
    run_stage(options)
    with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
        first = f.metadata()
        weight = f.get_tensor("model.intra.synthesis.head.weight")
    assert int(first["step"]) > 0
    run_stage(StageOptions(**{**vars(options), "minutes": 0.06}))
    with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
        second = f.metadata()
        assert not torch.equal(weight, f.get_tensor("model.intra.synthesis.head.weight"))
        assert any(n.startswith("m.") for n in f.keys())  # noqa: SIM118 - not a dict
    assert int(second["step"]) > int(first["step"])
    assert float(second["elapsed"]) > float(first["elapsed"])
    result = CliRunner().invoke(train, ["export", "--run", str(tmp_path / "run"), "-o", str(tmp_path / "m.safetensors")])
    assert result.exit_code == 0, result.output
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.levels == 3
    assert loaded.identity.hex() in result.output
    # Training can go on from the landed weights alone.
    model = Flagship(SMALL)
    load_initial(model, f"{tmp_path / 'm.safetensors'}#intra")
    before = loaded.model.state_dict()
    assert all(torch.allclose(t, before[n], atol=1e-3) for n, t in model.intra.named_parameters(prefix="intra"))


def _one_part(config: FlagshipConfig) -> FlagshipConfig:
    return FlagshipConfig(*(replace(part, parts=1) for part in (config.intra, config.motion, config.inter)))


@pytest.mark.parametrize("source", ["run", "model file"])
def test_a_model_of_one_part_starts_the_later_parts_too(source: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    old = Flagship(_one_part(SMALL))
    with torch.no_grad():
        for p in old.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    if source == "run":
        path = tmp_path
        save_file({f"model.{n}": t.contiguous() for n, t in old.state_dict().items()}, tmp_path / "state.safetensors")
    else:
        path = tmp_path / "m.safetensors"
        save_model(path, old, [bytes(len(units(old)))])
    model = Flagship(SMALL)
    before = {n: t.clone() for n, t in model.motion.state_dict().items()}
    load_initial(model, f"{path}#intra,inter")
    assert all(torch.equal(t, before[n]) for n, t in model.motion.state_dict().items())
    load_initial(model, path)
    for own, theirs in ((model.intra.prior, old.intra.prior), (model.inter.prior, old.inter.prior), (model.motion.prior, old.motion.prior)):
        inputs, outputs = theirs.fuse.weight.shape[1], theirs.fuse.weight.shape[0]
        assert torch.allclose(own.fuse.weight, theirs.fuse.weight, atol=0.02) and own.parts > 1
        for part in (own.later[i] for i in range(own.parts - 1)):
            assert torch.allclose(part.fuse.weight[:outputs, :inputs], theirs.fuse.weight, atol=0.02)
            assert not part.fuse.weight[:outputs, inputs:].any()
            assert torch.allclose(part.fuse_mix.weight[:outputs], theirs.fuse_mix.weight, atol=0.02)
            assert torch.allclose(part.scale_head.weight[:, :outputs], theirs.scale_head.weight, atol=0.02)
            assert torch.allclose(part.scale_quality.anchors, theirs.scale_quality.anchors, atol=0.02)
        # So that a later part says what the first would, whatever that came out as. (Vectors begin at their neighbours' mean instead.)
        z = Fixed.from_integers(torch.randint(-9, 9, (1, own.hyper, 1, 1)), 0, 127)
        shapes = {"intra": [], "inter": [own.channels, 8], "motion": [8]}[next(n for n, m in model.named_children() if m.prior is own)]
        latents = [Fixed.from_integers(torch.randint(-99, 99, (1, n, 3, 4)), 4, 32767) for n in shapes]
        quality = torch.tensor([60])
        features = own.features(z, latents, quality, (3, 4))
        known = Fixed.from_integers(torch.randint(-999, 999, (1, own.channels, 3, 4)), 4, 32767)
        first = own.statistics(features, quality)
        for part in range(1, own.parts):
            later = own.statistics(features, quality, part, known)
            assert torch.equal(first.scale_index(), later.scale_index())
            assert torch.equal(first.mean.integers, later.mean.integers) == (not own.direct)


def test_a_model_of_fewer_parts_hands_its_later_ones_on(tmp_path: Path) -> None:
    """Contextual latents of two parts, vectors of three, as in models of before."""
    torch.manual_seed(5)
    old = Flagship(FlagshipConfig(replace(SMALL.intra, parts=2), replace(SMALL.motion, parts=3), replace(SMALL.inter, parts=2)))
    with torch.no_grad():
        for p in old.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    save_file({f"model.{n}": t.contiguous() for n, t in old.state_dict().items()}, tmp_path / "state.safetensors")
    model = Flagship(SMALL)
    load_initial(model, tmp_path)
    for name in ("intra", "inter"):
        second = old.get_submodule(name).prior.later[0].state_dict()
        for part in (model.get_submodule(name).prior.later[i].state_dict() for i in range(3)):
            assert all(torch.equal(t, second[n]) for n, t in part.items() if n != "spatial_mix.weight")
            center = part["spatial_mix.weight"][:, 0, 1, 1]
            assert (center == 0.5).all() and torch.equal(part["spatial_mix.weight"][:, 0, 0], second["spatial_mix.weight"][:, 0, 0])
    theirs, own = old.motion.prior, model.motion.prior
    for i in range(2):
        assert all(torch.equal(t, theirs.later[i].state_dict()[n]) for n, t in own.later[i].state_dict().items())
    assert torch.equal(own.later[2].scale_quality.anchors, own.scale_quality.anchors)


def test_trained_later_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(4)
    source = Flagship(SMALL)
    with torch.no_grad():
        for p in source.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    save_file({f"model.{n}": t.contiguous() for n, t in source.state_dict().items()}, tmp_path / "state.safetensors")
    model = Flagship(SMALL)
    load_initial(model, tmp_path)
    assert all(torch.equal(t, source.state_dict()[n]) for n, t in model.state_dict().items())


def test_a_signal_ends_a_stage_with_its_state_saved(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    run_stage(StageOptions(stage="motion", data=(folder / "clips",), run=tmp_path / "run", cache=folder / "cache", minutes=5, size=64, batch=2, threads=1))
    timer.cancel()
    with safe_open(tmp_path / "run" / "state.safetensors", "pt") as f:
        assert 0 < float(f.metadata()["elapsed"]) < 60


def test_unknown_stage_and_missing_start_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run_stage(StageOptions(stage="fast", data=(folder / "clips",), run=tmp_path, cache=folder / "cache"))
    with pytest.raises(InputError):
        load_initial(Flagship(SMALL), tmp_path / "nothing")


def test_selection_moves_towards_its_complexity_target() -> None:
    """With no distortion to lose, the Lagrangian drives each level's widths to its target and not far below (paper 000, equation 4)."""
    torch.manual_seed(0)
    random.seed(0)
    model = Flagship(SMALL)
    policy = LearnedWidths(targets=(1.0, 0.5, 0.2), ascent=0.05, temperature_start=2.0)
    LearnedWidths.initialise(model)
    for unit in units(model).values():  # start both lower levels at full width
        with torch.no_grad():
            unit.selection.logits[1:] = torch.tensor([1.0, 0.0, 0.0])
    optimiser = torch.optim.Adam([u.selection.logits for u in units(model).values()], 0.05)
    for i in range(400):
        penalty, _ = policy.draw(model, 0.6 * i / 400)
        if penalty.requires_grad:
            optimiser.zero_grad()
            penalty.backward()
            optimiser.step()
    assert expected_complexity(model, 1) == 1.0
    assert expected_complexity(model, 2) < 0.75
    assert expected_complexity(model, 3) < expected_complexity(model, 2) + 1e-9


def test_a_resumed_run_knows_whether_it_learns_widths(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that began from widths that were learned leaves them alone, without being told again what it began from; one that learns them goes on learning, under
    the same penalty."""
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    policies: list[LearnedWidths] = []
    kept = LearnedWidths.kept
    monkeypatch.setattr(LearnedWidths, "kept", lambda self: policies.append(self) or kept(self))
    options = StageOptions(stage="levels", data=(folder / "clips",), run=tmp_path / "new", cache=folder / "cache", steps=2, size=64, batch=1, frames=2, threads=1)
    run_stage(options)
    first = run_stage(replace(options, steps=4))
    assert [float(p.freeze_from) for p in policies] == pytest.approx([0.4, 0.4])
    learned = replace(options, run=tmp_path / "learned")
    run_stage(replace(learned, init=(str(tmp_path / "new"),)))
    last = run_stage(replace(learned, steps=4))
    assert [float(p.freeze_from) for p in policies[2:]] == [0.0, 0.0]
    assert all(a.selection.choose(i) == b.selection.choose(i) for i in (2, 3) for a, b in zip(units(first).values(), units(last).values(), strict=True))


def test_widths_that_were_learned_stay() -> None:
    """A second stage "levels" goes on with the selection that it finds, undisturbed from the start."""
    model = Flagship(SMALL)
    assert LearnedWidths.initialise(model)
    for number, unit in enumerate(units(model).values()):
        with torch.no_grad():
            unit.selection.logits[1:].zero_()[:, number % 3] = 3.0
    assert not LearnedWidths.initialise(model)
    policy = LearnedWidths(freeze_from=torch.tensor(0.0))
    for _ in range(12):
        penalty, _ = policy.draw(model, 0.0)
        assert float(penalty) == 0 and all(u.mixture is None for u in units(model).values())
        options = [u.option for u in units(model).values()]
        assert options in ([0] * len(options), [n % 3 for n in range(len(options))])


def test_metrics_file_has_one_object_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("neuralcodec.training.stages.Flagship", lambda config=None: Flagship(config or SMALL))
    run_stage(StageOptions(stage="intra", data=(folder / "clips",), run=tmp_path / "run", cache=folder / "cache", minutes=0.02, size=64, batch=2, threads=1))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows
    assert {"step", "minutes", "loss", "bpp", "psnr_y"} <= set(rows[0])


def test_batch_packs_to_network_input(clips: Clips) -> None:
    batch = Sampler([clips], 3).batch(64, 2, 1)
    assert pack(batch.y[0].float(), batch.uv[0].float()).shape == (2, 96, 8, 8)


def test_networks_at_the_top_do_what_they_did_at_its_place() -> None:
    """All that reads the quality moves together: gains, units of steps, hyper gains, and the motion encoder's own view of it."""
    from neuralcodec.training.calibrate import set_top_quality

    torch.manual_seed(5)
    model = Flagship(SMALL).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".prior." not in name:
                p.add_(0.05 * torch.randn(p.shape))
    x, prediction, context, reference = (torch.randn(1, c, 8, 8) for c in (96, 96, 16, 96))
    flow, still, moved, y, m = (torch.randn(1, c, n, n) for c, n in ((2, 8), (1, 8), (1, 8), (24, 4), (8, 4)))

    @torch.inference_mode()
    def outputs(quality: int) -> list[torch.Tensor]:
        q = torch.tensor([quality])
        return [*model.intra.analyse(x, q), model.intra.synthesise(y, q), *model.motion.analyse(flow, still, moved, q),
                *model.motion.synthesise(m, q, reference), *model.inter.analyse(x, prediction, context, q),
                model.inter.synthesise(y, prediction, context, q)]

    low, middle, high = (outputs(q) for q in (0, 80, 160))
    set_top_quality(model, 80)
    for old, quality in ((low, 0), (middle, 100), (high, 200)):
        for a, b in zip(old, outputs(quality), strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert all(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(low, high, strict=True))


def test_top_quality_moves_the_scale_and_keeps_its_lower_end() -> None:
    from neuralcodec.nn.quality import interpolate
    from neuralcodec.training.calibrate import set_top_quality

    torch.manual_seed(0)
    model = Flagship(SMALL)
    gain = model.intra.gain
    with torch.no_grad():
        gain.encode.copy_(torch.linspace(0, 8, 9)[:, None] + torch.rand(1, gain.encode.shape[1]))
    before = gain.encode.clone()
    set_top_quality(model, 80)
    assert torch.equal(gain.encode[0], before[0])

    def at(table: torch.Tensor, q: int) -> torch.Tensor:
        return interpolate(table, torch.tensor([q]))

    assert torch.allclose(at(gain.encode, 200), at(before, 160), atol=1e-5)
    assert torch.allclose(at(gain.encode, 100), at(before, 80), atol=1e-5)
    with pytest.raises(UsageError):
        set_top_quality(model, 0)


def test_a_scale_that_is_raised_keeps_what_there_was_and_goes_on() -> None:
    from neuralcodec.nn.quality import interpolate
    from neuralcodec.training.calibrate import match_scale

    torch.manual_seed(0)
    model, other = Flagship(replace(SMALL, step_gain=(1.3, 5.3))), Flagship(replace(SMALL, step_gain=(1.3, 6.3)))
    gain = model.intra.gain
    with torch.no_grad():
        start = torch.linspace(1.3, 5.3, 9)[:, None] + torch.rand(1, gain.encode.shape[1])
        gain.encode.copy_(start)
        gain.encode[5:, 0] += torch.arange(4) * 2.0  # one channel of which little is left
        gain.decode.copy_(-start)
    before = gain.encode.clone()
    match_scale(model, other)
    assert model.config.step_gain == other.config.step_gain
    for anchor, old in ((0, 0), (4, 125)):
        assert torch.allclose(gain.encode[anchor], interpolate(before, torch.tensor([old]))[0], atol=1e-4)
    beyond = gain.encode[-1] - gain.encode[-2]
    assert torch.allclose(beyond, torch.full_like(beyond, 0.625), atol=1e-3), "all go on as most did"
    assert torch.allclose(gain.decode[-1] - gain.decode[-2], -beyond, atol=1e-3)
    with pytest.raises(UsageError):
        match_scale(model, Flagship(replace(SMALL, step_gain=(0.0, 5.3))))
