"""Our codec's points: rates are file sizes, and what belongs to frames adds up to them."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from neuralcodec.bench.compare import SKIPPING, equal_work, uniform_widths
from neuralcodec.bench.ours import Variant, decode, encode, measure
from neuralcodec.bench.points import Point, curve, read_clip
from neuralcodec.bitstream import FramePacket, Packet, StreamReader
from neuralcodec.codecs.complexity import INTER, INTRA, complexity, total
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import InputError, UsageError
from neuralcodec.entropy import MaskMode, unpack_mask_mode
from neuralcodec.nn.selection import units
from neuralcodec.pipeline import EncodeOptions


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def point(clip, loaded) -> Point:
    return measure(clip, loaded, 2, 40.0, gop=2, workers=1, entropy=True)


def test_the_rate_is_the_size_of_the_file_that_the_encoder_writes(clip, loaded, point):
    data = encode(clip, loaded, EncodeOptions(2, 40.0, 2, workers=1)).data
    assert point.bits == 8 * len(data) == 8 * point.file_bytes
    assert point.bpp == pytest.approx(8 * len(data) / (70 * 50 * 4))
    packets = [i for i in StreamReader(io.BytesIO(data)) if isinstance(i, Packet) and isinstance(i.content, FramePacket)]
    assert len(point.frame_bits) == len(packets) and all(abs(n - 8 * p.size) <= 24 for n, p in zip(point.frame_bits, packets, strict=True))  # bitstream.writer
    assert point.kinds == "IPIP"


def test_syntax_elements_add_up_to_the_file(point):
    assert sum(point.syntax_bits.values()) == pytest.approx(point.bits)
    assert {"I contextual", "I filters", "P motion hyper", "P contextual", "P filters", "framing", "container"} <= point.syntax_bits.keys()
    assert point.syntax_bits["container"] == point.bits - sum(point.frame_bits)
    assert 0 < point.syntax_bits["framing"] <= 4 * 8 * 16


def test_psnr_is_of_what_the_decoder_shows(clip, loaded, point):
    frames = decode(encode(clip, loaded, EncodeOptions(2, 40.0, 2, workers=1)).data, loaded).frames
    first = 10 * np.log10(255**2 / np.mean((clip.planes[0][0].astype(float) - frames[0].planes[0]) ** 2))
    later = [10 * np.log10(255**2 / np.mean((a.planes[0].astype(float) - b.planes[0]) ** 2)) for a, b in zip(clip.frames[1:], frames[1:], strict=True)]
    assert point.psnr_y == pytest.approx(np.mean([first, *later]))
    assert len(point.frame_psnr) == 4
    assert point.psnr == pytest.approx(np.mean(point.frame_psnr))
    assert point.of_kind("I") == pytest.approx((np.mean(point.frame_bits[::2]), np.mean(point.frame_psnr[::2])))
    assert point.of_kind("B") is None


def test_times_and_work_are_there(point, loaded):
    assert 0 < point.first_frame_s <= point.decode_s
    assert 0 < point.encode_first_s <= point.encode_s and point.warmup_s > 0 and point.threads == 1
    assert point.encode_fps == pytest.approx(4 / point.encode_s) and point.decode_fps == pytest.approx(4 / point.decode_s)
    assert 0 < point.extra["entropy_ms"] < point.extra["parse_ms"]
    assert point.extra["kmac_p"] == pytest.approx(float(total(complexity(loaded.model, loaded.widths[1]), INTER)) / 1000)


def test_a_point_survives_json(point):
    assert Point.from_dict(point.to_dict()) == point
    assert curve([point]) == [(point.bpp, point.psnr)]


def test_variants_use_the_masks_they_are_named_after(clip, loaded):
    allowed = [{MaskMode.DERIVED}, {MaskMode.DERIVED, MaskMode.DERIVED_WITH_EXCEPTIONS}, {MaskMode.THRESHOLD}, {MaskMode.THRESHOLD}]
    for variant, modes in zip(SKIPPING, allowed, strict=True):
        coded = encode(clip, loaded, EncodeOptions(quality=40.0, workers=1, mask_modes=variant.mask_modes))
        packets = [i.content for i in StreamReader(io.BytesIO(coded.data)) if isinstance(i, Packet) and isinstance(i.content, FramePacket)]
        used = [unpack_mask_mode(m) for p in packets for m in p.modes]
        assert {mode for mode, _ in used} <= modes, variant.name
        if variant.mask_modes == ():
            assert {parameter for _, parameter in used} == {0}
            assert all(coded_ == all_ for coded_, all_ in coded.elements.values())


def test_a_variants_widths_stand_in_the_stream(clip, loaded, point):
    table = bytes([2]) * len(units(loaded.model))
    narrow = measure(clip, loaded, 2, 40.0, gop=2, workers=1, variant=Variant("narrow", widths=table))
    assert narrow.codec == "ours-l2 narrow"
    assert narrow.extra["kmac_p"] < point.extra["kmac_p"]
    assert narrow.frame_psnr != point.frame_psnr


def test_a_regular_mixture_does_the_work_of_the_learned_table(loaded):
    count = len(units(loaded.model))
    learned = bytes((0, 2, 1, 1, 2)[i % 5] for i in range(count))
    mixture = equal_work(loaded.model, learned)
    one_unit = max(abs(total(complexity(loaded.model, bytes(count)), r) - total(complexity(loaded.model, bytes(i) + b"\2" + bytes(count - i - 1)), r))
                   for i in range(count) for r in (INTRA, INTER))
    for role in (INTRA, INTER):
        assert abs(total(complexity(loaded.model, mixture), role) - total(complexity(loaded.model, learned), role)) <= one_unit
    assert equal_work(loaded.model, bytes([1]) * count) == bytes([1]) * count
    assert next(v.widths for v in uniform_widths(loaded, 3)) == bytes([2]) * count


def test_what_cannot_be_had_is_refused(clip, loaded, tmp_path):
    with pytest.raises(UsageError, match="level 4"):
        measure(clip, loaded, 4, 40.0)
    with pytest.raises(InputError, match="no such file"):
        read_clip(tmp_path / "missing.mkv")


def test_reading_a_clip(clip, clip_file):
    read = read_clip(clip_file, 3)
    assert read.name == clip.name and read.rate == 25
    assert len(read.frames) == 3
    assert all(np.array_equal(a, b) for f, g in zip(read.frames, clip.frames, strict=False) for a, b in zip(f.planes, g.planes, strict=True))


def test_a_picture_is_encoded_as_the_command_does(loaded, tmp_path):
    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(0, 255, (5, 7, 3), np.uint8).repeat(10, 0).repeat(10, 1)).save(tmp_path / "p.png")
    picture = read_clip(tmp_path / "p.png")
    coded = encode(picture, loaded, EncodeOptions(2, 40.0, effort=0))
    header = StreamReader(io.BytesIO(coded.data)).header
    assert header.bare and header.model_id == loaded.key and (coded.kinds, header.level, header.quality) == ("I", 2, 80)
    (packet,) = StreamReader(io.BytesIO(coded.data), strict=True)
    assert coded.frame_bytes == [packet.size] and len(coded.data) < packet.size + 44
    assert sum(coded.syntax_bits.values()) == pytest.approx(8 * len(coded.data)) and coded.syntax_bits["container"] == 8 * (len(coded.data) - packet.size)
    (frame,) = decode(coded.data, loaded).frames
    assert [p.shape for p in frame.planes] == [(50, 70), (25, 35), (25, 35)]
    point = measure(picture, loaded, 2, 40.0, workers=1)
    assert point.bits == 8 * len(coded.data) and point.kinds == "I"
    wide = replace(picture, video=replace(picture.video, sample_aspect_ratio=Fraction(4, 3)))
    assert not StreamReader(io.BytesIO(encode(wide, loaded, EncodeOptions(2, 40.0, effort=0)).data)).header.bare
    assert point.psnr_y == pytest.approx(10 * np.log10(255**2 / np.mean((picture.planes[0][0].astype(float) - frame.planes[0]) ** 2)))
