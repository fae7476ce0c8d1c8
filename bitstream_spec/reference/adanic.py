"""adanic.md: slimcae.md with a capacity map.

One picture at a time: arrays (channels, rows, columns) without a batch dimension.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .masks import read_latent, read_mask
from .networks import Latent, ModelError, decoded_latent
from .rans import Rans, StreamError
from .slimcae import SlimCAE
from .tables import read_group

ARCHITECTURE = "adanic-1"
SCALE_INDEXES = (0, 6, 12, 16, 19, 22, 25, 28)


class MappedLatent(NamedTuple):
    """A latent as ``Latent``, and the options of the picture's blocks, int64 (rows, columns)."""

    value: np.ndarray
    mask: np.ndarray
    options: np.ndarray


class AdaNIC(SlimCAE):
    """A model at the option of a stream's width table. Raises ModelError, or KeyError."""

    def __init__(self, tensors: dict[str, np.ndarray], config: str, table: Sequence[int]) -> None:
        self.tensors, self.config = tensors, json.loads(config) | {"gdn": "slim-plus"}
        self.n, self.m, self.block = (self.config[name] for name in ("n", "m", "block"))
        self.largest = table[0] + 4 * table[1] if len(table) == 2 else len(self.n)
        if self.largest >= len(self.n):
            raise ModelError(f"the width table {list(table)} is of no capacity of the model")
        self.option, self.channels = 0, self.m[0]
        self.hidden, self.hyper = -(-self.channels // 2), -(-self.channels // 4)

    # -- sections 2 and 3 --------------------------------------------------------------------------------------------

    def _read_map(self, rans: Rans, shape: tuple[int, int]) -> np.ndarray:
        options = np.full(shape, self.largest)
        if self.largest == len(self.n) - 1:
            return options
        scale = SCALE_INDEXES[rans.bits(3)]
        symbols = read_group(rans, np.full(options.size, scale)).reshape(shape)
        for r in range(shape[0]):
            for c in range(shape[1]):
                if r and c:
                    a, b = options[r, c - 1], options[r - 1, c]
                    prediction = sorted((a, b, a + b - options[r - 1, c - 1]))[1]
                else:
                    prediction = options[r - 1, 0] if r else options[0, c - 1] if c else self.largest
                options[r, c] = prediction + symbols[r, c]
                if not self.largest <= options[r, c] < len(self.n):
                    raise StreamError(f"a block of option {options[r, c]}")
        return options

    def _positions(self, options: np.ndarray, rows: int, columns: int, factor: int = 1) -> np.ndarray:
        """The option of each position of a plane with ``factor`` times the latent's resolution."""
        size = self.block * factor
        return options.repeat(size, 0).repeat(size, 1)[: rows * factor, : columns * factor]

    def read_frame(self, kind: str, payload: bytes, mask_bytes: list[int], quality: int, height: int, width: int) -> dict[str, MappedLatent]:
        """The latent of a packet, by name; ``height`` and ``width`` in luma samples. Raises StreamError."""
        if kind != "I" or len(mask_bytes) != 1:
            raise StreamError(f"{len(mask_bytes)} mask bytes in a packet of kind {kind}")
        rans, rows, columns = Rans(payload), -(-height // 16), -(-width // 16)
        options = self._read_map(rans, (-(-rows // self.block), -(-columns // self.block)))
        absent = np.arange(self.channels)[:, None, None] >= np.array(self.m)[self._positions(options, rows, columns)]
        z = self.read_hyper(rans, rows, columns, quality)
        mean, index = (np.where(absent, 0, part) for part in self.statistics(z, quality, rows, columns))
        mask = read_mask(rans, mask_bytes[0] // 64, mask_bytes[0] % 64, index, None)
        symbols = read_latent(rans, index, mask)
        rans.check_end()
        if symbols[absent].any():
            raise StreamError("a symbol in a channel that its block does not have")
        return {"contextual": MappedLatent(decoded_latent(symbols, mean), mask, options)}

    # -- section 4 ---------------------------------------------------------------------------------------------------

    def picture(self, latent: Latent | MappedLatent, quality: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Padded 4:2:0 planes Y, U, V: integer-valued samples, float64."""
        x, (rows, columns) = self.scaled("gain.decode", latent.value, quality), latent.value.shape[1:]
        for i in range(1, 5):
            where = self._positions(latent.options, rows, columns, 2**i)
            out = np.zeros((self.n[0] if i < 4 else 3, *where.shape))
            for option in np.unique(where):
                outputs = self.n[option] if i < 4 else 3
                plain = self._up(f"stage{i}", x[: (self.n if i > 1 else self.m)[option]], 2, outputs)
                if i < 4:
                    self.option = option  # of the modulation
                    plain = self._igdn(f"gdn{i}", plain)
                out[:outputs, where == option] = plain[:, where == option]
            x = out
        self.option = 0
        return self.samples(x)
