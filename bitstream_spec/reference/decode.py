"""Decodes a stream, and prints md5s.

    python bitstream_spec/reference/decode.py STREAM.nvc MODEL.safetensors [--pictures FILE.yuv]

One line for each frame in decode order: number, kind (I or P), md5 of its latents and masks and, if pictures are exact
(``arithmetic`` 1), md5 of its samples; README.md says over which bytes. Then ``all``, the number of frames, and the md5s over
all of them. ``--pictures`` writes the samples of all frames there, as they are shown: planes Y, U, V, a byte a sample. Exit code
1, and one line on standard error, when the stream or the model breaks the specification.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference.container import Frame, Stream, read_stream
from reference.exact_pictures import ExactPictures, Planes
from reference.model import Model, read_model
from reference.networks import Latent, ModelError, read_frame
from reference.rans import StreamError


def check_model(header: dict[str, Any], model: Model) -> None:
    """Raise ModelError unless a stream's header is of a model."""
    if header["model_id"] != model.identity:
        raise ModelError(f"the stream needs model {header['model_id'].hex()}, this one is {model.identity.hex()}")
    if header["arithmetic"] != int(model.exact):
        raise ModelError(f"arithmetic {header['arithmetic']} with a model of {model.metadata['architecture']}")


def decode(stream: Stream, model: Model) -> Iterator[tuple[Frame, dict[str, Latent]]]:
    """Each frame with its latents by name. Raises StreamError, ModelError."""
    header = stream.header
    check_model(header, model)
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


def decode_pictures(stream: Stream, model: Model) -> Iterator[tuple[Frame, dict[str, Latent], Planes | None]]:
    """Each frame with its latents and the planes that are shown, uint8; None where pictures are not exact. Raises as ``decode``."""
    header = stream.header
    check_model(header, model)
    if not model.exact:
        yield from ((frame, latents, None) for frame, latents in decode(stream, model))
        return
    side = ExactPictures(model.tensors, model.metadata["config"], header["width_tables"][header["level"] - 1])
    width, height, planes = header["width"], header["height"], None
    for frame, latents in decode(stream, model):
        planes = side.picture(frame.kind, latents, frame.quality, planes)
        luma, chroma = (height, width), ((height + 1) // 2, (width + 1) // 2)
        shown = [
            plane[:rows, :columns].astype(np.uint8)
            for plane, (rows, columns) in zip(planes, (luma, chroma, chroma), strict=True)
        ]
        yield frame, latents, (shown[0], shown[1], shown[2])


def digest_parts(latents: dict[str, Latent]) -> list[bytes]:
    """The bytes of a frame that digests are over: all latents, then all masks."""
    values = [latent.value.astype("<i2").tobytes() for latent in latents.values()]
    return values + [np.packbits(latent.mask).tobytes() for latent in latents.values()]


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Decode a stream and print the md5 of its latents and exact pictures.")
    parser.add_argument("stream", type=Path, help="an .nvc file")
    parser.add_argument("model", type=Path, help="the .safetensors file of the model that it names")
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="where to write the samples of exact pictures")
    options = parser.parse_args(arguments)
    totals, count = (_md5(), _md5()), 0
    try:
        model = read_model(options.model.read_bytes())
        stream = read_stream(options.stream.read_bytes())
        if options.pictures and not model.exact:
            raise ModelError(f"pictures of {model.metadata['architecture']} are not exact")
        part = options.pictures.with_name(f"{options.pictures.name}.part") if options.pictures else None
        with part.open("wb") if part else nullcontext() as file:
            for frame, latents, planes in decode_pictures(stream, model):
                data = [b"".join(digest_parts(latents))]
                if planes:
                    data.append(b"".join(plane.tobytes() for plane in planes))
                    if file:
                        file.write(data[1])
                for total, piece in zip(totals, data):
                    total.update(piece)
                count += 1
                md5s = " ".join(_md5(piece).hexdigest() for piece in data)
                sys.stdout.write(f"{frame.number} {frame.kind} {md5s}\n")
        if part:
            part.replace(options.pictures)
    except (OSError, StreamError, ModelError) as error:
        sys.stderr.write(f"{options.stream.name}: {error}\n")
        return 1
    md5s = " ".join(total.hexdigest() for total in totals[: 1 + model.exact])
    sys.stdout.write(f"all {count} {md5s}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
