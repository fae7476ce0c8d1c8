"""Latent priors with made-up integer parameters, and inputs for them: shared by tests, and a command that hashes.

``python random_prior.py THREADS`` prints PyTorch's CPU capability and the hash of every prior and input below.
"""

from __future__ import annotations

import hashlib
import itertools
import sys

import torch

from neuralcodec.codecs.prior import LatentPrior, exact_parts
from neuralcodec.nn.exact import ACCUMULATOR_LIMIT, MAX_EXPONENT, WEIGHT_LIMIT
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.quality import ANCHORS, QualityBias

STYLES = ("random", "limit")


def limit_parameters(shape, frac_in, limit_in, frac_out, generator, reserve=0):
    """Weights of the largest magnitude, biases that fill the carrier to 2**24 - 1 in every second filter."""
    cout = shape[0]
    k = torch.randint(0, MAX_EXPONENT + 1, (cout,), generator=generator)
    shift = frac_in + k - frac_out
    half = torch.where(shift > 0, torch.ones_like(k) << (shift - 1).clamp_min(0), torch.zeros_like(k))
    room = ACCUMULATOR_LIMIT - 1 - half - reserve
    fan_in = shape[1] * shape[2] * shape[3]
    peak = torch.div(room, fan_in * limit_in, rounding_mode="floor").clamp_max(WEIGHT_LIMIT)
    w = _signs(shape, generator) * peak[:, None, None, None]
    full = room - w.abs().flatten(1).sum(1) * limit_in
    b = torch.where(torch.arange(cout) % 2 == 0, full, full // 64) * _signs((cout,), generator)
    return w, b, k


def random_prior(style, seed=0, *, channels=12, hyper=8, hidden=16, fused=24, temporal=(), parts=1, vectors=False):
    """A frozen prior in evaluation mode, with parameters of a style of STYLES."""
    prior = LatentPrior(channels, hyper, hidden, fused, temporal, parts, vectors).eval()
    randomise(prior, style, seed)
    return prior


def randomise(prior, style, seed=0):
    """Give a prior frozen parameters of a style of STYLES."""
    g = torch.Generator().manual_seed(seed)
    convs, biases = exact_parts(prior)
    with_extra = {id(conv) for _, conv in biases.values()}
    for conv in convs.values():
        if style == "limit":
            reserve = QualityBias.LIMIT if id(conv) in with_extra else 0
            w, b, k = limit_parameters(conv.weight.shape, conv.frac_in, conv.limit_in, conv.frac_out, g, reserve)
        else:
            # Gains around 2, so that activations spread over their range and some are clipped.
            fan_in = conv.weight[0].numel()
            w = _bell(conv.weight.shape, 40, g).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
            k = torch.randint(4, 7, (conv.cout,), generator=g) + (fan_in > 4)
            b = _bell((conv.cout,), 400 << conv.frac_in, g)
        conv.load_integers(w, b, k)
    for bias, conv in biases.values():
        table = torch.randint(-QualityBias.LIMIT, QualityBias.LIMIT + 1, (ANCHORS, conv.cout), generator=g)
        bias.load_integers(table if style == "limit" else table // 256, conv)
    with torch.no_grad():
        prior.hyper_scale.copy_(torch.randint(-128, 1200, prior.hyper_scale.shape, generator=g) / 64)


def random_inputs(style, seed, prior, size, temporal=(), batch=2):
    """(z, temporal latents, quality indexes): symbols and latents over their whole range, or at its ends."""
    g = torch.Generator().manual_seed(seed)
    h, w = size
    z_shape = (batch, prior.hyper, -(-h // 4), -(-w // 4))
    shapes = [(batch, c, h, w) for c in temporal]
    if style == "limit":
        z = 127 * _signs(z_shape, g)
        latents = [32767 * _signs(s, g) for s in shapes]
    else:
        z = _bell(z_shape, 12, g).clamp(-127, 127)
        latents = [_bell(s, 200, g).clamp(-32767, 32767) for s in shapes]
    quality = torch.randint(0, 201, (batch,), generator=g)
    return Fixed.from_integers(z, 0, 127), [Fixed.from_integers(t, 4, 32767) for t in latents], quality


def random_known(style, seed, prior, size, batch=2, part=1):
    """The decoded latent of the parts before ``part`` over its whole range, or at its ends; zero at the other elements."""
    g = torch.Generator().manual_seed(seed + 1000)
    shape = (batch, prior.channels, *size)
    latent = 32767 * _signs(shape, g) if style == "limit" else _bell(shape, 200, g).clamp(-32767, 32767)
    return Fixed.from_integers(latent * sum(prior.division.elements(p, *size) for p in range(part)), 4, 32767)


def integers_of(stats):
    """int64 tensors (mean, scale index, logit) of LatentStatistics."""
    return stats.mean.integers, stats.scale_index().long(), stats.mode.integers


def digest() -> str:
    """sha256 over the outputs of priors of the flagship's sizes, all styles of weights and inputs."""
    result = hashlib.sha256()
    contextual, motion = {"channels": 128, "hyper": 32, "hidden": 64, "fused": 128}, {"channels": 8, "hyper": 16, "hidden": 32, "fused": 64}
    for style in STYLES:
        for (parts, vectors), inputs in itertools.product(((2, False), (3, True), (4, False), (4, True)), STYLES):
            temporal, sizes = ((8,), motion) if vectors else ((64, 24), contextual)
            prior = random_prior(style, 3, temporal=temporal, parts=parts, vectors=vectors, **sizes)
            z, latents, quality = random_inputs(inputs, 4, prior, (9, 14), temporal)
            with torch.inference_mode():
                features = prior.features(z, latents, quality, (9, 14))
                for part in range(parts):
                    known = random_known(inputs, 4, prior, (9, 14), part=part) if part else None
                    for integers in integers_of(prior.statistics(features, quality, part, known)):
                        result.update(integers.contiguous().numpy().astype("<i8").tobytes())
    return result.hexdigest()


def _bell(shape, deviation, generator):
    # Integers only: torch.randn itself differs between instruction sets.
    return torch.randint(-deviation, deviation + 1, (3, *shape), generator=generator).sum(0)


def _signs(shape, generator):
    return torch.randint(0, 2, shape, generator=generator) * 2 - 1


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    sys.stdout.write(f"{torch.backends.cpu.get_cpu_capability()} {digest()}\n")
