"""Widths while training: the paper's two stages (paper 000, section 3.4).

Stage 1 draws random widths without a penalty. Stage 2 draws a complexity level for each step, samples every unit's width by Gumbel-softmax
from its selection module, and adds the Lagrangian penalty alpha_i * C_i (equation 4); alpha_i follows the gap to the target by dual
ascent, since the paper leaves its choice to a supplement that we do not have.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from neuralcodec.nn.selection import WIDTHS, SlimmableUnit, units


class WidthPolicy(Protocol):
    """Sets the widths of a step; returns a penalty to add to the loss and figures to log."""

    def draw(self, model: nn.Module, progress: float) -> tuple[Tensor, dict[str, float]]: ...


@dataclass
class RandomWidths:
    """Stage 1: full width; on ``share`` of the steps the smallest everywhere (a third) or a random option for each unit."""

    share: float = 0.3

    def draw(self, model: nn.Module, progress: float) -> tuple[Tensor, dict[str, float]]:
        randomise_widths(model, self.share)
        return torch.zeros(()), {}


def randomise_widths(model: nn.Module, share: float) -> None:
    """See RandomWidths."""
    draw = random.random()
    for unit in units(model).values():
        unit.mixture = None
        unit.option = 0 if draw > share else (len(WIDTHS) - 1 if draw < share / 3 else random.randrange(len(WIDTHS)))


def unit_weights(model: nn.Module) -> dict[str, int]:
    """Relative number of positions of each unit's grid: 4 at 1/8 of the resolution, 1 at 1/16 (coarse blocks and sub-pixel inputs)."""
    return {name: 1 if name.endswith((".coarse", ".up")) else 4 for name in units(model)}


@dataclass
class LearnedWidths:
    """Stage 2. ``targets[i]`` is the share of the full decoder's multiply-accumulates (of slimmable units) that level i + 1 may use."""

    targets: tuple[float, ...] = (1.0, 0.45, 0.16)
    ascent: float = 0.02
    temperature_start: float = 4.0
    freeze_from: Tensor = field(default_factory=lambda: torch.tensor(0.4))
    """Progress from which the selection is frozen to its arg max; 0: from the start."""
    alphas: Tensor = field(default_factory=lambda: torch.tensor([0.0, 0.05, 0.1]))

    def kept(self) -> dict[str, Tensor]:
        """What a run has to keep of it, by name: of a selection that is being learned, a run that is resumed could not tell otherwise that it is."""
        return {"widths.freeze_from": self.freeze_from, "widths.alphas": self.alphas}

    @staticmethod
    def initialise(model: nn.Module) -> bool:
        """Start the selection near uniform widths of each level, undecided enough to move. One that was trained stays; False then."""
        if any(bool((u.selection.logits != 0).any()) for u in units(model).values()):
            return False
        for unit in units(model).values():
            with torch.no_grad():
                unit.selection.logits.zero_()
                for level in range(unit.selection.logits.shape[0]):
                    unit.selection.logits[level, min(level, len(WIDTHS) - 1)] = 8.0 if level == 0 else 1.0
        return True

    def draw(self, model: nn.Module, progress: float) -> tuple[Tensor, dict[str, float]]:
        level = random.choice((1, 1, 2, 3))  # the full width carries the others
        weights = unit_weights(model)
        full = sum(w * u.macs_per_position(1.0) for w, u in zip(weights.values(), units(model).values()))
        used = torch.zeros(())
        freeze_from = float(self.freeze_from)
        frozen = progress >= freeze_from or level == 1
        temperature = 0.0 if frozen else max(0.3, self.temperature_start * (1 - progress / freeze_from))
        for name, unit in units(model).items():
            macs = torch.tensor([unit.macs_per_position(w) * weights[name] / full for w in WIDTHS])
            if frozen or name.startswith("intra."):
                unit.mixture, unit.option = None, unit.selection.choose(level) if level > 1 else 0
                used = used + macs[unit.option]
            else:
                unit.mixture = unit.selection.sample(level, temperature)
                used = used + (unit.mixture * macs.to(unit.mixture.device)).sum().cpu()
        gap = float(used.detach()) - self.targets[level - 1]
        if not frozen:
            self.alphas[level - 1] = (self.alphas[level - 1] + self.ascent * gap).clamp_min(0.0)
        alpha = float(self.alphas[level - 1])
        penalty = alpha * used if not frozen else torch.zeros(())
        return penalty, {f"complexity_{level}": float(used.detach()), f"alpha_{level}": alpha}


def expected_complexity(model: nn.Module, level: int) -> float:
    """Share of the full slimmable multiply-accumulates at the arg max of a level."""
    weights, found = unit_weights(model), units(model)
    full = sum(weights[n] * u.macs_per_position(1.0) for n, u in found.items())
    return sum(weights[n] * u.macs_per_position(WIDTHS[_option(u, level)]) for n, u in found.items()) / full


def _option(unit: SlimmableUnit, level: int) -> int:
    return unit.selection.choose(level)
