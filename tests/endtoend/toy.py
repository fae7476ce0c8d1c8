"""A toy model that codes real pictures without any training, and moving pictures for it.

Its weights are made by hand: a truncated cosine transform of each 8x8 cell, the mean and two differences of every four
cells, and motion handed through; all networks that a trained model has are there, disturbed by random weights, so that
masks are mixed, priors say something, and each level's widths give other pictures. Everything is small and fast.

    python -m tests.endtoend.toy MODEL.safetensors

``write_exact_toy_model`` makes the same model with exact pictures.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.conversion import from_float
from neuralcodec.codecs.files import LoadedModel, load_model, save_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.codecs.inter import InterConfig
from neuralcodec.codecs.intra import HyperEncoder, IntraConfig
from neuralcodec.codecs.motion import MotionConfig
from neuralcodec.codecs.prior import LatentPrior
from neuralcodec.core.types import QUALITY_STEPS, Frame
from neuralcodec.nn.quality import ANCHORS
from neuralcodec.nn.selection import units

CHANNELS, DETAILED, MOTION_CHANNELS = 24, 8, 16
"""Transform coefficients of a cell (16 of Y, 4 of U and V each), those of them that keep differences, motion features."""
CONFIG = FlagshipConfig(
    intra=IntraConfig(CHANNELS, CHANNELS + 2 * DETAILED, 8, encoder_blocks=1, decoder_blocks=1),
    motion=MotionConfig(MOTION_CHANNELS, 8, 8, encoder_blocks=1, decoder_blocks=1, refinement_blocks=1),
    inter=InterConfig(CHANNELS, CHANNELS + 2 * DETAILED, 8, 1, 1, 1, 1, motion_channels=MOTION_CHANNELS, motion_latent=8),
)


def write_toy_model(path: Path) -> LoadedModel:
    """Makes the model, writes its file, and loads it as any program would."""
    model, tables = _toy_model()
    save_model(path, model, tables)
    return load_model(path)


def write_exact_toy_model(path: Path) -> LoadedModel:
    """The same model with exact pictures."""
    model, tables = _toy_model()
    clip = [frame.planes for frame in moving_texture(2)]
    save_model(path, from_float(model.eval(), [clip], tables, qualities=(0, QUALITY_STEPS)), tables)
    return load_model(path)


def _toy_model() -> tuple[Flagship, list[bytes]]:
    """The model and the width table of each level."""
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = Flagship(CONFIG)
        with torch.no_grad():
            _make(model)
    count = len(units(model))
    return model, [bytes(count), bytes((1, 0, 2, 0)[i % 4] for i in range(count)), bytes((2, 1, 2, 2)[i % 4] for i in range(count))]


def _cosines(size: int, count: int) -> Tensor:
    """The ``count`` lowest basis pictures of an orthonormal cosine transform, (count, size * size)."""
    at = torch.arange(size) + 0.5
    rows = torch.stack([torch.cos(math.pi * k * at / size) * math.sqrt((2 if k else 1) / size) for k in range(size)])
    order = sorted(((v, h) for v in range(size) for h in range(size)), key=lambda p: (p[0] + p[1], p))[:count]
    return torch.stack([torch.outer(rows[v], rows[h]).flatten() for v, h in order])


def _transform() -> Tensor:
    """(CHANNELS, 96) orthonormal rows over packed planes, the lowest frequencies of Y, U and V first."""
    rows = torch.zeros(CHANNELS, 96)
    rows[:16, :64] = _cosines(8, 16)
    rows[16:20, 64:80] = rows[20:, 80:] = _cosines(4, 4)
    return rows[[0, 16, 20, 1, 2, 3, 4, 5, 17, 18, 21, 22, *range(6, 16), 19, 23]]


def _make(model: Flagship) -> None:
    rows = _transform()
    for module in model.modules():
        if isinstance(module, HyperEncoder):
            module.down2.weight.mul_(15)
        elif hasattr(module, "project"):  # residual blocks of both kinds
            for conv, size in ((module.project, 0.02), (module.spatial, 0.04)):
                conv.weight.copy_(size * torch.randn(conv.weight.shape))
                conv.bias.copy_(size * torch.randn(conv.bias.shape))
        elif isinstance(module, LatentPrior):
            _make_prior(module)
    mean = torch.eye(CHANNELS).repeat_interleave(4, 1)  # (C, 4C): a channel's four cells stand together
    signs = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]])
    details = torch.cat([torch.kron(torch.eye(DETAILED, CHANNELS), s) for s in signs])

    intra = model.intra
    _set(intra.analysis.enter, rows)
    _set(intra.analysis.down, torch.cat([mean, details]) / 4)
    _set(intra.synthesis.up.conv, torch.cat([mean, details]).T)
    _set(intra.synthesis.head, rows.T)
    _set_gain(intra.gain, 2.0, 6.5)

    inter = model.inter
    _set(inter.analysis.enter, torch.cat([rows, -rows, 0.02 * torch.randn(CHANNELS, CHANNELS)], 1))
    _set(inter.analysis.down, torch.cat([mean, details]) / 4)
    _set(inter.decoder.up.conv, torch.cat([mean, details]).T)
    _set(inter.decoder.fuse.conv, torch.cat([torch.eye(CHANNELS), 0.005 * torch.randn(CHANNELS, CHANNELS)], 1))
    _set(inter.decoder.head, rows.T)
    _set_gain(inter.gain, 2.0, 6.5)

    motion, take = model.motion, torch.zeros(MOTION_CHANNELS, 5, 3, 3)
    take[0, 0, 1, 1] = take[1, 1, 1, 1] = 1
    take[2:] = 0.05 * torch.randn(MOTION_CHANNELS - 2, 5, 3, 3)
    latent = CONFIG.motion.latent
    average = torch.eye(MOTION_CHANNELS).repeat_interleave(4, 1)[:latent]
    _set(motion.encoder.enter, take)
    _set(motion.encoder.down, average / 4)
    _set(motion.decoder.up.conv, average.T)
    _set(motion.decoder.head, torch.eye(2, MOTION_CHANNELS))
    motion.refinement.head.weight.copy_(0.001 * torch.randn(motion.refinement.head.weight.shape))
    _set_gain(motion.gain, 3.5, 6.5)


def _set(conv: torch.nn.Module, weight: Tensor) -> None:
    conv.weight.copy_(weight.reshape(conv.weight.shape))
    conv.bias.zero_()


def _set_gain(gain: torch.nn.Module, low: float, high: float) -> None:
    steps = torch.linspace(low, high, ANCHORS)[:, None].expand_as(gain.encode)
    gain.encode.copy_(steps)
    gain.decode.copy_(-steps)


def _make_prior(prior: LatentPrior) -> None:
    count = prior.channels
    prior.mean_head.weight.mul_(0.5)
    prior.scale_head.weight.mul_(2.0)
    prior.scale_head.bias.copy_(torch.linspace(6.0, 1.0, count))
    prior.scale_quality.anchors.copy_(torch.linspace(-1.5, 2.5, ANCHORS)[:, None].expand_as(prior.scale_quality.anchors))
    prior.up1_quality.anchors.copy_(0.2 * torch.randn(prior.up1_quality.anchors.shape))
    # Coded is what has a scale above a bound of its own: about what training arrives at.
    prior.mode.enter.weight.mul_(0.05)[:, count:, 0, 0] += torch.eye(count)
    prior.mode.spatial.weight.mul_(0.05)[:, 0, 1, 1] += 1
    prior.mode.leave.weight.mul_(0.05)[:, :, 0, 0] += torch.eye(count)
    prior.mode.leave.bias.copy_(0.5 * torch.randn(count) - 2)
    prior.hyper_scale.copy_(torch.linspace(3.0, 5.0, ANCHORS)[:, None] + torch.rand(prior.hyper_scale.shape))
    prior.start_later_parts()
    for part in (prior.later[i] for i in range(prior.parts - 1)):
        part.fuse.weight[:, prior.fuse.cin :].add_(0.02 * torch.randn(part.fuse.weight[:, prior.fuse.cin :].shape))


def moving_texture(count: int, height: int = 64, width: int = 96, seed: int = 0, pts_step: int = 1) -> Iterator[Frame]:
    """Frames of a smooth random texture that moves by (2, 1) samples a frame under a window that stands still."""
    rng = np.random.default_rng(seed)
    planes = []
    for h, w, shift in ((height, width, 2), (-(-height // 2), -(-width // 2), 1)):
        waves = rng.uniform(-0.12, 0.12, (6, 2)) * shift / 2, rng.uniform(0, 6.3, 6), rng.uniform(4, 14, 6)
        planes.append((h, w, shift, waves))
    planes.append(planes[1])
    noise = rng.integers(-3, 4, (height, width))
    for n in range(count):
        result = []
        for i, (h, w, shift, (frequency, phase, size)) in enumerate(planes):
            y, x = np.mgrid[:h, :w]
            y, x = y + n * shift / 2, x + n * shift
            angles = frequency[:, 0, None, None] * y + frequency[:, 1, None, None] * x + phase[:, None, None] + i
            p = 128 + (np.sin(angles) * size[:, None, None]).sum(0)
            p[h // 4 : h // 2, w // 4 : w // 2] = 40 + 20 * i
            result.append(np.clip(p + (noise if i == 0 else 0), 0, 255).astype(np.uint8))
        yield Frame(tuple(result), n * pts_step, pts_step)


if __name__ == "__main__":
    write_toy_model(Path(sys.argv[1]))
