"""The streams of conformance/four_parts, whose latents have four parts: the same md5s from the reference decoder and from the real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from decoded import pictures_md5
from reference import networks
from reference.container import read_stream
from reference.model import read_model
from reference_command import reference

from neuralcodec.codecs.files import load_model

FOLDER = Path(__file__).resolve().parents[2] / "bitstream_spec" / "conformance" / "four_parts"
LIST = json.loads((FOLDER / "conformance.json").read_text("utf-8"))
MODEL = FOLDER / LIST["model"]["file"]


@pytest.fixture(scope="module")
def loaded():
    return load_model(MODEL)


def test_the_list_is_of_the_files_that_are_there_and_can_be_made(loaded):
    from conformance_exact import FOUR_PARTS_STREAMS

    assert {known["file"] for known in LIST["streams"]} == {path.name for path in FOLDER.glob("*.nvc")} == {f"{name}.nvc" for name in FOUR_PARTS_STREAMS}
    config = loaded.model.config
    assert (config.intra.parts, config.motion.parts, config.inter.parts) == (4, 4, 4)
    assert read_model(MODEL.read_bytes()).identity == loaded.identity and loaded.identity.hex() == LIST["model"]["identity"]


def test_all_parts_say_something(loaded):
    """Coded symbols in every part of every latent, but where a latent of one position leaves parts of vectors empty."""
    tensors = read_model(MODEL.read_bytes()).tensors
    found = {}
    for name in ("level1_derived", "limits"):
        stream, reference_latents = read_stream((FOLDER / f"{name}.nvc").read_bytes()), None
        header = stream.header
        for frame in stream.frames:
            assert len(frame.masks) == {"I": 2, "P": 3}[frame.kind]
            reference_latents = networks.read_frame(tensors, frame.kind, frame.payload, list(frame.masks), frame.quality, header["height"], header["width"],
                                                    reference_latents)
            for latent_name, latent in reference_latents.items():
                vectors = latent_name == "motion"
                for part in range(4):
                    where = networks.elements(part, 4, *latent.mask.shape, vectors)
                    found[name, latent_name, part] = found.get((name, latent_name, part), 0) + int(np.count_nonzero(latent.mask[where]))
    assert len(found) == 16 and min(found.values()) > 0


def test_reference_decoder():
    outputs, errors = reference([FOLDER / known["file"] for known in LIST["streams"]], MODEL)
    assert errors == ""
    for known, lines in zip(LIST["streams"], outputs, strict=True):
        expected = [f"{i} {frame['kind']} {frame['md5']} {frame['pictures']}" for i, frame in enumerate(known["frames"])]
        assert lines == [*expected, f"all {len(expected)} {known['md5']} {known['pictures']}", "0"], known["file"]


@pytest.mark.parametrize("known", LIST["streams"], ids=lambda known: known["file"])
def test_real_decoder(known, loaded):
    assert pictures_md5(FOLDER / known["file"], loaded) == known["pictures"]
