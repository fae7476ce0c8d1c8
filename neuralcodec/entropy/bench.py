"""Times of coding one latent of a 1080p P frame: ``python -m neuralcodec.entropy.bench [--backend python]``.

96 channels at 68x120, a share of the elements skipped by a derived mask, scale indexes and residuals drawn as the
tables say. Prints the best of several runs: ns for a coded symbol and ms for the frame, to encode and to decode.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from neuralcodec.entropy.backend import backend_name, load_backend
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.entropy.latents import code_latent, decode_latent
from neuralcodec.entropy.mask_choice import choose_mask
from neuralcodec.entropy.masks import MaskMode, read_mask, write_mask
from neuralcodec.entropy.tables import SCALES

SHAPE = (96, 68, 120)


def make_latent(skipped: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residual (int32), scale indexes (uint8) and derived mask (bool), all of ``SHAPE``."""
    rng = np.random.default_rng(seed)
    scale_index = np.clip(rng.normal(14, 10, SHAPE), 0, 63).astype(np.uint8)
    residual = np.rint(rng.normal(size=SHAPE) * SCALES[scale_index]).astype(np.int32)
    derived = scale_index >= np.quantile(scale_index, skipped)
    derived &= rng.random(SHAPE) < (1 - skipped) / max(derived.mean(), 1e-9)  # exact share despite ties
    return residual, scale_index, derived


def best_time(action: Callable[[], object], runs: int) -> float:
    """Shortest of ``runs`` durations in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=("constriction", "python"), default=backend_name())
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    backend = load_backend(options.backend)
    write = sys.stdout.write
    write(f"backend {options.backend}, latent {SHAPE}\n")
    write("skipped  symbols    bytes  encode ms  ns/symbol  decode ms  ns/symbol  choose ms\n")
    for skipped in (0.0, 0.5, 0.8, 0.95, 0.99, 0.999):
        residual, scale_index, derived = make_latent(skipped)

        def encode() -> bytes:
            encoder = FrameEncoder(backend)
            write_mask(encoder, MaskMode.DERIVED, 0, derived, scale_index, derived)  # noqa: B023
            code_latent(encoder, residual, scale_index, derived)  # noqa: B023
            return encoder.finish()

        payload = encode()

        def decode() -> None:
            decoder = FrameDecoder(payload, backend)  # noqa: B023
            mask = read_mask(decoder, MaskMode.DERIVED, 0, scale_index, derived)  # noqa: B023
            decode_latent(decoder, scale_index, mask)  # noqa: B023
            decoder.finish()

        symbols = int(derived.sum())
        encoding, decoding = best_time(encode, options.runs), best_time(decode, options.runs)
        choosing = best_time(lambda: choose_mask(residual, scale_index, derived), 2)  # noqa: B023
        write(
            f"{1 - symbols / derived.size:7.3f}  {symbols:7d}  {len(payload):7d}  {encoding * 1e3:9.2f}  "
            f"{encoding / symbols * 1e9:9.1f}  {decoding * 1e3:9.2f}  {decoding / symbols * 1e9:9.1f}  "
            f"{choosing * 1e3:9.1f}\n"
        )


if __name__ == "__main__":
    main()
