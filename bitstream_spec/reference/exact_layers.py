"""Layers, gains and tensors of exact_pictures.md, sections 1 to 3 and 10, in numpy (int64).

Sums are computed by float64 matrix products: the bounds of section 2, checked here, keep them below 2^53, so they are exact.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from .networks import ModelError, at

WIDE, WIDE_LIMIT = 12, 2**22 - 1
NARROW_LIMIT = 4095
ROUNDED, ROUNDED_LIMIT = 8, 255
VECTOR, VECTOR_LIMIT = 8, 2**17
PICTURE = 14
PACKED = 96
CHROMA = 4 * 32
GAIN_LIMIT = 2**14
FRACTIONS = range(-4, 13)


def rshift(a: np.ndarray, s: int) -> np.ndarray:
    """Section 1: a 2^-s, half rounded up."""
    return (a + (1 << s - 1)) >> s if s > 0 else a << -s


def clamp(a: np.ndarray, limit: int) -> np.ndarray:
    """Section 1: to -limit .. limit."""
    return np.clip(a, -limit, limit)


def rounded(n: np.ndarray) -> np.ndarray:
    """Section 2: R of a layer that rounds, eight significant bits, half to even."""
    z = np.maximum(np.frexp(np.abs(n).astype(np.float64))[1] - ROUNDED, 0)
    low = n >> z
    twice, unit = 2 * (n - (low << z)), 1 << z
    return low + ((twice > unit) | ((twice == unit) & (low & 1 == 1))) << z


def _power(i: int) -> int:
    r = 1 << 16384 + i
    for _ in range(10):
        r = isqrt(r)
    return r + 1 >> 1


POWERS = np.array([_power(i) for i in range(1024)])
"""Section 3: T."""


class Layer(NamedTuple):
    """A row of section 10. ``next_layer``: whose ``frac_in`` is this one's ``frac_out`` (then it has a ReLU), else ""."""

    wide: bool
    shape: tuple[int, int, int, int]
    limit_in: int
    frac_out: int
    limit_out: int
    next_layer: str = ""


def units(config: dict[str, Any]) -> dict[str, tuple[int, int] | int]:
    """Section 10: the units in the order of a width table. Blocks have their channels, pointwise units (outputs, inputs)."""
    a, m, x = (config[part]["channels"] for part in ("intra", "motion", "inter"))
    found: dict[str, tuple[int, int] | int] = {}
    for name, first, channels, blocks in (
        ("intra.synthesis", None, a, config["intra"]["decoder_blocks"]),
        ("motion.decoder", ("coarse", config["motion"]["latent"]), m, config["motion"]["decoder_blocks"]),
        ("motion.refinement", ("enter", (m, m + PACKED)), m, config["motion"]["refinement_blocks"]),
        ("inter.extraction", ("enter", (x, PACKED)), x, config["inter"]["extraction_blocks"]),
        ("inter.refinement", ("enter", (x, x + m)), x, config["inter"]["refinement_blocks"]),
        ("inter.decoder", ("fuse", (x, 2 * x)), x, config["inter"]["decoder_blocks"]),
    ):
        if first:
            found[f"{name}.{first[0]}"] = first[1]
        found |= {f"{name}.trunk.{i}": channels for i in range(blocks)}
    return found


def layers(config: dict[str, Any]) -> dict[str, Layer]:
    """Section 10: the convolutions by name."""
    found = {}
    for unit, size in units(config).items():
        if isinstance(size, tuple):
            found[f"{unit}.conv"] = Layer(False, (*size, 1, 1), NARROW_LIMIT, WIDE, WIDE_LIMIT)
            continue
        for name, shape, following in (
            ("mix", (size, size, 1, 1), "spatial"),
            ("spatial", (size, 1, 3, 3), ""),
            ("expand", (2 * size, size, 1, 1), "project"),
            ("project", (size, 2 * size, 1, 1), ""),
        ):
            limit = NARROW_LIMIT if following else WIDE_LIMIT
            found[f"{unit}.{name}"] = Layer(
                False, shape, NARROW_LIMIT, WIDE, limit, f"{unit}.{following}" if following else ""
            )
    for part, decoder in (("intra", "synthesis"), ("motion", "decoder"), ("inter", "decoder")):
        c, latent = config[part]["channels"], config[part]["latent"]
        found[f"{part}.{decoder}.up.conv"] = Layer(True, (4 * c, latent, 1, 1), WIDE_LIMIT, WIDE, WIDE_LIMIT)
        if part != "motion":
            found[f"{part}.{decoder}.head"] = Layer(True, (PACKED, c, 1, 1), WIDE_LIMIT, PICTURE, WIDE_LIMIT)
        if config[part].get("chroma_path", False):
            found[f"{part}.{decoder}.chroma.conv"] = Layer(True, (CHROMA, latent, 1, 1), WIDE_LIMIT, PICTURE, WIDE_LIMIT)
    for part in ("motion.decoder", "motion.refinement"):
        shape = (2, config["motion"]["channels"], 1, 1)
        found[f"{part}.head"] = Layer(True, shape, WIDE_LIMIT, VECTOR, VECTOR_LIMIT)
    return found


def gains(config: dict[str, Any]) -> dict[str, int]:
    """Section 10: the gains by name, with their channels."""
    found = {f"{part}.gain.decode": config[part]["latent"] for part in ("intra", "motion", "inter")}
    found |= {f"intra.synthesis.units.{way}": config["intra"]["channels"] for way in ("encode", "decode")}
    found |= {f"inter.decoder.units.{way}": config["inter"]["channels"] for way in ("encode", "decode")}
    return found | {"inter.decoder.context_units.encode": config["inter"]["channels"]}


class Convolution:
    """A layer with its tensors, checked."""

    def __init__(self, tensors: dict[str, np.ndarray], name: str, layer: Layer) -> None:
        self.name, self.layer, count = name, layer, (layer.shape[0],)
        self.weight = _tensor(tensors, f"{name}.weight", "int16" if layer.wide else "int8", layer.shape)
        self.bias = _tensor(tensors, f"{name}.bias", "int64" if layer.wide else "int32", count)
        self.exponent = _tensor(tensors, f"{name}.exponent", "int8", count)
        self.frac_in, self.frac_out, self.rounds = WIDE, layer.frac_out, False
        self.limit_in, self.limit_out = layer.limit_in, layer.limit_out
        if not layer.wide:
            self.frac_in, self.frac_out, self.rounds = _format(tensors, name)
            expected = layer.frac_out
            if self.rounds:
                self.limit_in = ROUNDED_LIMIT
            if layer.next_layer:
                expected, _, next_rounds = _format(tensors, layer.next_layer)
                if next_rounds:
                    self.limit_out = ROUNDED_LIMIT
            if self.frac_in not in FRACTIONS or self.frac_out not in FRACTIONS or self.frac_out != expected:
                raise ModelError(f"{name} has the format {self.frac_in}, {self.frac_out}")
        self._check_bound(*((8191, 20, 2**53) if layer.wide else (127, 14, 2**24)))

    def _check_bound(self, largest: int, exponent: int, bound: int) -> None:
        if np.abs(self.weight).max() > largest or self.exponent.min() < 0 or self.exponent.max() > exponent:
            raise ModelError(f"{self.name}: a weight or an exponent is out of range")
        for weight, bias, k in zip(self.weight, self.bias, self.exponent, strict=True):
            s = self.frac_in + int(k) - self.frac_out
            half = 1 << s - 1 if s > 0 else 0
            if int(self._accumulated(self.limit_in * np.abs(weight).sum())) + abs(int(bias)) + half >= bound:
                raise ModelError(f"{self.name}: a filter can exceed {bound}")

    def _accumulated(self, total: np.ndarray) -> np.ndarray:
        return rounded(total) if self.rounds else total

    def narrow(self, x: np.ndarray) -> np.ndarray:
        """Section 2: a wide tensor in the format of this layer's input."""
        return clamp(rshift(x, WIDE - self.frac_in), self.limit_in)

    def __call__(self, x: np.ndarray, outputs: int | None = None) -> np.ndarray:
        """Section 2: x (c, R, S) -> (a, R, S), from the filters' first c inputs."""
        weight, bias = self.weight[:outputs, : len(x)], self.bias[:outputs, None, None]
        if self.layer.shape[2] == 3:
            total = _depthwise(x, weight[:, 0])
        else:
            total = np.tensordot(weight[:, :, 0, 0].astype(np.float64), x.astype(np.float64), 1).astype(np.int64)
        total = self._accumulated(total) + bias
        low = 0 if self.layer.next_layer else -self.limit_out
        shifts = self.frac_in + self.exponent[:outputs] - self.frac_out
        out = [rshift(t, int(s)) for t, s in zip(total, shifts, strict=True)]
        return np.clip(np.stack(out), low, self.limit_out)


def _depthwise(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    _, rows, columns = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = [(u, v) for u in range(3) for v in range(3)]
    return sum(weight[:, u, v, None, None] * padded[:, u : u + rows, v : v + columns] for u, v in windows)


class Gain:
    """Section 3, with its table checked."""

    def __init__(self, tensors: dict[str, np.ndarray], name: str, channels: int) -> None:
        self.table = _tensor(tensors, name, "int32", (9, channels))
        if np.abs(self.table).max() > GAIN_LIMIT:
            raise ModelError(f"{name} is out of range")

    def scale(self, x: np.ndarray, quality: int, frac: int = WIDE) -> np.ndarray:
        """x (C, R, S) with ``frac`` fractional bits -> wide."""
        e = at(self.table, quality)
        out = [rshift(c * POWERS[k & 1023], 15 + frac - WIDE - int(k >> 10)) for c, k in zip(x, e, strict=True)]
        return clamp(np.stack(out), WIDE_LIMIT)


def _format(tensors: dict[str, np.ndarray], layer: str) -> tuple[int, int, bool]:
    """``frac_in``, ``frac_out``, and whether the layer rounds."""
    name = f"{layer}.format"
    found = tensors.get(name)
    if found is None or found.shape != (3,):
        frac_in, frac_out = _tensor(tensors, name, "int8", (2,))
        return int(frac_in), int(frac_out), False
    frac_in, frac_out, bits = _tensor(tensors, name, "int8", (3,))
    if bits != ROUNDED:
        raise ModelError(f"{name} asks for {bits} significant bits")
    return int(frac_in), int(frac_out), True


def _tensor(tensors: dict[str, np.ndarray], name: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    found = tensors.get(name)
    if found is None or found.dtype.name != kind or found.shape != shape:
        there = "is missing" if found is None else f"is {found.dtype.name} {list(found.shape)}"
        raise ModelError(f"{name} {there}, not {kind} {list(shape)}")
    return found.astype(np.int64)
