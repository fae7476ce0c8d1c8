"""Stage "adanic-agent": the routing agents of AdaNIC (paper 003, section 3.5) for a supernet that stays as it is; and the run that carries it out.

A sample is a block of a picture at a random quality, coded at each capacity: that gives its label (equation 9) and the costs of its downgrades (6). In
the first half of the time a teacher learns both (11, 12), in the second half a student learns from it and from the labels (13).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.jumc import tolerance
from neuralcodec.codecs.routing import TEACHER, RoutingAgent
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.layout import ALIGN
from neuralcodec.nn.quality import quality_lambda
from neuralcodec.training import adanic
from neuralcodec.training.data import Sampler
from neuralcodec.training.loop import Loop
from neuralcodec.training.loss import draw_quality
from neuralcodec.training.runs import find_record, keep_record
from neuralcodec.training.slimcae import draw_crops, plane_errors
from neuralcodec.training.stages import load_initial

RECORD = "adanic-agent.json"
"""In a run's folder: the model's sizes."""
TEACHER_SHARE = 0.5
"""Progress at which the student takes over."""
GAMMA, SIGMA = 0.5, 0.5
"""Of equations 12 and 13. The paper gives the second."""
MOST_COST = 4.0
"""Tolerances beyond which a cost says no more."""


@dataclass(frozen=True, kw_only=True)
class AgentOptions(adanic.AdaNICOptions):
    """For the paper's Table 6: without ``costs`` the teacher has no use for its second head, without ``distillation`` the student learns from labels alone."""

    costs: bool = True
    distillation: bool = True


class Agents(nn.Module):
    """What a run holds: the supernet with its student, and the teacher."""

    def __init__(self, config: AdaNICConfig) -> None:
        super().__init__()
        self.supernet = AdaNIC(replace(config, agent=True))
        self.teacher = RoutingAgent(len(config.n), TEACHER, costs=True)


@dataclass
class AgentStage:
    """One training step."""

    agents: Agents
    sampler: Sampler
    batch: int = 8
    gamma: float = GAMMA
    sigma: float = SIGMA

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        net = self.agents.supernet
        device = next(self.agents.teacher.parameters()).device
        y, uv = draw_crops(self.sampler, net.config.block * ALIGN, self.batch, 0.0, device)
        quality = draw_quality(self.batch, device)
        x = to_picture(y, uv)
        costs = self.downgrade_costs(x, y, uv, quality)
        labels = find_labels(costs)
        if progress < TEACHER_SHARE:
            logits, foretold = self.agents.teacher.both(x, quality)
            action = F.cross_entropy(logits, labels)
            surrogate = F.mse_loss(foretold, costs.clamp(-MOST_COST, MOST_COST))
            return self.gamma * action + (1 - self.gamma) * surrogate, _measured("teacher", logits, labels) | {"cost_mse": float(surrogate.detach())}
        with torch.no_grad():
            taught = self.agents.teacher(x, quality)
        logits = net.agent(x, quality)
        distance = F.kl_div(F.log_softmax(logits, 1), F.softmax(taught, 1), reduction="batchmean")
        return self.sigma * distance + (1 - self.sigma) * F.cross_entropy(logits, labels), _measured("student", logits, labels)

    @torch.no_grad()
    def downgrade_costs(self, x: Tensor, y: Tensor, uv: Tensor, quality: Tensor) -> Tensor:
        """What each option costs more than the widest (equation 6), in tolerances: (B, K)."""
        net, block, found = self.agents.supernet, self.agents.supernet.config.block, []
        for option in range(net.options):
            tcm = CapacityMap.of_blocks(np.array([[option]]), block, block, block)
            latent, z = net.analyse(x, quality, tcm)
            soft = soft_latent(net.prior_at(tcm), latent, z, [], quality, noise=False, lam=LAMBDAS[CONTEXTUAL])
            luma, *chroma = plane_errors(net.synthesise(soft.value, quality, tcm), y, uv)
            error = (6 * luma + sum(chroma)) / 8
            found.append((soft.bits + soft.hyper_bits) / y[0, 0].numel() + quality_lambda(quality) * error)
        costs = torch.stack(found, 1)
        return (costs - costs[:, :1]) / tolerance()


def find_labels(costs: Tensor) -> Tensor:
    """The narrowest option within the tolerance (equation 9), from costs in tolerances (B, K): (B,)."""
    return ((costs <= 1) * torch.arange(costs.shape[1], device=costs.device)).amax(1)


def _measured(who: str, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, share of choices below the label's capacity, and mean absolute error in options, as in the paper's table 6."""
    wrong = (logits.detach().argmax(1) - labels).float()
    return {f"accuracy_{who}": float((wrong == 0).float().mean()), f"degraded_{who}": float((wrong > 0).float().mean()),
            f"mae_{who}": float(wrong.abs().mean())}


def supernet_config(source: str) -> AdaNICConfig:
    """The sizes of a supernet in a run's folder or a model file. Raises UsageError, ModelError."""
    path = Path(source)
    if path.is_dir():
        config = adanic.read_record(path)
    else:
        model = load_model(path).model
        config = model.config if isinstance(model, AdaNIC) else None
    if config is None:
        raise UsageError(f"{source} holds no supernet of the stage adanic")
    return config


def run_agent(options: AgentOptions) -> Agents:
    """Train until the minutes or steps are over or the run is interrupted; the state is saved either way. ``options.init`` names the supernet.

    Raises UsageError, InputError, ModelError."""
    if len(options.init) != 1:
        raise UsageError("the stage adanic-agent needs one supernet: --init RUN or --init MODEL")
    config = supernet_config(options.init[0])
    seed = options.begin()
    agents = Agents(config)
    load_initial(agents.supernet, options.init[0])
    agents.requires_grad_(False)
    for agent in (agents.supernet.agent, agents.teacher):
        agent.requires_grad_(True)
    agents.to(torch.device(options.device), memory_format=torch.channels_last)
    keep_record(options.run, RECORD, config.to_dict())
    stage = AgentStage(agents, Sampler(options.load_clips(), seed), options.batch or 8,
                       GAMMA if options.costs else 1.0, SIGMA if options.distillation else 0.0)
    groups = {"teacher": agents.teacher, "student": agents.supernet.agent}
    loop = Loop(options.run, agents, groups, options.schedule(1e-3))
    loop.resume()
    loop.run(stage.step)
    return agents


def export_agent(run: Path, output: Path) -> tuple[bytes, AdaNIC]:
    """Write a run's supernet and student as a model file; returns its identity and the model. Raises InputError, UsageError."""
    record = find_record(run, RECORD)
    if record is None:
        raise UsageError(f"{run} is no run of the stage adanic-agent")
    agents = Agents(AdaNICConfig.from_dict(record))
    load_initial(agents, run)
    model = agents.supernet.eval()
    return save_model(output, model, model.width_tables()), model
