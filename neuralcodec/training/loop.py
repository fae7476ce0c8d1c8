"""The training loop of every stage: optimiser, schedule by wall time or by steps, clipping by module, checkpoints, metrics.

A run lives in a folder: ``state.safetensors`` (weights, the optimiser's moments, position, what else a stage wants kept; written every minute and at the end, atomically),
``metrics.jsonl`` and TensorBoard events. A run that finds its state goes on from there; a run without one starts from the weights that
it was given, with a short warm-up.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from neuralcodec.training.soap import SOAP

log = logging.getLogger(__name__)

FACTORS = {"prior": 3.0, "hyper": 3.0, "gain": 12.0}
NAMED_FACTORS = {"hyper_scale": 40.0, "hyper_gain": 20.0, "anchors": 10.0, "logits": 60.0, "encode": 12.0, "decode": 12.0}
"""Learning rate of a group, or of parameters by their own name, beside the schedule's. Entropy models may learn faster than transforms, where
noise on a weight is noise on every picture; gains and scales are few, logarithmic, and have octaves to go."""


@dataclass
class Schedule:
    """``minutes`` of training in all, over all resumptions, or, where it is given, so many ``steps``, those that are skipped among them; learning rate ``rate``
    after ``warmup`` steps, then cosine to 2 % over the whole."""

    minutes: float = 30.0
    steps: int | None = None
    rate: float = 1e-3
    warmup: int = 200
    clip: float = 1.0
    decay: float = 0.0
    optimiser: str = "soap"
    """One of OPTIMISERS."""
    checkpoint_seconds: float = 60.0
    report_seconds: float = 20.0

    def at(self, step: int, progress: float) -> float:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        return self.rate * cosine * min(1.0, (step + 1) / self.warmup)


OPTIMISERS = {
    "adamw": lambda params, s: torch.optim.AdamW(params, lr=s.rate, betas=(0.9, 0.98), weight_decay=s.decay),
    "soap": lambda params, s: SOAP(params, lr=s.rate, betas=(0.9, 0.98)),
}
_STATE = {"m": "exp_avg", "v": "exp_avg_sq", "left": "moment_0", "right": "moment_1", "leftbase": "basis_0", "rightbase": "basis_1"}
"""Names of optimiser states in a run's file."""


class Loop:
    """Runs ``step(progress) -> (loss, metrics)`` until the schedule is over or a signal comes."""

    def __init__(self, folder: Path, model: nn.Module, groups: dict[str, nn.Module], schedule: Schedule, kept: dict[str, Tensor] | None = None) -> None:
        """``kept``: tensors that belong to the run's state beside the model's, by name; resuming fills them."""
        self.folder, self.model, self.schedule, self.kept = folder, model, schedule, kept or {}
        folder.mkdir(parents=True, exist_ok=True)
        self.groups = {n: [p for p in m.parameters() if p.requires_grad] for n, m in groups.items()}
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        trained = {id(p) for ps in self.groups.values() for p in ps}
        self.names = [n for n, p in named.items() if id(p) in trained]
        self.params = [named[n] for n in self.names]
        factor = {id(p): FACTORS.get(n.rpartition(".")[2], 1.0) for n, ps in self.groups.items() for p in ps}
        factor |= {id(named[n]): NAMED_FACTORS[n.rpartition(".")[2]] for n in self.names if n.rpartition(".")[2] in NAMED_FACTORS}
        split = [{"params": [p for p in self.params if factor[id(p)] == f], "factor": f} for f in sorted(set(factor.values()))]
        self.optimiser = OPTIMISERS[schedule.optimiser](split, schedule)
        self.step_count, self.elapsed = 0, 0.0
        self._stop = False

    @property
    def progress(self) -> float:
        if self.schedule.steps is not None:
            return self.step_count / self.schedule.steps
        return self.elapsed / (60 * self.schedule.minutes)

    def resume(self) -> bool:
        """Load the run's own state when there is one."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return False
        device = self.params[0].device
        with safe_open(path, "pt") as f:
            meta = f.metadata()
            known = set(f.keys())
            # What this stage does not train stays as its start gave it: another run may have made it better meanwhile.
            self.model.load_state_dict({n: f.get_tensor(f"model.{n}") for n in self.names if f"model.{n}" in known}, strict=False)
            for name, tensor in self.kept.items():
                if f"kept.{name}" in known:
                    tensor.copy_(f.get_tensor(f"kept.{name}"))
            if json.loads(meta["schedule"]).get("optimiser", "adamw") == self.schedule.optimiser:
                for name, p in zip(self.names, self.params):
                    if f"m.{name}" in known:
                        self.optimiser.state[p] = {"step": torch.tensor(float(meta["step"]))} | {
                            key: f.get_tensor(f"{short}.{name}").to(device) for short, key in _STATE.items() if f"{short}.{name}" in known}
        self.step_count, self.elapsed = int(meta["step"]), float(meta["elapsed"])
        log.info("resumed at step %d, %.1f minutes", self.step_count, self.elapsed / 60)
        return True

    def save(self) -> None:
        tensors: dict[str, Tensor] = {f"model.{n}": t.detach().cpu().contiguous() for n, t in self.model.state_dict().items()}
        tensors |= {f"kept.{n}": t.cpu() for n, t in self.kept.items()}
        for name, p in zip(self.names, self.params):
            state = self.optimiser.state.get(p, {})
            tensors |= {f"{short}.{name}": state[key].cpu().contiguous() for short, key in _STATE.items() if key in state}
        meta = {"step": str(self.step_count), "elapsed": repr(self.elapsed), "schedule": json.dumps(asdict(self.schedule))}
        part = self.folder / "state.part"
        save_file({n: t.clone() for n, t in tensors.items()}, part, metadata=meta)
        os.replace(part, self.folder / "state.safetensors")

    def run(self, step: Callable[[float], tuple[Tensor, dict[str, float]]]) -> None:
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        writer = _tensorboard(self.folder)
        last_save = last_report = start = time.monotonic()
        base, sums, count = self.elapsed, {}, 0
        try:
            while not self._stop and self.progress < 1:
                rate = self.schedule.at(self.step_count, self.progress)
                for group in self.optimiser.param_groups:
                    group["lr"] = rate * group["factor"]
                self.optimiser.zero_grad(set_to_none=True)
                loss, metrics = step(self.progress)
                loss.backward()
                norms = {f"grad/{n}": float(nn.utils.clip_grad_norm_(ps, self.schedule.clip)) for n, ps in self.groups.items() if ps}
                if all(math.isfinite(v) for v in norms.values()):
                    self.optimiser.step()
                else:
                    log.warning("step %d skipped: gradient not finite", self.step_count)
                self.step_count += 1
                now = time.monotonic()
                self.elapsed = base + now - start
                for k, v in (metrics | norms | {"loss": float(loss.detach())}).items():
                    total, times = sums.get(k, (0.0, 0))  # some figures belong to some steps only
                    sums[k] = total + v, times + 1
                count += 1
                if now - last_report > self.schedule.report_seconds:
                    self._report({k: v / n for k, (v, n) in sums.items()} | {"rate": rate, "steps_per_second": count / (now - last_report)}, writer)
                    last_report, sums, count = now, {}, 0
                if now - last_save > self.schedule.checkpoint_seconds:
                    self.save()
                    last_save = time.monotonic()
        finally:
            if count:
                self._report({k: v / n for k, (v, n) in sums.items()}, writer)
            self.save()
            if writer is not None:
                writer.close()
            for s, handler in previous.items():
                signal.signal(s, handler)

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def _report(self, metrics: dict[str, float], writer) -> None:
        row = {"step": self.step_count, "minutes": round(self.elapsed / 60, 3)} | {k: round(v, 5) for k, v in metrics.items()}
        with open(self.folder / "metrics.jsonl", "a") as f:
            f.write(json.dumps(row) + "\n")
        log.info("%s", "  ".join(f"{k} {v:.4g}" for k, v in row.items() if not k.startswith("grad/")))
        if writer is not None:
            for k, v in metrics.items():
                writer.add_scalar(k, v, self.step_count)


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
