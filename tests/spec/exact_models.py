"""Random decoders of exact pictures, as the integer tensors of a model file (exact_pictures.md, section 10)."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from reference.exact_layers import Layer, gains, layers, rounded, units

CONFIG = {
    "intra": {"channels": 10, "latent": 6, "hyper": 4, "decoder_blocks": 2, "encoder_blocks": 1, "levels": 3, "parts": 2, "step_units": True},
    "motion": {"channels": 6, "latent": 5, "hyper": 4, "decoder_blocks": 1, "encoder_blocks": 1, "refinement_blocks": 1, "levels": 3, "parts": 3,
               "full_rank": True},
    "inter": {"channels": 10, "latent": 6, "hyper": 4, "extraction_blocks": 1, "refinement_blocks": 2, "decoder_blocks": 1, "encoder_blocks": 1,
              "motion_channels": 6, "motion_latent": 5, "levels": 3, "parts": 2, "step_units": True},
}
FRAC = 8

Change = Callable[[np.ndarray], np.ndarray | None]


TRUNKS = tuple(name for name, layer in layers(CONFIG).items() if ".trunk." in name and layer.shape[2] == 1)
"""The pointwise layers of the blocks of trunks."""


def rounded_trunks(seed: int) -> dict[str, np.ndarray]:
    """``random_tensors`` whose trunks round their sums."""
    return random_tensors(seed, rounds=TRUNKS)


def rounded_limits(seed: int) -> dict[str, np.ndarray]:
    """``limit_tensors`` of which a different half of the narrow layers rounds each time, depthwise ones too."""
    return limit_tensors(seed, rounds=[name for i, name in enumerate(layers(CONFIG)) if (i + seed) % 3 != i % 2])


def random_tensors(seed: int, config: dict = CONFIG, frac: int = FRAC, rounds: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Small networks whose values stay well within their formats. Each narrow layer has ``frac`` fractional bits at its entry, or four fewer where it
    rounds."""
    rng = np.random.default_rng(seed)
    out, fracs = {}, {name: frac - 4 * (name in rounds) for name in layers(config)}
    for name, layer in layers(config).items():
        outputs, fan = layer.shape[0], int(np.prod(layer.shape[1:]))
        largest, most = (8191, 20) if layer.wide else (127, 14)
        real = rng.normal(0, _size(name) / np.sqrt(fan), layer.shape)
        peak, total = (f(np.abs(real).reshape(outputs, -1), 1) for f in (np.max, np.sum))
        bound = 2.0 ** (52 if layer.wide else 23)  # half of what there is: the rest for the bias and rounding
        k = np.clip(np.floor(np.log2(np.minimum(largest / peak, bound / total / limit_in(name, layer, rounds)))), 0, most).astype(int)
        weight = np.clip(np.round(real * 2.0 ** k[:, None, None, None]), -largest, largest)
        bias = np.round(rng.normal(0, 0.2, outputs) * 2.0 ** (k + (12 if layer.wide else fracs[name])))
        out |= _tensors(name, layer, weight, bias, k, fracs[name], fracs[layer.next_layer] if layer.next_layer else 12, rounds)
    for name, channels in gains(config).items():
        way = 1 if "encode" in name else -1
        out[name] = (way * 1024 * (np.linspace(-0.5, 1, 9)[:, None] + rng.normal(0, 0.2, (9, channels)))).astype(np.int32)
    return out


def limit_in(name: str, layer: Layer, rounds: Collection[str]) -> int:
    """Lin of section 2."""
    return 255 if name in rounds and not layer.wide else layer.limit_in


def _reach(name: str, layer: Layer, weight: np.ndarray, rounds: Collection[str]) -> np.ndarray:
    total = limit_in(name, layer, rounds) * np.abs(weight).reshape(len(weight), -1).sum(1)
    return rounded(total) if name in rounds and not layer.wide else total


def limit_tensors(seed: int, config: dict = CONFIG, rounds: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Filters as near to their bounds as they go, in all formats and with all exponents: their sums and outputs reach the limits."""
    rng = np.random.default_rng(seed)
    convolutions = layers(config)
    out, frac = {}, {name: int(rng.integers(-4, 13)) for name, layer in convolutions.items() if not layer.wide}
    for name, layer in convolutions.items():
        largest, most, bound = (8191, 20, 2**53) if layer.wide else (127, 14, 2**24)
        frac_in = 12 if layer.wide else frac[name]
        frac_out = frac[layer.next_layer] if layer.next_layer else layer.frac_out
        k = rng.integers(0, most + 1, layer.shape[0])
        if not layer.wide:
            k = np.minimum(k, 20 - frac_in + frac_out)  # half of the last place must fit the bound
        weight = rng.choice([-largest, largest, largest, -1, 0], layer.shape)
        half = np.array([1 << s - 1 if s > 0 else 0 for s in (frac_in + k - frac_out).tolist()])
        room = bound - 1 - half - _reach(name, layer, weight, rounds)
        for o in np.flatnonzero(room < 0):
            weight[o] = 0
            weight[o].reshape(-1)[0] = largest // 64
        room = bound - 1 - half - _reach(name, layer, weight, rounds)
        bias = np.minimum(room, 2**31 - 1 if not layer.wide else 2**62) * rng.choice([-1, 1, 0], len(room))
        out |= _tensors(name, layer, weight, bias, k, frac_in, frac_out, rounds)
    for name, channels in gains(config).items():
        out[name] = rng.choice([-16384, 16384, -1, 1023, 5000, -7777], (9, channels)).astype(np.int32)
    return out


def _size(name: str) -> float:
    if name.endswith("head"):
        return 3.0 if name.startswith("motion") else 30.0
    return 0.5 if name.endswith(("spatial", "project")) else 1.0


def _tensors(name: str, layer: Layer, weight: np.ndarray, bias: np.ndarray, k: np.ndarray, frac_in: int, frac_out: int,
             rounds: Collection[str]) -> dict[str, np.ndarray]:
    out = {f"{name}.weight": weight.astype(np.int16 if layer.wide else np.int8), f"{name}.bias": bias.astype(np.int64 if layer.wide else np.int32),
           f"{name}.exponent": k.astype(np.int8)}
    if not layer.wide:
        out[f"{name}.format"] = np.array([frac_in, frac_out, *([8] if name in rounds else [])], np.int8)
    return out


def as_real(tensors: dict[str, np.ndarray], config: dict = CONFIG) -> dict[str, np.ndarray]:
    """The same networks as pictures.md has them, in real numbers: its packed planes count in 255ths, its vectors in 8 samples."""
    out = {name: tensors[name] / 1024 for name in gains(config)}
    motion = config["motion"]["channels"]
    for name, layer in layers(config).items():
        frac_in = 12 if layer.wide else int(tensors[f"{name}.format"][0])
        unit = 2.0 ** -tensors[f"{name}.exponent"].astype(float)
        weight, bias = tensors[f"{name}.weight"] * unit[:, None, None, None], tensors[f"{name}.bias"] * unit * 2.0**-frac_in
        if name.endswith("head"):
            divisor = 8 if name.startswith("motion") else 255
            weight, bias = weight / divisor, bias / divisor
        if name == "inter.extraction.enter.conv":
            weight *= 255 / 256
        if name == "motion.refinement.enter.conv":
            weight[:, motion:] *= 255 / 256
        out |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return out


def unit_count(config: dict = CONFIG) -> int:
    """Entries of a width table."""
    return len(units(config))


def random_latents(rng: np.random.Generator, kind: str, rows: int, columns: int, largest: int, config: dict = CONFIG) -> dict[str, np.ndarray]:
    """Latents in sixteenths (C, rows, columns) by name."""
    channels = {"contextual": config["intra" if kind == "I" else "inter"]["latent"]} | ({"motion": config["motion"]["latent"]} if kind == "P" else {})
    return {name: rng.integers(-largest, largest + 1, (c, rows, columns)) for name, c in channels.items()}


def random_planes(rng: np.random.Generator, rows: int, columns: int, noise: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Planes of padded size, samples 0..255: waves and noise."""
    y, x = np.mgrid[:rows, :columns]
    luma = 128 + 90 * np.sin(y / 7 + rng.uniform(0, 6)) * np.cos(x / 9)
    chroma = luma[::2, ::2] / 2 + 60
    return tuple(np.clip(plane + rng.integers(-noise, noise + 1, plane.shape), 0, 255).astype(np.int64) for plane in (luma, chroma, 255 - chroma))


def malformations() -> dict[str, tuple[str, Change]]:
    """What makes a model malformed: a tensor's name, and what becomes of it."""
    def put(at: int, value: int) -> Change:
        def change(t: np.ndarray) -> np.ndarray:
            t = t.copy()
            t.reshape(-1)[at] = value
            return t
        return change

    block, fuse, head = "motion.refinement.trunk.0", "inter.decoder.fuse.conv", "intra.synthesis.head"
    return {
        "missing": (f"{block}.mix.exponent", lambda t: None),
        "no format": (f"{fuse}.format", lambda t: None),
        "float": ("inter.gain.decode", lambda t: t.astype(np.float16)),
        "wider type": (f"{block}.project.weight", lambda t: t.astype(np.int16)),
        "shape": (f"{block}.spatial.weight", lambda t: t[1:]),
        "a channel more": (f"{fuse}.weight", lambda t: np.concatenate([t, t[:, :1]], 1)),
        "weight -128": (f"{block}.expand.weight", put(3, -128)),
        "exponent 15": (f"{block}.mix.exponent", put(1, 15)),
        "exponent -1": (f"{block}.mix.exponent", put(1, -1)),
        "narrow bound": (f"{fuse}.bias", put(0, 2**24 - 1)),
        "narrow bound, negative": (f"{fuse}.bias", put(0, -(2**24))),
        "bias -2^31": (f"{fuse}.bias", put(0, -(2**31))),
        "format of the next": (f"{block}.mix.format", lambda t: t + np.array([0, -1 if t[1] > 0 else 1], np.int8)),
        "format not wide": (f"{block}.project.format", put(1, 11)),
        "frac_in 13": (f"{fuse}.format", put(0, 13)),
        "rounds to 7 bits": (f"{fuse}.format", lambda t: np.append(t, np.int8(7))),
        "four formats": (f"{fuse}.format", lambda t: np.array([*t, 8, 8], np.int8)),
        "frac_in -5": (f"{fuse}.format", put(0, -5)),
        "wide weight": (f"{head}.weight", put(0, 8192)),
        "wide weight, negative": (f"{head}.weight", put(0, -8192)),
        "wide exponent": (f"{head}.exponent", put(0, 21)),
        "wide bound": (f"{head}.bias", put(0, 2**53 - 1)),
        "bias -2^63": ("motion.decoder.up.conv.bias", put(0, -(2**63))),
        "gain": ("inter.decoder.context_units.encode", put(0, 16385)),
        "gain, negative": ("motion.gain.decode", put(0, -16385)),
        "gain -2^31": ("motion.gain.decode", put(0, -(2**31))),
    }
