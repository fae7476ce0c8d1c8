"""Still pictures in the container: tiles, alpha, attachments."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from neuralcodec.bitstream import (
    AlphaPacket,
    Attachment,
    ChromaPacket,
    Damage,
    FramePacket,
    Limits,
    Packet,
    StreamReader,
    StreamWriter,
    TilePacket,
    TilePart,
    UnknownPacket,
)
from neuralcodec.bitstream.header import read_header, write_header
from neuralcodec.bitstream.packets import IndexEntry, StreamIndex, frame_packet, write_end, write_index
from neuralcodec.bitstream.syntax import ATTACHMENT_MAX, PacketType
from neuralcodec.core.errors import LimitError, StreamError
from tests.bitstream.damage import damaged_variants, repair, split, uvar
from tests.bitstream.samples import FULL, HEADER, STILL, Pipe, make_still, make_stream

DATA, PARTS, ATTACHMENTS = make_still()
CHUNKS = split(DATA)


def contents(items: list, kind: type | tuple[type, ...]) -> list:
    return [item.content for item in items if isinstance(item, Packet) and isinstance(item.content, kind)]


@pytest.mark.parametrize("header", [STILL, FULL])
@pytest.mark.parametrize("pipe", [False, True])
def test_parts_and_attachments_come_back_as_written(pipe, header):
    data, parts, attachments = make_still(header=header)
    reader = StreamReader(Pipe(data) if pipe else io.BytesIO(data), strict=True)
    assert reader.header == header
    items = list(reader)
    assert contents(items, (TilePacket, AlphaPacket, ChromaPacket)) == parts
    assert contents(items, Attachment) == attachments
    for item in items:
        if isinstance(item.content, TilePart):
            assert item.framing == item.size - len(item.content.payload) <= 14


def test_a_still_ends_without_copy_and_index_and_may_have_them():
    kinds = [chunk[0] >> 4 for chunk in CHUNKS[1:]]
    assert kinds[-1] == PacketType.END and not {PacketType.INDEX, PacketType.HEADER_COPY} & set(kinds)
    assert StreamReader(io.BytesIO(DATA)).index() is None
    assert StreamReader(io.BytesIO(DATA)).scan().frame_count == 1
    copy = frame_packet(PacketType.HEADER_COPY << 4, CHUNKS[0])
    start = sum(len(chunk) for chunk in CHUNKS[: 1 + kinds.index(PacketType.GOP)])
    index = write_index(StreamIndex(1, 0, len(copy), (IndexEntry(start, 0, 0),)))
    older = b"".join([*CHUNKS[:-1], copy, index, write_end(len(index))])
    assert list(StreamReader(io.BytesIO(older), strict=True))[: len(kinds) - 1] == list(StreamReader(io.BytesIO(DATA), strict=True))[:-1]
    assert StreamReader(io.BytesIO(older)).index() is not None
    damaged = older[:20] + bytes([older[20] ^ 1]) + older[21:]
    assert StreamReader(io.BytesIO(damaged)).header == STILL
    with pytest.raises(StreamError):
        StreamReader(io.BytesIO(DATA[:20] + bytes([DATA[20] ^ 1]) + DATA[21:]))


def test_in_a_video_these_types_are_passed_over():
    data, _, _ = make_stream()
    chunks = split(data)
    extra = [chunk for chunk in CHUNKS[1:] if chunk[0] >> 4 in (8, 9, 10)] + [frame_packet(0x8F, b"")]
    items = list(StreamReader(io.BytesIO(b"".join([*chunks[:5], *extra, *chunks[5:]]))))
    unknown = contents(items, UnknownPacket)
    assert [packet.type for packet in unknown] == [chunk[0] >> 4 for chunk in extra]
    index = [item for item in items if isinstance(item, Damage)]
    assert len(index) == 0


def test_chroma_is_passed_over_in_420():
    chroma = next(chunk for chunk in split(make_still(header=FULL)[0])[1:] if chunk[0] >> 4 == 11)
    frame = next(i for i, chunk in enumerate(CHUNKS) if i and chunk[0] >> 4 == 2)
    items = list(StreamReader(io.BytesIO(b"".join([*CHUNKS[: frame + 1], frame_packet(0xB0, b"\x00\x07"), chroma, *CHUNKS[frame + 1 :]])), strict=True))
    assert [packet.type for packet in contents(items, UnknownPacket)] == [11, 11] and contents(items, (TilePacket, AlphaPacket)) == PARTS


def test_a_header_with_tiles_needs_a_still_and_whole_units():
    for header in (replace(HEADER, tile_size=256), replace(STILL, tile_size=100), replace(STILL, tile_size=64 * 33)):
        with pytest.raises(StreamError, match="tile_units"):
            write_header(header)
    data = write_header(STILL)
    with pytest.raises(StreamError, match="no still"):
        read_header(repair(data.replace(still_field(1), still_field(0)), True), Limits())


def test_full_chroma_needs_its_feature_a_still_and_colour():
    for video in (replace(HEADER.video, full_chroma=True), replace(STILL.video, full_chroma=True)):
        with pytest.raises(StreamError, match="pixel_format"):
            write_header(replace(STILL if video.still else HEADER, video=video))
    data = write_header(FULL)
    assert data[14] == 3  # the features, first in the body
    for wrong in (data[:14] + b"\x01" + data[15:], write_header(STILL)[:14] + b"\x03" + write_header(STILL)[15:]):
        with pytest.raises(StreamError, match="feature 2"):
            read_header(repair(wrong, True), Limits())


def test_predictions_by_cell_need_their_feature_and_no_still():
    with pytest.raises(StreamError, match="required_features"):
        write_header(replace(STILL, hypotheses=True))
    data = write_header(replace(HEADER, hypotheses=True))
    assert data[14] == 4 and read_header(data, Limits()).hypotheses and not read_header(write_header(HEADER), Limits()).hypotheses
    with pytest.raises(StreamError, match="required_features"):
        read_header(repair(write_header(STILL)[:14] + b"\x05" + write_header(STILL)[15:], True), Limits())


def test_sparse_latents_need_their_feature_and_no_still():
    with pytest.raises(StreamError, match="required_features"):
        write_header(replace(STILL, sparse=True))
    data = write_header(replace(HEADER, sparse=True, hypotheses=True))
    assert data[14] == 12 and read_header(data, Limits()).sparse and not read_header(write_header(HEADER), Limits()).sparse
    with pytest.raises(StreamError, match="required_features"):
        read_header(repair(write_header(STILL)[:14] + b"\x09" + write_header(STILL)[15:], True), Limits())


def test_tables_that_adapt_need_their_feature_and_no_still():
    with pytest.raises(StreamError, match="required_features"):
        write_header(replace(STILL, adaptive=True))
    with pytest.raises(StreamError, match="required_features"):
        write_header(replace(STILL, tile_size=0, metadata={}, gop_size=1, adaptive=True).as_bare())
    data = write_header(replace(HEADER, adaptive=True, hypotheses=True))
    assert data[14:16] == b"\x84\x01" and read_header(data, Limits()).adaptive and not read_header(write_header(HEADER), Limits()).adaptive
    longer = bytearray(write_header(STILL))
    longer[14:15] = bytes([longer[14] | 0x80, 1])
    longer[10:14] = (int.from_bytes(longer[10:14], "little") + 1).to_bytes(4, "little")
    with pytest.raises(StreamError, match="required_features"):
        read_header(repair(bytes(longer), True), Limits())


def test_loop_filters_need_their_feature_and_no_tiles():
    with pytest.raises(StreamError, match="required_features"):
        write_header(replace(STILL, tile_size=64, loop_filter=True))
    assert read_header(write_header(replace(STILL, tile_size=0, loop_filter=True)), Limits()).loop_filter
    with pytest.raises(StreamError, match="directed"):
        write_header(replace(HEADER, directed=True))
    directed = write_header(replace(HEADER, loop_filter=True, directed=True))
    assert directed[14] == 48 and read_header(directed, Limits()).directed
    data = write_header(replace(HEADER, loop_filter=True))
    assert data[14] == 16 and read_header(data, Limits()).loop_filter and not read_header(write_header(HEADER), Limits()).loop_filter
    with pytest.raises(StreamError, match="required_features"):
        read_header(repair(write_header(replace(STILL, tile_size=64))[:14] + b"\x11" + write_header(replace(STILL, tile_size=64))[15:], True), Limits())


def test_corrections_need_their_feature_and_loop_filters():
    with pytest.raises(StreamError, match="corrections"):
        write_header(replace(HEADER, corrected=True))
    data = write_header(replace(HEADER, loop_filter=True, corrected=True))
    assert data[14:16] == b"\x90\x02" and read_header(data, Limits()).corrected and not read_header(write_header(replace(HEADER, loop_filter=True)), Limits()).corrected
    with pytest.raises(StreamError, match="corrections"):
        read_header(repair(data[:14] + b"\x80" + data[15:], True), Limits())


def still_field(value: int) -> bytes:
    """The fields rotation and still of STILL, and the model's identity after them."""
    return bytes([0, value]) + STILL.model_id


def test_tiles_have_a_limit_of_their_own():
    large = replace(STILL, video=replace(STILL.video, width=10000, height=10000))
    assert read_header(write_header(large), Limits()) == large
    with pytest.raises(LimitError):
        read_header(write_header(large), Limits(max_tiled_pixels=10**8 - 1))
    with pytest.raises(LimitError):
        read_header(write_header(replace(large, tile_size=0)), Limits())


def test_what_is_out_of_place_is_refused_by_the_writer():
    with pytest.raises(StreamError):
        StreamWriter(io.BytesIO(), HEADER).write_attachment(ATTACHMENTS[0])
    writer = StreamWriter(io.BytesIO(), STILL)
    with pytest.raises(StreamError):
        writer.write_tile(PARTS[0])
    with pytest.raises(StreamError):
        writer.write_attachment(Attachment(1, bytes(ATTACHMENT_MAX + 1)))


def test_a_long_attachment_is_damage():
    long = frame_packet(0xA0, b"\x01" + bytes(ATTACHMENT_MAX + 1))
    items = list(StreamReader(io.BytesIO(b"".join([*CHUNKS[:2], long, *CHUNKS[2:]]))))
    assert [item.breaks_group for item in items if isinstance(item, Damage)] == [False]
    assert contents(items, Attachment) == ATTACHMENTS


def test_a_part_before_its_frame_is_damage():
    tile, frame = (next(i for i, chunk in enumerate(CHUNKS) if i and chunk[0] >> 4 == type_) for type_ in (8, 2))
    items = list(StreamReader(io.BytesIO(b"".join([*CHUNKS[:frame], CHUNKS[tile], *CHUNKS[frame:]]))))
    assert sum(isinstance(item, Damage) for item in items) == 1
    assert contents(items, (TilePacket, AlphaPacket)) == PARTS


def test_a_reader_finds_chroma_again_after_damage():
    data, parts, _ = make_still(size=900, header=FULL)
    chunks = split(data)
    at = next(i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 11 and len(chunk) > 200)
    broken = b"".join([*chunks[:at], chunks[at][:1] + uvar(1 << 40) + chunks[at][3:], *chunks[at + 1 :]])
    found = contents(list(StreamReader(io.BytesIO(broken))), (TilePacket, AlphaPacket, ChromaPacket))
    assert len(found) == len(parts) - 1 and all(part in parts for part in found)


@pytest.mark.parametrize("length", [0, 5, 1 << 20, 1 << 40])
def test_a_wrong_length_costs_its_own_part_alone(length):
    for at in (i for i, chunk in enumerate(CHUNKS) if i and chunk[0] >> 4 in (8, 9) and len(chunk) > 140):
        chunk = CHUNKS[at][:1] + uvar(length) + CHUNKS[at][3:]
        items = list(StreamReader(io.BytesIO(b"".join([*CHUNKS[:at], chunk, *CHUNKS[at + 1 :]]))))
        found = contents(items, (TilePacket, AlphaPacket))
        assert len(found) == len(PARTS) - 1 and all(part in PARTS for part in found)
        assert contents(items, FramePacket)


def test_hundreds_of_damaged_stills_give_typed_errors():
    whole = 0
    for variant in damaged_variants(DATA, 400, 5):
        try:
            items = list(StreamReader(io.BytesIO(variant.data)))
        except StreamError:
            continue
        found = contents(items, (TilePacket, AlphaPacket))
        whole += len(found) >= len(PARTS) - 2
        if not variant.repaired:
            assert all(part in PARTS for part in found)
    assert whole > 200
