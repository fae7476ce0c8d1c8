"""Models made before latents had parts and transforms had steps: their ``config`` lacks the keys, and their streams decode as then.

``first_generation/`` holds the first conformance model with two of its streams, and the md5s of their latents, all made by the program as it
was then. They are never made anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.coding import FlagshipCoder
from neuralcodec.codecs.files import load_model
from neuralcodec.codecs.flagship import Flagship, FlagshipConfig
from neuralcodec.nn.selection import apply_widths, units
from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder

FOLDER = Path(__file__).resolve().parent / "first_generation"
LIST = json.loads((FOLDER / "conformance.json").read_text("utf-8"))
STREAMS = {Path(known["file"]).stem: known for known in LIST["streams"]}
MODEL = FOLDER / LIST["model"]["file"]


@pytest.fixture(scope="module")
def loaded():
    return load_model(MODEL)


def test_a_config_without_the_keys_means_what_was_built_then(loaded):
    config = json.loads(loaded.metadata["config"])
    new = {"parts", "step_units", "full_rank"}
    assert not any((new | {"chroma_path"}) & set(part) for part in config.values()) and "step_gain" not in config
    read = loaded.model.config
    assert (read.intra.parts, read.motion.parts, read.inter.parts) == (1, 1, 1)
    assert not (read.intra.chroma_path or read.intra.step_units or read.inter.step_units or read.motion.full_rank)
    assert loaded.identity.hex() == LIST["model"]["identity"]
    assert {"intra.synthesis.up", "motion.decoder.up", "inter.decoder.up"} <= set(units(loaded.model))
    assert not any("units" in name or "later" in name for name, _ in loaded.model.named_parameters())
    # What is written from now on says all of it.
    again = FlagshipConfig.from_dict(json.loads(json.dumps(read.to_dict())))
    assert again == read and all(new & set(read.to_dict()[part]) for part in config)
    assert FlagshipConfig.from_dict(FlagshipConfig().to_dict()) == FlagshipConfig() == Flagship().config
    assert read.step_gain == (1.3, 5.3) and FlagshipConfig().step_gain[1] > 5.3 and FlagshipConfig().intra.chroma_path
    assert (FlagshipConfig().intra.parts, FlagshipConfig().inter.step_units, FlagshipConfig().motion.full_rank) == (4, True, True)


@pytest.mark.parametrize("name", STREAMS)
def test_latents_and_masks_have_their_md5(name, loaded):
    reader = StreamReader(io.BytesIO((FOLDER / f"{name}.nvc").read_bytes()), strict=True)
    total, frames = hashlib.md5(), []
    for item in StreamDecoder(reader, loaded, DecodeOptions(workers=1, threads=1), torch.device("cpu")).run():
        if isinstance(item, DecodedFrame):
            part = b"".join(item.parsed.digest_parts())
            total.update(part)
            frames.append(hashlib.md5(part).hexdigest())
            assert item.frame is not None and len(item.packet.modes) == (1 if item.packet.intra else 2)
    assert frames == [frame["md5"] for frame in STREAMS[name]["frames"]] and total.hexdigest() == STREAMS[name]["md5"]


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("name", STREAMS)
def test_the_reference_decoder_gives_the_same(name, level, loaded):
    """Latents, and pictures up to rounding."""
    from reference import container, decode
    from reference.model import read_model
    from reference.pictures import PictureSide

    model = read_model(MODEL.read_bytes())
    stream = container.read_stream((FOLDER / f"{name}.nvc").read_bytes())
    size, table = (stream.header["height"], stream.header["width"]), stream.header["width_tables"][level - 1]
    apply_widths(loaded.model, table)
    side, coder = PictureSide(model.tensors, model.metadata["config"], table), FlagshipCoder(loaded.model)
    assert list(side.widths) == list(units(loaded.model))
    total, parsed, planes = hashlib.md5(), None, None
    different = count = 0
    for frame, latents in decode.decode(stream, model):
        for part in decode.digest_parts(latents):
            total.update(part)
        parsed = coder.parse(frame.kind, frame.payload, tuple(frame.masks), frame.quality, size, parsed)
        before = None if planes is None else tuple(p.double().numpy() for p in (planes.y[0, 0], *planes.uv[0]))
        planes = coder.reconstruct(frame.kind, parsed, frame.quality, planes)
        for ours, theirs in zip(side.picture(frame.kind, latents, frame.quality, before), (planes.y[0, 0], *planes.uv[0]), strict=True):
            different, count = different + np.count_nonzero(ours - theirs.numpy()), count + ours.size
    assert total.hexdigest() == STREAMS[name]["md5"]
    assert different <= count // 500
