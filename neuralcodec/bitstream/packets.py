"""Packets as plain data, and their way to bytes and back. Frame packets need the group they are in: see ``GroupState``."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, NamedTuple

from neuralcodec.bitstream import syntax
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.syntax import BODIES, STILL_TYPES, TIME_MAX, TIME_MIN, FrameFlag, PacketType, SideFlag
from neuralcodec.bitstream.varint import Cursor, read_uvar, write_uvar
from neuralcodec.core.errors import StreamError
from neuralcodec.core.types import SidePacket


@dataclass(frozen=True)
class GopStart:
    """Start of a group of pictures. ``first_frame`` is the number of frames in the groups before it; the rest predicts
    what its frame packets leave out. Times are in the video's time base."""

    first_frame: int
    pts: int
    frame_step: int
    frame_duration: int
    quality: int


@dataclass(frozen=True)
class FramePacket:
    """One coded frame.

    ``intra`` is true for the first packet of each group, and for no other. ``modes`` has one mask byte, 64 * mode +
    parameter (mode 0 without one), for each latent, or part of one, that can be skipped, at most three. ``payload`` is the
    entropy coder's. Where the writer is given None,
    it fills in the ordinary value, which a reader then returns: ``quality`` (index, 0..200) that of the group;
    ``references`` the frame before in decode order, as distances in decode order (1 is the frame decoded just before);
    ``display_order`` and ``decode_order`` count from 0 within the group, ordinarily alike. ``duration`` 0 is unknown.
    """

    intra: bool
    pts: int
    payload: bytes
    modes: tuple[int, ...] = ()
    duration: int = 0
    quality: int | None = None
    references: tuple[int, ...] | None = None
    display_order: int | None = None
    decode_order: int | None = None


class IndexEntry(NamedTuple):
    """Where a group starts: byte offset from the start of the stream, its first frame's number, its pts."""

    offset: int
    first_frame: int
    pts: int


@dataclass(frozen=True)
class StreamIndex:
    """All groups of a stream. ``duration`` is in the video's time base. ``header_distance`` is how many bytes
    before the index the header's copy stands, 0 without one."""

    frame_count: int
    duration: int
    header_distance: int
    entries: tuple[IndexEntry, ...]

    def gop_of_frame(self, frame: int) -> int:
        """Number of the group that holds frame ``frame`` (display order). Raises StreamError outside 0..frame_count - 1."""
        gop = bisect_right(self.entries, frame, key=lambda entry: entry.first_frame) - 1
        if gop < 0 or frame >= self.frame_count:
            raise StreamError(f"frame {frame} is not in the stream, which has {self.frame_count}")
        return gop


@dataclass(frozen=True)
class HeaderCopy:
    """A second copy of the stream header, as bytes."""

    header: bytes


@dataclass(frozen=True)
class EndOfStream:
    """The last packet. ``index_distance`` is how many bytes before it the index stands, 0 without one."""

    index_distance: int


@dataclass(frozen=True)
class TilePacket:
    """A tile of a still picture: its ``number`` in raster order, ``modes`` and ``payload`` as in a FramePacket."""

    number: int
    payload: bytes
    modes: tuple[int, ...] = ()


@dataclass(frozen=True)
class AlphaPacket:
    """The alpha of a still picture, or of one of its tiles."""

    number: int
    payload: bytes
    modes: tuple[int, ...] = ()
    quality: int = 0


@dataclass(frozen=True)
class ChromaPacket:
    """Chroma plane ``plane`` (1: U, 2: V) of a still picture in 4:4:4, or of one of its tiles."""

    number: int
    plane: int
    payload: bytes
    modes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Attachment:
    """What a still picture's file holds besides the picture. ``kind`` is an AttachmentKind, or a number that is unknown here."""

    kind: int
    data: bytes


@dataclass(frozen=True)
class UnknownPacket:
    """A packet of a type (8..11) that this reader does not know and may skip."""

    type: int
    body: bytes


Content = GopStart | FramePacket | SidePacket | StreamIndex | HeaderCopy | EndOfStream | TilePacket | AlphaPacket | ChromaPacket | Attachment | UnknownPacket
TilePart = TilePacket | AlphaPacket | ChromaPacket
"""What says itself which part of a still picture it is."""
_TILE_PARTS = {TilePacket: PacketType.TILE, AlphaPacket: PacketType.ALPHA, ChromaPacket: PacketType.CHROMA}


def frame_packet(first_byte: int, body: bytes) -> bytes:
    """A whole packet: first byte (type and flags), length of the body, body, CRC-32C of all before it."""
    if len(body) > syntax.PACKET_LENGTH_MAX:
        raise StreamError(f"packet of {len(body)} bytes, at most {syntax.PACKET_LENGTH_MAX}")
    head = bytes([first_byte]) + write_uvar(len(body))
    return b"".join((head, body, crc32c(body, crc32c(head)).to_bytes(4, "little")))


def _fields(type_: PacketType, flags: int, body: bytes, limits: Limits) -> dict[str, Any]:
    # Bytes after the last known field belong to a later minor version, and are left alone.
    return BODIES[type_].read(Cursor(body, limits=limits), flags)


class GroupState:
    """What a frame packet is coded against: its group, how many frames came before, and the time of the last one."""

    def __init__(self, gop: GopStart):
        self.gop = gop
        self.frames = 0
        self._expected_pts = gop.pts

    def write(self, frame: FramePacket) -> tuple[int, bytes]:
        """Flags and body of the frame's packet. Raises StreamError for a value out of range or a frame out of its place."""
        order, gop = self.frames, self.gop
        if frame.intra != (order == 0):
            raise StreamError("the first frame of a group is intra, and no other")
        if frame.decode_order not in (None, order):
            raise StreamError(f"frame {frame.decode_order} of the group where frame {order} is due")
        ordinary = (1,) if order else ()
        references = ordinary if frame.references is None else tuple(frame.references)
        if any(distance > order for distance in references) or (not order and references):
            raise StreamError("a reference lies before the group")
        display = order if frame.display_order is None else frame.display_order
        if display < 0:
            raise StreamError(f"display order {display} is negative")
        quality = gop.quality if frame.quality is None else frame.quality
        flags = 0
        if frame.pts != self._expected_pts or frame.duration != gop.frame_duration:
            flags |= FrameFlag.TIMING
        if references != ordinary or display != order:
            flags |= FrameFlag.STRUCTURE
        if quality != gop.quality:
            flags |= FrameFlag.QUALITY
        values = {
            "decode_order": order % 256,
            "pts_difference": frame.pts - self._expected_pts,
            "duration_difference": frame.duration - gop.frame_duration,
            "display_difference": display - order,
            "references": references,
            "quality": quality,
            "modes": frame.modes,
            "payload": frame.payload,
        }
        if not TIME_MIN <= frame.pts <= TIME_MAX or not 0 <= frame.duration <= TIME_MAX:
            raise StreamError(f"presentation time {frame.pts} or duration {frame.duration} is out of range")
        body = syntax.FRAME.write(values, flags)
        self._advance(frame.pts)
        return flags, body

    def read(self, intra: bool, flags: int, body: bytes, limits: Limits) -> FramePacket:
        """The frame in ``body``. Raises StreamError for a value out of range or a frame out of its place."""
        order, gop = self.frames, self.gop
        values = _fields(PacketType.FRAME_P, flags, body, limits)
        if values["decode_order"] != order % 256 or intra != (order == 0):
            raise StreamError(
                f"not the frame that is due (number {order} of its group): a packet is missing or doubled"
            )
        pts = self._expected_pts + values.get("pts_difference", 0)
        duration = gop.frame_duration + values.get("duration_difference", 0)
        references = tuple(values.get("references", (1,) if order else ()))
        display = order + values.get("display_difference", 0)
        if not TIME_MIN <= pts <= TIME_MAX or not 0 <= duration <= TIME_MAX:
            raise StreamError("a time is out of range")
        if any(distance > order for distance in references):
            raise StreamError("a reference lies before the group")
        if display < 0:
            raise StreamError("the display order is negative")
        self._advance(pts)
        return FramePacket(
            intra=intra,
            pts=pts,
            payload=values["payload"],
            modes=values["modes"],
            duration=duration,
            quality=values.get("quality", gop.quality),
            references=references,
            display_order=display,
            decode_order=order,
        )

    def _advance(self, pts: int) -> None:
        self.frames += 1
        self._expected_pts = pts + self.gop.frame_step


def frame_record(flags: int, body: bytes) -> bytes:
    """A frame of a packet with several, from what its own packet would hold."""
    return write_uvar(16 * (len(body) - 1) + flags) + body[1:]


def read_records(body: bytes, limits: Limits) -> list[tuple[int, bytes, int]]:
    """Frames of the body of a packet with several: flags, body of a packet of its own, and bytes of the record. Raises StreamError."""
    cursor, found = Cursor(body, limits=limits), []
    order = cursor.byte()
    while cursor.position < len(body):
        start = cursor.position
        length, flags = divmod(read_uvar(cursor), 16)
        if length > len(body) - cursor.position:
            raise StreamError("a frame reaches beyond the end of its packet")
        found.append((flags, bytes([(order + len(found)) % 256]) + cursor.take(length), cursor.position - start))
    if not found:
        raise StreamError("a packet of frames without one")
    return found


def write_gop(gop: GopStart) -> bytes:
    """The group start's whole packet."""
    return frame_packet(PacketType.GOP << 4, syntax.GOP.write(vars(gop)))


def write_side(packet: SidePacket) -> bytes:
    """The side packet's whole packet."""
    flags = SideFlag.KEYFRAME if packet.keyframe else SideFlag(0)
    values: dict[str, Any] = {"stream": packet.stream, "duration": packet.duration, "data": packet.data}
    if packet.pts is not None:
        flags |= SideFlag.PTS
        values["pts"] = packet.pts
    if packet.dts is not None:
        if not TIME_MIN <= packet.dts <= TIME_MAX:
            raise StreamError(f"side.dts: {packet.dts} is out of range")
        flags |= SideFlag.DTS
        values["dts"] = packet.dts - (packet.pts or 0)
    return frame_packet(PacketType.SIDE << 4 | flags, syntax.SIDE.write(values, flags))


def write_index(index: StreamIndex) -> bytes:
    """The index's whole packet."""
    entries, before = [], IndexEntry(0, 0, 0)
    for entry in index.entries:
        differences = (now - last for now, last in zip(entry, before, strict=True))
        entries.append(dict(zip(("offset_difference", "frames_before", "pts_difference"), differences, strict=True)))
        before = entry
    return frame_packet(PacketType.INDEX << 4, syntax.INDEX.write({**vars(index), "entries": entries}))


def write_end(index_distance: int) -> bytes:
    """The end packet, ``syntax.END_SIZE`` bytes."""
    return frame_packet(PacketType.END << 4, syntax.END.write({"index_distance": index_distance}))


def write_tile(packet: TilePart) -> bytes:
    """The whole packet of a tile, of alpha or of a chroma plane."""
    type_ = _TILE_PARTS[type(packet)]
    return frame_packet(type_ << 4, BODIES[type_].write(vars(packet)))


def write_attachment(packet: Attachment) -> bytes:
    """The attachment's whole packet. Raises StreamError for one that is too long."""
    _check_attachment(packet)
    return frame_packet(PacketType.ATTACHMENT << 4, syntax.ATTACHMENT.write(vars(packet)))


def _check_attachment(packet: Attachment) -> Attachment:
    if len(packet.data) > syntax.ATTACHMENT_MAX:
        raise StreamError(f"an attachment of {len(packet.data)} bytes, at most {syntax.ATTACHMENT_MAX}")
    return packet


def read_content(type_: int, flags: int, body: bytes, limits: Limits, still_types: tuple[PacketType, ...] = ()) -> Content:
    """The content of any packet but a frame's. ``still_types``: those of STILL_TYPES that the stream may have. Raises StreamError for a value out of range."""
    if type_ not in BODIES or (type_ in STILL_TYPES and type_ not in still_types):
        return UnknownPacket(type_, body)
    values = _fields(PacketType(type_), flags, body, limits)
    match type_:
        case PacketType.GOP:
            del values["marker"]
            return GopStart(**values)
        case PacketType.SIDE:
            pts, dts = values.get("pts"), values.get("dts")
            if dts is not None:
                dts += pts or 0
                if not TIME_MIN <= dts <= TIME_MAX:
                    raise StreamError("side.dts: out of range")
            return SidePacket(
                values["stream"], values["data"], pts, dts, values["duration"], bool(flags & SideFlag.KEYFRAME)
            )
        case PacketType.INDEX:
            entries, entry = [], IndexEntry(0, 0, 0)
            for offset, frames, pts in values["entries"]:
                entry = IndexEntry(entry.offset + offset, entry.first_frame + frames, entry.pts + pts)
                entries.append(entry)
            return StreamIndex(values["frame_count"], values["duration"], values["header_distance"], tuple(entries))
        case PacketType.END:
            return EndOfStream(values["index_distance"])
        case PacketType.TILE:
            return TilePacket(**values)
        case PacketType.ALPHA:
            return AlphaPacket(**values)
        case PacketType.CHROMA:
            return ChromaPacket(**values)
        case PacketType.ATTACHMENT:
            return _check_attachment(Attachment(**values))
        case _:
            return HeaderCopy(values["header"])
