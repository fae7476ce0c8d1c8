"""The picture side of exact_pictures.md in numpy (int64): latents to samples, the same on every machine."""

from __future__ import annotations

import json

import numpy as np

from .choices import NO_CHOICES
from .corrections import NO_CORRECTIONS, correction
from .exact_layers import (
    PICTURE,
    WIDE,
    WIDE_LIMIT,
    Convolution,
    Gain,
    clamp,
    gains,
    layers,
    rshift,
    units,
)
from .filters import NO_FILTERS, filter_plane, sixteenths
from .motion import Past, predict
from .networks import Latent, ModelError, depth_to_space
from .pictures import WIDTHS, Planes, join, lead, split

LATENT = 4
GREY = 255 << PICTURE - 1


def samples(t: np.ndarray) -> np.ndarray:
    """Sections 6 and 9: samples with 14 fractional bits, rounded to 0..255."""
    return np.clip(rshift(t, PICTURE), 0, 255)


# -- networks (sections 5 to 9) --------------------------------------------------------------------------------------------


class ExactPictures:
    """The picture networks of a model, checked as section 10 says, at one width table. Raises ModelError."""

    def __init__(self, tensors: dict[str, np.ndarray], config: str, table: list[int]) -> None:
        try:
            sizes = json.loads(config)
            _check_config(sizes)
            names = units(sizes)
            self.convolutions = {name: Convolution(tensors, name, layer) for name, layer in layers(sizes).items()}
            self.gains = {name: Gain(tensors, name, channels) for name, channels in gains(sizes).items()}
        except (KeyError, TypeError, ValueError) as error:
            raise error if isinstance(error, ModelError) else ModelError(f"config: {error!r}") from error
        if len(names) != len(table) or max(table, default=0) > 2:
            raise ModelError(f"a width table of {len(table)} entries for {len(names)} units")
        self.options = dict(zip(names, table, strict=True))
        self.past = Past()

    def _block(self, unit: str, x: np.ndarray) -> np.ndarray:
        mix, spatial, expand, project = (
            self.convolutions[f"{unit}.{name}"] for name in ("mix", "spatial", "expand", "project")
        )
        n = lead(len(x), WIDTHS[self.options[unit]])
        h = x[:n]
        h = clamp(h + spatial(mix(mix.narrow(h), n), n), WIDE_LIMIT)
        h = clamp(h + project(expand(expand.narrow(h), 2 * n), n), WIDE_LIMIT)
        return np.concatenate([h, x[n:]])

    def _pointwise(self, unit: str, *inputs: np.ndarray) -> np.ndarray:
        conv, x = self.convolutions[f"{unit}.conv"], np.concatenate(inputs)
        outputs, option = conv.layer.shape[0], self.options[unit]
        n = lead(outputs, WIDTHS[option])
        t = conv(conv.narrow(x[: lead(len(x), WIDTHS[option])]), n)
        zeros = np.zeros((max(outputs - max(n, len(x)), 0), *t.shape[1:]), dtype=np.int64)
        return np.concatenate([t, x[n:outputs], zeros])

    def _up(self, part: str, x: np.ndarray) -> np.ndarray:
        return depth_to_space(self.convolutions[f"{part}.up.conv"](x))

    def _trunk(self, part: str, x: np.ndarray) -> np.ndarray:
        for unit in self.options:
            if unit.startswith(f"{part}.trunk."):
                x = self._block(unit, x)
        return x

    def _latent(self, part: str, latent: Latent, quality: int) -> np.ndarray:
        return self.gains[f"{part}.gain.decode"].scale(latent.value, quality, LATENT)

    def picture(self, kind: str, latents: dict[str, Latent], quality: int, reference: Planes | None) -> Planes:
        """The padded planes of a frame of kind "I" or "P", int64 samples 0..255. ``latents`` as networks.read_frame gives
        them, ``reference`` what this function gave for the frame before."""
        if kind == "I":
            self.past = Past()
            return self._samples(self._intra(latents["contextual"], quality), latents)
        vectors, features = self.vectors(latents["motion"], quality, reference)
        choices = latents.get("choices", NO_CHOICES)
        predicted, self.past = predict((vectors, reference), self.past, choices.value, choices.lasting)
        prediction = join(predicted)
        x = clamp(rshift(prediction - GREY, PICTURE + 8 - WIDE), WIDE_LIMIT)
        e = self._trunk("inter.extraction", self._pointwise("inter.extraction.enter", x))
        c = self._trunk("inter.refinement", self._pointwise("inter.refinement.enter", e, features))
        c = self.gains["inter.decoder.context_units.encode"].scale(c, quality)
        x = self._up("inter.decoder", self._latent("inter", latents["contextual"], quality))
        v = self.gains["inter.decoder.units.encode"].scale(x, quality)
        d = self._trunk("inter.decoder", self._pointwise("inter.decoder.fuse", v, c)) - v
        x = clamp(x + self.gains["inter.decoder.units.decode"].scale(d, quality), WIDE_LIMIT)
        return self._samples(prediction + self._head("inter", "decoder", x, latents["contextual"], quality), latents)

    def _samples(self, t: np.ndarray, latents: dict[str, Latent]) -> Planes:
        """The decoded planes, from packed ones with 14 fractional bits."""
        filters = latents.get("filters", NO_FILTERS).planes
        planes = split(t)
        decoded = []
        for p, f, c in zip(planes, filters, latents.get("corrections", NO_CORRECTIONS).planes, strict=True):
            added = None if c is None else correction(c, *p.shape)
            if f is not None:
                decoded.append(filter_plane(p, f, planes[0], added))
            else:
                decoded.append(samples(p) if added is None else np.clip((sixteenths(p) + added + 8) >> 4, 0, 255))
        return tuple(decoded)

    def _intra(self, latent: Latent, quality: int) -> np.ndarray:
        x = self._up("intra.synthesis", self._latent("intra", latent, quality))
        v = self.gains["intra.synthesis.units.encode"].scale(x, quality)
        d = self._trunk("intra.synthesis", v) - v
        x = clamp(x + self.gains["intra.synthesis.units.decode"].scale(d, quality), WIDE_LIMIT)
        return self._head("intra", "synthesis", x, latent, quality) + GREY

    def _head(self, part: str, decoder: str, x: np.ndarray, latent: Latent, quality: int) -> np.ndarray:
        """The last layers of sections 6 and 9."""
        t, chroma = self.convolutions[f"{part}.{decoder}.head"](x), f"{part}.{decoder}.chroma.conv"
        if chroma in self.convolutions:
            u = depth_to_space(self.convolutions[chroma](self._latent(part, latent, quality)))
            t[64:] = clamp(t[64:] + u, WIDE_LIMIT)
        return t

    def vectors(self, motion: Latent, quality: int, reference: Planes) -> tuple[np.ndarray, np.ndarray]:
        """Section 7: vectors (2, h, w) in sixteenths of a luma sample, and motion features (C, h, w)."""
        x = self._block("motion.decoder.coarse", self._latent("motion", motion, quality))
        f = self._trunk("motion.decoder", self._up("motion.decoder", x))
        a = self.convolutions["motion.decoder.head"](f)
        x = self._pointwise("motion.refinement.enter", f, (2 * join(reference) - 255) * 8)
        r = self.convolutions["motion.refinement.head"](self._trunk("motion.refinement", x))
        return clamp(rshift(a + r, 4), 8192), f


def _check_config(sizes: dict[str, dict[str, int]]) -> None:
    steps = (sizes["intra"]["step_units"], sizes["inter"]["step_units"], sizes["motion"]["full_rank"])
    joined = (sizes["inter"]["motion_channels"], sizes["inter"]["motion_latent"])
    if steps != (True, True, True) or joined != (sizes["motion"]["channels"], sizes["motion"]["latent"]):
        raise ModelError("config: no sizes of exact pictures")
