"""Width selection (paper 000, section 3.2): a complexity vector chooses one of three widths for each slimmable unit.

While training, the choice is a hard Gumbel-softmax sample with a straight-through gradient; afterwards it is the arg max, written
as a width table into the stream's header, which decoders obey without running a selection module.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (1.0, 0.5, 0.25)
"""Width options by index (paper 000, section 4.1: 100 %, 50 % and 25 % of the channels)."""


class WidthSelection(nn.Module):
    """Maps the one-hot complexity vector (levels,) to width logits (3,): one linear layer, as a table of logits."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(levels, len(WIDTHS)))

    def sample(self, level: int, temperature: float) -> Tensor:
        """Hard one-hot (3,) with straight-through gradient (Gumbel-softmax); ``level`` counts from 1."""
        return F.gumbel_softmax(self.logits[level - 1], tau=max(temperature, 1e-3), hard=True)

    def choose(self, level: int) -> int:
        """The width option of highest probability, 0..2."""
        return int(self.logits[level - 1].argmax())


class SlimmableUnit(nn.Module):
    """Base of slimmable blocks and layers: holds the current width, as an option or as a sampled one-hot vector.

    ``option`` (int) is used at inference and in plain training; ``mixture`` (Tensor (3,) one-hot with gradient), when set, has
    every option evaluated and weighted, so that gradients reach the selection module.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.selection = WidthSelection(levels)
        self.option = 0
        self.mixture: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mixture is None:
            return self.run(x, WIDTHS[self.option])
        return sum(self.mixture[i] * self.run(x, width) for i, width in enumerate(WIDTHS))

    def run(self, x: Tensor, width: float) -> Tensor:
        raise TypeError("a slimmable unit defines run()")

    def macs_per_position(self, width: float) -> int:
        """Multiply-accumulates for one spatial position of the unit's own input grid at a width."""
        raise TypeError("a slimmable unit defines macs_per_position()")


def units(module: nn.Module) -> dict[str, SlimmableUnit]:
    """All slimmable units of a module by qualified name, in definition order: the order of a width table."""
    return {name: m for name, m in module.named_modules() if isinstance(m, SlimmableUnit)}


def apply_widths(module: nn.Module, table: bytes | list[int]) -> None:
    """Set every unit's option from a width table. Raises ValueError when lengths or options do not fit."""
    found = list(units(module).values())
    if len(found) != len(table):
        raise ValueError(f"width table has {len(table)} entries, the model {len(found)} slimmable units")
    if any(not 0 <= option < len(WIDTHS) for option in table):
        raise ValueError("width table holds an unknown option")
    for unit, option in zip(found, table):
        unit.option, unit.mixture = int(option), None


def chosen_widths(module: nn.Module, level: int) -> bytes:
    """The width table that the selection modules choose for a level (1 is the highest complexity)."""
    return bytes(unit.selection.choose(level) for unit in units(module).values())
