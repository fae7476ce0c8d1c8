"""A classical start for learned transforms: orthonormal DCT of each 8x8 cell, 2x2 Hadamard of neighbouring cells, low frequencies first.

From such weights (residual blocks near the identity) an autoencoder begins as a transform codec that reconstructs well at once, where
random weights spend most of a short training on learning the identity.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuralcodec.nn.layout import PACKED_CHANNELS

CHROMA_WEIGHT = 2.5
"""Chroma basis functions stand behind luma ones of the same frequency by this factor: they carry less energy."""


def dct_matrix(n: int) -> Tensor:
    """(n, n) float64, orthonormal rows of rising frequency."""
    k = torch.arange(n, dtype=torch.float64)
    m = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / (2 * n)) * math.sqrt(2 / n)
    m[0] /= math.sqrt(2)
    return m


def packed_dct() -> tuple[Tensor, Tensor]:
    """(96, 96) orthonormal matrix from packed planes to coefficients, rows ordered by frequency, and (96, 3): u, v, weight of each row."""
    luma, chroma = torch.kron(dct_matrix(8), dct_matrix(8)), torch.kron(dct_matrix(4), dct_matrix(4))
    matrix = torch.block_diag(luma, chroma, chroma)
    frequency = [(u, v, 1.0) for u in range(8) for v in range(8)] + 2 * [(u, v, CHROMA_WEIGHT) for u in range(4) for v in range(4)]
    table = torch.tensor(frequency, dtype=torch.float64)
    order = torch.argsort((table[:, 0] ** 2 + table[:, 1] ** 2 + 0.25) * table[:, 2], stable=True)
    return matrix[order], table[order]


def chroma_of_latent(latent: int) -> Tensor:
    """(latent,) bool: which rows of ``merge_cells`` belong to chroma."""
    chroma = (packed_dct()[1][:, 2] != 1.0).repeat_interleave(4)
    return chroma[_merge_order()[:latent]]


def _merge_order() -> Tensor:
    _, table = packed_dct()
    u, v, weight = (t.repeat_interleave(4) for t in table.T)
    a = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64).repeat(PACKED_CHANNELS)
    b = torch.tensor([0.0, 1, 0, 1], dtype=torch.float64).repeat(PACKED_CHANNELS)
    return torch.argsort(((2 * u + a) ** 2 + (2 * v + b) ** 2 + 0.5) * weight, stable=True)


def hadamard() -> Tensor:
    """(4, 4) orthonormal transform of 2x2 neighbours in pixel_unshuffle's order, sum first."""
    h = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    return torch.kron(h, h)


def vectors_transform() -> Tensor:
    """(8, 8) Hadamard transform of x and of y over 2x2 cells, rows as latents, columns in pixel_unshuffle's order."""
    return torch.block_diag(hadamard(), hadamard()).float()


def merge_cells(latent: int) -> Tensor:
    """(latent, 384) orthonormal rows: 2x2 Hadamard over pixel_unshuffle(2) of the 96 coefficients, the ``latent`` lowest frequencies."""
    matrix = torch.kron(torch.eye(PACKED_CHANNELS, dtype=torch.float64), hadamard())  # row 4 c + 2 a + b
    return matrix[_merge_order()[:latent]]


@torch.no_grad()
def start_analysis(enter: nn.Conv2d, down: nn.Conv2d, signs: tuple[float, ...] = (1.0,)) -> None:
    """Set ``enter`` (96 * len(signs) + rest -> C) to the DCT of the signed sum of its packed inputs, ``down`` (4 C -> latent) to merge_cells.

    What is left over starts at zero: its inputs are not, so it learns. Does nothing when the trunk has fewer than 96 channels, or more latents are asked for than there are coefficients."""
    matrix, _ = packed_dct()
    if enter.out_channels < PACKED_CHANNELS or down.out_channels > 4 * PACKED_CHANNELS:
        return
    enter.weight.zero_()
    enter.bias.zero_()
    for i, sign in enumerate(signs):
        enter.weight[:PACKED_CHANNELS, i * PACKED_CHANNELS : (i + 1) * PACKED_CHANNELS, 0, 0] = sign * matrix.float()
    down.weight.zero_()
    down.bias.zero_()
    down.weight[:, : 4 * PACKED_CHANNELS, 0, 0] = merge_cells(down.out_channels).float()


@torch.no_grad()
def start_synthesis(up: nn.Conv2d, head: nn.Conv2d) -> None:
    """The transposed start: ``up`` (latent -> 4 C) and ``head`` (C -> 96)."""
    matrix, _ = packed_dct()
    if head.weight.shape[1] < PACKED_CHANNELS or up.weight.shape[1] > 4 * PACKED_CHANNELS:
        return
    up.weight.zero_()
    up.bias.zero_()
    up.weight[: 4 * PACKED_CHANNELS, :, 0, 0] = merge_cells(up.weight.shape[1]).T.float()
    head.weight.zero_()
    head.bias.zero_()
    head.weight[:, :PACKED_CHANNELS, 0, 0] = matrix.T.float()


@torch.no_grad()
def start_vectors_analysis(enter: nn.Conv2d, down: nn.Conv2d) -> None:
    """The same for vectors: ``enter`` (kernel 3) hands its first two inputs through, ``down`` (4 C -> 8 and more) is their Hadamard transform over
    2x2 cells.

    Does nothing when there are fewer than 8 latents."""
    if down.out_channels < 8:
        return
    enter.weight[:2].zero_()
    enter.bias[:2].zero_()
    for i in range(2):
        enter.weight[i, i, 1, 1] = 1.0
    down.weight.zero_()
    down.bias.zero_()
    down.weight[:8, :8, 0, 0] = vectors_transform()


@torch.no_grad()
def start_vectors_synthesis(up: nn.Conv2d, head: nn.Conv2d) -> None:
    """The transposed start: ``up`` (latent -> 4 C) and ``head`` (C -> 2). Other channels of ``up`` stay random: they are features."""
    if up.weight.shape[1] < 8:
        return
    up.weight[:8].zero_()
    up.bias.zero_()
    up.weight[:8, :8, 0, 0] = vectors_transform().T
    head.weight.zero_()
    head.bias.zero_()
    for i in range(2):
        head.weight[i, i] = 1.0
