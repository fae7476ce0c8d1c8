"""Reads a stream packet by packet, finds its place again after damage, and seeks by the index."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from neuralcodec.bitstream import header as header_module
from neuralcodec.bitstream import packets, syntax
from neuralcodec.bitstream.header import StreamHeader, header_size, read_header
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import (
    Content,
    EndOfStream,
    FramePacket,
    GopStart,
    GroupState,
    HeaderCopy,
    IndexEntry,
    StreamIndex,
)
from neuralcodec.bitstream.resync import BrokenPacket, RawPacket, find_packet, follows, raw_packet
from neuralcodec.bitstream.source import Source
from neuralcodec.bitstream.syntax import KNOWN_FLAGS, PacketType
from neuralcodec.core.errors import LimitError, StreamError, VersionError
from neuralcodec.core.types import SidePacket


@dataclass(frozen=True)
class Packet:
    """A packet as it stands in the file: ``offset`` of its first byte from the start of the stream, ``size`` of all of
    it, ``framing`` of all but the payload of a frame or the data of a side packet. All in bytes."""

    offset: int
    size: int
    framing: int
    content: Content


@dataclass(frozen=True)
class Damage:
    """``size`` bytes from ``offset`` that could not be used (0: bytes are missing there).

    ``breaks_group`` is true where the group of pictures around it lost a frame: its later frames are not delivered, and
    the next group's ``first_frame`` tells how many there were. It is false where only a side packet, the index or the like
    was hit.
    """

    offset: int
    size: int
    reason: str
    breaks_group: bool


class StreamReader:
    """Reads ``file``, a binary file or pipe that stands at the start of a stream; does not close it.

    Raises StreamError when the header is damaged and no copy of it can be reached, VersionError and LimitError as
    ``read_header`` does. Iteration gives ``Packet`` and ``Damage`` items up to the end of the stream, and raises nothing
    but VersionError (a packet that must be understood and is not) and InputError (the file cannot be read); with
    ``strict`` it raises StreamError at the first damage. Iterating goes on where the last iteration stopped.
    ``header`` is the parsed header, ``header_size`` its bytes in the file.
    """

    def __init__(self, file: BinaryIO, limits: Limits | None = None, strict: bool = False):
        self.limits = limits or Limits()
        self.strict = strict
        self._source = Source(file)
        self._pending: deque[Packet | Damage] = deque()
        self._index: StreamIndex | None = None
        self._index_sought = False
        self._scanned: StreamIndex | None = None
        self._restart()
        self.header, self.header_size = self._read_header()
        self._ended = False

    def _restart(self) -> None:
        self._pending.clear()
        self._group: GroupState | None = None
        self._broken = True
        self._ended = False
        # The highest number that a frame seen so far can have; a group that starts at or below it is none of ours.
        self._last_frame = -1

    # Header ----------------------------------------------------------------------------------------------------------

    def _read_header(self) -> tuple[StreamHeader, int]:
        source = self._source
        try:
            size = header_size(source.peek(header_module.FIXED_SIZE), self.limits)
            data = source.peek(size) if source.size is None or size <= source.size else b""
            header = read_header(data, self.limits)
        except VersionError:
            raise
        except StreamError as error:
            copy = None if self.strict else self._header_from_copy()
            if copy is None:
                raise
            header, size = read_header(copy, self.limits), len(copy)
            source.peek(size)
            self._pending.append(Damage(0, size, f"{error}; its copy was used", False))
        source.skip(size)
        return header, size

    def _header_from_copy(self) -> bytes | None:
        index = self.index()
        if index is None or not index.header_copy:
            return None
        content = self._content_at(index.header_copy, PacketType.HEADER_COPY)
        return content.header if isinstance(content, HeaderCopy) else None

    # Index and seeking -----------------------------------------------------------------------------------------------

    def index(self) -> StreamIndex | None:
        """The index at the end of the file; None when there is none, it is damaged, or the file cannot seek."""
        size = self._source.size
        if size is None or self._index_sought:
            return self._index
        self._index_sought = True
        end = self._content_at(size - syntax.END_SIZE, PacketType.END) if size >= syntax.END_SIZE else None
        if isinstance(end, EndOfStream) and 0 < end.index_offset < size:
            index = self._content_at(end.index_offset, PacketType.INDEX)
            if isinstance(index, StreamIndex) and _plausible(index, end.index_offset):
                self._index = index
        return self._index

    def _content_at(self, offset: int, type_: PacketType) -> Content | None:
        before = self._source.position
        try:
            self._source.seek(offset)
            raw = raw_packet(self._source, self.limits)
            if raw is not None and raw.type == type_:
                return packets.read_content(raw.type, raw.flags, raw.body, self.limits)
        except (BrokenPacket, StreamError):
            pass
        finally:
            self._source.seek(before)
        return None

    def scan(self) -> StreamIndex:
        """The groups that can be found by reading the whole file from its first packet, as an index; for files without
        one. Raises StreamError when the file cannot seek."""
        if self._source.size is None:
            raise StreamError("a pipe cannot be searched")
        if self._scanned is None:
            other = object.__new__(StreamReader)
            other.__dict__.update(vars(self), strict=False, _pending=deque())
            before = self._source.position
            self._source.seek(self.header_size)
            other._restart()
            entries, frames, times = [], 0, []
            for item in other:
                if isinstance(item, Packet) and isinstance(item.content, GopStart):
                    gop = item.content
                    entries.append(IndexEntry(item.offset, gop.first_frame, gop.pts))
                    frames = max(frames, gop.first_frame)
                elif isinstance(item, Packet) and isinstance(item.content, FramePacket):
                    frames += 1
                    pts, end = item.content.pts, item.content.pts + item.content.duration
                    times = [min(pts, times[0]), max(end, times[1])] if times else [pts, end]
            self._source.seek(before)
            duration = times[1] - times[0] if times else 0
            self._scanned = StreamIndex(frames, duration, 0, tuple(entries))
        return self._scanned

    def seek_gop(self, number: int) -> GopStart:
        """Goes to group ``number`` of ``index()`` (of ``scan()`` without an index): iteration starts with its GopStart.

        Raises StreamError when there is no such group, it is damaged, or the file cannot seek.
        """
        index = self.index() or self.scan()
        if not 0 <= number < len(index.entries):
            raise StreamError(f"there is no group {number}; the stream has {len(index.entries)}")
        entry = index.entries[number]
        gop = self._content_at(entry.offset, PacketType.GOP)
        if not isinstance(gop, GopStart) or gop.first_frame != entry.first_frame:
            # The file may have lost or won bytes after its index was written.
            found = [other for other in self.scan().entries if other.first_frame == entry.first_frame]
            gop = self._content_at(found[0].offset, PacketType.GOP) if found else None
            if not isinstance(gop, GopStart):
                raise StreamError(f"group {number} is damaged")
            entry = found[0]
        self._source.seek(entry.offset)
        self._restart()
        return gop

    # Iteration -------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Packet | Damage]:
        while True:
            item = self._pending.popleft() if self._pending else self._next()
            if item is None:
                return
            if isinstance(item, Damage) and self.strict:
                raise StreamError(f"damage at byte {item.offset}: {item.reason}")
            yield item

    def _next(self) -> Packet | Damage | None:
        while not self._ended:
            offset = self._source.position
            try:
                raw = raw_packet(self._source, self.limits)
            except BrokenPacket as broken:
                return self._damaged(broken, offset)
            if raw is None:
                self._ended = True
                return Damage(offset, 0, "the stream ends without an end packet", True)
            self._source.skip(raw.size)
            if raw.type >= syntax.FIRST_CRITICAL_TYPE:
                raise VersionError(f"the stream needs packets of type {raw.type}, which this reader does not know")
            try:
                item = self._interpret(raw, offset)
            except StreamError as error:
                return self._lost(offset, raw.size, str(error), raw.type)
            if item is not None:
                return item
        return None

    def _damaged(self, broken: BrokenPacket, offset: int) -> Damage:
        source, streams = self._source, len(self.header.side_streams)
        type_ = broken.type
        if broken.size is not None and follows(source, self.limits, broken.size):
            source.skip(broken.size)
        else:
            # Its length is not to be trusted, and so neither is its type.
            type_ = 0
            if not find_packet(source, self.limits, self._last_frame, streams):
                self._ended = True
        return self._lost(offset, source.position - offset, str(broken), type_)

    def _lost(self, offset: int, size: int, reason: str, type_: int) -> Damage:
        breaks = type_ <= PacketType.FRAME_P
        if breaks:
            self._broken = True
        return Damage(offset, size, reason, breaks)

    def _interpret(self, raw: RawPacket, offset: int) -> Packet | Damage | None:
        """The item for a packet with a right CRC; None for a frame of a broken group. Raises StreamError."""
        if raw.flags & ~KNOWN_FLAGS.get(raw.type, 15):
            raise StreamError(f"unknown flags {raw.flags} in a packet of type {raw.type}")
        content: Content
        if raw.type in (PacketType.FRAME_I, PacketType.FRAME_P):
            if self._group is None or self._broken:
                return None
            content = self._group.read(raw.type == PacketType.FRAME_I, raw.flags, raw.body, self.limits)
            self._last_frame += 1
            return Packet(offset, raw.size, raw.size - len(content.payload), content)
        content = packets.read_content(raw.type, raw.flags, raw.body, self.limits)
        packet = Packet(offset, raw.size, raw.size, content)
        match content:
            case SidePacket():
                if content.stream >= len(self.header.side_streams):
                    raise StreamError(f"a packet of side stream {content.stream}, which the header does not have")
                return Packet(offset, raw.size, raw.size - len(content.data), content)
            case GopStart():
                if content.first_frame <= self._last_frame:
                    raise StreamError("a group of pictures out of its place")
                missing = self._missing(content.first_frame, offset)
                self._group, self._broken = GroupState(content), False
                self._last_frame = content.first_frame - 1
                return self._after(missing, packet)
            case StreamIndex():
                missing = self._missing(content.frame_count, offset)
                if missing:
                    self._broken = True
                return self._after(missing, packet)
            case EndOfStream():
                self._ended = True
        return packet

    def _missing(self, frames: int, offset: int) -> Damage | None:
        """Damage when the group that ends here is not known to be broken and yet lacks frames at its end."""
        if self._broken or frames == self._last_frame + 1:
            return None
        return Damage(offset, 0, f"{frames - self._last_frame - 1} frames are missing", True)

    def _after(self, missing: Damage | None, packet: Packet) -> Packet | Damage:
        if missing is None:
            return packet
        self._pending.append(packet)
        return missing


def _plausible(index: StreamIndex, end: int) -> bool:
    entries = index.entries
    ordered = all(a.offset < b.offset and a.first_frame < b.first_frame for a, b in zip(entries, entries[1:], strict=False))
    inside = not entries or (entries[-1].offset < end and entries[-1].first_frame < index.frame_count)
    return ordered and inside and index.header_copy < end


__all__ = ["Damage", "LimitError", "Packet", "StreamReader"]
