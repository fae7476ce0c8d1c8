"""AdaNIC in training: maps, gradients, the loss falls, runs resume, export gives a model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from neuralcodec.cli.train import train
from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.jumc import tolerance
from neuralcodec.core.errors import UsageError
from neuralcodec.training import loop
from neuralcodec.training.adanic import RECORD, AdaNICOptions, AdaNICStage, export_adanic, read_record, run_adanic
from neuralcodec.training.adanic_agent import AgentOptions, Agents, AgentStage, export_agent, find_labels, run_agent
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.runs import keep_record

SMALL = AdaNICConfig((12, 8, 4), (16, 12, 8))


def options(root: Path, run: Path, kind: type[AdaNICOptions] = AdaNICOptions, **more) -> AdaNICOptions:
    return kind(data=(root / "clips",), run=run, cache=root / "cache", seed=1, size=64, batch=2, **more)


def stage(clips: Clips, size: int = 64, **more) -> AdaNICStage:
    torch.manual_seed(2)
    return AdaNICStage(AdaNIC(SMALL).train(), Sampler([clips], 0), size, 2, **more)


def test_a_step_has_the_largest_the_least_and_a_random_map(clips):
    one, seen = stage(clips, 128, mixed=0.7), []
    for _ in range(40):
        maps = one.draw_maps()
        assert maps["largest"].uniform == 0 and maps["least"].uniform == 2 and maps["random"].size == (8, 8)
        seen.append(maps["random"].uniform)
    assert {None, 0, 1, 2} == set(seen) and 15 < seen.count(None) < 35


def test_steps_lower_the_loss(clips):
    one = stage(clips)
    optimiser = torch.optim.Adam(one.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        torch.manual_seed(7)  # the same qualities, maps and noise each time
        one.sampler.rng = np.random.default_rng(3)
        loss, metrics = one.step(0.5)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0], losses
    assert {f"{name}_{which}" for name in ("bpp", "psnr_y") for which in ("largest", "least", "random")} == metrics.keys()


def test_every_parameter_learns_also_from_mixed_maps(clips):
    one = stage(clips, 128, mixed=1.0)
    for _ in range(3):
        one.step(0.5)[0].backward()
    without = [n for n, p in one.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert one.model.analysis.gdn2.beta_scale.root.grad.all()  # of every width


def test_transforms_wait_for_the_entropy_model(clips):
    one = stage(clips)
    one.step(0.0)[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in (*one.model.analysis.parameters(), *one.model.synthesis.parameters()))
    assert one.model.prior.fuse.weight.grad.any() and one.model.hyper_analysis.enter.weight.grad.any()


def test_a_run_resumes_and_is_exported(root, tmp_path, monkeypatch):
    ticks = itertools.count()  # each step takes 0.3 s, whatever the machine does
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.3 * next(ticks)))
    run = tmp_path / "run"
    run_adanic(options(root, run, minutes=0.02), SMALL)
    run_adanic(options(root, run, minutes=0.03), SMALL)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[1]["step"] > rows[0]["step"] > 0
    identity, model = export_adanic(run, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.identity == identity and loaded.levels == 3 and loaded.model.config == SMALL == read_record(run)
    assert torch.equal(loaded.model.prior.scale_head.integer_parameters()[0], model.prior.scale_head.integer_parameters()[0])


def test_a_run_of_other_sizes_is_not_gone_on_with(root, tmp_path):
    (tmp_path / "run").mkdir()
    keep_record(tmp_path / "run", RECORD, SMALL.to_dict())
    with pytest.raises(UsageError, match="channels 12, 8, 4"):
        run_adanic(options(root, tmp_path / "run"))
    with pytest.raises(UsageError, match="no run"):
        export_adanic(tmp_path, tmp_path / "model.safetensors")


def test_the_export_command_writes_a_model(root, tmp_path):
    run, model = tmp_path / "run", tmp_path / "model.safetensors"
    run_adanic(options(root, run, minutes=0.001), SMALL)
    result = CliRunner().invoke(train, ["export", "--run", str(run), "-o", str(model)])
    assert result.exit_code == 0 and "level 3: width 4" in result.output
    assert load_model(model).model.config == SMALL
    result = CliRunner().invoke(train, ["export", "--run", str(run), "--exact", "-o", str(model)])
    assert isinstance(result.exception, UsageError)
    assert "--table" in CliRunner().invoke(train, ["adanic", "--help"]).output
    assert AdaNICOptions(data=(), run=run, cache=run, table="low").config().n == (160, 144, 128, 112, 96)


# -- agents ----------------------------------------------------------------------------------------------------------------


def test_labels_are_the_narrowest_options_within_the_tolerance():
    costs = torch.tensor([[0, 0.5, 1.2, 3.0], [0, 2.0, 0.9, 1.1], [0, 1.1, 1.2, 1.3], [0, -1.0, -2.0, 1.0]])
    assert find_labels(costs).tolist() == [1, 2, 0, 3]


@pytest.fixture
def agent_stage(clips) -> AgentStage:
    torch.manual_seed(2)
    agents = Agents(AdaNICConfig((12, 8, 4), (16, 12, 8), 4))
    agents.supernet.requires_grad_(False)
    agents.supernet.agent.requires_grad_(True)
    return AgentStage(agents, Sampler([clips], 0), 4)


def test_the_teacher_learns_first_and_then_the_student(agent_stage):
    agents = agent_stage.agents
    for progress, learns, rests in ((0.1, agents.teacher, agents.supernet.agent), (0.6, agents.supernet.agent, agents.teacher)):
        agents.zero_grad(set_to_none=True)
        loss, metrics = agent_stage.step(progress)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learns.parameters())
        assert all(p.grad is None for p in rests.parameters())
        assert {name.rpartition("_")[2] for name in metrics if name.startswith("accuracy")} == {"teacher" if progress < 0.5 else "student"}


def test_costs_and_distillation_can_be_left_out(agent_stage):
    agents = agent_stage.agents
    agent_stage.gamma, agent_stage.sigma = 1.0, 0.0
    agent_stage.step(0.1)[0].backward()
    assert all(not p.grad.any() for p in agents.teacher.costs.parameters()) and all(p.grad.any() for p in agents.teacher.routing.parameters())
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        agent_stage.sampler = Sampler(agent_stage.sampler.packs, 0)
        losses.append(float(agent_stage.step(0.6)[0].detach()))
        with torch.no_grad():
            agents.teacher.routing[-1].bias += torch.tensor([5.0, 0.0, 0.0])
    assert losses[0] == losses[1]


def test_costs_of_downgrades_are_those_of_the_coder_in_tolerances(agent_stage):
    """Of one block, coded alone."""
    from neuralcodec.codecs.coders import coder_for
    from neuralcodec.codecs.coding import Planes
    from neuralcodec.codecs.files import export_tensors
    from neuralcodec.codecs.slimcae_coding import to_picture

    net = agent_stage.agents.supernet
    data = agent_stage.sampler.batch(64, 1, 1)
    y, uv, quality = data.y[0].float(), data.uv[0].float(), torch.tensor([150])
    found = agent_stage.downgrade_costs(to_picture(y, uv), y, uv, quality)[0]
    export_tensors(net.eval())  # freezes
    coder = coder_for(net)
    costs = [float(coder.block_costs(Planes(y, uv), 150, (64, 64), np.array([[o]]))[0, 0]) for o in range(3)]
    expected = [(c - costs[0]) / tolerance() for c in costs]
    assert found[0] == 0 and found.numpy() == pytest.approx(expected, rel=0.1, abs=2)


def test_agents_are_trained_for_a_supernet_and_exported_with_it(root, tmp_path):
    supernet, run, model = tmp_path / "supernet", tmp_path / "run", tmp_path / "model.safetensors"
    run_adanic(options(root, supernet, minutes=0.001), AdaNICConfig((12, 8, 4), (16, 12, 8), 4))
    for _ in range(2):  # the second one resumes
        run_agent(options(root, run, AgentOptions, minutes=0.001, init=(str(supernet),)))
    identity, exported = export_agent(run, model)
    loaded = load_model(model)
    assert loaded.identity == identity and loaded.model.agent is not None
    before = export_adanic(supernet, tmp_path / "before.safetensors")[1]
    assert torch.equal(before.analysis.stage1.weight, exported.analysis.stage1.weight)
    run_agent(options(root, tmp_path / "again", AgentOptions, costs=False, distillation=False, minutes=0.0001, init=(str(model),)))
    with pytest.raises(UsageError, match="one supernet"):
        run_agent(options(root, tmp_path / "none", AgentOptions))
    with pytest.raises(UsageError, match="no supernet"):
        run_agent(options(root, tmp_path / "none", AgentOptions, init=(str(root),)))
    with pytest.raises(UsageError, match="no run"):
        export_agent(tmp_path, model)
    result = CliRunner().invoke(train, ["export", "--run", str(run), "-o", str(model)])
    assert result.exit_code == 0 and "level 3: width 4" in result.output
    assert "--size" not in CliRunner().invoke(train, ["adanic-agent", "--help"]).output
