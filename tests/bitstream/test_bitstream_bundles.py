"""P frames that share packets: the same frames in fewer bytes."""

from __future__ import annotations

import contextlib
import io

import pytest

from neuralcodec.bitstream import BUNDLE, Damage, FramePacket, GopStart, Packet, StreamReader, StreamWriter
from neuralcodec.bitstream.packets import frame_packet
from neuralcodec.bitstream.writer import BUNDLE_BYTES
from neuralcodec.core.errors import StreamError
from neuralcodec.core.types import SidePacket
from tests.bitstream.damage import KINDS, damaged_variants, split
from tests.bitstream.samples import HEADER, STEP, Pipe, make_stream

GROUPS, FRAMES = 4, 20


def stream(bundle: int = BUNDLE, size: int = 100):
    return make_stream(GROUPS, FRAMES, size, bundle=bundle)


def frames_of(items: list) -> list[list[FramePacket]]:
    """By group."""
    groups: list[list[FramePacket]] = []
    for item in items:
        if isinstance(item, Packet) and isinstance(item.content, GopStart):
            groups.append([])
        elif isinstance(item, Packet) and isinstance(item.content, FramePacket):
            groups[-1].append(item.content)
    return groups


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("bundle", [2, 7, BUNDLE, 100])
def test_frames_come_back_as_written(pipe, bundle):
    data, written, side = stream(bundle)
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data), strict=True)
    items = list(reader)
    assert frames_of(items) == written
    assert [i.content for i in items if isinstance(i.content, SidePacket)] == side
    assert reader.header_size + sum(item.size for item in items) == len(data)
    for item in items:
        if isinstance(item.content, FramePacket):
            assert item.content.payload in data[item.offset : item.offset + item.size]


def test_what_is_saved():
    alone, together = stream(0)[0], stream(BUNDLE)[0]
    assert len(alone) - len(together) > 3 * GROUPS * FRAMES
    kinds = [chunk[0] >> 4 for chunk in split(together)[1:]]
    assert kinds.count(2) == GROUPS and kinds.count(12) == GROUPS * 3 and kinds.count(3) == 0  # 19 P frames: 8, 8, 3
    assert [chunk[0] >> 4 for chunk in split(make_stream(1, 10, 100, bundle=BUNDLE)[0])[1:]].count(3) == 1  # 8, and one alone


def test_large_frames_have_packets_of_their_own():
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, bundle=BUNDLE)
    writer.start_gop(0, frame_step=STEP)
    sizes = [10, 10, BUNDLE_BYTES + 1, 10, 3000, 3000, 10]
    told = [writer.write_frame(FramePacket(n == 0, n * STEP, bytes(size), (64,), STEP)) for n, size in enumerate(sizes)]
    before = writer.position
    writer.start_gop(7 * STEP, frame_step=STEP)
    assert writer.position > before + 3000  # what waited
    kinds = [chunk[0] >> 4 for chunk in split(file.getvalue())[1:]]
    assert kinds == [1, 2, 3, 3, 12, 12, 1]
    assert sum(told) == pytest.approx(sum(len(c) for c in split(file.getvalue())[2:-1]), abs=8)


def test_a_damaged_packet_costs_the_rest_of_its_group_alone():
    data, written, _ = stream()
    chunks = split(data)
    second = [i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 12][1]
    chunks[second] = chunks[second][:-1] + bytes([chunks[second][-1] ^ 1])
    items = list(StreamReader(io.BytesIO(b"".join(chunks))))
    assert [d.breaks_group for d in items if isinstance(d, Damage)] == [True]
    assert frames_of(items) == [written[0][: 1 + BUNDLE], *written[1:]]


@pytest.mark.parametrize("spoil", [lambda body: body[:1], lambda body: body[:1] + b"\xf0\x7f" + body[1:], lambda body: body[:-1], lambda body: b"\x63" + body[1:],
                                   lambda body: body + b"\x00"])
def test_a_malformed_packet_gives_none_of_its_frames(spoil):
    data, written, _ = stream()
    chunks = split(data)
    at = next(i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 12)
    length = 2 if chunks[at][1] & 128 else 1
    chunks[at] = frame_packet(12 << 4, spoil(chunks[at][1 + length : -4]))
    items = list(StreamReader(io.BytesIO(b"".join(chunks))))
    assert any(isinstance(d, Damage) and d.breaks_group for d in items)
    assert frames_of(items) == [written[0][:1], *written[1:]]
    with pytest.raises(StreamError):
        list(StreamReader(io.BytesIO(b"".join(chunks)), strict=True))


def test_hundreds_of_damaged_streams_give_no_wrong_frame():
    data, written, _ = stream()
    known, whole = [frame for group in written for frame in group], 0
    kinds = KINDS[: KINDS.index("change_type") + 1]
    for variant in damaged_variants(data, 400, 11, kinds, False):
        try:
            items = list(StreamReader(io.BytesIO(variant.data)))
        except StreamError:
            continue
        found = [i.content for i in items if isinstance(i, Packet) and isinstance(i.content, FramePacket)]
        whole += len(found) >= len(known) // 2
        expected = iter(known)
        assert all(frame in expected for frame in found)
    assert whole > 300
    for variant in damaged_variants(data, 200, 12, repaired=True):
        with contextlib.suppress(StreamError):
            list(StreamReader(io.BytesIO(variant.data)))
