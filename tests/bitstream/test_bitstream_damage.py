"""Damage: typed errors or Damage items, nothing else; a damaged packet costs its own group and no other."""

from __future__ import annotations

import io
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcodec.bitstream import Damage, FramePacket, GopStart, Limits, Packet, StreamReader, resync
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.header import write_header
from neuralcodec.bitstream.packets import frame_packet, write_gop, write_side
from neuralcodec.bitstream.syntax import GOP_MARKER
from neuralcodec.core.errors import StreamError, VersionError
from neuralcodec.core.types import SidePacket
from tests.bitstream.damage import HUGE, KINDS, damaged_variants, repair, split, uvar
from tests.bitstream.samples import HEADER, Pipe, flat, make_stream

DATA, GROUPS, SIDE = make_stream()
CHUNKS = split(DATA)
ONE_CHUNK = KINDS[: KINDS.index("change_type") + 1]
WHOLE_CHUNKS = ("drop", "double")


def groups_of_chunks() -> list[int]:
    """For each chunk the number of its group, -1 before the first, len(GROUPS) after the last."""
    numbers, now = [], -1
    for i, chunk in enumerate(CHUNKS):
        if i and chunk[0] >> 4 == 1:
            now += 1
        numbers.append(now if i == 0 or chunk[0] >> 4 < 5 else len(GROUPS))
    return numbers


CHUNK_GROUPS = groups_of_chunks()


def play(data: bytes, pipe: bool = False) -> tuple[list[Packet | Damage], Exception | None]:
    """All items up to the end or to a typed error. Any other exception goes through."""
    items: list[Packet | Damage] = []
    try:
        for item in StreamReader(Pipe(data) if pipe else io.BytesIO(data)):
            items.append(item)
            assert len(items) < 10000
    except StreamError as error:
        return items, error
    return items, None


def delivered(items: list[Packet | Damage], type_: type) -> list:
    return [item.content for item in items if isinstance(item, Packet) and isinstance(item.content, type_)]


def check_untouched_groups(items: list[Packet | Damage], touched: set[int]) -> None:
    frames = delivered(items, FramePacket)
    for number, group in enumerate(GROUPS):
        if number not in touched:
            at = frames.index(group[0])
            assert frames[at : at + len(group)] == group, f"group {number} is not whole"


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("repaired", [False, True])
def test_a_damaged_packet_costs_its_own_group_and_no_other(repaired, pipe):
    for number, variant in enumerate(damaged_variants(DATA, 300, 1, ONE_CHUNK, repaired)):
        if variant.data == DATA:
            continue
        (chunk,) = variant.chunks
        items, error = play(variant.data, pipe)
        if isinstance(error, VersionError) and repaired:
            continue
        if chunk == 0 and (pipe or repaired):
            # A pipe has no second header; a header with a right CRC says what it says.
            continue
        assert error is None, f"{number} {variant.kind}: {error}"
        touched = {CHUNK_GROUPS[chunk]}
        check_untouched_groups(items, touched)
        if not repaired and len(variant.data) != len(DATA) - len(CHUNKS[chunk]):
            assert any(isinstance(item, Damage) for item in items), f"{number} {variant.kind} went unnoticed"
            expected = iter(flat(GROUPS))
            assert all(frame in expected for frame in delivered(items, FramePacket)), "a frame that was never written"


@pytest.mark.parametrize("kind", WHOLE_CHUNKS)
def test_lost_and_doubled_packets_are_noticed(kind):
    for variant in damaged_variants(DATA, 150, 2, (kind,)):
        (chunk,) = variant.chunks
        items, error = play(variant.data)
        if chunk == 0:
            continue
        assert error is None
        # A doubled packet stands before the chunk.
        near = {CHUNK_GROUPS[i] for i in (chunk, chunk - 1, min(chunk + 1, len(CHUNKS) - 1)) if 0 <= i < len(CHUNKS)}
        check_untouched_groups(items, near)
        if kind == "drop" and CHUNKS[chunk][0] >> 4 in (1, 2, 3):
            assert any(isinstance(item, Damage) and item.breaks_group for item in items)


@pytest.mark.parametrize("pipe", [False, True])
def test_hundreds_of_damaged_files_give_typed_errors_in_bounded_memory_and_time(pipe):
    for number, variant in enumerate(damaged_variants(DATA, 500, 3)):
        if number == 400:
            tracemalloc.start()
        start = time.monotonic()
        play(variant.data, pipe)
        assert time.monotonic() - start < 5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_index_seek_and_scan_survive_damage():
    for variant in damaged_variants(DATA, 300, 4):
        try:
            reader = StreamReader(io.BytesIO(variant.data))
        except StreamError:
            continue
        reader.index()
        for call in (lambda reader=reader: reader.scan(), lambda reader=reader: reader.seek_gop(2)):
            try:
                call()
            except StreamError:
                continue
        frames = 0
        try:
            for item in reader:
                frames += isinstance(item, Packet) and isinstance(item.content, FramePacket)
        except VersionError:
            continue


@settings(max_examples=200)
@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=40), st.booleans())
def test_any_bytes_anywhere(at, replacement, insert):
    damaged = DATA[:at] + replacement + DATA[at if insert else at + len(replacement) :]
    play(damaged)
    play(damaged, pipe=True)


@given(st.binary(max_size=400))
def test_any_bytes_after_a_header(tail):
    items, _ = play(CHUNKS[0] + tail)
    assert items


def test_side_packets_between_are_delivered_when_only_a_payload_is_damaged():
    at = next(i for i, chunk in enumerate(CHUNKS) if CHUNK_GROUPS[i] == 1 and chunk[0] == 0x30)
    chunk = bytearray(CHUNKS[at])
    chunk[-10] ^= 1
    items, error = play(b"".join([*CHUNKS[:at], bytes(chunk), *CHUNKS[at + 1 :]]))
    assert error is None
    assert delivered(items, SidePacket) == SIDE
    damage = [item for item in items if isinstance(item, Damage)]
    assert len(damage) == 1
    assert damage[0].offset == sum(map(len, CHUNKS[:at]))
    assert damage[0].size == len(chunk)
    assert damage[0].breaks_group


@pytest.mark.parametrize("length", [0, 5, *HUGE])
def test_side_packets_after_a_wrong_length_are_delivered(length):
    at = next(i for i, chunk in enumerate(CHUNKS) if CHUNK_GROUPS[i] == 1 and chunk[0] == 0x30 and len(chunk) > 140)
    chunk = CHUNKS[at][:1] + uvar(length) + CHUNKS[at][3:]
    for pipe in (False, True):
        items, error = play(b"".join([*CHUNKS[:at], chunk, *CHUNKS[at + 1 :]]), pipe)
        assert error is None
        assert delivered(items, SidePacket) == SIDE
        check_untouched_groups(items, {1})


def test_damaged_side_packet_leaves_its_group_whole():
    at = next(i for i, chunk in enumerate(CHUNKS) if CHUNK_GROUPS[i] == 1 and chunk[0] >> 4 == 4)
    chunk = bytearray(CHUNKS[at])
    chunk[-10] ^= 1
    items, _ = play(b"".join([*CHUNKS[:at], bytes(chunk), *CHUNKS[at + 1 :]]))
    assert delivered(items, FramePacket) == flat(GROUPS)
    assert [item.breaks_group for item in items if isinstance(item, Damage)] == [False]
    assert len(delivered(items, SidePacket)) == len(SIDE) - 1


def test_markers_in_payloads_do_not_deceive():
    # A payload with a bare marker, and one with a whole group start of the past, before a packet with a broken length.
    past = write_gop(GopStart(0, 0, 1, 1, 50))
    for bait in (GOP_MARKER * 3, past, b"\x10\x1f" + GOP_MARKER + bytes(60)):
        at = next(i for i, chunk in enumerate(CHUNKS) if CHUNK_GROUPS[i] == 1 and chunk[0] == 0x30)
        broken = b"\x30\xff\xff\xff\x7f" + bait + bytes(50)
        items, error = play(b"".join([*CHUNKS[:at], broken, *CHUNKS[at + 1 :]]))
        assert error is None
        check_untouched_groups(items, {1})
        assert len(delivered(items, GopStart)) == 4


@pytest.mark.parametrize("first_frame", [0, 3, 9, 17, 100, 2**40])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_wrong_group_number_costs_no_other_group(first_frame, indexed):
    at = CHUNK_GROUPS.index(1)
    gop = write_gop(GopStart(first_frame, 0, 3003, 3003, 100))
    chunks = [*CHUNKS[:at], gop, *CHUNKS[at + 1 :]]
    items, error = play(b"".join(chunks if indexed else chunks[:-3]))
    assert error is None
    check_untouched_groups(items, {1})
    assert any(isinstance(item, Damage) and item.breaks_group for item in items)


def test_a_gap_of_many_groups_is_passed():
    low, high = CHUNK_GROUPS.index(1) + 3, CHUNK_GROUPS.index(3) - 2
    for chunks in ([*CHUNKS[:low], *CHUNKS[high:]], [*CHUNKS[:low], *CHUNKS[high:-3]]):
        items, error = play(b"".join(chunks))
        assert error is None
        check_untouched_groups(items, {1, 2})


def test_whole_groups_cut_out_are_reported():
    low, high = CHUNK_GROUPS.index(1), CHUNK_GROUPS.index(3)
    items, _ = play(b"".join([*CHUNKS[:low], *CHUNKS[high:]]))
    check_untouched_groups(items, {1, 2})
    assert [item.reason for item in items if isinstance(item, Damage)] == ["16 frames are missing"]


def test_damaged_header_is_read_from_its_copy():
    for at in (0, 8, 10, 13, 40, len(CHUNKS[0]) - 1):
        data = bytearray(DATA)
        data[at] ^= 0xFF
        reader = StreamReader(io.BytesIO(bytes(data)))
        assert reader.header == HEADER
        assert reader.header_damage == Damage(0, len(CHUNKS[0]), reader.header_damage.reason, False)
        items = list(reader)
        assert items[0] == reader.header_damage
        assert delivered(items, FramePacket) == flat(GROUPS)
        with pytest.raises(StreamError):
            StreamReader(io.BytesIO(bytes(data)), strict=True)
        with pytest.raises(StreamError):
            StreamReader(Pipe(bytes(data)))


def test_a_header_that_lost_as_much_as_a_group_s_start_has_hides_nothing():
    """What the copy says of the header's size then points at the first frame, a whole packet."""
    data = CHUNKS[0][:30] + CHUNKS[0][30 + len(CHUNKS[1]) :] + b"".join(CHUNKS[1:])
    reader = StreamReader(io.BytesIO(data))
    assert reader.header == HEADER
    assert delivered(list(reader), FramePacket) == flat(GROUPS)


def test_strict_raises_at_the_first_damage():
    for variant in damaged_variants(DATA, 60, 5, ("flip_bits",), repaired=False):
        with pytest.raises(StreamError):
            list(StreamReader(io.BytesIO(variant.data), strict=True))


def test_packets_above_the_readers_limit_are_passed_over():
    reader = StreamReader(io.BytesIO(DATA), Limits(max_packet=250))
    items = list(reader)
    assert all(item.size <= 250 + 6 for item in items if isinstance(item, Packet))
    assert any(isinstance(item, Damage) for item in items)


def test_claims_of_large_packets_cost_linear_time(monkeypatch):
    # Each of many places claims half a megabyte that is there, and none has a right CRC.
    checked = 0

    def count(data, crc=0):
        nonlocal checked
        checked += len(data)
        return crc32c(data, crc)

    monkeypatch.setattr(resync, "crc32c", count)
    claim = uvar(1 << 19) + bytes(12)
    for prefix in (b"\x40" + claim, write_gop(GopStart(0, 0, 1, 1, 50)) + b"\x30" + claim):
        data = write_header(HEADER) + prefix * ((1 << 20) // len(prefix))
        checked = 0
        for _ in StreamReader(io.BytesIO(data)):
            pass
        assert checked < (1 << 28) + 40 * len(data)


def test_header_that_claims_much_takes_no_memory():
    body = CHUNKS[0]
    for at in range(14, len(body) - 4):
        for value in (1 << 20, (1 << 63) - 1):
            damaged = repair(body[:at] + uvar(value) + body[at + 1 :], True)
            tracemalloc.start()
            try:
                StreamReader(io.BytesIO(damaged + frame_packet(0x90, bytes(20))))
            except StreamError:
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 4 << 20


def test_an_end_packet_behind_a_packet_as_long_as_the_index_does_not_end_the_stream():
    """It would hide all groups after it, and nobody would say so."""
    *packets, index, end = CHUNKS
    assert index[0] >> 4 == 5 and end[0] >> 4 == 6
    like_index = next(p for p in (write_side(SidePacket(0, bytes(n), 0, 0)) for n in range(200)) if len(p) == len(index))
    after = CHUNK_GROUPS.index(1)
    items, error = play(b"".join([*packets[:after], like_index, end, *packets[after:], index, end]))
    assert error is None and sum(isinstance(i, Damage) for i in items) == 1
    assert [i.content.first_frame for i in items if isinstance(i, Packet) and isinstance(i.content, GopStart)] == [
        i.content.first_frame for i in play(DATA)[0] if isinstance(i.content, GopStart)]
