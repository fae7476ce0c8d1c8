"""The streams of conformance/exact: the reference decoder and the real one give the listed md5s, of latents and of pictures; malformed models."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import exact_models
import numpy as np
import pytest
import torch
from exact_chapter import tensors_of_the_chapter
from exact_models import malformations
from reference.container import read_stream
from reference.exact_pictures import ExactPictures
from reference.model import read_model
from reference.networks import Latent
from reference_command import reference
from safetensors.torch import load_file, save_file

from neuralcodec.bitstream import Arithmetic, FramePacket, StreamReader, StreamWriter
from neuralcodec.codecs.coding import FlagshipCoder, Parsed, Planes
from neuralcodec.codecs.exact import ExactFlagship
from neuralcodec.codecs.files import export_tensors, load_model, load_tensors
from neuralcodec.codecs.flagship import FlagshipConfig
from neuralcodec.core.digest import RunningMd5, md5_of_frame
from neuralcodec.core.errors import ModelError, NcodecError
from neuralcodec.nn.fixed import Fixed
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"
FOLDER = SPEC / "conformance" / "exact"
LIST = json.loads((FOLDER / "conformance.json").read_text("utf-8"))
STREAMS = {Path(known["file"]).stem: known for known in LIST["streams"]}
MODEL = FOLDER / LIST["model"]["file"]


@pytest.fixture(scope="module")
def loaded():
    return load_model(MODEL)


def test_the_list_is_of_the_files_that_are_there_and_can_be_made():
    from conformance_exact import EXACT_STREAMS

    assert {known["file"] for known in LIST["streams"]} == {path.name for path in FOLDER.glob("*.nvc")}
    assert {name: recipe.description for name, recipe in EXACT_STREAMS.items()} == {name: known["description"] for name, known in STREAMS.items()}
    for known in LIST["streams"]:
        assert hashlib.sha256((FOLDER / known["file"]).read_bytes()).hexdigest() == known["sha256"]
    assert read_model(MODEL.read_bytes()).identity.hex() == LIST["model"]["identity"]


def test_the_streams_use_what_they_are_there_for(loaded):
    levels, modes, packets, qualities, sizes = set(), set(), set(), set(), set()
    for known in LIST["streams"]:
        data = (FOLDER / known["file"]).read_bytes()
        header = (stream := read_stream(data)).header
        assert header["arithmetic"] == 1
        levels.add(header["level"])
        sizes.add((header["width"], header["height"]))
        modes |= {mask >> 6 for frame in stream.frames for mask in frame.masks}
        qualities |= {frame.quality for frame in stream.frames}
        for packet in StreamReader(io.BytesIO(data), strict=True):
            packets.add(type(packet.content).__name__)
    assert levels == {1, 2, 3} and modes == {0, 1, 2, 3} and {0, 200} <= qualities and {(1, 1), (35, 21)} <= sizes
    assert {"GopStart", "FramePacket", "SidePacket", "StreamIndex", "HeaderCopy", "EndOfStream"} <= packets
    assert loaded.exact and len(set(loaded.widths)) == 3


def test_reference_decoder(tmp_path):
    outputs, errors = reference([FOLDER / known["file"] for known in LIST["streams"]], MODEL)
    assert errors == ""
    for known, lines in zip(LIST["streams"], outputs, strict=True):
        expected = [f"{i} {frame['kind']} {frame['md5']} {frame['pictures']}" for i, frame in enumerate(known["frames"])]
        assert lines == [*expected, f"all {len(expected)} {known['md5']} {known['pictures']}", "0"], known["file"]


def test_reference_command_writes_the_pictures(tmp_path):
    out = tmp_path / "odd.yuv"
    command = [sys.executable, SPEC / "reference" / "decode.py", FOLDER / "odd_size.nvc", MODEL, "--pictures", out]
    subprocess.run(command, check=True, capture_output=True)
    data = out.read_bytes()
    assert hashlib.md5(data).hexdigest() == STREAMS["odd_size"]["pictures"]
    assert len(data) == 4 * (35 * 21 + 2 * 18 * 11) and [p.name for p in tmp_path.iterdir()] == ["odd.yuv"]


@pytest.mark.parametrize("name", STREAMS)
def test_real_decoder(name, loaded):
    reader = StreamReader(io.BytesIO((FOLDER / f"{name}.nvc").read_bytes()), strict=True)
    assert reader.header.arithmetic is Arithmetic.EXACT
    latents, pictures, frames = hashlib.md5(), RunningMd5(), []
    for item in StreamDecoder(reader, loaded, DecodeOptions(workers=1, threads=1), torch.device("cpu")).run():
        if isinstance(item, DecodedFrame):
            part = b"".join(item.parsed.digest_parts())
            latents.update(part)
            pictures.update(item.frame)
            kind = "I" if item.packet.intra else "P"
            frames.append({"kind": kind, "md5": hashlib.md5(part).hexdigest(), "pictures": md5_of_frame(item.frame)})
    known = STREAMS[name]
    assert (frames, latents.hexdigest(), pictures.hexdigest()) == (known["frames"], known["md5"], known["pictures"])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_level_is_the_same_in_both(level, loaded):
    """Also those that the stream was not made for."""
    from reference.decode import decode

    model, stream = read_model(MODEL.read_bytes()), read_stream((FOLDER / "level2_exceptions.nvc").read_bytes())
    table = stream.header["width_tables"][level - 1]
    side, planes = ExactPictures(model.tensors, model.metadata["config"], table), None
    reader = StreamReader(io.BytesIO((FOLDER / "level2_exceptions.nvc").read_bytes()), strict=True)
    options = DecodeOptions(level=level, workers=1, threads=1)
    real = [item for item in StreamDecoder(reader, loaded, options, torch.device("cpu")).run() if isinstance(item, DecodedFrame)]
    for item, (frame, latents) in zip(real, decode(stream, model), strict=True):
        planes = side.picture(frame.kind, latents, frame.quality, planes)
        for ours, theirs in zip(planes, item.frame.planes, strict=True):
            assert np.array_equal(ours[: theirs.shape[0], : theirs.shape[1]], theirs)


# -- models at the limits of their formats ---------------------------------------------------------------------------------


def built(tensors: dict[str, np.ndarray]) -> ExactFlagship:
    """A real model with a decoder of these tensors."""
    model = ExactFlagship(FlagshipConfig.from_dict(exact_models.CONFIG))
    load_tensors(model, export_tensors(model) | {name: torch.from_numpy(t.copy()) for name, t in tensors.items()})
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("largest", [14, 32767])
@pytest.mark.parametrize(("make", "seed"), [(exact_models.random_tensors, 1), *((exact_models.limit_tensors, seed) for seed in range(5)),
                                            (exact_models.rounded_trunks, 1), *((exact_models.rounded_limits, seed) for seed in range(3))])
def test_random_models_give_the_same_pictures(make, seed, largest):
    tensors, rng = make(seed), np.random.default_rng(seed)
    model = built(tensors)
    table = [int(option) for option in rng.integers(0, 3, exact_models.unit_count())]
    apply_widths(model, table)
    coder, side = FlagshipCoder(model), ExactPictures(tensors, json.dumps(exact_models.CONFIG), table)
    rows, columns = (int(n) for n in rng.integers(1, 5, 2))
    reference_planes = exact_models.random_planes(rng, 16 * rows, 16 * columns, noise=255 if largest > 14 else 9)
    for kind in "IPP":
        quality = int(rng.integers(0, 201))
        latents = exact_models.random_latents(rng, kind, rows, columns, largest)
        ours = side.picture(kind, {name: Latent(n, n != 0) for name, n in latents.items()}, quality, reference_planes)
        parsed = Parsed({name: Fixed.from_integers(torch.from_numpy(n)[None], 4, 32767) for name, n in latents.items()}, {})
        y, *uv = (torch.from_numpy(p).float() for p in reference_planes)
        theirs = coder.reconstruct(kind, parsed, quality, Planes(y[None, None], torch.stack(uv)[None]))
        for a, b in zip(ours, (theirs.y[0, 0], *theirs.uv[0]), strict=True):
            assert np.array_equal(a, b.numpy()), kind
        reference_planes = ours
    assert len(np.unique(reference_planes[0])) > 3


# -- the model file --------------------------------------------------------------------------------------------------------


def test_tables_of_the_chapter_are_what_the_model_file_has():
    model = read_model(MODEL.read_bytes())
    expected = tensors_of_the_chapter(json.loads(model.metadata["config"]))
    found = {name: (t.dtype.name, t.shape) for name, t in model.tensors.items()}
    assert {name: found[name] for name in expected} == expected
    rest = {name: kind for name, (kind, _) in found.items() if name not in expected and ".prior." not in name}
    assert set(rest.values()) <= {"float16", "float32"}
    decoders = ("intra.synthesis.", "motion.decoder.", "motion.refinement.", "inter.extraction.", "inter.refinement.", "inter.decoder.")
    assert {name for name in rest if name.startswith(decoders) and "selection" not in name} == {"inter.decoder.context_units.decode"}


def resaved(path: Path, change_name: str, change) -> Path:
    tensors = load_file(MODEL)
    changed = change(tensors.pop(change_name).numpy())
    if changed is not None:
        tensors[change_name] = torch.from_numpy(np.ascontiguousarray(changed))
    save_file(tensors, path, metadata=read_model(MODEL.read_bytes()).metadata)
    return path


@pytest.mark.parametrize("what", malformations())
def test_a_malformed_model_is_refused(what, tmp_path):
    name, change = malformations()[what]
    path = resaved(tmp_path / "malformed.safetensors", name, change)
    with pytest.raises(ModelError):
        load_model(path)


def with_header(path: Path, **changes) -> Path:
    """Writes intra.nvc with another header."""
    reader = StreamReader(io.BytesIO((FOLDER / "intra.nvc").read_bytes()), strict=True)
    file = io.BytesIO()
    writer = StreamWriter(file, replace(reader.header, **changes))
    for packet in reader:
        if isinstance(packet.content, FramePacket):
            writer.start_gop(packet.content.pts, frame_step=1)
            writer.write_frame(packet.content)
    writer.finish()
    path.write_bytes(file.getvalue())
    return path


def test_the_reference_command_refuses_a_malformed_model_in_one_line(tmp_path):
    """The stream names it, so that nothing but what it holds is wrong."""
    model = resaved(tmp_path / "malformed.safetensors", "inter.decoder.fuse.conv.bias", lambda t: t * 0 + 2**24)
    broken = with_header(tmp_path / "broken.nvc", model_id=read_model(model.read_bytes()).identity)
    outputs, errors = reference([broken], model)
    assert outputs == [["1"]] and errors == "broken.nvc: inter.decoder.fuse.conv: a filter can exceed 16777216\n"


@pytest.mark.parametrize("cut", [0, 7, 100, 20000, 460000])
def test_a_model_that_was_cut_off_is_refused(cut, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(MODEL.read_bytes()[:cut])
    with pytest.raises(ModelError):
        load_model(path)
    outputs, errors = reference([FOLDER / "intra.nvc"], path)
    assert outputs == [["1"]] and errors.count("\n") == 1 and errors.startswith("intra.nvc: ")


def test_arithmetic_and_model_must_agree(tmp_path, loaded):
    """A stream of the exact model that says that its pictures are in floating point."""
    path = with_header(tmp_path / "claims.nvc", arithmetic=Arithmetic.FLOAT_PICTURES)
    outputs, errors = reference([path], MODEL)
    assert outputs == [["1"]] and errors == "claims.nvc: arithmetic 0 with a model of flagship-exact-1\n"
    with pytest.raises(NcodecError):
        StreamDecoder(StreamReader(io.BytesIO(path.read_bytes())), loaded, DecodeOptions(), torch.device("cpu"))


def test_the_frames_are_in_one_group():
    for known in LIST["streams"]:
        kinds = [frame["kind"] for frame in known["frames"]]
        assert kinds == ["I"] + ["P"] * (len(kinds) - 1)
