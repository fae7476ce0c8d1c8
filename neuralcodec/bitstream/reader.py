"""Reads a stream: its header, its packets in order, its index, and single groups of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from neuralcodec.bitstream import packets, syntax
from neuralcodec.bitstream.header import FIXED_SIZE, StreamHeader, header_size, read_header
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import (
    Content,
    EndOfStream,
    FramePacket,
    GopStart,
    HeaderCopy,
    IndexEntry,
    StreamIndex,
)
from neuralcodec.bitstream.resync import BrokenPacket, PacketScanner
from neuralcodec.bitstream.source import Source
from neuralcodec.bitstream.syntax import PacketType
from neuralcodec.bitstream.walk import Damage, Packet, PacketWalk
from neuralcodec.core.errors import StreamError, VersionError


class StreamReader:
    """Reads ``file``, a binary file or pipe that stands at the start of a stream; does not close it.

    Raises StreamError when the header is damaged and no copy of it can be reached, VersionError and LimitError as
    ``read_header`` does. Iteration gives ``Packet`` and ``Damage`` items up to the end of the stream, and raises nothing
    but VersionError (a packet that must be understood and is not) and InputError (the file cannot be read); with
    ``strict`` it raises StreamError at the first damage. A new iteration goes on where the last one stopped.
    ``header`` is the parsed header, ``header_size`` its bytes in the file, ``header_damage`` set where its copy was used
    (that is also the first item of the iteration).
    """

    def __init__(self, file: BinaryIO, limits: Limits | None = None, strict: bool = False):
        self.limits = limits or Limits()
        self.strict = strict
        self.header_damage: Damage | None = None
        self._source = Source(file)
        self._index: StreamIndex | None = None
        self._index_sought = False
        self._index_offset = 0
        self._scanned: StreamIndex | None = None
        self.header, self.header_size = self._read_header()
        self._report_header = self.header_damage is not None
        self._walk = self._new_walk()

    def __iter__(self) -> Iterator[Packet | Damage]:
        if self._report_header and self.header_damage:
            self._report_header = False
            yield self.header_damage
        while (item := self._walk.next()) is not None:
            if self.strict and isinstance(item, Damage):
                raise StreamError(f"damage at byte {item.offset}: {item.reason}")
            yield item

    def index(self) -> StreamIndex | None:
        """The index at the end of the file; None when there is none, it is damaged, or the file cannot seek."""
        size = self._source.size
        if size is None or self._index_sought:
            return self._index
        self._index_sought = True
        end = self._content_at(size - syntax.END_SIZE, PacketType.END)
        if isinstance(end, EndOfStream) and end.index_distance:
            self._index_offset = size - syntax.END_SIZE - end.index_distance
            index = self._content_at(self._index_offset, PacketType.INDEX)
            if isinstance(index, StreamIndex) and _plausible(index, self._index_offset):
                self._index = index
        return self._index

    def scan(self) -> StreamIndex:
        """An index made by reading the whole file, of the groups that are there; for files without an index of their own.

        The place of the iteration stays. Raises StreamError when the file cannot seek.
        """
        if self._source.size is None:
            raise StreamError("a pipe cannot be searched")
        if self._scanned is None:
            before = self._source.position
            self._source.seek(self.header_size)
            try:
                self._scanned = _index_of(self._new_walk())
            finally:
                self._source.seek(before)
        return self._scanned

    def seek_gop(self, number: int) -> GopStart:
        """Goes to group ``number`` of ``index()`` (of ``scan()`` without an index): iteration starts with its GopStart.

        Raises StreamError when there is no such group, it is damaged, or the file cannot seek.
        """
        index = self.index() or self.scan()
        if not 0 <= number < len(index.entries):
            raise StreamError(f"there is no group {number}; the stream has {len(index.entries)}")
        entry = index.entries[number]
        gop = self._gop_at(entry)
        if gop is None:
            # The file may have lost or won bytes after its index was written.
            found = [other for other in self.scan().entries if other.first_frame == entry.first_frame]
            gop = self._gop_at(found[0]) if found else None
            if gop is None:
                raise StreamError(f"group {number} is damaged")
            entry = found[0]
        self._source.seek(entry.offset)
        self._walk = self._new_walk(gop.first_frame)
        return gop

    def _new_walk(self, first_frame: int = 0) -> PacketWalk:
        scanner = PacketScanner(self._source, self.limits)
        video = self.header.video
        types = tuple(t for t in syntax.STILL_TYPES if video.still and (t != PacketType.CHROMA or video.full_chroma))
        bare = GopStart(0, 0, 0, 0, self.header.quality) if self.header.bare else None
        return PacketWalk(scanner, len(self.header.side_streams), self.index, first_frame, types, bare)

    def _gop_at(self, entry: IndexEntry) -> GopStart | None:
        gop = self._content_at(entry.offset, PacketType.GOP)
        return gop if isinstance(gop, GopStart) and gop.first_frame == entry.first_frame else None

    def _content_at(self, offset: int, type_: PacketType) -> Content | None:
        before = self._source.position
        if offset < 0:
            return None
        try:
            self._source.seek(offset)
            raw = PacketScanner(self._source, self.limits).packet()
            if raw is not None and raw.type == type_:
                return packets.read_content(raw.type, raw.flags, raw.body, self.limits)
        except (BrokenPacket, StreamError):
            pass
        finally:
            self._source.seek(before)
        return None

    def _read_header(self) -> tuple[StreamHeader, int]:
        source = self._source
        try:
            size = header_size(source.peek(FIXED_SIZE), self.limits)
            header = read_header(source.peek(size), self.limits)
            source.skip(size)
        except VersionError:
            raise
        except StreamError as error:
            index = None if self.strict else self.index()
            if index is None or not index.header_distance:
                raise
            copy = self._content_at(self._index_offset - index.header_distance, PacketType.HEADER_COPY)
            if not isinstance(copy, HeaderCopy):
                raise
            header = read_header(copy.header, self.limits)
            size = self._first_packet(len(copy.header), bool(header.side_streams))
            self.header_damage = Damage(0, size, f"{error}; its copy was used", False)
        return header, size

    def _first_packet(self, expected: int, side_packets: bool) -> int:
        """Goes to the first packet behind a damaged header, which may have lost or won bytes; returns its offset."""
        source = self._source
        source.seek(expected)
        scanner = PacketScanner(source, self.limits)
        # A header that lost as many bytes as a group's start has would hide that start: no frame comes first.
        frame = any(b >> 4 in (PacketType.FRAME_I, PacketType.FRAME_P, PacketType.FRAMES) for b in source.peek(1)[:1])
        if frame or not scanner.follows(0):
            source.seek(0)
            scanner.find(-1, side_packets)
        return source.position


def _plausible(index: StreamIndex, end: int) -> bool:
    entries = index.entries
    ordered = all(a.offset < b.offset and a.first_frame < b.first_frame for a, b in pairwise(entries))
    inside = not entries or (entries[-1].offset < end and entries[-1].first_frame < index.frame_count)
    return ordered and inside


def _index_of(walk: PacketWalk) -> StreamIndex:
    entries: list[IndexEntry] = []
    frames, first, last = 0, None, 0
    while (item := walk.next()) is not None:
        if not isinstance(item, Packet):
            continue
        content = item.content
        if isinstance(content, GopStart):
            entries.append(IndexEntry(item.offset, content.first_frame, content.pts))
            frames = content.first_frame
        elif isinstance(content, FramePacket):
            frames += 1
            last = max(last, content.pts + content.duration) if first is not None else content.pts + content.duration
            first = content.pts if first is None else min(first, content.pts)
    return StreamIndex(frames, last - first if first is not None else 0, 0, tuple(entries))
