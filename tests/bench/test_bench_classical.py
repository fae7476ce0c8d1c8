"""Classical encoders: what is counted adds up, and conditions do what they say."""

from __future__ import annotations

import av
import pytest

from neuralcodec.bench import classical
from neuralcodec.bench.classical import CONDITIONS, condition_name, measure, sei_bytes
from neuralcodec.bench.compare import beside
from neuralcodec.core.errors import UsageError

LOW_DELAY = [n for n in CONDITIONS if "ld32" in n]


def available(name: str) -> bool:
    try:
        av.Codec(CONDITIONS[name].encoder, "w")
    except av.FFmpegError:
        return False
    return True


@pytest.mark.parametrize("name", ["x264-medium-ld32", "x265-medium-ld32", "x265-medium"])
def test_frames_add_up_to_the_elementary_stream(clip, name):
    if not available(name):
        pytest.skip("this FFmpeg has no such encoder")
    point = measure(clip, name, 28)
    assert sum(point.frame_bits) == point.bits
    assert point.bits < 8 * point.file_bytes  # the encoder's advertisement is in the file
    assert point.kinds[0] == "I" and point.kinds.count("I") == 1 and len(point.kinds) == 4
    assert 20 < point.psnr < 60
    assert point.encode_s > 0 and 0 < point.first_frame_s <= point.decode_s
    if name in LOW_DELAY:
        assert point.kinds == "IPPP"


def test_a_finer_quantiser_costs_more_and_looks_better(clip):
    fine, coarse = measure(clip, "x264", 20), measure(clip, "x264", 36)
    assert fine.codec == "x264-medium-ld32"
    assert fine.bits > coarse.bits and fine.psnr > coarse.psnr
    rows = beside([fine, coarse], [coarse, fine])
    assert [r.kind for r in rows] == ["I", "I", "P", "P"]
    assert [r.ratio for r in rows] == pytest.approx([1, 1, 1, 1])


def test_av1_is_counted_with_its_container(clip):
    if not available("svtav1-p6"):
        pytest.skip("this FFmpeg has no SVT-AV1")
    big = classical.Clip(clip.name, clip.video, clip.frames)
    point = measure(big, "svtav1", 41)
    assert point.bits == 8 * point.file_bytes == sum(point.frame_bits) + 8 * (32 + 12 * 4)


def test_sei_units_are_found_by_their_type():
    h264, h265 = CONDITIONS["x264-medium"], CONDITIONS["x265-medium"]
    unit = b"\0\0\1"
    stream = b"\0" + unit + b"\x67abc" + unit + b"\x06sei!" + unit + b"\x65slice" + unit + b"\x06"
    assert sei_bytes(stream, h264) == 3 + 5 + 3 + 1
    assert sei_bytes(unit + b"\x40\1v" + unit + b"\x4e\1sei" + unit + b"\x50\1s", h265) == 3 + 5 + 3 + 3
    assert sei_bytes(stream, CONDITIONS["svtav1-p6"]) == 0
    assert sei_bytes(unit, h264) == 0


def test_an_unknown_encoder_is_refused():
    with pytest.raises(UsageError, match="x266.*x265-veryslow"):
        condition_name("x266")
