"""Stage "adanic-agent": the routing agents of AdaNIC (paper 003, section 3.5) for a supernet that stays as it is; and the run that carries it out.

A sample is a block of a picture at a quality, with the costs of its downgrades (equation 6, training.downgrades) and so its label (9). First a teacher
learns both (11, 12), then a student learns from it and from the labels (13), each with a learning rate that falls to the end of its time. Both are judged by
blocks that they have not learned from, as in Table 6.
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
from neuralcodec.codecs.routing import TEACHER, RoutingAgent, narrowest
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.core.errors import UsageError
from neuralcodec.training import adanic
from neuralcodec.training.downgrades import Downgrades, load_downgrades
from neuralcodec.training.loop import Loop, Schedule
from neuralcodec.training.runs import find_record, keep_record
from neuralcodec.training.stages import load_initial

log = logging.getLogger(__name__)

RECORD = "adanic-agent.json"
"""In a run's folder: the model's sizes."""
DECISIONS = "decisions.json"
"""In a run's folder: how well its agents decide."""
TEACHER_RUN = "teacher"
"""The teacher's folder in a run's folder."""
TEACHER_SHARE, WARMUP = 0.6, 50
"""Of a run's minutes or steps; and the steps in which a learning rate rises."""
HEADS = ("both", "routing", "costs")
SIGMA = 0.5
"""Of equation 13, from the paper."""
MOST_COST = 4.0
"""Tolerances beyond which a cost says no more."""
BLOCKS = 2000
SHRINK = 2
STARTING = 48
"""Samples by which a new agent is scaled."""
JUDGED = 32
"""Samples that are judged together."""


@dataclass(frozen=True, kw_only=True)
class AgentOptions(adanic.AdaNICOptions):
    """``blocks`` of the clips to learn and to judge from, which the student sees made smaller by ``shrink``. For the paper's Table 6: which of HEADS the teacher has, and whether the student learns from it
    (``distillation``) or from labels alone. Raises UsageError."""

    blocks: int = BLOCKS
    shrink: int = SHRINK
    heads: str = "both"
    distillation: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads not in HEADS:
            raise UsageError(f"heads {self.heads!r}: choose {', '.join(HEADS)}")
        if self.heads == "costs" and self.distillation:
            raise UsageError("--heads costs: no student can learn from a teacher without the routing head; add --no-distillation")


@dataclass
class AgentStage:
    """Training steps. ``gamma`` and ``sigma``: of equations 12 and 13."""

    teacher: RoutingAgent
    student: RoutingAgent
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

    @torch.no_grad()
    def start(self, agent: RoutingAgent) -> None:
        """Scale the convolutions of a new agent, one after another, so that what each gives has a mean of 0 and a deviation of 1 in every channel, over some
        blocks (Mishkin and Matas, "All you need is a good init", ICLR 2016). As they are drawn, activations shrink from layer to layer to where a hard-swish
        is nearly linear, and the mean over a block says nothing of its texture."""

        def scale(conv: nn.Conv2d, given: tuple[Tensor], result: Tensor) -> Tensor:
            deviation, mean = torch.std_mean(result, (0, 2, 3))
            deviation.clamp_min_(1e-4)
            conv.weight /= deviation[:, None, None, None]
            conv.bias.copy_((conv.bias - mean) / deviation)
            return (result - mean[:, None, None]) / deviation[:, None, None]

        hooks = [m.register_forward_hook(scale) for m in agent.modules() if isinstance(m, nn.Conv2d)]
        x, quality, _, _ = self._draw(STARTING)
        agent.features(agent.shrunk(x), quality)
        for hook in hooks:
            hook.remove()

    def teach(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        """A step of the teacher's."""
        x, quality, costs, labels = self._draw()
        logits, foretold = self.teacher.both(x, quality)
        action = F.cross_entropy(logits, labels)
        surrogate = F.mse_loss(foretold, costs.clamp(-MOST_COST, MOST_COST))
        return self.gamma * action + (1 - self.gamma) * surrogate, measure(self._chosen(logits, foretold), labels) | {"cost_mse": float(surrogate.detach())}

    def study(self, progress: float) -> tuple[Tensor, dict[str, float]]:
        """A step of the student's."""
        x, quality, _, labels = self._draw()
        with torch.no_grad():
            taught = self.teacher(x, quality)
        logits = self.student(self.student.shrunk(x), quality)
        distance = F.kl_div(F.log_softmax(logits, 1), F.softmax(taught, 1), reduction="batchmean")
        return self.sigma * distance + (1 - self.sigma) * F.cross_entropy(logits, labels), measure(logits.argmax(1), labels)

    def _draw(self, count: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, quality, costs = self.take(self.samples[self.rng.integers(len(self.samples), size=count or self.batch)])
        # A block upside down costs about as much.
        return x.flip([2 + axis for axis in range(2) if self.rng.random() < 0.5]), quality, costs, find_labels(costs)

    def take(self, samples: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of ``samples`` (B, 2) -> picture (B, 3, S, S), quality (B,), costs in tolerances (B, K)."""
        device, (block, which) = next(self.teacher.parameters()).device, samples.T
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
            by_teacher.append(self._chosen(*self.teacher.both(x, quality)))
            by_student.append(self.student(self.student.shrunk(x), quality).argmax(1))
        true = torch.cat(labels)
        found = {"teacher": torch.cat(by_teacher), "student": torch.cat(by_student), "constant": true.mode().values.expand_as(true)}
        return {who: measure(chosen, true) for who, chosen in found.items()} | {"samples": {"count": len(true)}}


def find_labels(costs: Tensor) -> Tensor:
    """The narrowest option within the tolerance (equation 9), from costs in tolerances (B, K): (B,)."""
    return narrowest(costs <= 1)


def measure(chosen: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, share of choices below the label's capacity, and mean absolute error in options, as in the paper's table 6."""
    wrong = (chosen - labels).float()
    return {"accuracy": float((wrong == 0).float().mean()), "degraded": float((wrong > 0).float().mean()), "mae": float(wrong.abs().mean())}


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


def run_agent(options: AgentOptions) -> AdaNIC:
    """Train until the minutes or steps are over or the run is interrupted; the state is saved either way. ``options.init`` names the supernet; returns it, with
    the student.

    Raises UsageError, InputError, ModelError."""
    if len(options.init) != 1:
        raise UsageError("the stage adanic-agent needs one supernet: --init RUN or --init MODEL")
    config = replace(supernet_config(options.init[0]), agent=True, agent_shrink=options.shrink)
    seed = options.begin()
    supernet, teacher = AdaNIC(config), RoutingAgent(len(config.n), TEACHER, costs=True)
    load_initial(supernet, options.init[0])
    supernet.requires_grad_(False)
    supernet.agent.requires_grad_(True)
    for module in (supernet, teacher):
        module.to(torch.device(options.device), memory_format=torch.channels_last)
    keep_record(options.run, RECORD, config.to_dict())
    data = load_downgrades(supernet, options.load_clips(), options.cache, options.blocks)
    gamma = {"both": 0.5, "routing": 1.0, "costs": 0.0}[options.heads]
    stage = AgentStage(teacher, supernet.agent, data, seed, options.batch or 16, gamma, SIGMA if options.distillation else 0.0)
    lessons = ((options.run / TEACHER_RUN, teacher, teacher, stage.teach, TEACHER_SHARE), (options.run, supernet, supernet.agent, stage.study, 1 - TEACHER_SHARE))
    for folder, holder, learner, step, share in lessons:
        loop = Loop(folder, holder, {"agent": learner}, _part(options.schedule(5e-3), share))
        if not loop.resume():
            stage.start(learner)
        loop.run(step)
        if loop.progress < 1:
            return supernet  # interrupted
    decisions = stage.judge()
    keep_record(options.run, DECISIONS, decisions)
    for who, measured in decisions.items():
        log.info("%s: %s", who, ", ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    return supernet


def _part(schedule: Schedule, share: float) -> Schedule:
    steps = None if schedule.steps is None else max(round(share * schedule.steps), 1)
    return replace(schedule, minutes=share * schedule.minutes, steps=steps, warmup=WARMUP)


def export_agent(run: Path, output: Path) -> tuple[bytes, AdaNIC]:
    """Write a run's supernet and student as a model file; returns its identity and the model. Raises InputError, UsageError."""
    record = find_record(run, RECORD)
    if record is None:
        raise UsageError(f"{run} is no run of the stage adanic-agent")
    model = AdaNIC(AdaNICConfig.from_dict(record))
    load_initial(model, run)
    return save_model(output, model.eval(), model.width_tables()), model
