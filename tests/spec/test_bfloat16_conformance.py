"""The streams of conformance/bfloat16, whose model has layers that round their sums: the same md5s from the reference decoder and from every carrier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decoded import pictures_md5
from exact_chapter import tensors_of_the_chapter
from reference.model import read_model
from reference_command import reference

from neuralcodec.codecs.exact import picture_convs, trunk_convs
from neuralcodec.codecs.files import load_model
from neuralcodec.nn.bfloat16 import use_carriers
from neuralcodec.nn.exact_convs import NarrowConv2d

FOLDER = Path(__file__).resolve().parents[2] / "bitstream_spec" / "conformance" / "bfloat16"
LIST = json.loads((FOLDER / "conformance.json").read_text("utf-8"))
MODEL = FOLDER / LIST["model"]["file"]


@pytest.fixture(scope="module")
def loaded():
    return load_model(MODEL)


def test_the_list_is_of_the_files_that_are_there_and_can_be_made():
    from conformance_exact import BFLOAT16_STREAMS

    assert {known["file"] for known in LIST["streams"]} == {path.name for path in FOLDER.glob("*.nvc")} == {f"{name}.nvc" for name in BFLOAT16_STREAMS}


def test_layers_of_both_kinds_round_and_say_so(loaded):
    model = read_model(MODEL.read_bytes())
    rounding = {name for name, conv in picture_convs(loaded.model).items() if conv.rounds}
    assert rounding > set(trunk_convs(loaded.model)) and {name.rpartition(".")[2] for name in rounding} == {"mix", "expand", "project", "spatial", "conv"}
    expected = tensors_of_the_chapter(json.loads(model.metadata["config"]), rounding)
    assert {name: (model.tensors[name].dtype.name, model.tensors[name].shape) for name in expected} == expected
    assert model.identity == loaded.identity and model.identity.hex() == LIST["model"]["identity"]


def test_reference_decoder():
    outputs, errors = reference([FOLDER / known["file"] for known in LIST["streams"]], MODEL)
    assert errors == ""
    for known, lines in zip(LIST["streams"], outputs, strict=True):
        expected = [f"{i} {frame['kind']} {frame['md5']} {frame['pictures']}" for i, frame in enumerate(known["frames"])]
        assert lines == [*expected, f"all {len(expected)} {known['md5']} {known['pictures']}", "0"], known["file"]


@pytest.mark.parametrize("carriers", ["float32", "bfloat16"])
@pytest.mark.parametrize("known", LIST["streams"], ids=lambda known: known["file"])
def test_real_decoder(known, carriers, loaded):
    use_carriers(carriers)
    try:
        assert pictures_md5(FOLDER / known["file"], loaded) == known["pictures"]
    finally:
        use_carriers("auto")


@pytest.mark.parametrize("layers", [".mix", ".expand", ".project", ".spatial", ".conv"])
def test_the_pictures_depend_on_the_rounding(layers):
    """The same filters without it give others."""
    other = load_model(MODEL)
    convs = [conv for name, conv in picture_convs(other.model).items() if name.endswith(layers) and isinstance(conv, NarrowConv2d)]
    for conv in convs:
        conv.rounds = False
    assert any(pictures_md5(FOLDER / known["file"], other) != known["pictures"] for known in LIST["streams"])
