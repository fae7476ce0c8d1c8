"""Small exact flagships with made-up integer parameters, latents for them, and the hash of their pictures: shared by tests and the sweep."""

from __future__ import annotations

import hashlib
import math

import torch

from neuralcodec.codecs.coding import CONTEXTUAL, MOTION, FlagshipCoder, Parsed, place
from neuralcodec.codecs.exact import (
    ExactFlagship,
    declare_rounding,
    picture_convs,
    picture_gains,
    set_formats,
    trunk_convs,
)
from neuralcodec.codecs.flagship import FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.nn.exact_convs import NarrowConv2d
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.selection import apply_widths, units

CONFIG = FlagshipConfig(
    IntraConfig(channels=24, latent=16, hyper=8, encoder_blocks=1, decoder_blocks=2),
    MotionConfig(channels=12, latent=8, hyper=4, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
    InterConfig(channels=24, latent=16, hyper=8, extraction_blocks=1, refinement_blocks=1, encoder_blocks=1, decoder_blocks=2,
                motion_channels=12, motion_latent=8),
)
SIZE = (48, 80)
CPU = torch.device("cpu")


def random_flagship(seed: int = 0, config: FlagshipConfig = CONFIG, rounds: bool = False) -> ExactFlagship:
    """Frozen, in evaluation mode; with ``rounds`` the pointwise layers of its trunks, and every depthwise one of its motion decoder, round their sums.
    Integers are drawn, not real numbers: those of torch.randn differ between instruction sets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ExactFlagship(config).eval()
    g = torch.Generator().manual_seed(seed)
    convs = picture_convs(model)
    if rounds:
        declare_rounding(model, {*trunk_convs(model), *(n for n in convs if n.startswith("motion.decoder.") and n.endswith("spatial"))})
    narrow = {n: m for n, m in convs.items() if isinstance(m, NarrowConv2d)}
    set_formats(model, {n: int(torch.randint(5, 9, (), generator=g)) - 4 * m.rounds for n, m in narrow.items()})
    for name, conv in convs.items():
        # Gains around one, so that features neither vanish nor are all clipped; of heads as much as gives pictures and vectors.
        size = {"intra.synthesis.head": 4, "inter.decoder.head": 1}.get(name, 0.5 if name.endswith(("spatial", "project")) else 1)
        fan_in = conv.weight[0].numel()
        peak = min(conv.weight_limit, conv.accumulator_limit // (2 * fan_in * conv.limit_in))
        w = torch.randint(-peak, peak + 1, conv.weight.shape, generator=g)
        k = round(math.log2(peak * math.sqrt(fan_in / 3) / size))
        k = torch.full((conv.cout,), min(max(k, 0), conv.max_exponent)) - torch.randint(0, 2, (conv.cout,), generator=g)
        w, k = (w, k) if int(k.min()) >= 0 else (w // 2, k + 1)
        b = torch.randint(-3, 4, (conv.cout,), generator=g) << (k + conv.frac_in - 2).clamp_min(0)
        conv.load_integers(w, b, k)
    for gain in picture_gains(model).values():
        gain.load_integers({n: torch.randint(-1024, 1025, t.shape, generator=g) for n, t in gain.tables().items()})
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


def random_latents(kind: str, seed: int, size: int, config: FlagshipConfig = CONFIG, batch: int = 1) -> Parsed:
    """Decoded latents up to ``size`` sixteenths, as a payload gives them."""
    g = torch.Generator().manual_seed(seed)
    channels = {CONTEXTUAL: (config.intra if kind == "I" else config.inter).latent} | ({MOTION: config.motion.latent} if kind == "P" else {})
    shape = SIZE[0] // 16, SIZE[1] // 16
    return Parsed({n: Fixed.from_integers(torch.randint(-size, size + 1, (batch, c, *shape), generator=g), 4, 32767) for n, c in channels.items()}, {})


def tables(model: ExactFlagship) -> list[bytes]:
    """Full, mixed and least widths."""
    count = len(units(model))
    return [bytes(count), bytes((1, 0, 2, 1)[i % 4] for i in range(count)), bytes([2]) * count]


def pictures(model: ExactFlagship, table: bytes, quality: int, size: int, batch: int = 1, device: torch.device = CPU) -> list[torch.Tensor]:
    """Samples of an I frame and three P frames after it, y and uv of each, int64. The model stands on ``device``."""
    apply_widths(model, table)
    coder, reference, out = FlagshipCoder(model, device), None, []
    for number in range(4):
        kind = "P" if number else "I"
        reference = coder.reconstruct(kind, random_latents(kind, number, size, batch=batch), quality, reference)
        out += [reference.y.long().cpu(), reference.uv.long().cpu()]
    return out


def digest(model: ExactFlagship | None = None, device: torch.device = CPU) -> str:
    """sha256 over the pictures of a model as ``random_flagship`` gives it, of small and of the largest latents, at every level and three qualities."""
    model, result = model or random_flagship(), hashlib.sha256()
    place(model, device)
    for table, (quality, size) in zip(tables(model), ((0, 60), (133, 300), (200, 32767)), strict=True):
        for planes in pictures(model, table, quality, size, device=device):
            result.update(planes.to(torch.uint8).contiguous().numpy().tobytes())
    return result.hexdigest()
