"""From frames to a stream and back: what the encoder saw is what the decoder gives, in every way to ask for it."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import rounds
import torch
import toy
from exactness import psnr

from neuralcodec.bitstream import Damage, StreamReader
from neuralcodec.bitstream.header import write_header
from neuralcodec.codecs.coding import FlagshipCoder, Parsed
from neuralcodec.codecs.files import load_model
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.errors import ModelError, StreamError, UsageError
from neuralcodec.core.types import SidePacket
from neuralcodec.entropy import MaskMode
from neuralcodec.nn.selection import apply_widths
from neuralcodec.pipeline import DecodeOptions, EncodeOptions
from tests.bitstream.damage import split

GOP, GROUPS = 6, 3
LEVELS = (1, 2, 3)
FRAMES = list(toy.moving_texture(GOP * GROUPS, 48, 80))
VIDEO = rounds.video_of(FRAMES)
HEIGHT, WIDTH = VIDEO.height, VIDEO.width


@pytest.fixture(scope="module")
def streams(toy_path):
    """By level: the stream of FRAMES with what the encoder said of it."""
    loaded = load_model(toy_path)

    @cache
    def make(level):
        return rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(level, gop=GOP, workers=1))

    return make


@pytest.fixture(scope="module")
def plain(streams, toy_path):
    """By level: the whole stream decoded with the encoder's settings."""
    loaded = load_model(toy_path)

    @cache
    def make(level):
        return rounds.decode(streams(level).data, loaded)

    return make


@pytest.mark.parametrize("level", LEVELS)
def test_the_encoders_reconstruction_is_the_decoders_output(level, streams, plain):
    stream, decoded = streams(level), plain(level)
    kinds = [p.intra for p in stream.packets]
    assert kinds == [i % GOP == 0 for i in range(len(FRAMES))]
    for packet, coded, mine, got in zip(stream.packets, stream.coded, stream.reconstructions(HEIGHT, WIDTH), decoded.frames, strict=True):
        assert got.packet.intra == packet.intra and got.frame.pts == packet.pts and got.frame.duration == packet.duration
        assert got.parsed.digest_parts() == coded.parsed.digest_parts()
        assert md5_of_frame(mine) == md5_of_frame(got.frame), f"frame {got.number}"
    assert [f.number for f in decoded.frames] == list(range(len(FRAMES))) and not decoded.damages
    # The toy model is a codec: what comes back resembles what went in.
    assert np.mean([psnr(d.frame.planes, s.planes) for d, s in zip(decoded.frames, FRAMES)]) > 22


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_estimated_bits_are_the_payloads_bits(quality, loaded):
    stream = rounds.encode(loaded, FRAMES[:4], VIDEO, EncodeOptions(quality=quality, gop=4, workers=1))
    decoded = rounds.decode(stream.data, loaded, DecodeOptions(pictures=False))
    for packet, coded, got in zip(stream.packets, stream.coded, decoded.frames, strict=True):
        size, estimate = len(packet.payload), sum(coded.parsed.bits.values()) / 8
        assert abs(estimate - size) <= 0.01 * size + 8
        assert sum(got.parsed.bits.values()) == pytest.approx(sum(coded.parsed.bits.values()))
        assert got.frame is None


@pytest.mark.parametrize("mode", [None, *MaskMode], ids=lambda m: m.name if m is not None else "nothing_skipped")
def test_every_mask_mode_comes_back(mode, loaded):
    options = EncodeOptions(quality=25, gop=4, workers=1, intra_boost=40, hypotheses=False, loop_filter=False, mask_modes=() if mode is None else (mode,))
    stream = rounds.encode(loaded, FRAMES[:4], VIDEO, options)
    decoded = rounds.decode(stream.data, loaded)
    assert [f.parsed.digest_parts() for f in decoded.frames] == [c.parsed.digest_parts() for c in stream.coded]
    assert [md5_of_frame(f.frame) for f in decoded.frames] == [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]
    shares = [float(m.mean()) for c in stream.coded for m in c.parsed.masks.values()]
    if mode is None:
        assert set(shares) == {1.0}
    else:
        assert {p.modes[-2] >> 6 for p in stream.packets} == {int(mode)}
        # The motion latent's parts, and the contextual ones after the first, share a mode, so only one without side information.
        shared = {m >> 6 for p in stream.packets for m in (p.modes[-1], *p.modes[:-2])}
        assert shared == {int(mode if mode in (MaskMode.DERIVED, MaskMode.THRESHOLD) else MaskMode.THRESHOLD)}
        # Otherwise this test, and all that use the toy model, would say little about masks.
        assert any(0.05 < share < 0.95 for share in shares)


def test_encode_twice_and_with_other_workers_gives_the_same_bytes(streams, loaded):
    for workers in (1, 2, None):
        again = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(1, gop=GOP, workers=workers))
        assert again.data == streams(1).data, workers


def test_decoding_with_several_workers_gives_the_same_frames_in_order(streams, plain, loaded):
    for options in (DecodeOptions(workers=2, threads=1), DecodeOptions(workers=3, threads=1)):
        decoded = rounds.decode(streams(1).data, loaded, options)
        assert list(decoded.md5s().items()) == list(plain(1).md5s().items())


@pytest.mark.parametrize("bounds", [(0, GOP), (GOP, 2 * GOP), (2 * GOP, None), (3, 13), (0, 1), (GOP * GROUPS - 1, None), (5, 999)])
def test_a_range_of_frames_equals_those_of_the_whole(bounds, streams, plain, loaded):
    whole = plain(1).md5s()
    decoded = rounds.decode(streams(1).data, loaded, DecodeOptions(frames=bounds, workers=1, threads=1))
    numbers = list(whole)[bounds[0] : bounds[1]]
    assert decoded.md5s() == {n: whole[n] for n in numbers} and not decoded.damages


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_group_alone_equals_the_same_frames_of_the_whole(group, streams, plain, loaded):
    whole, data = plain(1).md5s(), streams(1).data
    expected = {n: whole[n] for n in range(group * GOP, (group + 1) * GOP)}
    # The reader is sent to the group ...
    options = DecodeOptions(frames=(0, (group + 1) * GOP), workers=1, threads=1)
    assert rounds.decode(data, loaded, options, group=group).md5s() == expected
    # ... or the file holds nothing else.
    chunks = split(data)
    starts = [i for i, chunk in enumerate(chunks) if chunk[0] >> 4 == 1 and i] + [len(chunks) - 3]
    alone = rounds.decode(b"".join([chunks[0], *chunks[starts[group] : starts[group + 1]]]), loaded)
    assert alone.md5s() == expected
    assert len(alone.damages) == (1 if group == 0 else 2), "missing frames before it, and the missing end"


def _rewritten(data, **changes):
    """The stream with fields of its header changed, and the header's CRC made right again."""
    reader = StreamReader(io.BytesIO(data))
    return write_header(replace(reader.header, **changes)) + data[reader.header_size :]


@pytest.fixture
def work(monkeypatch):
    """Counts multiply-accumulates of all convolutions, in whatever thread they run."""
    original, total, lock = torch.nn.functional.conv2d, [0], threading.Lock()

    def counted(x, weight, *args, **kwargs):
        y = original(x, weight, *args, **kwargs)
        with lock:  # the entropy path and pictures run side by side
            total[0] += y.numel() * weight[0].numel()
        return y

    monkeypatch.setattr(torch.nn.functional, "conv2d", counted)
    return total


def test_the_headers_width_table_rules_pictures_and_work(streams, plain, loaded, work):
    data = streams(1).data
    tables = StreamReader(io.BytesIO(data)).header.width_tables
    short = DecodeOptions(frames=(0, GOP), workers=1, threads=1)
    results = []
    for table in (tables[0], tables[1], tables[2], bytes([2]) * len(tables[0])):
        work[0] = 0
        decoded = rounds.decode(_rewritten(data, width_tables=(table, *tables[1:])), loaded, short)
        assert decoded.latents() == {n: v for n, v in plain(1).latents().items() if n < GOP}, "widths touched the entropy path"
        results.append((work[0], tuple(decoded.md5s().values())))
    macs, pictures = zip(*results)
    assert pictures[0] == tuple(list(plain(1).md5s().values())[:GOP])
    assert len(set(pictures)) == 4
    assert macs[0] > macs[1] > macs[2] > macs[3]


def test_a_stream_of_level_1_plays_at_the_other_levels_with_drift(loaded):
    data = rounds.encode(loaded, FRAMES, VIDEO, EncodeOptions(1, gop=GOP, workers=1, corrections=False)).data  # which would outweigh what drifts
    own = rounds.decode(data, loaded)
    for level in (2, 3):
        other = rounds.decode(data, loaded, DecodeOptions(level=level, workers=1, threads=1))
        assert other.latents() == own.latents()
        drift = np.array([psnr(a.frame.planes, b.frame.planes) for a, b in zip(other.frames, own.frames, strict=True)])
        by_index = drift.reshape(GROUPS, GOP).mean(0)
        print(f"level 1 played at level {level}, PSNR against its own decode by frame of the group:", *(f"{v:.2f}" for v in by_index))
        assert by_index.max() < 60 and by_index[0] > by_index[-1] and by_index.min() > 10
        # A new group starts afresh: nothing drifts from one into the next.
        assert np.ptp(drift[::GOP]) < 6


@pytest.mark.parametrize("quality", [0, 0.5, 99.5, 100])
def test_quality_at_its_ends(quality, loaded):
    stream = rounds.encode(loaded, FRAMES[:3], VIDEO, EncodeOptions(quality=quality, gop=3, workers=1))
    decoded = rounds.decode(stream.data, loaded)
    assert StreamReader(io.BytesIO(stream.data)).header.quality == 2 * quality
    assert [md5_of_frame(f.frame) for f in decoded.frames] == [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]


def test_frames_that_others_refer_to_are_better(loaded):
    """The intra frame by EncodeOptions.intra_boost, P frames in turn by the cascade, which starts anew in each group; all stay on the scale."""
    for quality, expected in ((40, [128, 73, 76, 73, 89, 73, 128, 73]), (100, [200, 193, 196, 193, 200, 193, 200, 193]), (1, [50, 0, 0, 0, 11, 0, 50, 0])):
        stream = rounds.encode(loaded, FRAMES[:1] * 8, VIDEO, EncodeOptions(quality=quality, gop=6, workers=1, intra_boost=48))
        assert [p.quality for p in stream.packets] == expected


def test_an_intra_frame_is_the_better_the_longer_what_it_shows_lasts(loaded):
    def boost(frames, **options):
        stream = rounds.encode(loaded, frames, VIDEO, EncodeOptions(quality=20, **options))
        return [p.quality - 40 for p in stream.packets if p.intra]

    rng = np.random.default_rng(0)
    still = [replace(frame, planes=FRAMES[0].planes) for frame in FRAMES[:16]]
    other = [replace(frame, planes=tuple(rng.integers(0, 256, p.shape, np.uint8) for p in frame.planes)) for frame in FRAMES[:8]]
    assert boost(other, gop=8)[0] < boost(still[:8], gop=2)[0] < boost(still[:8], gop=8)[0]
    assert boost(still, gop=8, workers=1) == boost(still, gop=8, workers=2) == boost(still[:8], gop=0) * 2, "it depends on the group alone"
    assert boost(still[:8], gop=1) == [0] * 8


def test_p_frames_are_the_worse_the_fewer_follow(loaded):
    still = [replace(frame, planes=FRAMES[0].planes) for frame in FRAMES[:8]]

    def qualities(**options):
        return [p.quality for p in rounds.encode(loaded, still, VIDEO, EncodeOptions(quality=50, gop=8, cascade=(0,), **options)).packets]

    first, *rest = qualities()
    assert first > rest[0] > rest[3] > rest[-1] and rest == sorted(rest, reverse=True)
    assert qualities(intra_boost=20) == [120] + [100] * 7


def test_a_scene_begins_a_group(loaded):
    rng = np.random.default_rng(0)
    scenes = [[np.kron(rng.integers(0, 256, (p.shape[0] // 8, p.shape[1] // 8)), np.ones((8, 8))).astype(np.uint8) for p in FRAMES[0].planes] for _ in range(2)]
    frames = [replace(frame, planes=tuple(scenes[i >= 5])) for i, frame in enumerate(FRAMES[:12])]

    def intra(**options):
        stream = rounds.encode(loaded, frames, VIDEO, EncodeOptions(quality=20, **options))
        decoded = rounds.decode(stream.data, loaded)
        assert [md5_of_frame(f.frame) for f in decoded.frames] == [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]
        return [i for i, p in enumerate(stream.packets) if p.intra]

    assert intra(gop=32, workers=1) == intra(gop=32, workers=2) == [0, 5]
    assert intra(gop=4) == [0, 4, 8], "too soon after the last one"
    assert intra(gop=32, scene_cuts=False) == intra(gop=0) == [0]


def test_quality_is_monotone_in_bytes(loaded):
    sizes = [len(rounds.encode(loaded, FRAMES[:2], VIDEO, EncodeOptions(quality=q, workers=1)).data) for q in (0, 25, 50, 75, 100)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 5


@pytest.mark.parametrize("options", [{"quality": 50.25}, {"quality": -0.5}, {"quality": 100.5}, {"quality": float("nan")}, {"quality": float("inf")},
                                     {"level": 0}, {"level": 4}, {"gop": -1}, {"workers": 0}, {"threads": 0}])
def test_options_that_cannot_be_honoured(options, loaded):
    with pytest.raises(UsageError):
        rounds.encode(loaded, FRAMES[:1], VIDEO, EncodeOptions(**options))


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 4}, {"level": -1}, {"frames": (-1, None)}, {"frames": (4, 4)},
                                     {"frames": (GOP * GROUPS, None)}])
def test_decoding_options_that_cannot_be_honoured(options, streams, loaded):
    with pytest.raises(UsageError):
        rounds.decode(streams(1).data, loaded, DecodeOptions(**options))


def test_one_group_for_the_whole_video(loaded):
    stream = rounds.encode(loaded, FRAMES[:10], VIDEO, EncodeOptions(gop=0))
    assert [p.intra for p in stream.packets] == [True] + [False] * 9
    decoded = rounds.decode(stream.data, loaded)
    assert [md5_of_frame(f.frame) for f in decoded.frames] == [md5_of_frame(f) for f in stream.reconstructions(HEIGHT, WIDTH)]
    assert len(StreamReader(io.BytesIO(stream.data)).index().entries) == 1


def test_only_intra_frames(loaded):
    stream = rounds.encode(loaded, FRAMES[:4], VIDEO, EncodeOptions(gop=1, workers=2))
    assert all(p.intra for p in stream.packets)
    assert len(rounds.decode(stream.data, loaded).frames) == 4


def test_side_packets_keep_their_place_and_content(loaded):
    from tests.bitstream.samples import AUDIO

    sides = [SidePacket(0, bytes([i] * i), 1024 * i - 2048, 1024 * i - 2048, 1024) for i in range(12)]
    items = [*sides[:2]]  # before the first picture
    for i in range(8):
        items += [FRAMES[i], sides[2 + i]]
    items += sides[10:]
    stream = rounds.encode(loaded, items, VIDEO, EncodeOptions(gop=3, workers=2), side_streams=(AUDIO,))
    decoded = rounds.decode(stream.data, loaded, DecodeOptions(workers=2))
    assert decoded.sides == sides and len(decoded.frames) == 8


def test_frames_without_regular_times(loaded):
    times = [-7, 0, 1, 50, 1 << 40, (1 << 40) + 1]
    frames = [replace(f, pts=t, duration=d) for f, t, d in zip(FRAMES, times, (7, 1, 49, 0, 1, 5))]
    decoded = rounds.decode(rounds.encode(loaded, frames, VIDEO, EncodeOptions(gop=4)).data, loaded)
    assert [(f.frame.pts, f.frame.duration) for f in decoded.frames] == [(f.pts, f.duration) for f in frames]


def test_parsing_a_p_frame_without_its_predecessor(streams, loaded):
    """The frame after an intra frame needs its filters and counts of corrections alone; a later one gives a typed error or other latents, nothing worse."""
    stream, coder = streams(1), FlagshipCoder(loaded.model)
    coder.follow(hypotheses=True, sparse=True, loop_filter=True, directed=True, adaptive=True, corrected=True)

    def parse(n, previous):
        p = stream.packets[n]
        return coder.parse("P", p.payload, p.modes, p.quality, (HEIGHT, WIDTH), previous)

    first = parse(1, Parsed({}, {}, filters=stream.coded[0].parsed.filters, corrections=stream.coded[0].parsed.corrections))
    assert first.digest_parts() == parse(1, stream.coded[0].parsed).digest_parts() == stream.coded[1].parsed.digest_parts()
    assert parse(2, first).digest_parts() == stream.coded[2].parsed.digest_parts()
    for n in range(2, GOP):
        try:
            assert parse(n, None).digest_parts() != stream.coded[n].parsed.digest_parts()
        except StreamError:
            continue


def test_wrong_numbers_of_modes_and_odd_payloads_are_typed_errors(streams, loaded):
    coder, intra = FlagshipCoder(loaded.model), streams(1).packets[0]
    assert [len(p.modes) for p in streams(1).packets[:2]] == [2, 3]  # both parts of the contextual latent, before them the motion's
    for modes in ((), (0,), (0, 0, 0)):
        with pytest.raises(StreamError, match="mask modes"):
            coder.parse("I", intra.payload, modes, 100, (HEIGHT, WIDTH), None)
    for payload in (intra.payload[:-1], intra.payload + b"\1", intra.payload + b"\0", b"\xff" * 2000):
        with pytest.raises(StreamError):
            coder.parse("I", payload, intra.modes, 100, (HEIGHT, WIDTH), None)


def test_a_stream_of_another_model_is_refused(streams, loaded):
    with pytest.raises(ModelError):
        rounds.decode(_rewritten(streams(1).data, model_id=bytes(32)), loaded)


def test_width_tables_that_do_not_fit_are_typed_errors(streams, loaded):
    data = streams(1).data
    count = len(loaded.widths[0])
    for table in (bytes(count + 1), bytes(count - 1), b"", bytes([3]) * count):
        with pytest.raises(StreamError):
            rounds.decode(_rewritten(data, width_tables=(table,) * 3), loaded)


def test_a_locked_stream_plays_at_its_own_level_only(streams, loaded):
    data = _rewritten(streams(1).data, level_locked=True)
    assert len(rounds.decode(data, loaded, DecodeOptions(level=1)).frames) == len(FRAMES)
    with pytest.raises(UsageError):
        rounds.decode(data, loaded, DecodeOptions(level=2))


def test_a_consumer_that_stops_early_leaves_no_threads(streams, loaded):
    import threading

    before = threading.active_count()
    decoder = rounds.StreamDecoder(StreamReader(io.BytesIO(streams(1).data)), loaded, DecodeOptions(workers=2), rounds.CPU)
    running = decoder.run()
    assert not isinstance(next(running), Damage)
    running.close()
    assert threading.active_count() <= before


def test_an_error_of_the_source_reaches_the_caller(loaded):
    def broken():
        yield from FRAMES[:4]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        rounds.encode(loaded, broken(), VIDEO, EncodeOptions(gop=2, workers=2))


def test_decoding_does_not_depend_on_widths_set_before(streams, plain, loaded):
    apply_widths(loaded.model, bytes([2]) * len(loaded.widths[0]))
    assert rounds.decode(streams(1).data, loaded, DecodeOptions(frames=(0, 2), workers=1, threads=1)).md5s() == dict(list(plain(1).md5s().items())[:2])


@pytest.mark.parametrize(("gop", "effort", "still", "wanted"), [(32, None, False, 1), (0, None, False, 1), (16, None, False, 1), (8, None, False, 0), (1, None, False, 0),
                                                                 (32, None, True, 0), (32, 0, False, 0), (1, 2, True, 2)])
def test_videos_in_long_groups_are_searched_unless_told_otherwise(loaded, gop, effort, still, wanted):
    assert EncodeOptions(gop=gop, effort=effort).search_effort(loaded, still) == wanted
