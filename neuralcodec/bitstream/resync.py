"""Finding packets in bytes that may be damaged, in time linear in the bytes."""

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
_GOP_SIZE_MAX = 64
_RESUME_SIZE_MAX = 1 << 20
_WINDOW_MIN, _WINDOW_MAX = 1 << 12, 1 << 18
_CANDIDATE = re.compile(re.escape(GOP_MARKER) + rb"|[\x40-\x47]")
_STILL_CANDIDATE = re.compile(re.escape(GOP_MARKER) + rb"|[\x40-\x47\x80\x90\xb0]")
_CREDIT = 1 << 28
_CREDIT_PER_BYTE = 32


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


class PacketScanner:
    """Takes packets from a source, and looks for them.

    A length field may claim megabytes at each of thousands of places, and the CRC over each would take its time: failed
    checks are paid from a credit that grows with the bytes passed. When it is used up, large claims count as broken.
    """

    def __init__(self, source: Source, limits: Limits):
        self.source = source
        self.limits = limits
        self._credit = _CREDIT

    def skip(self, count: int) -> None:
        """Moves on by ``count`` bytes, which were looked at."""
        self.source.skip(count)
        self._credit = min(_CREDIT, self._credit + _CREDIT_PER_BYTE * count)

    def packet(self, skip: int = 0, size_max: int | None = None) -> RawPacket | None:
        """The packet ``skip`` bytes after the position, or None at the end of the file. The position stays.

        Raises BrokenPacket. A length above ``limits.max_packet``, ``size_max`` or the file's end is refused unread.
        """
        source = self.source
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
        limit = self.limits.max_packet if size_max is None else size_max
        if length > min(limit, self.limits.max_packet, syntax.PACKET_LENGTH_MAX) or size > self._credit:
            raise BrokenPacket(f"a packet of {length} bytes is above the reader's limit", type_)
        if source.size is not None and source.position + skip + size > source.size:
            raise BrokenPacket("the packet reaches beyond the end of the stream", type_)
        data = source.peek(size, skip)
        if len(data) < size:
            self._credit -= len(data)
            raise BrokenPacket("the packet reaches beyond the end of the stream", type_)
        if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            self._credit -= size
            raise BrokenPacket("the packet's CRC is wrong", type_, size)
        return RawPacket(type_, head[0] & 15, data[cursor.position : -4], size)

    def follows(self, skip: int) -> bool:
        """Whether a packet with a right CRC, or the end of the file, stands ``skip`` bytes after the position."""
        try:
            raw = self.packet(skip)
        except BrokenPacket:
            return False
        self._credit -= raw.size if raw else 0
        return True

    def find(self, after_frame: int, side_packets: bool, still: bool = False) -> bool:
        """Moves on, by at least one byte, to the next place that can be trusted; False: there is none, and this is the end.

        That is a group start with a right CRC whose ``first_frame`` is above ``after_frame``, or (with ``side_packets``)
        a side packet with a right CRC that another such packet, or the end, follows; or (with ``still``) a packet of a tile, of
        alpha or of a chroma plane in the same manner.
        """
        candidate = _STILL_CANDIDATE if still else _CANDIDATE
        self.skip(1)
        size = _WINDOW_MIN
        while True:
            window = self.source.peek(size)
            last = len(window) < size
            for match in candidate.finditer(window):
                at = match.start()
                if at > len(window) - _GOP_SIZE_MAX and not last:
                    break
                if match.end() - at > 1:
                    at -= _MARKER_AT
                    found = at >= 0 and self._is_gop(at, after_frame)
                else:
                    found = (side_packets or window[at] >= 0x80) and self._is_followed(at)
                if found:
                    self.skip(at)
                    return True
            self.skip(len(window) if last else len(window) - _GOP_SIZE_MAX - _MARKER_AT)
            if last:
                return False
            size = min(4 * size, _WINDOW_MAX)

    def _is_gop(self, skip: int, after_frame: int) -> bool:
        try:
            raw = self.packet(skip, _GOP_SIZE_MAX)
            if raw is None or raw.type != PacketType.GOP or raw.flags:
                return False
            content = packets.read_content(raw.type, raw.flags, raw.body, self.limits)
        except (BrokenPacket, StreamError):
            return False
        return isinstance(content, packets.GopStart) and content.first_frame > after_frame

    def _is_followed(self, skip: int) -> bool:
        try:
            raw = self.packet(skip, _RESUME_SIZE_MAX)
        except BrokenPacket:
            return False
        return raw is not None and self.follows(skip + raw.size)
