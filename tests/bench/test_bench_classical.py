"""Classical encoders: what is counted adds up, and conditions do what they say."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import pytest
import ruler_clip

from neuralcodec.bench import classical
from neuralcodec.bench.classical import encoder_says, measure, sei_bytes
from neuralcodec.bench.compare import beside
from neuralcodec.bench.conditions import ALIASES, CONDITIONS, SETS, STILLS, condition, condition_name, condition_names
from neuralcodec.bench.points import Clip
from neuralcodec.core.errors import MeasureError, UsageError
from neuralcodec.core.types import Frame, VideoProperties

LOW_DELAY = [n for n in CONDITIONS if "ld32" in n]


def available(name: str) -> bool:
    return classical.missing(name) is None


@pytest.mark.parametrize("name", ["x264-medium-ld32", "x265-medium-ld32", "x265-medium"])
def test_frames_add_up_to_the_elementary_stream(clip, name):
    if not available(name):
        pytest.skip("this FFmpeg has no such encoder")
    point = measure(clip, name, 28)
    assert sum(point.frame_bits) == point.bits
    assert point.bits < 8 * point.file_bytes  # the encoder's advertisement is in the file
    assert point.kinds[0] == "I" and point.kinds.count("I") == 1 and len(point.kinds) == 4
    assert 20 < point.psnr < 60
    assert 0 < point.encode_first_s <= point.encode_s and 0 < point.first_frame_s <= point.decode_s and point.warmup_s > 0
    assert point.threads == 1 and point.encoder.startswith(CONDITIONS[name].encoder[3:])
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
    priority = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    point = measure(big, "svtav1", 41)
    assert priority is None or os.sched_getscheduler(0) == priority  # root's thread is not in real time for good
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
    with pytest.raises(UsageError, match="x266.*x265-veryslow.*jpeg"):
        condition_name("x266")
    with pytest.raises(UsageError, match="x266"):
        condition_names(["x264", "x266"])


def test_short_names_and_sets():
    assert condition_names(["x264", "x265", "svtav1"]) == ("x264-medium-ld32", "x265-medium-ld32", "svtav1-p6")
    assert condition_names(["x264-medium-ld32", "elfvc", "x264"]) == ("x264-medium-ld32", "x264-elfvc", "x265-elfvc", "svtav1-elfvc-ld")
    for name in (*ALIASES.values(), *(n for names in SETS.values() for n in names)):
        assert name in CONDITIONS | STILLS
    assert condition("jpeg").facts()["options"] == {"optimize": True, "subsampling": "4:2:0"}


def test_the_commands_of_elf_vcs_supplement():
    x264, x265, svtav1 = (CONDITIONS[f"{name}-elfvc"] for name in ("x264", "x265", "svtav1"))
    assert x264.options["preset"] == x265.options["preset"] == "medium"
    assert x264.options["x264-params"] == "bframes=0" and x265.options["x265-params"].split(":")[0] == "bframes=0"
    assert svtav1.options == {"svtav1-params": "rc=0:hierarchical-levels=0:lookahead=0"} and svtav1.key == "qp"


@pytest.mark.parametrize("name", ["x264-elfvc", "x265-elfvc", "svtav1-elfvc-ld"])
def test_elf_vcs_conditions_have_no_b_frames_and_no_intra_period(clip, name):
    if not available(name):
        pytest.skip("this FFmpeg has no such encoder")
    point = measure(clip, name, CONDITIONS[name].crf[2], timed=False)
    assert point.kinds == "IPPP"


def test_an_encoder_that_refuses_its_options_is_one_line(clip):
    if not available("svtav1-elfvc"):
        pytest.skip("this FFmpeg has no SVT-AV1")
    try:
        point = measure(clip, "svtav1-elfvc", 40, timed=False)
    except MeasureError as error:
        assert str(error) == "libsvtav1 does not take 70x50 with these options (Invalid argument)"
    else:
        assert point.kinds == "IPPP"


def test_x264_does_not_depend_on_the_number_of_cores():
    for name, settings in CONDITIONS.items():
        if settings.encoder == "libx264":
            assert settings.options.get("thread_type") == "frame" or settings.options["threads"] == "2", name


def test_a_picture_in_one_slice():
    frames = [Frame(planes, n, 1) for n, planes in enumerate(ruler_clip.pictures()[:3])]
    clip = Clip("a.y4m", VideoProperties(ruler_clip.WIDTH, ruler_clip.HEIGHT, Fraction(1, 25), Fraction(25)), frames)
    sliced, whole = (measure(clip, name, 28, timed=False) for name in ("x264-medium-ld32", "x264-medium-ld32-whole"))
    assert "slices=2" in sliced.encoder and "sliced_threads=0" in whole.encoder
    assert whole.bits < sliced.bits


def test_what_an_encoder_says_of_itself():
    assert encoder_says(b"\0\0\1\6x264 - core 164 - options: cabac=1\x80\0") == "x264 - core 164 - options: cabac=1"
    assert encoder_says(b"nothing") == ""


def test_decoders_get_the_threads_they_are_given(clip, monkeypatch):
    seen = []
    decode = classical.decode
    monkeypatch.setattr(classical, "decode", lambda file, threads: seen.append(threads) or decode(file, threads))
    assert measure(clip, "x264", 28, threads=3).threads == 3
    assert set(seen) == {3} and len(seen) > classical.repeat.__globals__["LEAST_RUNS"]


def test_a_missing_encoder_is_one_line(monkeypatch):
    def codec(name, mode):
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(classical.av, "Codec", codec)
    assert classical.missing("x264-medium") == "this PyAV's FFmpeg has no encoder libx264 (libx264)"
