"""Makes and checks the conformance streams. Uses neuralcodec; a decoder under test needs only what stands in conformance/.

    python bitstream_spec/make_conformance.py              decodes the committed streams and compares with conformance.json
    python bitstream_spec/make_conformance.py --add        makes the streams that are not there yet, with the committed models
    python bitstream_spec/make_conformance.py --replace    makes everything anew, the models too: CHANGELOG.md has to say so

There are four sets, each with a model: ``float`` (pictures in floating point) in conformance/, ``exact`` in conformance/exact/, ``bfloat16`` (exact
too, with layers that round their sums) in conformance/bfloat16/, and ``four_parts`` (exact, with latents in four parts) in conformance/four_parts/; ``--set NAME`` leaves the others alone. Everything is seeded. Encoders use floating point, so another machine may make other streams that are as good; what a
given stream decodes to is the same everywhere. The streams are described in ``conformance_streams.py`` and ``conformance_exact.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from conformance_exact import (
    BFLOAT16_STREAMS,
    EXACT_STREAMS,
    FOUR_PARTS_STREAMS,
    write_bfloat16_model,
    write_exact_model,
    write_four_parts_model,
)
from conformance_streams import STREAMS, Maker, Recipe, write_model
from reference.model import read_model

from neuralcodec.bitstream import Arithmetic, FramePacket, Packet, StreamReader
from neuralcodec.codecs.coding import FlagshipCoder, Parsed, Planes
from neuralcodec.codecs.files import LoadedModel, load_model
from neuralcodec.core.digest import RunningMd5, md5_of_frame
from neuralcodec.core.errors import ModelError, StreamError
from neuralcodec.core.types import Frame
from neuralcodec.nn.layout import tensors_to_planes
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.decoder import complete_header

FOLDER = Path(__file__).resolve().parent / "conformance"


class Set(NamedTuple):
    """A model, its streams and their list, in a folder."""

    folder: Path
    model_name: str
    write_model: Callable[[Path], None]
    streams: dict[str, Recipe]

    @property
    def list(self) -> Path:
        return self.folder / "conformance.json"

    @property
    def model(self) -> Path:
        return self.folder / self.model_name


SETS = {
    "float": Set(FOLDER, "conformance.safetensors", write_model, STREAMS),
    "exact": Set(FOLDER / "exact", "exact.safetensors", write_exact_model, EXACT_STREAMS),
    "bfloat16": Set(FOLDER / "bfloat16", "bfloat16.safetensors", write_bfloat16_model, BFLOAT16_STREAMS),
    "four_parts": Set(FOLDER / "four_parts", "four_parts.safetensors", write_four_parts_model, FOUR_PARTS_STREAMS),
}


def digests(data: bytes, loaded: LoadedModel) -> dict[str, object]:
    """What conformance.json says of a stream's latents, and of its pictures if they are exact.

    Raises StreamError for a stream that does not decode whole."""
    reader = StreamReader(io.BytesIO(data), strict=True)
    try:
        header, video = complete_header(reader.header, loaded), reader.header.video
    except ModelError as error:
        raise StreamError(str(error)) from error
    apply_widths(loaded.model, header.width_tables[header.level - 1])
    exact = header.arithmetic is Arithmetic.EXACT
    coder = FlagshipCoder(loaded.model)
    coder.follow(header.hypotheses, header.sparse, header.loop_filter, header.directed, header.adaptive, header.corrected)
    previous: Parsed | None = None
    planes: Planes | None = None
    total, pictures, frames = hashlib.md5(usedforsecurity=False), RunningMd5(), []
    for item in reader:
        if isinstance(item, Packet) and isinstance(packet := item.content, FramePacket):
            kind = "I" if packet.intra else "P"
            previous = coder.parse(kind, packet.payload, packet.modes, packet.quality, (video.height, video.width), previous)
            part = b"".join(previous.digest_parts())
            total.update(part)
            frames.append({"kind": kind, "md5": hashlib.md5(part, usedforsecurity=False).hexdigest()})
            if exact:
                planes = coder.reconstruct(kind, previous, packet.quality, planes)
                frame = Frame(tensors_to_planes(planes.y, planes.uv, video.height, video.width), packet.pts)
                pictures.update(frame)
                frames[-1]["pictures"] = md5_of_frame(frame)
    return {"frames": frames, "md5": total.hexdigest()} | ({"pictures": pictures.hexdigest()} if exact else {})


def entry(name: str, recipe: Recipe, data: bytes, loaded: LoadedModel) -> dict[str, object]:
    """The stream's entry of conformance.json."""
    facts = {"file": f"{name}.nvc", "description": recipe.description, "sha256": hashlib.sha256(data).hexdigest()}
    return facts | digests(data, loaded)


def check(what: Set) -> list[str]:
    """What differs between the committed files and conformance.json."""
    loaded = load_model(what.model)
    listed = json.loads(what.list.read_text("utf-8"))
    wrong = [] if listed["model"]["identity"] == loaded.identity.hex() else [what.model.name]
    for known in listed["streams"]:
        path = what.folder / known["file"]
        try:
            if entry(path.stem, what.streams[path.stem], path.read_bytes(), loaded) != known:
                wrong.append(path.name)
        except (OSError, StreamError, KeyError) as error:
            wrong.append(f"{path.name} ({error})")
    known_names = {Path(known["file"]).stem for known in listed["streams"]}
    return wrong + [f"{name}.nvc (not made yet)" for name in what.streams if name not in known_names]


def make(what: Set, replace: bool) -> None:
    """Writes what is missing, or everything."""
    what.folder.mkdir(exist_ok=True)
    if replace or not what.model.exists():
        _make_model(what)
        for path in what.folder.glob("*.nvc"):
            path.unlink()
    loaded = load_model(what.model)
    entries = []
    for name, recipe in what.streams.items():
        path = what.folder / f"{name}.nvc"
        if not path.exists():
            path.write_bytes(recipe.make(Maker(load_model(what.model), name)))
        entries.append(entry(name, recipe, path.read_bytes(), loaded))
        sys.stderr.write(f"{path.name} {path.stat().st_size} bytes, {len(entries[-1]['frames'])} frames\n")
    model = {"file": what.model.name, "identity": loaded.identity.hex()}
    what.list.write_text(json.dumps({"format": "1.0", "model": model, "streams": entries}, indent=1) + "\n", "utf-8")


def _make_model(what: Set) -> None:
    # safetensors writes metadata in an order that changes from run to run: a file of the same identity stays.
    fresh = what.folder / "fresh.safetensors"
    what.write_model(fresh)
    same = what.model.exists() and read_model(what.model.read_bytes()).identity == load_model(fresh).identity
    if same:
        fresh.unlink()
    else:
        fresh.replace(what.model)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Make or check the conformance streams.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--add", action="store_true", help="make the streams that are not there yet")
    action.add_argument("--replace", action="store_true", help="make everything anew, the models too")
    parser.add_argument("--set", choices=SETS, help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = []
    for name in [options.set] if options.set else SETS:
        if options.add or options.replace:
            make(SETS[name], options.replace)
        wrong += [f"{name}: {line}" for line in check(SETS[name])]
    for line in wrong:
        sys.stdout.write(f"differs: {line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
