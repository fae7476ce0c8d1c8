"""Model files: safetensors with integer tensors for the exact path and half precision for the rest (DESIGN D6).

For each exact convolution ``N.weight`` int8, ``N.bias`` int32, ``N.exponent`` int8; for each quality bias ``N.table`` int32; for each prior
``P.hyper_scale`` int32 (sixteenths of an index). (In SlimCAE and AdaNIC the last two have a first axis more, the widths.) Models with exact pictures have in
the same types the narrow layers of their decoder, with ``N.format`` int8 (fractional bits of input and output, and 8, significant bits, where sums
are rounded to bfloat16); wide layers with ``N.weight`` int16 and ``N.bias`` int64; and their decoder's gains int32.
Metadata hold the architecture and its sizes, and the width table of each level.
A stream names a model by :func:`identity`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neuralcodec.bitstream import model_key
from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.exact import ExactFlagship, declare_rounding, picture_convs, picture_gains, set_formats
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.prior import LAST_SCALE, LatentPrior, exact_parts
from neuralcodec.codecs.slimcae import SlimCAE, SlimCAEConfig
from neuralcodec.codecs.slimcae_prior import SlimPrior, leading_parts
from neuralcodec.core.errors import ModelError, NcodecError
from neuralcodec.entropy import TABLES_SHA256
from neuralcodec.nn.bfloat16 import SIGNIFICANT_BITS
from neuralcodec.nn.exact_convs import NarrowConv2d
from neuralcodec.nn.exact_filters import ExactFilters
from neuralcodec.nn.selection import WidthSelection, WidthSwitch, apply_widths, check_table

FORMAT = "1"
ARCHITECTURES = {kind.architecture: (kind, config)
                 for kind, config in ((Flagship, FlagshipConfig), (ExactFlagship, FlagshipConfig), (SlimCAE, SlimCAEConfig),
                                      (AdaNIC, AdaNICConfig))}
_Model = Flagship | SlimCAE | AdaNIC
_FILTER = ("weight", "bias", "exponent")
_UNIT = 64.0
"""hyper_scale parameters count indexes in quarters, files in sixteenths."""


@dataclass(frozen=True)
class LoadedModel:
    """A frozen model ready for coding: ``widths[level - 1]`` is the width table of a level."""

    name: str
    model: _Model
    identity: bytes
    widths: tuple[bytes, ...]
    metadata: dict[str, str]

    @property
    def levels(self) -> int:
        return len(self.widths)

    @property
    def key(self) -> bytes:
        """By which bare pictures name it (container.md, section 3)."""
        return model_key(self.identity, self.widths)

    @property
    def exact(self) -> bool:
        """Whether its pictures are exact, not its latents alone."""
        return self.model.layers.exact

    @property
    def intra_only(self) -> bool:
        """Whether it has no P frames."""
        return isinstance(self.model, WidthSwitch)

    @property
    def searches(self) -> bool:
        """Whether its encoder can search latents (codecs.latent_search)."""
        return isinstance(self.model, Flagship)

    @property
    def channels(self) -> tuple[int, ...] | None:
        """Of each level, in a model whose layers have one width at a time, or at one place; else None."""
        return self.model.config.widths if isinstance(self.model, WidthSwitch) else None

    @property
    def level_locked(self) -> bool:
        """Whether a stream decodes at its own level only."""
        return isinstance(self.model, WidthSwitch)


def _exact_parts(model: _Model) -> tuple[dict, dict]:
    """Convolutions of the entropy path, and biases by quality with the convolution that each belongs to, by qualified name."""
    (convs, biases), (leading, by_width) = exact_parts(model), leading_parts(model)
    return convs | leading, biases | by_width


def export_tensors(model: _Model) -> dict[str, Tensor]:
    """All tensors of a model in the file's types. Freezes the model's exact layers (raises UsageError when a bound fails)."""
    convs, biases = _exact_parts(model)
    pictures, gains = picture_convs(model), picture_gains(model)
    out: dict[str, Tensor] = {}
    for name, conv in (convs | pictures).items():
        conv.freeze()
        types = zip(_FILTER, conv.integer_parameters(), conv.file_types, strict=True)
        out |= {f"{name}.{last}": t.to(dtype) for last, t, dtype in types}
        if isinstance(conv, NarrowConv2d):
            out[f"{name}.format"] = conv.format
    for name, gain in gains.items():
        gain.freeze()
        out |= {f"{name}.{last}": table.to(torch.int32) for last, table in gain.tables().items()}
    for name, (bias, conv) in biases.items():
        bias.freeze(conv)
        out[f"{name}.table"] = bias.integers(conv).to(torch.int32)
    priors = {n: m for n, m in model.named_modules() if isinstance(m, LatentPrior | SlimPrior)}
    for name, prior in priors.items():
        out[f"{name}.hyper_scale"] = prior.hyper_scale_integers().to(torch.int32)
    selection = {n for n, m in model.named_modules() if isinstance(m, WidthSelection)}
    for name, tensor in model.state_dict().items():
        owner = name.rpartition(".")[0]
        if owner in convs or owner in pictures or owner in biases or owner in priors or name in out:
            continue
        out[name] = tensor.detach().to(torch.float32 if owner in selection else torch.float16)
    return {n: t.clone(memory_format=torch.contiguous_format) for n, t in out.items()}


def load_tensors(model: _Model, tensors: dict[str, Tensor]) -> None:
    """Fill and freeze a model. Raises ModelError when a tensor is missing or does not fit."""
    convs, biases = _exact_parts(model)
    pictures, gains = picture_convs(model), picture_gains(model)
    try:
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, LatentPrior | SlimPrior):
                    table = _checked(tensors, f"{name}.hyper_scale", module.hyper_scale, torch.int32)
                    if int(table.min()) < 0 or int(table.max()) > 16 * LAST_SCALE:
                        raise ModelError(f"{name}.hyper_scale is out of range")
                    module.hyper_scale.copy_(table.double() / _UNIT)
            special = set(convs) | set(biases) | set(pictures)
            exact = {f"{name}.{last}" for name, gain in gains.items() for last in gain.exact}
            for name, parameter in model.named_parameters():
                owner, _, last = name.rpartition(".")
                if owner not in special and last != "hyper_scale" and name not in exact:
                    parameter.copy_(_checked(tensors, name, parameter))
        _load_formats(model, pictures, tensors)
        for name, conv in (convs | pictures).items():
            conv.load_integers(*_filters(tensors, name, conv))
        for name, (bias, conv) in biases.items():
            bias.load_integers(_checked(tensors, f"{name}.table", bias.anchors, torch.int32), conv)
        for name, gain in gains.items():
            gain.load_integers({last: _checked(tensors, f"{name}.{last}", gain.encode, torch.int32) for last in gain.exact})
    except (KeyError, RuntimeError, NcodecError) as e:
        raise ModelError(f"the model file does not fit its architecture: {e}") from e


def _load_formats(model: _Model, pictures: dict[str, ExactFilters], tensors: dict[str, Tensor]) -> None:
    narrow = {name: conv for name, conv in pictures.items() if isinstance(conv, NarrowConv2d)}
    formats = {name: _format(tensors, f"{name}.format") for name in narrow}
    declare_rounding(model, {name for name, f in formats.items() if len(f) > 2})
    set_formats(model, {name: f[0] for name, f in formats.items()})
    for name, conv in narrow.items():
        if conv.frac_out != formats[name][1]:
            raise ModelError(f"{name}.format does not lead to the next layer's")


def _format(tensors: dict[str, Tensor], name: str) -> list[int]:
    found = tensors[name]
    if found.dtype != torch.int8 or found.shape not in ((2,), (3,)) or found[2:].tolist() not in ([], [SIGNIFICANT_BITS]):
        raise ModelError(f"{name} is no format")
    return found.tolist()


def _filters(tensors: dict[str, Tensor], name: str, conv: ExactFilters) -> list[Tensor]:
    shapes = (conv.weight, conv.bias, conv.bias)
    return [_checked(tensors, f"{name}.{last}", like, dtype) for last, like, dtype in zip(_FILTER, shapes, conv.file_types, strict=True)]


def _checked(tensors: dict[str, Tensor], name: str, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the file; of floating point, and finite, where no type is given."""
    t = tensors[name]
    if t.shape != like.shape:
        raise ModelError(f"{name} has shape {tuple(t.shape)}, not {tuple(like.shape)}")
    if t.dtype != dtype if dtype else not t.is_floating_point():
        raise ModelError(f"{name} is of type {t.dtype}")
    if dtype is None and not bool(torch.isfinite(t).all()):
        raise ModelError(f"{name} is not finite")
    return t


def identity(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """sha256 over canonical tensors, architecture with its sizes, and the entropy tables: 32 bytes.

    Width tables are not part of it: they stand in each stream's header."""
    h = hashlib.sha256()
    for part in (metadata["architecture"], metadata["config"], TABLES_SHA256):
        h.update(part.encode() + b"\0")
    for name in sorted(tensors):
        t = tensors[name]
        h.update(f"{name} {str(t.dtype).removeprefix('torch.')} {list(t.shape)}\0".encode())
        h.update(t.contiguous().view(torch.uint8).numpy().tobytes() if t.numel() else b"")
    return h.digest()


def save_model(path: Path, model: _Model, widths: list[bytes], notes: dict[str, str] | None = None) -> bytes:
    """Write a model file atomically; returns its identity."""
    tensors = export_tensors(model)
    for table in widths:
        apply_widths(model, table)
    metadata = {"format": FORMAT, "architecture": model.architecture, "config": json.dumps(model.config.to_dict(), sort_keys=True),
                "widths": json.dumps([list(t) for t in widths])} | (notes or {})
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata=metadata)
    part.chmod(0o644)  # safetensors leaves it readable by its owner alone, also once installed
    os.replace(part, path)
    return identity(tensors, metadata)


def load_model(path: Path) -> LoadedModel:
    """Read a model file. Raises ModelError."""
    try:
        with safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            tensors = {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as e:
        raise ModelError(f"{path.name}: not a readable model file ({e})") from e
    if metadata.get("format") != FORMAT or metadata.get("architecture") not in ARCHITECTURES:
        raise ModelError(f"{path.name}: made for another version of this program (architecture {metadata.get('architecture')!r})")
    kind, config = ARCHITECTURES[metadata["architecture"]]
    try:
        model = kind(config.from_dict(json.loads(metadata["config"])))
    except (KeyError, TypeError, ValueError) as e:  # UsageError among them
        raise ModelError(f"{path.name}: its sizes are not those of a model ({e})") from e
    load_tensors(model, tensors)
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    widths = tuple(bytes(t) for t in json.loads(metadata["widths"]))
    try:
        for table in widths:
            check_table(model, table)
    except ValueError as e:
        raise ModelError(f"{path.name}: its width tables do not fit") from e
    if not widths:
        raise ModelError(f"{path.name}: it has no width tables")
    return LoadedModel(path.stem, model, identity(tensors, metadata), widths, metadata)
