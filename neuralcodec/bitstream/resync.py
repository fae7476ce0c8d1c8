"""Finding packets in bytes that may be damaged."""

from __future__ import annotations

import re
from dataclasses import dataclass

from neuralcodec.bitstream import packets, syntax
from neuralcodec.bitstream.crc import crc32c
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.source import Source
from neuralcodec.bitstream.syntax import GOP_MARKER, PacketType
from neuralcodec.bitstream.varint import Cursor, read_uvar
from neuralcodec.core.errors import StreamError

_MARKER_AT = 2
_WINDOW = 1 << 18
_SEARCHED_PACKET_MAX = 1 << 20
_CANDIDATE = re.compile(re.escape(GOP_MARKER) + rb"|[\x40-\x47]")
_GOP_SIZE_MAX = 64


@dataclass(frozen=True)
class RawPacket:
    """A packet whose CRC is right. ``size`` is of the whole packet."""

    type: int
    flags: int
    body: bytes
    size: int


class BrokenPacket(Exception):
    """Bytes that are no packet. ``size`` is what its length field makes of it, None if that can't be true."""

    def __init__(self, reason: str, type_: int = 0, size: int | None = None):
        super().__init__(reason)
        self.type = type_
        self.size = size


def raw_packet(source: Source, limits: Limits, skip: int = 0, size_max: int | None = None) -> RawPacket | None:
    """The packet ``skip`` bytes after the source's position, or None at the end of the file.

    Raises BrokenPacket. A length above ``limits.max_packet``, ``size_max`` or the file's end is refused before reading.
    """
    head = source.peek(6, skip)
    if not head:
        return None
    type_ = head[0] >> 4
    if type_ == 0:
        raise BrokenPacket("no packet starts here")
    cursor = Cursor(head, 1)
    try:
        length = read_uvar(cursor)
    except StreamError as error:
        raise BrokenPacket(f"packet length: {error}", type_) from None
    size = cursor.position + length + 4
    if length > min(limits.max_packet, syntax.PACKET_LENGTH_MAX) or (size_max is not None and size > size_max):
        raise BrokenPacket(f"a packet of {length} bytes is above the reader's limit", type_)
    if source.size is not None and source.position + skip + size > source.size:
        raise BrokenPacket("the packet reaches beyond the end of the stream", type_)
    data = source.peek(size, skip)
    if len(data) < size:
        raise BrokenPacket("the packet reaches beyond the end of the stream", type_)
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise BrokenPacket("the packet's CRC is wrong", type_, size)
    return RawPacket(type_, head[0] & 15, data[cursor.position : -4], size)


def follows(source: Source, limits: Limits, skip: int) -> bool:
    """Whether a packet with a right CRC, or the end of the file, stands ``skip`` bytes after the position."""
    try:
        raw_packet(source, limits, skip)
    except BrokenPacket:
        return False
    return True


def _is_gop(raw: RawPacket | None, after_frame: int) -> bool:
    if raw is None or raw.type != PacketType.GOP:
        return False
    try:
        gop = packets.read_content(raw.type, raw.flags, raw.body, Limits())
    except StreamError:
        return False
    return isinstance(gop, packets.GopStart) and gop.first_frame > after_frame


def find_packet(source: Source, limits: Limits, after_frame: int, side_streams: int) -> bool:
    """Moves the source, by at least one byte, to the next place that can be trusted; False: there is none, it is at the end.

    That is a group start with a right CRC whose ``first_frame`` is above ``after_frame``, or a side packet with a right
    CRC that another packet with a right CRC (or the end) follows. Time is linear in the bytes passed: when checks of side
    packets have cost 32 times as many, only group starts are looked for.
    """
    source.skip(1)
    budget = 1 << 20
    while True:
        window = source.peek(_WINDOW)
        last = len(window) < _WINDOW
        for match in _CANDIDATE.finditer(window):
            at = match.start()
            if at > len(window) - _GOP_SIZE_MAX and not last:
                break
            size_max = _SEARCHED_PACKET_MAX
            side = match.end() - at == 1
            if side:
                if not side_streams or budget <= 0:
                    continue
            elif at < _MARKER_AT:
                continue
            else:
                at -= _MARKER_AT
                size_max = _GOP_SIZE_MAX
            try:
                raw = raw_packet(source, limits, at, size_max)
            except BrokenPacket as broken:
                budget -= (broken.size or 0) if side else 0
                continue
            if (raw is not None and follows(source, limits, at + raw.size)) if side else _is_gop(raw, after_frame):
                source.skip(at)
                return True
        passed = len(window) if last else len(window) - _GOP_SIZE_MAX - _MARKER_AT
        budget += 32 * passed
        source.skip(passed)
        if last:
            return False
