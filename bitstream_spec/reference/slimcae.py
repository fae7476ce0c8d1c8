"""slimcae.md: the prior in int64, the picture in float64.

One picture at a time: arrays (channels, rows, columns) without a batch dimension.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from .masks import read_latent, read_mask
from .networks import (
    FROM_SYMBOLS,
    HIDDEN,
    LARGEST_SYMBOL,
    TO_SCALE,
    TO_SIXTEENTHS,
    UNCHECKED_HYPER,
    Format,
    Latent,
    ModelError,
    at,
    check_filters,
    convolution,
    decoded_latent,
    depth_to_space,
    rescale,
)
from .rans import Rans, StreamError
from .tables import TABLES, read_group

ARCHITECTURE = "slimcae-1"


class SlimCAE:
    """A model at the option of a stream's width table. Raises ModelError, or KeyError."""

    def __init__(self, tensors: dict[str, np.ndarray], config: str, table: Sequence[int]) -> None:
        self.tensors, self.config = tensors, json.loads(config)
        widths = self.config["widths"]
        self.option = table[0] + 4 * table[1] if len(table) == 2 else len(widths)
        if self.option >= len(widths):
            raise ModelError(f"the width table {list(table)} is of no width of the model")
        self.channels = widths[self.option]
        self.hidden, self.hyper = -(-self.channels // 2), -(-self.channels // 4)

    # -- sections 2 and 3 --------------------------------------------------------------------------------------------

    def _integers(self, name: str) -> np.ndarray:
        return self.tensors[name].astype(np.int64)

    def _layer(self, name: str, x: np.ndarray, outputs: int, form: Format, quality: int = 0, extra: str = "") -> np.ndarray:
        weight, bias, exponent = (self._integers(f"prior.{name}.{last}") for last in ("weight", "bias", "exponent"))
        table = self._integers(f"prior.{extra}.table") if extra else np.zeros((1, 9, len(bias)), np.int64)
        check_filters(weight, bias, exponent, int(np.abs(table).max()), form)
        inputs = min(weight.shape[1], x.shape[0])
        row = at(table[self.option], quality) if extra else table[0, 0]
        total = convolution(x, weight[:outputs, :inputs], (bias + row)[:outputs])
        return rescale(total, exponent[:outputs], form)

    def statistics(self, z: np.ndarray, quality: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Hyper latent (Z, hz, wz) -> means in sixteenths and scale indexes, (C, rows, columns)."""
        c, a = self.channels, self.hidden
        x = depth_to_space(self._layer("up1", z, 4 * a, FROM_SYMBOLS, quality, "up1_bias"))
        x = depth_to_space(self._layer("up2", self._layer("mix1", x, a, HIDDEN), 4 * a, HIDDEN))
        x = self._layer("mix2", x[:, :rows, :columns], a, HIDDEN)
        x = self._layer("fuse_mix", self._layer("fuse", x, c, HIDDEN), c, HIDDEN)
        index = self._layer("scale_head", x, c, TO_SCALE, quality, "scale_bias")
        return self._layer("mean_head", x, c, TO_SIXTEENTHS), np.clip(index, 0, 63)

    def read_frame(self, kind: str, payload: bytes, mask_bytes: list[int], quality: int, height: int, width: int) -> dict[str, Latent]:
        """The latent of a packet, by name; ``height`` and ``width`` in luma samples. Raises StreamError."""
        if kind != "I" or len(mask_bytes) != 1:
            raise StreamError(f"{len(mask_bytes)} mask bytes in a packet of kind {kind}")
        rans, rows, columns = Rans(payload), -(-height // 16), -(-width // 16)
        z = self.read_hyper(rans, rows, columns, quality)
        mean, index = self.statistics(z, quality, rows, columns)
        mask = read_mask(rans, mask_bytes[0] // 64, mask_bytes[0] % 64, index, None)
        symbols = read_latent(rans, index, mask)
        rans.check_end()
        return {"contextual": Latent(decoded_latent(symbols, mean), mask)}

    def read_hyper(self, rans: Rans, rows: int, columns: int, quality: int) -> np.ndarray:
        """The hyper latent (Z, hz, wz) of a latent of this size. Raises StreamError."""
        index = np.clip((at(self._integers("prior.hyper_scale")[self.option], quality) + 8) >> 4, 0, 63)[: self.hyper]
        shape = (self.hyper, -(-rows // 4), -(-columns // 4))
        tables = np.broadcast_to(index[:, None, None], shape)
        z = read_group(rans, tables.reshape(-1)).reshape(shape)
        if np.abs(z).max() > LARGEST_SYMBOL:
            raise StreamError("a hyper latent is out of range")
        if z.size > UNCHECKED_HYPER and rans.at_end():
            lowest = np.array([1 - len(table) // 2 for table in TABLES])[tables]
            if np.count_nonzero(z == lowest) > z.size // 2:
                raise StreamError("the payload ends within the hyper latents")
        return z

    # -- section 4 ---------------------------------------------------------------------------------------------------

    def _real(self, name: str) -> np.ndarray:
        return self.tensors[name].astype(np.float64)

    def _up(self, name: str, x: np.ndarray, stride: int, outputs: int) -> np.ndarray:
        """Transposed convolution."""
        weight, bias = self._real(f"synthesis.{name}.weight")[: x.shape[0], :outputs], self._real(f"synthesis.{name}.bias")[:outputs]
        size = weight.shape[-1]
        first = (size - stride + 1) // 2
        rows, columns = x.shape[1:]
        out = np.zeros((outputs, stride * rows + size, stride * columns + size))
        for u in range(size):
            for v in range(size):
                out[:, u : u + stride * rows : stride, v : v + stride * columns : stride] += np.tensordot(weight[:, :, u, v], x, axes=(0, 0))
        return out[:, first : first + stride * rows, first : first + stride * columns] + bias[:, None, None]

    def _root(self, name: str, minimum: float = 0.0) -> np.ndarray:
        return np.maximum(self._real(name), np.sqrt(minimum + 2.0**-36)) ** 2 - 2.0**-36

    def _igdn(self, name: str, x: np.ndarray) -> np.ndarray:
        kind, name, o = self.config["gdn"], f"synthesis.{name}", self.option
        owner = f"{name}.each.{o}" if kind == "switch" else name
        beta = self._root(f"{owner}.beta.root", 1e-6)[: len(x)]
        gamma = self._root(f"{owner}.gamma.root")[: len(x), : len(x)]
        if kind == "slim-plus":
            beta = np.maximum(beta * self._root(f"{name}.beta_scale.root")[o] + self._root(f"{name}.beta_shift.root")[o], 1e-6)
            gamma = gamma * self._root(f"{name}.gamma_scale.root")[o] + self._root(f"{name}.gamma_shift.root")[o]
        return x * np.sqrt(beta[:, None, None] + np.tensordot(gamma, x**2, axes=(1, 0)))

    def picture(self, latent: Latent, quality: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Padded 4:2:0 planes Y, U, V: integer-valued samples, float64."""
        x = self.scaled(f"gain.{self.option}.decode", latent.value, quality)
        x = self._igdn("gdn1", self._up("stage1", x, 2, self.channels))
        x = self._igdn("gdn2", self._up("stage2", x, 2, self.channels))
        return self.samples(self._up("stage3", x, 4, 3))

    def scaled(self, name: str, value: np.ndarray, quality: int) -> np.ndarray:
        """A latent in sixteenths, scaled by channel."""
        table, anchor = self._real(name), min(quality // 25, 7)
        t = (quality - 25 * anchor) / 25
        gain = table[anchor] * (1 - t) + table[anchor + 1] * t
        return value / 16 * 2.0 ** gain[:, None, None]

    @staticmethod
    def samples(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Planes of 4:2:0 from what the last layer gives, (3, H, W)."""
        y, u, v = 255 * x + 127.5
        u, v = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (u, v))
        return tuple(np.clip(np.floor(p + 0.5), 0, 255) for p in (y, u, v))
