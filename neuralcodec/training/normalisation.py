"""ELF-VC's frozen channel normalisation (paper 002, supplement, section C), as other coordinates for the layers that it is in front of.

There, where tensors of different magnitude are concatenated along channels, each channel of a layer's input x is normalised by moving averages of its mean m and
variance s^2, which stay as they are after 2000 steps; not by those of the batch, which would be noise. Nothing of it is said of latents or of quality levels.

Such a layer gives V (x - m) / s + a, which is W x + b with W = V / s and b = a - sum of W m: what a codec computes is the same without a normalisation, only
the steps of training are other ones. So models have none. Their layers hold W and b, and for each step of the optimiser V and a take their place, with the gradients
that these have; so the optimiser's averages are those of V and a too. When m and s move, W and b stay, and V and a follow: the paper's network would then
compute something else, ours goes on with what it was. Gradients are clipped as those of W and b.

Which layers: SITES, all of the P frames' networks in floating point that read a concatenation. At a narrow width, of which the first channels are read alone, and at
borders, where a layer of 3x3 sees zeros, W x + b is not quite what a normalised input would give; the coordinates are the same. The priors' layers are not
among them: they read integers on one grid, by filters of 8 bits, where one large weight costs all others their precision. Nor are exact models, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuralcodec.codecs.flagship import Flagship
from neuralcodec.core.errors import UsageError

SITES = {
    "motion.encoder.enter": "flow, errors of cells, quality",
    "motion.refinement.enter": "motion features, reference",
    "inter.refinement.enter": "features, motion features",
    "inter.analysis.enter": "picture, prediction, context",
    "inter.decoder.fuse": "latent, context",
}
"""Layers and what they read."""
DECAY = 0.999
"""Of a moving average, for each call of a layer; before, it is the plain mean of all calls."""
EPSILON = 1e-3
"""Added to a variance, as batch normalisation does: a channel that hardly ever changes must not get steps without bound."""


@dataclass
class _Layer:
    """``reads`` sees the input, ``conv`` has the parameters; ``moments`` (2, C): averages of inputs and of their squares."""

    reads: nn.Module
    conv: nn.Conv2d
    moments: Tensor

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, (1, C, 1, 1)."""
        mean, square = self.moments
        return mean.view(1, -1, 1, 1), (square - mean.square()).clamp_min(0).add(EPSILON).sqrt().view(1, -1, 1, 1)


class ChannelNormalisation:
    """Of what is trained of a model's SITES, with averages that stay as they are after ``steps`` steps. Raises UsageError for an exact model."""

    def __init__(self, model: Flagship, steps: int) -> None:
        if model.layers.exact:
            raise UsageError("--freeze-normalisation is for models in floating point: --floating")
        self.steps = steps
        self._layers: dict[str, _Layer] = {}
        for name in SITES:
            reads = model.get_submodule(name)
            conv = getattr(reads, "conv", reads)
            if conv.weight.requires_grad:
                self._layers[name] = _Layer(reads, conv, conv.weight.new_zeros(2, conv.weight.shape[1]))
        self._counts = {"steps": torch.zeros((), dtype=torch.int64)} | {f"{name}.calls": torch.zeros((), dtype=torch.int64) for name in self._layers}
        self._entered: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    @property
    def frozen(self) -> bool:
        return int(self._counts["steps"]) >= self.steps

    def kept(self) -> dict[str, Tensor]:
        """What belongs to a run's state."""
        return {f"normalisation.{n}": t for n, t in (self._counts | {n: layer.moments for n, layer in self._layers.items()}).items()}

    def attach(self, optimiser: torch.optim.Optimizer) -> None:
        """Gather from now on, and let the optimiser take its steps in V and a."""
        for name, layer in self._layers.items():
            layer.reads.register_forward_pre_hook(lambda _, args, name=name: self._gather(name, args[0]))
        optimiser.register_step_pre_hook(lambda *_: self._enter())
        optimiser.register_step_post_hook(lambda *_: self._leave())

    @torch.no_grad()
    def _gather(self, name: str, x: Tensor) -> None:
        layer, calls = self._layers[name], self._counts[f"{name}.calls"]
        if self.frozen or x.shape[1] != layer.moments.shape[1]:  # a narrow layer may be given what it reads alone
            return
        calls += 1
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        layer.moments.lerp_(moments, max(1 - DECAY, 1 / int(calls)))

    @torch.no_grad()
    def _enter(self) -> None:
        """W, b and their gradients become V, a and theirs."""
        for layer in self._layers.values():
            weight, bias = layer.conv.weight, layer.conv.bias
            if weight.grad is None:
                continue
            mean, deviation = layer.statistics()
            bias += (weight * mean).sum((1, 2, 3))
            weight *= deviation
            weight.grad = (weight.grad - bias.grad.view(-1, 1, 1, 1) * mean) / deviation
            self._entered.append((layer.conv, mean, deviation))

    @torch.no_grad()
    def _leave(self) -> None:
        for conv, mean, deviation in self._entered:
            conv.weight /= deviation
            conv.bias -= (conv.weight * mean).sum((1, 2, 3))
        self._entered.clear()
        self._counts["steps"] += 1
