"""The networks of networks.md: the exact entropy path, in int64.

One picture at a time: tensors are int64 arrays (channels, rows, columns) without a batch dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .adaptation import Adaptation
from .choices import Choices, read_choices
from .corrections import Corrections, read_corrections
from .filters import NO_FILTERS, Filters, read_filters
from .masks import read_latent, read_mask
from .rans import Rans, StreamError
from .tables import TABLES, read_group

LARGEST_SYMBOL = 127
LARGEST_LATENT = 32767
UNCHECKED_HYPER = 1024


class Format(NamedTuple):
    """Fractional bits and limits of a layer's input and output (networks.md, section 4)."""

    frac_in: int
    limit_in: int
    frac_out: int
    limit_out: int
    relu: bool


HIDDEN = Format(6, 1023, 6, 1023, True)
FROM_SYMBOLS = Format(0, 127, 6, 1023, True)
FROM_CONTEXT = Format(2, 127, 6, 1023, True)
FROM_WIDE_CONTEXT = Format(2, 1023, 6, 1023, True)
TO_SIXTEENTHS = Format(6, 1023, 4, 2047, False)
TO_SCALE = Format(6, 1023, 2, 127, False)


class ModelError(ValueError):
    """Tensors that networks.md does not allow."""


class Statistics(NamedTuple):
    """What a prior says of a latent: ``mean`` in sixteenths, ``scale_index`` 0..63, ``logit``; all int64 (C, h, w)."""

    mean: np.ndarray
    scale_index: np.ndarray
    logit: np.ndarray

    def derived_mask(self) -> np.ndarray:
        """bool (C, h, w), True where an element is coded."""
        return self.logit > 0


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Section 2, the sum: x (I, H, W), weight (O, I, k, k) or (O, 1, k, k) if depthwise, bias (O,) -> (O, H, W)."""
    _, height, width = x.shape
    outputs, inputs, size, _ = weight.shape
    margin = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    total = np.zeros((outputs, height, width), dtype=np.int64) + bias[:, None, None]
    for u in range(size):
        for v in range(size):
            window = padded[:, u : u + height, v : v + width]
            if inputs == x.shape[0] and inputs > 1:
                total += np.tensordot(weight[:, :, u, v], window, axes=(1, 0))
            elif inputs == 1:
                total += weight[:, 0, u, v][:, None, None] * window
            else:
                raise ModelError(f"a filter of {inputs} channels on {x.shape[0]}")
    return total


def rescale(total: np.ndarray, exponent: np.ndarray, layer: Format) -> np.ndarray:
    """Section 2, from the sum (O, H, W) to the output."""
    out = np.zeros_like(total)
    for channel in range(total.shape[0]):
        shift = layer.frac_in + int(exponent[channel]) - layer.frac_out
        if shift > 0:
            out[channel] = (total[channel] + 2 ** (shift - 1)) >> shift
        else:
            out[channel] = total[channel] * 2**-shift
    return np.clip(out, 0 if layer.relu else -layer.limit_out, layer.limit_out)


def check_filters(weight: np.ndarray, bias: np.ndarray, exponent: np.ndarray, extra: int, layer: Format) -> None:
    """Section 2, the bound, and the ranges of section 6; ``extra`` is the largest magnitude of the extra bias."""
    if np.abs(weight).max() > 127 or exponent.min() < 0 or exponent.max() > 14 or extra > 2**21:
        raise ModelError("a tensor of an exact layer is out of range")
    for channel in range(weight.shape[0]):
        shift = layer.frac_in + int(exponent[channel]) - layer.frac_out
        half = 2 ** (shift - 1) if shift > 0 else 0
        if layer.limit_in * np.abs(weight[channel]).sum() + abs(bias[channel]) + extra + half >= 2**24:
            raise ModelError("a filter of an exact layer can exceed 2^24")


def at(table: np.ndarray, quality: int) -> np.ndarray:
    """Section 3: table (9, n), quality index 0..200 -> (n,)."""
    if not 0 <= quality <= 200:
        raise ModelError(f"quality index {quality}")
    anchor = min(quality // 25, 7)
    rest = quality - 25 * anchor
    return (table[anchor] * (25 - rest) + table[anchor + 1] * rest + 12) // 25


def requantise(n: np.ndarray, context: Format = FROM_CONTEXT) -> np.ndarray:
    """Section 1: sixteenths to the context format, or the wide one."""
    return np.clip((n + 2) >> 2, -context.limit_in, context.limit_in)


def depth_to_space(x: np.ndarray) -> np.ndarray:
    """(4 A, R, S) -> (A, 2 R, 2 S)."""
    channels, rows, columns = x.shape
    out = np.zeros((channels // 4, 2 * rows, 2 * columns), dtype=x.dtype)
    for i in range(2):
        for j in range(2):
            out[:, i::2, j::2] = x[2 * i + j :: 4]
    return out


def decoded_latent(symbols: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Section 4: symbols and means (C, h, w) -> latent in sixteenths."""
    return np.clip(16 * symbols.astype(np.int64) + mean, -LARGEST_LATENT, LARGEST_LATENT)


class LatentPrior:
    """The prior named ``name`` of a model; its integer ``tensors`` are given by name. Raises ModelError, or KeyError."""

    def __init__(self, tensors: dict[str, np.ndarray], name: str) -> None:
        self.tensors = tensors
        self.name = name
        self.reads_latents = f"{name}.temporal_in.weight" in tensors
        self.parts = 1 + sum(f"{name}.later.{i}.fuse.weight" in tensors for i in range(3))
        self.vectors = self.parts == 3 or (self.parts == 4 and name == "motion.prior")
        self.mask_bytes = 2 if self.parts in (2, 4) and not self.vectors else 1
        self.context = FROM_WIDE_CONTEXT if self.vectors else FROM_CONTEXT

    def tensor(self, name: str) -> np.ndarray:
        """A tensor of this prior, int64."""
        return self.tensors[f"{self.name}.{name}"].astype(np.int64)

    def hyper_scale_index(self, quality: int) -> np.ndarray:
        """Scale index of each channel of the hyper latent, int64 (Cz,)."""
        return np.clip((at(self.tensor("hyper_scale"), quality) + 8) >> 4, 0, 63)

    def features(
        self, z: np.ndarray, latents: list[np.ndarray], quality: int, rows: int, columns: int
    ) -> np.ndarray:
        """Hyper latent (Cz, hz, wz), latents read (C_i, h, w) in sixteenths, quality index, h and w -> features."""
        if np.abs(z).max(initial=0) > LARGEST_SYMBOL:
            raise StreamError("a hyper latent is out of range")
        x = z.astype(np.int64)
        x = depth_to_space(self._layer("up1", x, FROM_SYMBOLS, quality, extra="up1_quality"))
        x = self._layer("mix1", x, HIDDEN, quality)
        x = depth_to_space(self._layer("up2", x, HIDDEN, quality))
        x = self._layer("mix2", x[:, :rows, :columns], HIDDEN, quality)
        if self.reads_latents:
            t = np.concatenate([requantise(n.astype(np.int64), self.context) for n in latents])
            t = self._layer("temporal_in", t, self.context, quality)
            x = np.concatenate([x, self._layer("temporal_mix", t, HIDDEN, quality)])
        return x

    def statistics(
        self, features: np.ndarray, quality: int, part: int = 0, known: np.ndarray | None = None
    ) -> Statistics:
        """Statistics on all positions (h, w), for the elements of a part. ``known`` (C, h, w): for those after the
        first, the decoded latent of the parts before in sixteenths, 0 elsewhere."""
        x, path = features, ""
        if known is not None:
            path = f"later.{part - 1}."
            s = self._layer(f"{path}spatial_in", requantise(known, self.context), self.context, quality)
            x = np.concatenate([x, self._layer(f"{path}spatial_mix", s, HIDDEN, quality)])
        x = self._layer(f"{path}fuse", x, HIDDEN, quality)
        x = self._layer(f"{path}fuse_mix", x, HIDDEN, quality)
        mean = self._layer(f"{path}mean_head", x, TO_SIXTEENTHS, quality)
        index = self._layer(f"{path}scale_head", x, TO_SCALE, quality, extra=f"{path}scale_quality")
        index = np.clip(index, 0, 63)
        m = self._layer("mode.enter", np.concatenate([requantise(mean), index]), FROM_CONTEXT, quality)
        m = self._layer("mode.spatial", m, HIDDEN, quality)
        return Statistics(mean, index, self._layer("mode.leave", m, TO_SIXTEENTHS, quality))

    def _layer(self, name: str, x: np.ndarray, layer: Format, quality: int, extra: str = "") -> np.ndarray:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        exponent = self.tensor(f"{name}.exponent")
        largest = 0
        if extra:
            table = self.tensor(f"{extra}.table")
            largest = int(np.abs(table).max())
        check_filters(weight, bias, exponent, largest, layer)
        if extra:
            bias = bias + at(table, quality)
        return rescale(convolution(x, weight, bias), exponent, layer)


def positions(part: int, parts: int, rows: int, columns: int) -> np.ndarray:
    """Section 4, parts: bool (h, w), True at the positions of a part."""
    if parts == 1:
        return np.ones((rows, columns), dtype=bool)
    odd_row, odd_column = np.arange(rows)[:, None] % 2, np.arange(columns)[None, :] % 2
    if parts == 2:
        return (odd_row + odd_column) % 2 == part
    return (odd_row != odd_column) if part == 2 else (odd_row == part) & (odd_column == part)


def elements(part: int, parts: int, channels: int, rows: int, columns: int, vectors: bool) -> np.ndarray:
    """Section 4, parts: bool (C, h, w), True at the elements of a part."""
    if parts < 4:
        return np.broadcast_to(positions(part, parts, rows, columns), (channels, rows, columns))
    if vectors:
        sums = np.isin(np.arange(channels), (0, channels // 2))[:, None, None]
        if part == 3:
            return np.broadcast_to(~sums, (channels, rows, columns))
        return sums & positions(part, 3, rows, columns)
    place = np.empty((rows, columns), dtype=np.int64)
    for (odd_row, odd_column), s in {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}.items():
        place[odd_row::2, odd_column::2] = s
    return (place[None] ^ (np.arange(channels)[:, None, None] % 4)) == part


class Latent(NamedTuple):
    """A decoded latent in sixteenths, int64 (C, h, w), and its mask, bool, True where coded."""

    value: np.ndarray
    mask: np.ndarray


def read_frame(
    tensors: dict[str, np.ndarray],
    kind: str,
    payload: bytes,
    mask_bytes: list[int],
    quality: int,
    height: int,
    width: int,
    reference: dict[str, Latent | Choices | Filters | Corrections | Adaptation] | None,
    hypotheses: bool = False,
    sparse: bool = False,
    loop_filter: bool = False,
    directed: bool = False,
    adaptive: bool = False,
    corrected: bool = False,
) -> dict[str, Latent | Choices | Filters | Corrections | Adaptation]:
    """Section 5: all latents of a packet of kind "I" or "P", by name, in their order in the payload, and between them its choices of predictions,
    if the stream has feature 4 (``hypotheses``). ``sparse``: it has feature 8.
    ``loop_filter``: it has feature 16; filters are found last. ``directed``: it has feature 32.
    ``corrected``: it has feature 256; corrections are found after filters.
    ``adaptive``: it has feature 128; what tables of the next frame follow from is found as "motion adaptation" and "contextual adaptation".

    ``height`` and ``width`` are in luma samples; ``reference`` is what this function gave for the frame referred to.
    """
    rans = Rans(payload)
    rows, columns = -(-height // 16), -(-width // 16)
    steps = [("motion", "motion.prior"), ("contextual", "inter.prior")]
    if kind == "I":
        steps = [("contextual", "intra.prior")]
    if len(mask_bytes) != sum(LatentPrior(tensors, prior_name).mask_bytes for _, prior_name in steps):
        raise StreamError(f"{len(mask_bytes)} mask bytes in a packet of kind {kind}")
    found: dict[str, Latent | Choices | Filters | Corrections | Adaptation] = {}
    remaining = list(mask_bytes)
    for name, prior_name in steps:
        prior = LatentPrior(tensors, prior_name)
        reads = []
        channels = prior.tensor("mean_head.weight").shape[0]
        if kind == "P":
            known = reference is not None and "motion" in reference
            reads.append(reference[name].value if known else np.zeros((channels, rows, columns), dtype=np.int64))
            if name == "contextual":
                reads.append(found["motion"].value)
        index = prior.hyper_scale_index(quality)
        z_shape = (len(index), -(-rows // 4), -(-columns // 4))
        tables = np.broadcast_to(index[:, None, None], z_shape)
        adaptation = None
        if adaptive and kind == "P":
            before = (reference or {}).get(f"{name} adaptation")
            adaptation = before.next() if before else Adaptation.start(channels, z_shape, prior.vectors)
            found[f"{name} adaptation"] = adaptation
            tables = np.broadcast_to(adaptation.hyper.tables(index, np.arange(len(index)))[:, None, None], z_shape)
        z = read_group(rans, tables.reshape(-1)).reshape(z_shape)
        if z.size > UNCHECKED_HYPER and rans.at_end():
            lowest = np.array([1 - len(table) // 2 for table in TABLES])[tables]
            if np.count_nonzero(z == lowest) > z.size // 2:
                raise StreamError("the payload ends within the hyper latents")
        if adaptation is not None:
            symbols, z = z, z + adaptation.prediction()
            if z.size and np.abs(z).max() > LARGEST_SYMBOL:
                raise StreamError("a hyper latent is out of range")
            adaptation.learn_hyper(tables, symbols, z)
        own, remaining = remaining[: prior.mask_bytes], remaining[prior.mask_bytes :]
        features = prior.features(z, reads, quality, rows, columns)
        value = np.zeros((channels, rows, columns), dtype=np.int64)
        coded = np.zeros((channels, rows, columns), dtype=bool)
        for part in range(prior.parts):
            stats = prior.statistics(features, quality, part, value if part else None)
            where = elements(part, prior.parts, channels, rows, columns, prior.vectors)
            shape = {1: (channels, rows, columns), 4: (1, 1, -1)}.get(prior.parts, (channels, 1, -1))
            mean, index, derived = (
                a[where].reshape(shape) for a in (stats.mean, stats.scale_index, stats.derived_mask())
            )
            channel = np.nonzero(where)[0]
            offsets = None
            if adaptation is not None:
                offsets = adaptation.later if part else adaptation.first
                index = offsets.tables(index, channel.reshape(shape))
            mask_byte = own[min(part, len(own) - 1)]
            mask = read_mask(rans, mask_byte // 64, mask_byte % 64, index, derived)
            symbols = read_latent(rans, index, mask, sparse)
            if offsets is not None:
                seen = mask.reshape(-1)
                offsets.learn(index.reshape(-1)[seen], channel[seen], symbols.reshape(-1)[seen])
            value[where] = decoded_latent(symbols, mean).reshape(-1)
            coded[where] = mask.reshape(-1)
        found[name] = Latent(value, coded)
        if name == "motion" and hypotheses:
            found["choices"] = read_choices(rans, rows, columns, (reference or {}).get("choices"))
    if loop_filter:
        before = None if kind == "I" else (reference or {}).get("filters", NO_FILTERS)
        found["filters"] = read_filters(rans, before, directed)
    if corrected:
        found["corrections"] = read_corrections(rans, rows, columns, None if kind == "I" else (reference or {}).get("corrections"))
    rans.check_end()
    return found
