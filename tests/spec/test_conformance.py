"""The conformance streams: the real decoder with both entropy backends, and the reference decoder, give their md5s."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_command import reference

from neuralcodec.bitstream import Limits, StreamReader
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.packets import FramePacket
from neuralcodec.codecs.coding import FlagshipCoder
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import ModelError, NcodecError, StreamError
from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"
FOLDER = SPEC / "conformance"
LIST = json.loads((FOLDER / "conformance.json").read_text("utf-8"))
STREAMS = {Path(known["file"]).stem: known for known in LIST["streams"]}
MODEL = FOLDER / LIST["model"]["file"]
BACKENDS = ("constriction", "python")


@pytest.fixture(scope="module")
def loaded():
    return load_model(MODEL)


def real(data: bytes, loaded) -> tuple[list[str], str]:
    """What the real decoder makes of a stream: md5 of each frame, and over all."""
    reader = StreamReader(io.BytesIO(data), strict=True)
    total, frames = hashlib.md5(), []
    for item in StreamDecoder(reader, loaded, DecodeOptions(pictures=False, workers=1, threads=1), torch.device("cpu")).run():
        if isinstance(item, DecodedFrame):
            part = b"".join(item.parsed.digest_parts())
            total.update(part)
            frames.append(hashlib.md5(part).hexdigest())
    return frames, total.hexdigest()


def test_the_list_is_of_the_files_that_are_there():
    assert {known["file"] for known in LIST["streams"]} == {path.name for path in FOLDER.glob("*.nvc")}
    for known in LIST["streams"]:
        assert hashlib.sha256((FOLDER / known["file"]).read_bytes()).hexdigest() == known["sha256"]
        assert known["description"] and known["frames"]


def test_the_list_is_of_the_streams_that_can_be_made():
    from conformance_streams import STREAMS as recipes

    assert {name: recipe.description for name, recipe in recipes.items()} == {
        name: known["description"] for name, known in STREAMS.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", STREAMS)
def test_real_decoder(name, backend, loaded, monkeypatch):
    if backend == "constriction":
        pytest.importorskip("constriction")
    monkeypatch.setenv("NCODEC_ENTROPY_BACKEND", backend)
    frames, total = real((FOLDER / f"{name}.nvc").read_bytes(), loaded)
    assert frames == [frame["md5"] for frame in STREAMS[name]["frames"]]
    assert total == STREAMS[name]["md5"]


def test_reference_decoder():
    outputs, errors = reference([FOLDER / known["file"] for known in LIST["streams"]], MODEL)
    assert errors == ""
    for known, lines in zip(LIST["streams"], outputs, strict=True):
        expected = [f"{i} {frame['kind']} {frame['md5']}" for i, frame in enumerate(known["frames"])]
        assert lines == [*expected, f"all {len(expected)} {known['md5']}", "0"], known["file"]


def test_reference_decoder_as_a_command():
    name = "one_sample"
    result = subprocess.run([sys.executable, SPEC / "reference" / "decode.py", FOLDER / f"{name}.nvc", MODEL], check=True,
                            capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == f"all {len(STREAMS[name]['frames'])} {STREAMS[name]['md5']}"


def test_the_streams_use_what_they_are_there_for(loaded):
    modes, levels, qualities, tables = set(), set(), set(), set()
    for known in LIST["streams"]:
        reader = StreamReader(io.BytesIO((FOLDER / known["file"]).read_bytes()), strict=True)
        levels.add(reader.header.level)
        tables.add(reader.header.width_tables)
        for packet in reader:
            if isinstance(frame := packet.content, FramePacket):
                qualities.add(frame.quality)
                assert len(frame.modes) == (2 if frame.intra else 3)  # contextual latents have two parts
                modes |= {(mode >> 6, mode >> 4 & 3) if mode >> 6 == 2 else (mode >> 6,) for mode in frame.modes}
    assert modes == {(0,), (1,), (2, 0), (2, 1), (2, 2), (2, 3), (3,)}
    assert levels == {1, 2, 3} and {0, 24, 25, 26, 199, 200} <= qualities
    assert tables == {loaded.widths} and len(set(loaded.widths)) == 3
    config = loaded.model.config
    assert (config.intra.parts, config.motion.parts, config.inter.parts) == (2, 3, 2) and config.intra.step_units and config.inter.step_units and config.motion.full_rank


def test_all_parts_say_something_and_some_can_be_empty(loaded):
    """Symbols of each part that are not 0, elements skipped and coded, and, in one stream, later parts without positions."""
    from reference import container, networks
    from reference.model import read_model

    tensors = read_model(MODEL.read_bytes()).tensors
    for part in ("intra.prior.later.0", "inter.prior.later.0", "motion.prior.later.0", "motion.prior.later.1"):  # these hear the parts before
        features = tensors[f"{part.split('later')[0]}fuse.weight"].shape[1]
        assert tensors[f"{part}.fuse.weight"][:, features:].any()
    for name, latent_name, positions in (("level1_derived", "contextual", (8, 7)), ("level1_derived", "motion", (6, 2, 7)),
                                         ("one_sample", "contextual", (1, 0)), ("one_sample", "motion", (1, 0, 0))):
        stream, parts = container.read_stream((FOLDER / f"{name}.nvc").read_bytes()), []
        rows, columns = -(-stream.header["height"] // 16), -(-stream.header["width"] // 16)
        reference = None
        for frame in stream.frames:
            reference = networks.read_frame(tensors, frame.kind, frame.payload, frame.masks, frame.quality, stream.header["height"],
                                            stream.header["width"], reference if frame.kind == "P" else None)
            if latent_name in reference:
                latent = reference[latent_name]
                where = [networks.positions(part, len(positions), rows, columns) for part in range(len(positions))]
                parts.append([(latent.value[:, w], latent.mask[:, w]) for w in where])
        for part, count in enumerate(positions):
            values, masks = (np.concatenate([frame[part][i] for frame in parts], 1) for i in (0, 1))
            assert values.shape[1] == count * len(parts) and len(parts) > 2
            if count:
                assert len(np.unique(values[masks])) > (15 if count > 1 else 4) and 0.2 < masks.mean() < 0.95, (name, part)


# Changed streams --------------------------------------------------------------------------------------------------------


def with_right_crc(data: bytes, start: int, size: int) -> bytes:
    """``data`` with the CRC of the packet of ``size`` bytes at ``start`` made right."""
    end = start + size - 4
    return data[:end] + crc32c(data[start:end]).to_bytes(4, "little") + data[end + 4 :]


def changed_streams() -> dict[str, bytes]:
    """Streams that differ from one of the list in a byte; by what was done."""
    data = (FOLDER / "level1_derived.nvc").read_bytes()
    packets = [p for p in StreamReader(io.BytesIO(data)) if isinstance(p.content, FramePacket)]
    out = {}
    for at in (3, 20, 60, packets[0].offset + 30, packets[2].offset + 1, packets[3].offset + 100, len(data) - 3):
        out[f"byte {at}"] = data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
    for i, packet in enumerate(packets):
        middle = packet.offset + packet.size // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        out[f"payload {i}, right CRC"] = with_right_crc(changed, packet.offset, packet.size)
    last = packets[-1]
    out["decode order, right CRC"] = with_right_crc(
        data[: last.offset + 3] + b"\x07" + data[last.offset + 4 :], last.offset, last.size)
    out["a packet left out"] = data[: packets[2].offset] + data[packets[2].offset + packets[2].size :]
    out["the end left out"] = data[:-22]
    return out


def test_a_changed_byte_is_noticed(loaded):
    """By an error, or at least (the payload with its CRC made right) by another md5; and by both decoders alike."""
    for what, data in changed_streams().items():
        try:
            md5 = real(data, loaded)[1]
        except NcodecError:
            md5 = None
        assert md5 == md5_of_reference(data), what
        assert md5 is None or ("payload" in what and md5 != STREAMS["level1_derived"]["md5"]), what


def test_the_reference_command_says_so_in_one_line(tmp_path):
    broken = tmp_path / "broken.nvc"
    broken.write_bytes(changed_streams()["byte 60"])
    outputs, errors = reference([broken], MODEL)
    assert outputs == [["1"]] and errors == "broken.nvc: the header is damaged\n"


def md5_of_reference(data: bytes) -> str | None:
    """md5 over all frames by the reference decoder, in this process; None where it refuses."""
    from reference import container, decode, model, rans

    total = hashlib.md5()
    try:
        for _, latents in decode.decode(container.read_stream(data), model.read_model(MODEL.read_bytes())):
            for part in decode.digest_parts(latents):
                total.update(part)
    except rans.StreamError:
        return None
    return total.hexdigest()


def test_another_model_is_refused(tmp_path, loaded):
    raw = bytearray(MODEL.read_bytes())
    raw[-1] ^= 1
    other = tmp_path / "other.safetensors"
    other.write_bytes(raw)
    assert load_model(other).identity != loaded.identity
    outputs, errors = reference([FOLDER / "intra.nvc"], other)
    assert outputs == [["1"]] and "needs model" in errors
    with pytest.raises(ModelError):
        real((FOLDER / "intra.nvc").read_bytes(), load_model(other))


def test_identity_is_the_same_rule(loaded):
    from reference import model

    found = model.read_model(MODEL.read_bytes())
    assert found.identity == loaded.identity == bytes.fromhex(LIST["model"]["identity"])
    assert found.metadata == loaded.metadata


def test_both_refuse_a_payload_too_short_for_its_picture(loaded):
    """networks.md, section 5: hyper latents that cost nothing."""
    from reference import model, networks, rans

    tensors = model.read_model(MODEL.read_bytes()).tensors
    with pytest.raises(rans.StreamError, match="within the hyper latents"):
        networks.read_frame(tensors, "I", b"", [0, 0], 100, 800, 800, None)
    with pytest.raises(StreamError, match="within the hyper latents"):
        FlagshipCoder(loaded.model).parse("I", b"", (0, 0), 100, (800, 800), None)


def test_reference_container_finds_what_the_real_one_does():
    from reference import container

    for known in LIST["streams"]:
        data = (FOLDER / known["file"]).read_bytes()
        stream, reader = container.read_stream(data), StreamReader(io.BytesIO(data), Limits(), strict=True)
        header, ours = stream.header, reader.header
        assert (header["width"], header["height"]) == (ours.video.width, ours.video.height)
        assert tuple(bytes(table) for table in header["width_tables"]) == ours.width_tables
        assert (header["metadata"], header["encoder"], header["level"]) == (ours.metadata, ours.encoder, ours.level)
        assert [side["extradata"] for side in header["side_streams"]] == [side.extradata for side in ours.side_streams]
        contents = [packet.content for packet in reader]
        frames = [c for c in contents if isinstance(c, FramePacket)]
        assert [(f.pts, f.duration, f.quality, tuple(f.masks), f.payload) for f in stream.frames] == [
            (f.pts, f.duration, f.quality, f.modes, f.payload) for f in frames]
        sides = [c for c in contents if type(c).__name__ == "SidePacket"]
        assert [(s["stream"], s["data"], s["pts"], s["dts"], s["duration"], s["keyframe"]) for s in stream.sides] == [
            (s.stream, s.data, s.pts, s.dts, s.duration, s.keyframe) for s in sides]
