"""What blocks of the training clips cost at each capacity of an AdaNIC supernet (paper 003, section 3.4): found once, kept beside the decoded clips.

Agents see a block many times, and coding it at all capacities takes far longer than a step of theirs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.adanic import AdaNIC
from neuralcodec.codecs.coding import CONTEXTUAL, LAMBDAS
from neuralcodec.codecs.slimcae_coding import to_picture
from neuralcodec.codecs.soft import soft_latent
from neuralcodec.nn.capacity_map import CapacityMap
from neuralcodec.nn.layout import ALIGN
from neuralcodec.nn.quality import quality_lambda
from neuralcodec.training.data import Clips, Sampler
from neuralcodec.training.loss import draw_quality
from neuralcodec.training.slimcae import plane_errors

log = logging.getLogger(__name__)

HELD_OUT = 10
"""One block of so many is there to judge agents by, and one clip of so many gives only such blocks."""
QUALITIES = 2
"""Of a block: what the analysis gives it does not depend on them."""
SEED, SCALE = 1, 0.3
"""Of the blocks that are drawn, and the logarithm of the largest factor by which half of them are resized (training.rescale)."""
SAVE_SECONDS = 30.0


@dataclass
class Downgrades:
    """N blocks. ``y`` (N, 1, S, S) and ``uv`` (N, 2, S / 2, S / 2) uint8; ``quality`` (N, QUALITIES) indexes; ``costs`` (N, QUALITIES, K): what each option
    costs more than the widest (equation 6), in bits for a luma sample."""

    y: np.ndarray
    uv: np.ndarray
    quality: np.ndarray
    costs: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        """Which blocks (N,) are none to train on."""
        return np.arange(len(self.quality)) % HELD_OUT == 0


@torch.no_grad()
def downgrade_costs(net: AdaNIC, y: Tensor, uv: Tensor, quality: Tensor) -> Tensor:
    """Blocks y (B, 1, S, S) and uv (B, 2, S / 2, S / 2), or one block for all of the quality indexes (B,) -> costs (B, K) as in Downgrades."""
    x, block, found = to_picture(y, uv), net.config.block, []
    for option in range(net.options):
        tcm = CapacityMap.of_blocks(np.array([[option]]), block, block, block)
        latent, z = net.in_steps(net.analysis(x, tcm).expand(len(quality), -1, -1, -1), quality)
        soft = soft_latent(net.prior_at(tcm), latent, z, [], quality, noise=False, lam=LAMBDAS[CONTEXTUAL])
        luma, *chroma = plane_errors(net.synthesise(soft.value, quality, tcm), y, uv)
        found.append((soft.bits + soft.hyper_bits) / y[0, 0].numel() + quality_lambda(quality) * (6 * luma + sum(chroma)) / 8)
    costs = torch.stack(found, 1)
    return costs - costs[:, :1]


def load_downgrades(net: AdaNIC, packs: list[Clips], cache: Path, blocks: int) -> Downgrades:
    """``blocks`` blocks of the clips, with their costs. Those that ``cache`` holds already, for the same weights and clips, are not coded again;
    what has been coded is kept when this is interrupted."""
    path = cache / f"{_identity(net, packs)}.downgrades.npz"
    quality, costs = np.zeros((0, QUALITIES), np.uint8), np.zeros((0, QUALITIES, net.options), np.float32)
    if path.exists():
        with np.load(path) as kept:
            quality, costs = kept["quality"][:blocks], kept["costs"][:blocks]
    samplers = [Sampler([_share(clips, held) for clips in packs], 0, scale=SCALE) for held in (False, True)]
    drawn = [_draw(samplers[i % HELD_OUT == 0], net.config.block * ALIGN, i) for i in range(blocks)]
    found = Downgrades(np.stack([y for y, _ in drawn]), np.stack([uv for _, uv in drawn]), quality, costs)
    if len(quality) < blocks:
        _code_blocks(net, found, blocks, path)
    return found


def _code_blocks(net: AdaNIC, found: Downgrades, blocks: int, path: Path) -> None:
    device = next(net.parameters()).device
    new_q, new_c, saved = [found.quality], [found.costs], time.monotonic()
    try:
        for i in range(len(found.quality), blocks):
            quality = draw_quality(QUALITIES, device, power=1.0)
            y, uv = (torch.from_numpy(a[i : i + 1]).to(device).float() for a in (found.y, found.uv))
            new_c.append(downgrade_costs(net, y, uv, quality)[None].cpu().numpy())
            new_q.append(quality[None].cpu().numpy().astype(np.uint8))
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(path, new_q, new_c)
                saved = time.monotonic()
                log.info("costs of downgrades: %d of %d blocks", i + 1, blocks)
    finally:
        found.quality, found.costs = _save(path, new_q, new_c)


def _save(path: Path, quality: list[np.ndarray], costs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    count = min(len(quality), len(costs))  # an interruption may come between the two
    all_q, all_c = np.concatenate(quality[:count]), np.concatenate(costs[:count])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with open(part, "wb") as f:
        np.savez(f, quality=all_q, costs=all_c)
    os.replace(part, path)
    return all_q, all_c


def _draw(sampler: Sampler, size: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Block ``index``, the same one every time: y (1, S, S), uv (2, S / 2, S / 2), uint8."""
    sampler.rng = np.random.default_rng([SEED, index])
    data = sampler.batch(size, 1, 1)
    return data.y[0, 0].numpy(), data.uv[0, 0].numpy()


def _share(clips: Clips, held: bool) -> Clips:
    """The clips that are kept to judge by, at the end of a pack, or those before them; all where there is only one."""
    count = len(clips.lengths) - -(-len(clips.lengths) // HELD_OUT)
    frames = sum(clips.lengths[:count])
    if not count:
        return clips
    return replace(clips, frames=clips.frames[frames:], lengths=clips.lengths[count:]) if held else replace(
        clips, frames=clips.frames[:frames], lengths=clips.lengths[:count])


def _identity(net: AdaNIC, packs: list[Clips]) -> str:
    """Of what costs depend on: the supernet's weights and the clips."""
    found = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not name.startswith("agent."):
            found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for clips in packs:
        found.update(repr((clips.frames.shape, clips.lengths)).encode())
    return found.hexdigest()[:16]
