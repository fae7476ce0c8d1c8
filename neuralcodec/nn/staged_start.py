"""A classical start for strided transforms of three planes: DCT of 4x4 or 2x2 cells, then 2x2 Hadamard transforms of neighbouring cells.

As nn.dct for packed planes. Channels stand in rising order of frequency, so the leading ones of every width are the low frequencies, and a slimmed
autoencoder begins as a transform codec that leaves out the high ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralcodec.nn.dct import CHROMA_WEIGHT, dct_matrix, hadamard
from neuralcodec.nn.slimmable_stages import StageConv2d, StageTranspose2d


@dataclass(frozen=True)
class Channel:
    """Vertical and horizontal frequency ``v``, ``h``, in half periods of the channel's cell; ``plane`` 0..2 (luma, two of chroma)."""

    v: int
    h: int
    plane: int

    @property
    def rank(self) -> tuple[float, int]:
        return (self.v**2 + self.h**2 + 0.25) * (CHROMA_WEIGHT if self.plane else 1.0), self.plane


def cell_transform(count: int, cell: int = 4) -> tuple[Tensor, list[Channel]]:
    """(count, 3, cell, cell) orthonormal rows and what they are; at most 3 cell^2."""
    found = sorted((Channel(v, h, p) for p in range(3) for v in range(cell) for h in range(cell)), key=lambda c: c.rank)[:count]
    d = dct_matrix(cell).float()
    rows = torch.zeros(len(found), 3, cell, cell)
    for row, c in zip(rows, found, strict=True):
        row[c.plane] = torch.outer(d[c.v], d[c.h])
    return rows, found


def merge(channels: list[Channel], count: int) -> tuple[Tensor, list[Channel]]:
    """(count, len(channels), 2, 2) orthonormal rows, the lowest frequencies of cells of twice the size; at most 4 for a channel."""
    # Of neighbouring cells with an odd frequency, the difference is the lower one of the two that they make.
    made = [(Channel(2 * c.v + (a ^ (c.v & 1)), 2 * c.h + (b ^ (c.h & 1)), c.plane), i, 2 * a + b)
            for i, c in enumerate(channels) for a in range(2) for b in range(2)]
    made = sorted(made, key=lambda m: m[0].rank)[:count]
    patterns = hadamard().float().reshape(4, 2, 2)
    rows = torch.zeros(len(made), len(channels), 2, 2)
    for row, (_, i, pattern) in zip(rows, made, strict=True):
        row[i] = patterns[pattern]
    return rows, [m[0] for m in made]


@torch.no_grad()
def start_stages(analysis: list[StageConv2d], synthesis: list[StageTranspose2d]) -> list[Channel]:
    """Set stages (strides 4 or 2, then 2; and mirrored) to the transforms and their transposes; returns the latent's channels.

    Filters that are left over stay random, and what reads them starts at zero: its inputs are not, so it learns."""
    rows, channels = cell_transform(analysis[0].couts[0], analysis[0].stride)
    stages = [rows]
    for stage in analysis[1:]:
        rows, channels = merge(channels, stage.couts[0])
        stages.append(rows)
    for conv, transposed, rows in zip(analysis, reversed(synthesis), stages, strict=True):
        (m, n), cell = rows.shape[:2], slice(conv.padding, conv.padding + conv.stride)
        for filters, bias in ((conv.weight[:m], conv.bias[:m]), (transposed.weight[:, :n], transposed.bias[:n])):
            filters.zero_()
            bias.zero_()
        conv.weight[:m, :n, cell, cell] = rows
        transposed.weight[:m, :n, cell, cell] = rows
    return channels
