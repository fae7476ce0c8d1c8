"""Stage "adanic-agent": the routing agents of AdaNIC (paper 003, section 3.5) for a supernet that stays as it is; and the run that carries it out.

A sample is a block of a picture at a quality, with the costs of its downgrades (equation 6, training.downgrades) and so its label (9). First a teacher
learns both (11, 12), then a student learns from it and from the labels (13). Both are judged by blocks that they have not learned from, as in Table 6.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.codecs.jumc import tolerance
from neuralcodec.codecs.routing import TEACHER, RoutingAgent
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.core.errors import UsageError
from neuralcodec.training import adanic
from neuralcodec.training.downgrades import Downgrades, load_downgrades
from neuralcodec.training.loop import Loop
from neuralcodec.training.runs import find_record, keep_record
from neuralcodec.training.stages import load_initial

log = logging.getLogger(__name__)

RECORD = "adanic-agent.json"
"""In a run's folder: the model's sizes."""
DECISIONS = "decisions.json"
"""In a run's folder: how well its agents decide."""
TEACHER_SHARE = 0.6
"""Progress at which the student takes over."""
HEADS = ("both", "routing", "costs")
SIGMA = 0.5
"""Of equation 13, from the paper."""
MOST_COST = 4.0
"""Tolerances beyond which a cost says no more."""
BLOCKS = 2000
JUDGED = 32
"""Samples that are judged together."""


@dataclass(frozen=True, kw_only=True)
class AgentOptions(adanic.AdaNICOptions):
    """``blocks`` of the clips to learn and to judge from. For the paper's Table 6: which of HEADS the teacher has, and whether the student learns from it
    (``distillation``) or from labels alone. Raises UsageError."""

    blocks: int = BLOCKS
    heads: str = "both"
    distillation: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads not in HEADS:
            raise UsageError(f"heads {self.heads!r}: choose {', '.join(HEADS)}")
        if self.heads == "costs" and self.distillation:
            raise UsageError("--heads costs: no student can learn from a teacher without the routing head; add --no-distillation")


class Agents(nn.Module):
    """What a run holds: the supernet with its student, and the teacher."""

    def __init__(self, config: AdaNICConfig) -> None:
        super().__init__()
        self.supernet = AdaNIC(replace(config, agent=True))
        self.teacher = RoutingAgent(len(config.n), TEACHER, costs=True)


@dataclass
class AgentStage:
    """One training step. ``gamma`` and ``sigma``: of equations 12 and 13."""

    agents: Agents
    data: Downgrades
    seed: int = 0
    batch: int = 32
    gamma: float = 0.5
    sigma: float = SIGMA
    samples: np.ndarray = field(init=False)
    """(N, 2): block, and which of its qualities, of those to learn from."""

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.samples = self._samples(~self.data.held_out)

    def _samples(self, blocks: np.ndarray) -> np.ndarray:
        return np.argwhere(np.broadcast_to(blocks[:, None], self.data.quality.shape))

    def step(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        x, quality, costs = self.take(self.samples[self.rng.integers(len(self.samples), size=self.batch)])
        # A block upside down costs about as much.
        x = x.flip([2 + axis for axis in range(2) if self.rng.random() < 0.5])
        labels = find_labels(costs)
        if progress < TEACHER_SHARE:
            logits, foretold = self.agents.teacher.both(x, quality)
            action = F.cross_entropy(logits, labels)
            surrogate = F.mse_loss(foretold, costs.clamp(-MOST_COST, MOST_COST))
            chosen = self._chosen(logits, foretold)
            return self.gamma * action + (1 - self.gamma) * surrogate, _named(measure(chosen, labels), "teacher") | {"cost_mse": float(surrogate.detach())}
        with torch.no_grad():
            taught = self.agents.teacher(x, quality)
        logits = self.agents.supernet.agent(x, quality)
        distance = F.kl_div(F.log_softmax(logits, 1), F.softmax(taught, 1), reduction="batchmean")
        return self.sigma * distance + (1 - self.sigma) * F.cross_entropy(logits, labels), _named(measure(logits.argmax(1), labels), "student")

    def take(self, samples: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of ``samples`` (B, 2) -> picture (B, 3, S, S), quality (B,), costs in tolerances (B, K)."""
        device, (block, which) = next(self.agents.teacher.parameters()).device, samples.T
        y, uv = (torch.from_numpy(a[block]).to(device).float() for a in (self.data.y, self.data.uv))
        quality = torch.from_numpy(self.data.quality[block, which]).to(device).long()
        costs = torch.from_numpy(self.data.costs[block, which]).to(device)
        return to_picture(y, uv), quality, costs / tolerance()

    def _chosen(self, logits: Tensor, foretold: Tensor) -> Tensor:
        # A teacher that has learned costs alone decides by them, as labels are decided.
        return logits.argmax(1) if self.gamma else find_labels(foretold)

    @torch.no_grad()
    def judge(self) -> dict[str, dict[str, float]]:
        """Teacher, student, and the most frequent label everywhere for comparison, on blocks that none has learned from."""
        labels, by_teacher, by_student = [], [], []
        for samples in np.array_split(held := self._samples(self.data.held_out), -(-len(held) // JUDGED)):
            x, quality, costs = self.take(samples)
            labels.append(find_labels(costs))
            by_teacher.append(self._chosen(*self.agents.teacher.both(x, quality)))
            by_student.append(self.agents.supernet.agent(x, quality).argmax(1))
        true = torch.cat(labels)
        found = {"teacher": torch.cat(by_teacher), "student": torch.cat(by_student), "constant": true.mode().values.expand_as(true)}
        return {who: measure(chosen, true) for who, chosen in found.items()} | {"samples": {"count": len(true)}}


def find_labels(costs: Tensor) -> Tensor:
    """The narrowest option within the tolerance (equation 9), from costs in tolerances (B, K): (B,)."""
    return ((costs <= 1) * torch.arange(costs.shape[1], device=costs.device)).amax(1)


def measure(chosen: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, share of choices below the label's capacity, and mean absolute error in options, as in the paper's table 6."""
    wrong = (chosen - labels).float()
    return {"accuracy": float((wrong == 0).float().mean()), "degraded": float((wrong > 0).float().mean()), "mae": float(wrong.abs().mean())}


def _named(measured: dict[str, float], who: str) -> dict[str, float]:
    return {f"{name}_{who}": value for name, value in measured.items()}


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
    data = load_downgrades(agents.supernet, options.load_clips(), options.cache, options.blocks)
    gamma = {"both": 0.5, "routing": 1.0, "costs": 0.0}[options.heads]
    stage = AgentStage(agents, data, seed, options.batch or 32, gamma, SIGMA if options.distillation else 0.0)
    groups = {"teacher": agents.teacher, "student": agents.supernet.agent}
    loop = Loop(options.run, agents, groups, options.schedule(1e-3))
    loop.resume()
    loop.run(stage.step)
    decisions = stage.judge()
    keep_record(options.run, DECISIONS, decisions)
    for who, measured in decisions.items():
        log.info("%s: %s", who, ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))
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
