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
from neuralcodec.codecs.routing import TEACHER, RoutingAgent
from neuralcodec.core.errors import UsageError
from neuralcodec.training import adanic_agent, downgrades, loop
from neuralcodec.training.adanic import RECORD, AdaNICOptions, AdaNICStage, export_adanic, read_record, run_adanic
from neuralcodec.training.adanic_agent import DECISIONS, AgentOptions, AgentStage, export_agent, find_labels, run_agent
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.downgrades import QUALITIES, downgrade_costs, load_downgrades
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


BLOCKED = AdaNICConfig((12, 8, 4), (16, 12, 8), 4)


def new_supernet() -> AdaNIC:
    torch.manual_seed(2)
    return AdaNIC(BLOCKED).requires_grad_(False)


@pytest.fixture
def agent_stage(clips, tmp_path) -> AgentStage:
    data = load_downgrades(new_supernet(), [clips], tmp_path, 30)
    return AgentStage(RoutingAgent(3, TEACHER, costs=True), RoutingAgent(3, shrink=2), data, batch=4)


def test_teacher_and_student_learn_each_in_its_own_steps(agent_stage):
    teacher, student = agent_stage.teacher, agent_stage.student
    for step, learns, rests in ((agent_stage.teach, teacher, student), (agent_stage.study, student, teacher)):
        teacher.zero_grad(set_to_none=True)
        loss, metrics = step(0.1)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learns.parameters())
        assert all(p.grad is None for p in rests.parameters())
        assert {"accuracy", "degraded", "mae"} <= metrics.keys()


def test_heads_and_distillation_can_be_left_out(agent_stage):
    teacher = agent_stage.teacher
    for gamma, learns, rests in ((1.0, teacher.routing, teacher.costs), (0.0, teacher.costs, teacher.routing)):
        teacher.zero_grad(set_to_none=True)
        agent_stage.gamma, agent_stage.sigma = gamma, 0.0
        agent_stage.teach(0.1)[0].backward()
        assert all(not p.grad.any() for p in rests.parameters()) and all(p.grad.any() for p in learns.parameters())
    losses = []
    for _ in range(2):
        agent_stage.rng = np.random.default_rng(3)
        losses.append(float(agent_stage.study(0.7)[0].detach()))
        with torch.no_grad():
            teacher.routing[-1].bias += torch.tensor([5.0, 0.0, 0.0])
    assert losses[0] == losses[1]
    with pytest.raises(UsageError, match="no student"):
        AgentOptions(data=(), run=Path(), cache=Path(), heads="costs")
    with pytest.raises(UsageError, match="choose both"):
        AgentOptions(data=(), run=Path(), cache=Path(), heads="none")


def test_a_new_agent_s_convolutions_give_a_deviation_of_one(agent_stage, monkeypatch):
    monkeypatch.setattr(adanic_agent, "STARTING", 5)
    agent_stage.student.shrink = 1  # smaller, blocks of 64 would end in too few positions
    seen = []
    agent_stage.rng = np.random.default_rng(4)
    agent_stage.start(agent_stage.student)
    for conv in (m for m in agent_stage.student.modules() if isinstance(m, torch.nn.Conv2d)):
        conv.register_forward_hook(lambda module, given, result: seen.append(torch.std_mean(result, (0, 2, 3))))
    agent_stage.rng = np.random.default_rng(4)  # the same blocks
    with torch.no_grad():
        x, quality = agent_stage._draw(5)[:2]
        agent_stage.student.features(agent_stage.student.shrunk(x), quality)
    assert len(seen) > 30
    for deviation, mean in seen:
        assert deviation.numpy() == pytest.approx(1, abs=0.02) and mean.numpy() == pytest.approx(0, abs=0.02)


def test_agents_are_judged_by_blocks_that_they_do_not_learn_from(agent_stage):
    held = set(np.flatnonzero(agent_stage.data.held_out))
    assert held == {0, 10, 20} and len(agent_stage.samples) == 27 * QUALITIES and not held & set(agent_stage.samples[:, 0])
    costs, teacher = agent_stage.data.costs, agent_stage.teacher
    costs[:] = [0.0, 1.0, 0.5 * tolerance()]  # the label is 2
    with torch.no_grad():
        for head in (teacher.routing, agent_stage.student.routing, teacher.costs):
            head[-1].weight.zero_()
            head[-1].bias.zero_()
        teacher.routing[-1].bias[2] = 1.0
    found = agent_stage.judge()
    right, widest = {"accuracy": 1.0, "degraded": 0.0, "mae": 0.0}, {"accuracy": 0.0, "degraded": 0.0, "mae": 2.0}
    assert found == {"teacher": right, "student": widest, "constant": right, "samples": {"count": 3 * QUALITIES}}
    agent_stage.gamma = 0.0  # a teacher of costs alone decides by them
    with torch.no_grad():
        teacher.costs[-1].bias[1:] = 2.0
    assert agent_stage.judge()["teacher"] == widest


def test_costs_of_downgrades_are_those_of_the_coder(clips):
    """Of one block, coded alone."""
    from neuralcodec.codecs.coders import coder_for
    from neuralcodec.codecs.coding import Planes
    from neuralcodec.codecs.files import export_tensors

    net = new_supernet()
    data = Sampler([clips], 0).batch(64, 1, 1)
    y, uv, quality = data.y[0].float(), data.uv[0].float(), torch.tensor([150, 90])
    found = downgrade_costs(net, y, uv, quality)
    assert torch.equal(found[1:], downgrade_costs(net, y, uv, quality[1:]))
    export_tensors(net.eval())  # freezes
    coder = coder_for(net)
    costs = [float(coder.block_costs(Planes(y, uv), 150, (64, 64), np.array([[o]]))[0, 0]) for o in range(3)]
    expected = [(c - costs[0]) / tolerance() for c in costs]
    assert found[0, 0] == 0 and found[0].numpy() / tolerance() == pytest.approx(expected, rel=0.1, abs=2)


def test_costs_are_found_once_and_go_on_where_they_were_interrupted(clips, tmp_path, monkeypatch):
    net = new_supernet()
    whole = load_downgrades(net, [clips], tmp_path / "whole", 12)
    coded = []

    def interrupted(*given) -> torch.Tensor:
        if len(coded) == 7:
            raise KeyboardInterrupt
        coded.append(downgrade_costs(*given))
        return coded[-1]

    monkeypatch.setattr(downgrades, "downgrade_costs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_downgrades(net, [clips], tmp_path / "parts", 12)
    monkeypatch.setattr(downgrades, "downgrade_costs", lambda *given: coded.append(downgrade_costs(*given)) or coded[-1])
    parts = load_downgrades(net, [clips], tmp_path / "parts", 12)
    assert len(coded) == 12 and np.array_equal(parts.y, whole.y) and np.array_equal(parts.uv, whole.uv)
    assert np.array_equal(parts.costs, np.stack(coded)) and parts.costs.shape == (12, QUALITIES, 3)
    fewer = load_downgrades(net, [clips], tmp_path / "parts", 5)
    assert len(coded) == 12 and np.array_equal(fewer.costs, parts.costs[:5]) and len(fewer.y) == 5
    with torch.no_grad():
        next(net.gain.parameters()).add_(0.1)
    load_downgrades(net, [clips], tmp_path / "parts", 1)  # other weights have other costs
    assert len(coded) == 13 and len(list((tmp_path / "parts").iterdir())) == 2


def test_clips_to_judge_by_are_others_than_those_to_learn_from():
    frames = np.arange(40)[:, None, None] + np.zeros((1, 6, 4))
    clips = Clips(frames, [2] * 20)
    learned, judged = (downgrades._share(clips, held).frames[:, 0, 0] for held in (False, True))
    assert learned.tolist() == list(range(36)) and judged.tolist() == list(range(36, 40))
    alone = Clips(frames, [40])
    assert downgrades._share(alone, True) is alone is downgrades._share(alone, False)


def test_agents_are_trained_for_a_supernet_and_exported_with_it(root, tmp_path):
    supernet, run, model = tmp_path / "supernet", tmp_path / "run", tmp_path / "model.safetensors"
    run_adanic(options(root, supernet, minutes=0.001), BLOCKED)
    for _ in range(2):  # the second one resumes
        run_agent(options(root, run, AgentOptions, minutes=0.001, blocks=20, shrink=4, init=(str(supernet),)))
    assert {"teacher", "student", "constant", "samples"} == json.loads((run / DECISIONS).read_text()).keys()
    identity, exported = export_agent(run, model)
    loaded = load_model(model)
    assert loaded.identity == identity and loaded.model.agent.shrink == loaded.model.config.agent_shrink == 4
    before = export_adanic(supernet, tmp_path / "before.safetensors")[1]
    assert torch.equal(before.analysis.stage1.weight, exported.analysis.stage1.weight)
    run_agent(options(root, tmp_path / "again", AgentOptions, blocks=20, heads="routing", distillation=False, minutes=0.0001, init=(str(model),)))
    with pytest.raises(UsageError, match="one supernet"):
        run_agent(options(root, tmp_path / "none", AgentOptions))
    with pytest.raises(UsageError, match="no supernet"):
        run_agent(options(root, tmp_path / "none", AgentOptions, init=(str(root),)))
    with pytest.raises(UsageError, match="no run"):
        export_agent(tmp_path, model)
    result = CliRunner().invoke(train, ["export", "--run", str(run), "-o", str(model)])
    assert result.exit_code == 0 and "level 3: width 4" in result.output
    assert "--size" not in CliRunner().invoke(train, ["adanic-agent", "--help"]).output


def test_a_student_waits_until_its_teacher_has_finished(root, tmp_path, monkeypatch):
    supernet, run, ran = tmp_path / "supernet", tmp_path / "run", []
    run_adanic(options(root, supernet, minutes=0.001), BLOCKED)
    monkeypatch.setattr(loop.Loop, "run", lambda self, step: ran.append(self.folder.name))
    run_agent(options(root, run, AgentOptions, steps=5, blocks=20, init=(str(supernet),)))
    assert ran == ["teacher"] and not (run / DECISIONS).exists()
    monkeypatch.setattr(loop.Loop, "run", lambda self, step: ran.append((self.folder.name, self.schedule.steps)) or setattr(self, "step_count", 9))
    run_agent(options(root, run, AgentOptions, steps=5, blocks=20, init=(str(supernet),)))
    assert ran[1:] == [("teacher", 3), ("run", 2)] and (run / DECISIONS).exists()
