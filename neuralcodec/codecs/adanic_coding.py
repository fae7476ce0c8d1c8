"""Pictures to payloads and back with AdaNIC: SlimCAE's coding, with a capacity map in front of the latents."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from neuralcodec.codecs.adanic import AdaNIC, MappedPrior
from neuralcodec.codecs.capacity_coding import read_map, write_map
from neuralcodec.codecs.coding import CONTEXTUAL, Coded, Parsed, Planes
from neuralcodec.codecs.jumc import cost, find_capacities, tolerance
from neuralcodec.codecs.part_coding import code_parts
from neuralcodec.codecs.prior import MEAN_FRAC, SYMBOL_LIMIT, LatentPrior, latent_size
from neuralcodec.codecs.routing import picture_blocks
from neuralcodec.codecs.slimcae_coding import SlimCAECoder, in_bands, to_picture, to_planes
from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy import Elements, FrameDecoder, FrameEncoder, cost_bits, quantise
from neuralcodec.entropy.adaptation import Adaptation
from neuralcodec.nn.capacity_map import CapacityMap, map_shape
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.layout import ALIGN, to_samples
from neuralcodec.nn.quality import quality_lambda

FULL, JUMC, AGENT = "full", "jumc", "agent"
AGENT_BLOCKS = 8
"""Blocks that the agent looks at together. In a trial twice as many took 2.2 times as long."""


@dataclass
class MappedParsed(Parsed):
    """``capacities`` (rows, columns): the options of the picture's blocks, as its payload says; they belong to what md5s are over."""

    capacities: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def digest_parts(self) -> list[bytes]:
        return [*super().digest_parts(), self.capacities.astype(np.uint8).tobytes()]


def route_option(route: str, levels: int, level: int) -> int:
    """The option that ``route`` gives to all blocks; the level's for routes that find it themselves. Raises UsageError for a capacity that the model does
    not have, or that is above that of the level (from 1)."""
    if route in (FULL, JUMC, AGENT):
        return level - 1
    names = [f"C{levels - option}" for option in range(levels)]
    if route not in names:
        raise UsageError(f"route {route!r}: choose {FULL}, {JUMC}, {AGENT}, {', '.join(reversed(names))}")
    if names.index(route) < level - 1:
        raise UsageError(f"route {route} is above level {level}, which is {names[level - 1]}")
    return names.index(route)


class AdaNICCoder(SlimCAECoder):
    """Codes pictures with a frozen AdaNIC, with capacities up to that of the level applied to it. ``route``: how an encoder chooses them, see
    ``route_option``. One object serves one thread at a time."""

    model: AdaNIC
    route = FULL
    _tcm: CapacityMap | None = None
    """Of the picture at hand."""

    # -- the exact path ------------------------------------------------------------------------------------------

    def _prior(self, kind: str, name: str) -> MappedPrior:
        return self.model.prior_at(self._tcm)

    def _read_hyper(self, decoder: FrameDecoder, kind: str, prior: LatentPrior, quality: int, size: tuple[int, int], name: str,
                    adaptation: Adaptation | None = None) -> Fixed:
        shape = map_shape(self.model.config.block, *latent_size(*size))
        self._options = read_map(decoder, shape, self.model.option, self.model.options - 1)
        prior.tcm = self._map(self._options, size)
        return super()._read_hyper(decoder, kind, prior, quality, size, name, adaptation)

    def parse(self, kind: str, payload: bytes, modes: tuple[int, ...], quality: int, size: tuple[int, int], previous: Parsed | None) -> MappedParsed:
        """See SlimCAECoder. Raises StreamError as well for a map that cannot be, and for a value in a channel that its block does not have."""
        parsed = super().parse(kind, payload, modes, quality, size, None)
        present = self._map(self._options, size).present(self.model.config.m)
        if (parsed.latents[CONTEXTUAL].values[0] * ~present).any():
            raise StreamError("a latent has a value where the capacity map leaves its channel out")
        return MappedParsed(parsed.latents, parsed.masks, parsed.bits, parsed.entropy_seconds, capacities=self._options)

    def _map(self, options: np.ndarray, size: tuple[int, int]) -> CapacityMap:
        """Of the latent's grid; ``size`` (height, width) of the picture."""
        return CapacityMap.of_blocks(options, self.model.config.block, *latent_size(*size))

    # -- the picture side ----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def reconstruct(self, kind: str, parsed: MappedParsed, quality: int, reference: Planes | None = None, predicted: None = None) -> Planes:
        """Latents to a picture of whole latent positions, 4:2:0 (crop it to the true size)."""
        y = parsed.latents[CONTEXTUAL].values
        tcm = CapacityMap.of_blocks(parsed.capacities, self.model.config.block, *y.shape[-2:])
        return Planes(*to_samples(*to_planes(self._synthesise(y, quality, tcm), subsampled=True)))

    def _synthesise(self, y: Tensor, quality: int, tcm: CapacityMap) -> Tensor:
        q = torch.tensor([quality], device=self.device)
        return in_bands(lambda part, first, last: self.model.synthesise(part, q, tcm.rows(first, last)), y.to(self.device), 1, ALIGN)

    # -- encoding ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_intra(self, source: Planes, quality: int, size: tuple[int, int], importance: None = None) -> Coded:
        """``source``: padded planes of the picture; ``importance``: as there are no P frames, None. Raises UsageError for a route that cannot be."""
        return self.encode_mapped(source, quality, size, self.choose_capacities(source, quality, size))

    @torch.inference_mode()
    def encode_mapped(self, source: Planes, quality: int, size: tuple[int, int], options: np.ndarray) -> Coded:
        """The same with a map of capacities, ``options`` (rows, columns)."""
        encoder = FrameEncoder()
        self._tcm = self._map(options, size)
        y, z = self._analyse(source, quality, self._tcm)
        write_map(encoder, options, self.model.option, self.model.options - 1)
        (latent, mask, _), modes = self._write(encoder, "I", CONTEXTUAL, y, z, quality, size, {}, None)
        payload = encoder.finish()
        parsed = MappedParsed({CONTEXTUAL: latent}, {CONTEXTUAL: mask}, dict(encoder.bits), capacities=options)
        return Coded(modes, payload, parsed, self.reconstruct("I", parsed, quality))

    def _analyse(self, source: Planes, quality: int, tcm: CapacityMap) -> tuple[Tensor, Tensor]:
        x = to_picture(source.y, source.uv)
        latent = in_bands(lambda part, first, last: self.model.analysis(part, tcm.rows(first, last)), x, ALIGN, 1)
        return self.model.in_steps(latent, torch.tensor([quality], device=self.device))

    @torch.inference_mode()
    def choose_capacities(self, source: Planes, quality: int, size: tuple[int, int]) -> np.ndarray:
        """The options (rows, columns) that ``route`` gives to a picture's blocks."""
        widest, levels = self.model.option, self.model.options
        shape = map_shape(self.model.config.block, *latent_size(*size))
        if self.route == AGENT:
            return self._ask_agent(source, quality).reshape(shape).clip(widest)
        if self.route != JUMC:
            return np.full(shape, route_option(self.route, levels, widest + 1))
        return find_capacities(lambda options: self.block_costs(source, quality, size, options), shape, widest, levels - 1, tolerance())

    def _ask_agent(self, source: Planes, quality: int) -> np.ndarray:
        """The agent's option for each block, in raster order."""
        agent, q = self.model.agent, torch.tensor([quality], device=self.device)
        blocks = picture_blocks(to_picture(*agent.shrunk_planes(source.y, source.uv)), self.model.config.block * ALIGN // agent.shrink)
        return torch.cat([agent.choose(part, q.expand(len(part))) for part in blocks.split(AGENT_BLOCKS)]).cpu().numpy()

    @torch.inference_mode()
    def block_costs(self, source: Planes, quality: int, size: tuple[int, int], options: np.ndarray) -> np.ndarray:
        """What each block costs with a map, in bits for a luma sample (jumc.cost): (rows, columns).

        The rate is that of the entropy coder's tables, without a mask; the error is (6 Y + U + V) / 8."""
        tcm = self._map(options, size)
        y, z = self._analyse(source, quality, tcm)
        hyper = torch.floor(z[0].float().cpu() + 0.5).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        prior, target, found = self.model.prior_at(tcm), y[0].float().cpu().numpy(), []

        def count(part: int, scale: np.ndarray, mean: np.ndarray, derived: np.ndarray) -> tuple[Elements, np.ndarray]:
            symbols = quantise(target - mean * 2.0**-MEAN_FRAC, scale, self.lambdas[CONTEXTUAL])
            found.append(cost_bits(symbols, scale).sum(0))
            return Elements.of(symbols), np.ones_like(derived)

        latent, _ = code_parts(prior, Fixed.from_integers(hyper[None], 0, SYMBOL_LIMIT), [], quality, size, count)
        hyper_bits = cost_bits(hyper.to(torch.int32).numpy(), self._hyper_tables(prior, quality, size)).sum(0)
        block = self.model.config.block
        rate = _by_block(found[0], block) + _by_block(hyper_bits, block // 4)
        decoded = to_samples(*to_planes(self._synthesise(latent.values, quality, tcm), subsampled=True))
        luma, chroma = ((d - s).square().cpu()[0].double().numpy() / 255**2 for d, s in zip(decoded, (source.y, source.uv), strict=True))
        # A chroma sample stands for four of luma.
        error = 6 / 8 * _by_block(luma[0], block * ALIGN) + 4 / 8 * _by_block(chroma.sum(0), block * ALIGN // 2)
        samples = _by_block(np.ones(luma.shape[-2:]), block * ALIGN)
        return cost(rate / samples, error / samples, float(quality_lambda(torch.tensor(quality))))


def _by_block(values: np.ndarray, step: int) -> np.ndarray:
    """Sums of (H, W) over blocks of ``step`` x ``step``, cut off at the lower and right edge."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], step), 0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], step), 1)
