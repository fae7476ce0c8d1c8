"""Decodes the latents of a stream, and prints their md5.

    python bitstream_spec/reference/decode.py STREAM.nvc MODEL.safetensors

One line for each frame in decode order: number, kind (I or P), md5 of its latents and masks (README.md says over which
bytes); then ``all``, the number of frames, and the md5 over all of them. Exit code 1, and one line on standard error, when
the stream or the model breaks the specification.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference.container import Frame, Stream, read_stream
from reference.model import Model, read_model
from reference.networks import Latent, ModelError, read_frame
from reference.rans import StreamError


def decode(stream: Stream, model: Model) -> Iterator[tuple[Frame, dict[str, Latent]]]:
    """Each frame with its latents by name. Raises StreamError, ModelError."""
    header = stream.header
    if header["model_id"] != model.identity:
        raise ModelError(f"the stream needs model {header['model_id'].hex()}, this one is {model.identity.hex()}")
    reference: dict[str, Latent] | None = None
    for frame in stream.frames:
        if frame.display != frame.order or frame.references != [1][: frame.order]:
            raise StreamError(f"frame {frame.number} refers to another frame than the one before")
        reference = read_frame(
            model.tensors,
            frame.kind,
            frame.payload,
            frame.masks,
            frame.quality,
            header["height"],
            header["width"],
            reference if frame.kind == "P" else None,
        )
        yield frame, reference


def digest_parts(latents: dict[str, Latent]) -> list[bytes]:
    """The bytes of a frame that digests are over: all latents, then all masks."""
    values = [latent.value.astype("<i2").tobytes() for latent in latents.values()]
    return values + [np.packbits(latent.mask).tobytes() for latent in latents.values()]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Decode the latents of a stream and print their md5.")
    parser.add_argument("stream", type=Path, help="an .nvc file")
    parser.add_argument("model", type=Path, help="the .safetensors file of the model that it names")
    options = parser.parse_args(arguments)
    total, count = hashlib.md5(usedforsecurity=False), 0
    try:
        model = read_model(options.model.read_bytes())
        for frame, latents in decode(read_stream(options.stream.read_bytes()), model):
            data = b"".join(digest_parts(latents))
            total.update(data)
            count += 1
            sys.stdout.write(f"{frame.number} {frame.kind} {hashlib.md5(data, usedforsecurity=False).hexdigest()}\n")
    except (OSError, StreamError, ModelError) as error:
        sys.stderr.write(f"{options.stream.name}: {error}\n")
        return 1
    sys.stdout.write(f"all {count} {total.hexdigest()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
