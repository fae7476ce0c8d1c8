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

from reference.adanic import AdaNIC, MappedLatent
from reference.adaptation import Adaptation
from reference.choices import Choices
from reference.container import Frame, Part, Stream, read_stream
from reference.corrections import Corrections
from reference.exact_pictures import ExactPictures, Planes
from reference.filters import Filters
from reference.model import Model, read_model
from reference.networks import Latent, ModelError, read_frame
from reference.rans import StreamError
from reference.slimcae import SlimCAE


def check_model(header: dict[str, Any], model: Model) -> None:
    """Raise ModelError unless a stream's header is of a model; fill in what a bare picture leaves to it."""
    if header["bare"]:
        if header["model_key"] != model.key:
            raise ModelError(f"the stream needs a model of key {header['model_key'].hex()}, this one has {model.key.hex()}")
        header |= {"model_id": model.identity, "width_tables": model.width_tables}
        if header["level"] > len(model.width_tables):
            raise StreamError(f"level {header['level']} of a model with {len(model.width_tables)}")
    if header["model_id"] != model.identity:
        raise ModelError(f"the stream needs model {header['model_id'].hex()}, this one is {model.identity.hex()}")
    if header["arithmetic"] != int(model.exact):
        raise ModelError(f"arithmetic {header['arithmetic']} with a model of {model.metadata['architecture']}")


def decode(stream: Stream, model: Model) -> Iterator[tuple[Frame, dict[str, Latent | Choices | Filters | Corrections | Adaptation]]]:
    """Each frame with its latents by name. Raises StreamError, ModelError."""
    header = stream.header
    check_model(header, model)
    reference: dict[str, Latent | Choices | Filters | Corrections | Adaptation] | None = None
    kind = SlimCAE if model.slim else AdaNIC if model.adaptive else None
    slim = kind(model.tensors, model.metadata["config"], header["width_tables"][header["level"] - 1]) if kind else None
    for frame in stream.frames:
        if slim:
            yield frame, slim.read_frame(frame.kind, frame.payload, frame.masks, frame.quality, header["height"], header["width"])
            continue
        if frame.display != frame.order or frame.references != [1][: frame.order]:
            raise StreamError(f"frame {frame.number} refers to another frame than the one before")
        if stream.tile_size:
            if frame.number or frame.masks or frame.payload:
                raise StreamError("a picture in tiles whose frame packet is not empty, or a second one")
            yield frame, joined(stream, model, stream.tiles)
            continue
        reference = read_frame(
            model.tensors,
            frame.kind,
            frame.payload,
            frame.masks,
            frame.quality,
            header["height"],
            header["width"],
            reference if frame.kind == "P" else None,
            header["hypotheses"],
            header["sparse"],
            header["loop_filter"],
            header["directed"],
            header["adaptive"],
            header["corrected"],
        )
        yield frame, reference


def joined(stream: Stream, model: Model, parts: list[Part]) -> dict[str, Latent | Filters | Corrections]:
    """The latent of a picture from its tiles; from the only part of one without also its filters and corrections. Raises StreamError."""
    height, width = stream.header["height"], stream.header["width"]
    size = stream.tile_size or 65536
    columns = -(-width // size)
    if [part.number for part in parts] != list(range(columns * -(-height // size))):
        raise StreamError("the tiles are not those of the picture")
    rows = []
    for top in range(0, height, size):
        row = []
        for left in range(0, width, size):
            part = parts[top // size * columns + left // size]
            tile = min(size, height - top), min(size, width - left)
            flags = {name: stream.header[name] for name in ("loop_filter", "directed", "corrected")}
            found = read_frame(model.tensors, "I", part.payload, part.masks, part.quality, *tile, None, **flags)
            row.append(found["contextual"])
        rows.append(Latent(*(np.concatenate([getattr(tile, name) for tile in row], 2) for name in ("value", "mask"))))
    return found | {"contextual": Latent(*(np.concatenate([getattr(row, name) for row in rows], 1) for name in ("value", "mask")))}


def decode_alpha(stream: Stream, model: Model) -> np.ndarray | None:
    """The opacity of a still picture with exact pictures, uint8 (height, width), None where it is opaque. Raises StreamError, ModelError."""
    check_model(stream.header, model)
    if not stream.alpha:
        return None
    if len({part.quality for part in stream.alpha}) > 1:
        raise StreamError("alpha of several qualities")
    side = ExactPictures(model.tensors, model.metadata["config"], stream.header["width_tables"][stream.header["level"] - 1])
    y = _plane(stream, model, side, stream.alpha, stream.alpha[0].quality).astype(int)
    return np.clip((51 * (y - 28) + 20) // 40, 0, 255).astype(np.uint8)


def _plane(stream: Stream, model: Model, side: ExactPictures, parts: list[Part], quality: int) -> np.ndarray:
    """What a gray picture of these parts shows, uint8 (height, width)."""
    y = side.picture("I", joined(stream, model, parts), quality, None)[0]
    return y[: stream.header["height"], : stream.header["width"]].astype(np.uint8)


def decode_pictures(stream: Stream, model: Model) -> Iterator[tuple[Frame, dict[str, Latent | Choices | Filters | Corrections | Adaptation], Planes | None]]:
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
        if header["pixel_format"] == 2:
            shown[1:] = [_plane(stream, model, side, parts, frame.quality) for parts in stream.chroma.values()]
        elif header["pixel_format"] == 1:
            shown[1:] = [np.full_like(plane, 128) for plane in shown[1:]]
        yield frame, latents, (shown[0], shown[1], shown[2])


def digest_parts(latents: dict[str, Latent | Choices | Filters | Corrections | Adaptation]) -> list[bytes]:
    """The bytes of a frame that digests are over: all latents, then all masks, then choices of predictions or capacity maps."""
    coded = [latent for latent in latents.values() if not isinstance(latent, Choices | Filters | Corrections | Adaptation)]
    values = [latent.value.astype("<i2").tobytes() for latent in coded]
    masks = [np.packbits(latent.mask).tobytes() for latent in coded]
    choices = [item.value.astype(np.uint8).tobytes() for item in latents.values() if isinstance(item, Choices)]
    maps = [latent.options.astype(np.uint8).tobytes() for latent in coded if isinstance(latent, MappedLatent)]
    return values + masks + choices + maps


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
