"""Makes and checks the conformance streams. Uses neuralcodec; a decoder under test needs only what stands in conformance/.

    python bitstream_spec/make_conformance.py              decodes the committed streams and compares with conformance.json
    python bitstream_spec/make_conformance.py --add        makes the streams that are not there yet, with the committed model
    python bitstream_spec/make_conformance.py --replace    makes everything anew, the model too: CHANGELOG.md has to say so

Everything is seeded. Encoders use floating point, so another machine may make other streams that are as good; the latents
of a given stream are the same everywhere. The streams are described in ``conformance_streams.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path

import torch
from conformance_streams import STREAMS, Maker, write_model
from reference.model import read_model

from neuralcodec.bitstream import FramePacket, Packet, StreamReader
from neuralcodec.codecs.coding import FlagshipCoder, Parsed
from neuralcodec.codecs.files import LoadedModel, load_model
from neuralcodec.core.errors import StreamError

FOLDER = Path(__file__).resolve().parent / "conformance"
LIST = FOLDER / "conformance.json"
MODEL = FOLDER / "conformance.safetensors"


def digests(data: bytes, loaded: LoadedModel) -> dict[str, object]:
    """What conformance.json says of a stream's latents. Raises StreamError for a stream that does not decode whole."""
    reader = StreamReader(io.BytesIO(data), strict=True)
    if reader.header.model_id != loaded.identity:
        raise StreamError("a stream of another model")
    size = (reader.header.video.height, reader.header.video.width)
    coder = FlagshipCoder(loaded.model)
    previous: Parsed | None = None
    total, frames = hashlib.md5(usedforsecurity=False), []
    for item in reader:
        if isinstance(item, Packet) and isinstance(packet := item.content, FramePacket):
            kind = "I" if packet.intra else "P"
            previous = coder.parse(kind, packet.payload, packet.modes, packet.quality, size, previous)
            part = b"".join(previous.digest_parts())
            total.update(part)
            frames.append({"kind": kind, "md5": hashlib.md5(part, usedforsecurity=False).hexdigest()})
    return {"frames": frames, "md5": total.hexdigest()}


def entry(name: str, data: bytes, loaded: LoadedModel) -> dict[str, object]:
    """The stream's entry of conformance.json."""
    facts = {"file": f"{name}.nvc", "description": STREAMS[name].description, "sha256": hashlib.sha256(data).hexdigest()}
    return facts | digests(data, loaded)


def check() -> list[str]:
    """What differs between the committed files and conformance.json."""
    loaded = load_model(MODEL)
    listed = json.loads(LIST.read_text("utf-8"))
    wrong = [] if listed["model"]["identity"] == loaded.identity.hex() else [MODEL.name]
    for known in listed["streams"]:
        path = FOLDER / known["file"]
        try:
            if entry(path.stem, path.read_bytes(), loaded) != known:
                wrong.append(path.name)
        except (OSError, StreamError, KeyError) as error:
            wrong.append(f"{path.name} ({error})")
    known_names = {Path(known["file"]).stem for known in listed["streams"]}
    return wrong + [f"{name}.nvc (not made yet)" for name in STREAMS if name not in known_names]


def make(replace: bool) -> None:
    """Writes what is missing, or everything."""
    FOLDER.mkdir(exist_ok=True)
    if replace or not MODEL.exists():
        _make_model()
        for path in FOLDER.glob("*.nvc"):
            path.unlink()
    loaded = load_model(MODEL)
    entries = []
    for name in STREAMS:
        path = FOLDER / f"{name}.nvc"
        if not path.exists():
            path.write_bytes(STREAMS[name].make(Maker(load_model(MODEL), name)))
        entries.append(entry(name, path.read_bytes(), loaded))
        sys.stderr.write(f"{path.name} {path.stat().st_size} bytes, {len(entries[-1]['frames'])} frames\n")
    model = {"file": MODEL.name, "identity": loaded.identity.hex()}
    LIST.write_text(json.dumps({"format": "1.0", "model": model, "streams": entries}, indent=1) + "\n", "utf-8")


def _make_model() -> None:
    # safetensors writes metadata in an order that changes from run to run: a file of the same identity stays.
    fresh = FOLDER / "fresh.safetensors"
    write_model(fresh)
    same = MODEL.exists() and read_model(MODEL.read_bytes()).identity == load_model(fresh).identity
    if same:
        fresh.unlink()
    else:
        fresh.replace(MODEL)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Make or check the conformance streams.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--add", action="store_true", help="make the streams that are not there yet")
    what.add_argument("--replace", action="store_true", help="make everything anew, the model too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.add or options.replace:
        make(options.replace)
    wrong = check()
    for line in wrong:
        sys.stdout.write(f"differs: {line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
