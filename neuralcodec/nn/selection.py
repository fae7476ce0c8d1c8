"""Width selection (paper 000, section 3.2): a complexity vector chooses one of three widths for each slimmable unit.

While training, the choice is a hard Gumbel-softmax sample with a straight-through gradient; afterwards it is the arg max, written
as a width table into the stream's header, which decoders obey without running a selection module.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuralcodec.core.errors import UsageError

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


class WidthSwitch(nn.Module):
    """Base of models whose layers all have one width at a time, ``option`` (int), of ``options`` many; 0 is the widest.

    An entry of a width table has two bits, so a table is an option's two base-4 digits, the low one first."""

    def __init__(self, options: int) -> None:
        super().__init__()
        if not 1 <= options <= 16:
            raise UsageError(f"{options} widths: choose 1 to 16")
        self.options, self.option = options, 0

    def width_tables(self) -> list[bytes]:
        """The table of each option: level 1 is option 0."""
        return [bytes((option % 4, option // 4)) for option in range(self.options)]

    def option_of(self, table: bytes | list[int]) -> int:
        """The inverse. Raises ValueError for a table of no option."""
        if bytes(table) not in self.width_tables():
            raise ValueError(f"width table {list(table)} is of none of the model's {self.options} widths")
        return self.width_tables().index(bytes(table))


def units(module: nn.Module) -> dict[str, SlimmableUnit]:
    """All slimmable units of a module by qualified name, in definition order: the order of a width table."""
    return {name: m for name, m in module.named_modules() if isinstance(m, SlimmableUnit)}


def check_table(module: nn.Module, table: bytes | list[int]) -> None:
    """Raises ValueError for a width table that cannot be the module's."""
    if isinstance(module, WidthSwitch):
        module.option_of(table)
    elif (count := len(units(module))) != len(table):
        raise ValueError(f"width table has {len(table)} entries, the model {count} slimmable units")


def apply_widths(module: nn.Module, table: bytes | list[int]) -> None:
    """Set every unit's option from a width table, or that of a WidthSwitch. Raises ValueError when lengths or options do not fit."""
    check_table(module, table)
    if isinstance(module, WidthSwitch):
        module.option = module.option_of(table)
        return
    found = list(units(module).values())
    if any(not 0 <= option < len(WIDTHS) for option in table):
        raise ValueError("width table holds an unknown option")
    for unit, option in zip(found, table):
        unit.option, unit.mixture = int(option), None


def chosen_widths(module: nn.Module, level: int) -> bytes:
    """The width table that the selection modules choose for a level (1 is the highest complexity)."""
    return bytes(unit.selection.choose(level) for unit in units(module).values())
