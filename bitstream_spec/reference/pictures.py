"""The picture side of pictures.md in numpy (float64), for the flagship: slow, and equal to the product up to rounding."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from .choices import NO_CHOICES
from .motion import Past, Planes, predict
from .networks import Latent, ModelError, depth_to_space

WIDTHS = (1.0, 0.5, 0.25)


def lead(channels: int, width: float) -> int:
    """Section 2: channels computed at a width. Python's round takes a half to the even integer."""
    return max(1, round(channels * width))


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Dense (O, I, k, k) or depthwise (O, 1, k, k) convolution of x (I, R, S), zero padding -> (O, R, S)."""
    _, rows, columns = x.shape
    margin = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    total = np.zeros((len(weight), rows, columns)) + bias[:, None, None]
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            window = padded[:, u : u + rows, v : v + columns]
            if weight.shape[1] == 1:
                total += weight[:, 0, u, v, None, None] * window
            else:
                total += np.tensordot(weight[:, :, u, v], window, axes=(1, 0))
    return total


def join(planes: Planes) -> np.ndarray:
    """The order of section 3: planes to (96, h, w), values as they are."""
    parts = []
    for plane, size in zip(planes, (8, 4, 4), strict=True):
        rows, columns = plane.shape[0] // size, plane.shape[1] // size
        cells = plane.reshape(rows, size, columns, size).transpose(1, 3, 0, 2)
        parts.append(cells.reshape(size * size, rows, columns))
    return np.concatenate(parts)


def split(packed: np.ndarray) -> Planes:
    """The inverse of ``join``."""
    _, rows, columns = packed.shape
    planes = []
    for part, size in zip(np.split(packed, [64, 80]), (8, 4, 4), strict=True):
        cells = part.reshape(size, size, rows, columns).transpose(2, 0, 3, 1)
        planes.append(cells.reshape(rows * size, columns * size))
    return planes[0], planes[1], planes[2]


def pack(planes: Planes) -> np.ndarray:
    """Section 3: planes to (96, h, w)."""
    return join(planes) / 255 - 0.5


def unpack(packed: np.ndarray) -> Planes:
    """Section 3: the inverse, rounded to samples."""
    return split(np.clip(np.floor((packed + 0.5) * 255 + 0.5), 0, 255))


def _along(count: int, cells: int, f: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = np.maximum((2 * np.arange(count) + 1 - f) / (2 * f), 0)
    i = np.floor(u).astype(int)
    return i, np.minimum(i + 1, cells - 1), u - i


def _double_columns(p: np.ndarray) -> np.ndarray:
    at = np.clip(np.arange(p.shape[1])[:, None] + np.arange(-2, 4), 0, p.shape[1] - 1)
    out = np.zeros((p.shape[0], 2 * p.shape[1]))
    out[:, ::2] = p
    out[:, 1::2] = p[:, at] @ np.array([1, -5, 20, 20, -5, 1]) / 32
    return out


def compensate_plane(plane: np.ndarray, vectors: np.ndarray, f: int) -> np.ndarray:
    """Section 7 for one plane (R, S), vectors (2, R / f, S / f) in its samples, already rounded to the grid."""
    rows, columns = plane.shape
    i, j, t = _along(rows, vectors.shape[1], f)
    v = vectors[:, i] * (1 - t)[:, None] + vectors[:, j] * t[:, None]
    i, j, t = _along(columns, vectors.shape[2], f)
    v = v[:, :, i] * (1 - t) + v[:, :, j] * t
    d = np.clip(np.floor(8 * v + 0.5) / 8, -512, 512)
    doubled = _double_columns(_double_columns(plane).T).T
    x = np.clip(8 * np.arange(columns) + 8 * d[0], 0, 4 * (2 * columns - 1)).astype(int)
    y = np.clip(8 * np.arange(rows)[:, None] + 8 * d[1], 0, 4 * (2 * rows - 1)).astype(int)
    x0, y0, tx, ty = x // 4, y // 4, x % 4 / 4, y % 4 / 4
    x1, y1 = np.minimum(x0 + 1, 2 * columns - 1), np.minimum(y0 + 1, 2 * rows - 1)
    top = doubled[y0, x0] * (1 - tx) + doubled[y0, x1] * tx
    return top * (1 - ty) + (doubled[y1, x0] * (1 - tx) + doubled[y1, x1] * tx) * ty


def compensate(reference: Planes, vectors: np.ndarray) -> Planes:
    """Section 7: vectors (2, h, w) in luma samples."""
    v = np.floor(16 * np.clip(vectors, -512, 512) + 0.5) / 16
    y, u, w = reference
    return compensate_plane(y, v, 8), compensate_plane(u, v / 2, 4), compensate_plane(w, v / 2, 4)


class PictureSide:
    """The picture networks of a model at one width table."""

    def __init__(self, tensors: dict[str, np.ndarray], config: str, table: list[int]) -> None:
        self.tensors, self.config = tensors, json.loads(config)
        names = self._units()
        if len(names) != len(table) or max(table, default=0) > 2:
            raise ModelError(f"a width table of {len(table)} entries for {len(names)} units")
        self.widths = {name: WIDTHS[entry] for name, entry in zip(names, table, strict=True)}
        self.past = Past()

    def _units(self) -> list[str]:
        names: list[str] = []
        for part, units, blocks in (
            ("intra.synthesis", ["up"], self.config["intra"]["decoder_blocks"]),
            ("motion.decoder", ["coarse", "up"], self.config["motion"]["decoder_blocks"]),
            ("motion.refinement", ["enter"], self.config["motion"]["refinement_blocks"]),
            ("inter.extraction", ["enter"], self.config["inter"]["extraction_blocks"]),
            ("inter.refinement", ["enter"], self.config["inter"]["refinement_blocks"]),
            ("inter.decoder", ["up", "fuse"], self.config["inter"]["decoder_blocks"]),
        ):
            names += [f"{part}.{unit}" for unit in units if unit != "up" or not self._whole_up(part)]
            names += [f"{part}.trunk.{i}" for i in range(blocks)]
        return names

    def _whole_up(self, part: str) -> bool:
        """Section 9: whether ``part.up`` is always whole. A key that is not there is false."""
        name = part.partition(".")[0]
        return self.config[name].get("full_rank" if name == "motion" else "step_units", False)

    def _conv(self, name: str, x: np.ndarray, outputs: int | None = None) -> np.ndarray:
        weight = self.tensors[f"{name}.weight"].astype(np.float64)[:outputs, : len(x)]  # depthwise: its one input stays
        return convolution(x, weight, self.tensors[f"{name}.bias"].astype(np.float64)[:outputs])

    def _pointwise(self, unit: str, x: np.ndarray, subpixel: bool = False) -> np.ndarray:
        width, factor = self.widths[unit], 4 if subpixel else 1
        outputs, inputs = self.tensors[f"{unit}.conv.weight"].shape[:2]
        outputs //= factor
        n = lead(outputs, width)
        t = self._conv(f"{unit}.conv", x[: lead(inputs, width)], factor * n)
        if subpixel:
            t, x = depth_to_space(t), x.repeat(2, 1).repeat(2, 2)
        zeros = np.zeros((max(outputs - max(n, len(x)), 0), *t.shape[1:]))
        return np.concatenate([t, x[n:outputs], zeros])

    def _up(self, part: str, x: np.ndarray) -> np.ndarray:
        if self._whole_up(part):
            return depth_to_space(self._conv(f"{part}.up.conv", x))
        return self._pointwise(f"{part}.up", x, True)

    def _block(self, unit: str, x: np.ndarray) -> np.ndarray:
        n = lead(len(x), self.widths[unit])
        h = x[:n]
        h = h + self._conv(f"{unit}.spatial", np.maximum(self._conv(f"{unit}.mix", h, n), 0), n)
        h = h + self._conv(f"{unit}.project", np.maximum(self._conv(f"{unit}.expand", h, 2 * n), 0), n)
        return np.concatenate([h, x[n:]])

    def _trunk(self, part: str, x: np.ndarray) -> np.ndarray:
        for unit in self.widths:
            if unit.startswith(f"{part}.trunk."):
                x = self._block(unit, x)
        return x

    def _scale(self, table: str, x: np.ndarray, quality: int) -> np.ndarray:
        """Section 4: x (C, R, S) by the factors of a gain table (9, C)."""
        rows = self.tensors[table].astype(np.float64)
        a = min(quality // 25, 7)
        r = quality - 25 * a
        g = rows[a] * (1 - r / 25) + rows[a + 1] * (r / 25)
        return x * (2**g)[:, None, None]

    def _gain(self, part: str, latent: Latent, quality: int) -> np.ndarray:
        return self._scale(f"{part}.gain.decode", latent.value / 16, quality)

    def _corrected(
        self, part: str, x: np.ndarray, quality: int, networks: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Section 4, steps: ``networks`` working in units of the quantiser step, if the model has these."""
        if not self.config[part.partition(".")[0]].get("step_units", False):
            return networks(x)
        v = self._scale(f"{part}.units.encode", x, quality)
        return x + self._scale(f"{part}.units.decode", networks(v) - v, quality)

    def picture(self, kind: str, latents: dict[str, Latent], quality: int, reference: Planes | None) -> Planes:
        """Section 1: the padded planes of a frame, samples 0..255."""
        if kind == "I":
            self.past = Past()
            x = self._up("intra.synthesis", self._gain("intra", latents["contextual"], quality))
            x = self._corrected("intra.synthesis", x, quality, lambda v: self._trunk("intra.synthesis", v))
            return unpack(self._conv("intra.synthesis.head", x) + self._chroma("intra", "synthesis", latents["contextual"], quality))
        vectors, features = self.vectors(latents["motion"], quality, reference)
        prediction = pack(compensate(reference, vectors))
        step = np.floor(16 * np.clip(vectors, -512, 512) + 0.5).astype(int), tuple(plane.astype(int) for plane in reference)
        choices = latents.get("choices", NO_CHOICES)
        predicted, self.past = predict(step, self.past, choices.value, choices.lasting)
        if choices.value is not None:
            prediction = pack(tuple(plane / 2**14 for plane in predicted))
        e = self._trunk("inter.extraction", self._pointwise("inter.extraction.enter", prediction))
        c = self._pointwise("inter.refinement.enter", np.concatenate([e, features]))
        c = self._trunk("inter.refinement", c)
        if self.config["inter"].get("step_units", False):
            c = self._scale("inter.decoder.context_units.encode", c, quality)
        x = self._up("inter.decoder", self._gain("inter", latents["contextual"], quality))
        x = self._corrected("inter.decoder", x, quality, lambda v: self._trunk(
            "inter.decoder", self._pointwise("inter.decoder.fuse", np.concatenate([v, c]))))
        chroma = self._chroma("inter", "decoder", latents["contextual"], quality)
        return unpack(prediction + self._conv("inter.decoder.head", x) + chroma)

    def _chroma(self, part: str, decoder: str, latent: Latent, quality: int) -> np.ndarray | float:
        """Sections 5 and 8: what the second layer adds to the packed planes."""
        if not self.config[part].get("chroma_path", False):
            return 0.0
        u = depth_to_space(self._conv(f"{part}.{decoder}.chroma.conv", self._gain(part, latent, quality)))
        return np.pad(u, ((64, 0), (0, 0), (0, 0)))

    def vectors(self, motion: Latent, quality: int, reference: Planes) -> tuple[np.ndarray, np.ndarray]:
        """Section 6: vectors (2, h, w) in luma samples and motion features (C, h, w)."""
        x = self._block("motion.decoder.coarse", self._gain("motion", motion, quality))
        f = self._trunk("motion.decoder", self._up("motion.decoder", x))
        v = 8 * self._conv("motion.decoder.head", f)
        x = self._pointwise("motion.refinement.enter", np.concatenate([f, pack(reference)]))
        return v + 8 * self._conv("motion.refinement.head", self._trunk("motion.refinement", x)), f
