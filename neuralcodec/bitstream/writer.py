"""Writes a stream from front to back; never seeks, so that pipes work."""

from __future__ import annotations

from typing import Protocol

from neuralcodec.bitstream import packets, syntax
from neuralcodec.bitstream.header import StreamHeader, write_header
from neuralcodec.bitstream.packets import (
    Attachment,
    FramePacket,
    GopStart,
    GroupState,
    HeaderCopy,
    IndexEntry,
    StreamIndex,
    TilePart,
)
from neuralcodec.core.errors import OutputError, StreamError
from neuralcodec.core.types import SidePacket

BUNDLE, BUNDLE_BYTES = 8, 4096
"""Frames that share a packet at most where a writer is told to save bytes, and the bytes after which a packet is closed. In a packet of its own a P frame has 10 to 14 bytes
beside its payload, 4 % of the bits at quality 12; five of them need not be said for each."""
HEADER_COPY_MAX = 1 << 16
"""Headers above this size (fonts among the side streams, say) are not stored a second time."""


_BUNDLE_OWN = 8
"""Bytes of a packet of frames that are no frame's: type, length, decode order, CRC."""


class ByteSink(Protocol):
    """What a writer needs of a file."""

    def write(self, data: bytes, /) -> int | None: ...


class StreamWriter:
    """Writes header, packets, index and end packet to ``file``, a binary file or pipe, which it neither seeks nor closes.

    Calls in order: ``start_gop``, one ``write_frame`` for each frame in decode order (the first one intra), the next
    ``start_gop`` ...; ``write_side`` and ``write_attachment`` at any time; ``write_tile`` after a still picture's frame;
    ``finish`` once. A bare picture has one frame and nothing else, and ``start_gop`` and ``finish`` write nothing there. All raise StreamError, before anything is written, for
    a value out of the syntax's range or a call out of order, and OutputError when the file cannot be written.
    ``position`` is the number of bytes written, ``frames`` the number of frames.
    """

    def __init__(self, file: ByteSink, header: StreamHeader, *, bundle: int = 0):
        """``bundle``: so many P frames at most may share a packet, while they are small, and wait for one another; 0: each has its own."""
        self.header = header
        self._bundle, self._waiting = bundle, []
        self.position = 0
        self.frames = 0
        self._file = file
        self._group: GroupState | None = None
        self._entries: list[IndexEntry] = []
        self._first_pts: int | None = None
        self._last_end = 0
        self._finished = False
        self._header_bytes = write_header(header)
        self._put(self._header_bytes)

    def start_gop(
        self, pts: int, *, frame_step: int = 0, frame_duration: int | None = None, quality: int | None = None
    ) -> GopStart:
        """Opens a group of pictures; the one before must have a frame.

        ``pts`` is the presentation time of its first frame, ``frame_step`` the usual distance of frames in the video's
        time base (0 when there is none: then each frame carries its time), ``frame_duration`` the usual duration
        (default: ``frame_step``), ``quality`` the usual quality index (default: the header's).
        """
        self._open()
        if self._group and not self._group.frames:
            raise StreamError("a group of pictures without a frame")
        if self.header.bare and (self._group or pts or frame_step or frame_duration or quality not in (None, self.header.quality)):
            raise StreamError("a bare picture has one group, without times or a quality of its own")
        self._release()
        duration = frame_step if frame_duration is None else frame_duration
        gop = GopStart(self.frames, pts, frame_step, duration, self.header.quality if quality is None else quality)
        data = packets.write_gop(gop)
        self._entries.append(IndexEntry(self.position, gop.first_frame, gop.pts))
        self._group = GroupState(gop)
        if not self.header.bare:
            self._put(data)
        return gop

    def write_frame(self, frame: FramePacket) -> int:
        """Writes the next frame of the group; returns the size of its packet in bytes. Of frames that share one, the first counts for what is the packet's own (within
        two bytes)."""
        self._open()
        if self._group is None:
            raise StreamError("a frame before the first group of pictures")
        if self.header.bare and self.frames:
            raise StreamError("a bare picture has one frame")
        flags, body = self._group.write(frame)
        size = self._add(frame.intra, flags, body)
        self.frames += 1
        self._first_pts = frame.pts if self._first_pts is None else min(self._first_pts, frame.pts)
        self._last_end = (
            max(self._last_end, frame.pts + frame.duration) if self.frames > 1 else frame.pts + frame.duration
        )
        return size

    def _add(self, intra: bool, flags: int, body: bytes) -> int:
        if intra or len(body) > BUNDLE_BYTES or self._bundle < 2:
            self._release()
            data = packets.frame_packet((syntax.PacketType.FRAME_I if intra else syntax.PacketType.FRAME_P) << 4 | flags, body)
            self._put(data)
            return len(data)
        if sum(len(b) for _, b in self._waiting) + len(body) > BUNDLE_BYTES:
            self._release()
        self._waiting.append((flags, body))
        size = len(packets.frame_record(flags, body)) + (_BUNDLE_OWN if len(self._waiting) == 1 else 0)
        if len(self._waiting) == self._bundle:
            self._release()
        return size

    def _release(self) -> None:
        """Writes the frames that wait."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            ((flags, body),) = waiting
            self._put(packets.frame_packet(syntax.PacketType.FRAME_P << 4 | flags, body))
        elif waiting:
            records = b"".join(packets.frame_record(*frame) for frame in waiting)
            self._put(packets.frame_packet(syntax.PacketType.FRAMES << 4, waiting[0][1][:1] + records))

    def write_side(self, packet: SidePacket) -> int:
        """Writes a packet of a side stream; returns the size of its packet in bytes."""
        self._open()
        if not 0 <= packet.stream < len(self.header.side_streams):
            raise StreamError(f"side stream {packet.stream} is not among the header's {len(self.header.side_streams)}")
        data = packets.write_side(packet)
        self._put(data)
        return len(data)

    def write_tile(self, packet: TilePart) -> int:
        """Writes a tile of a still picture, alpha or a chroma plane, after the picture's frame packet; returns the size of its packet in bytes."""
        self._still()
        if not self.frames:
            raise StreamError("a part of a picture before its frame packet")
        data = packets.write_tile(packet)
        self._put(data)
        return len(data)

    def write_attachment(self, packet: Attachment) -> int:
        """Writes an attachment of a still picture; returns the size of its packet in bytes."""
        self._still()
        data = packets.write_attachment(packet)
        self._put(data)
        return len(data)

    def finish(self) -> None:
        """Writes the header's copy, the index and the end packet; of a still picture, which has nothing to find and few bytes, the end packet alone. Nothing can be
        written after that."""
        self._open()
        if self.header.bare and not self.frames:
            raise StreamError("a bare picture without its frame")
        if self._group and not self._group.frames:
            raise StreamError("a group of pictures without a frame")
        self._release()
        self._finished = True
        if self.header.bare:
            return
        if self.header.video.still:
            self._put(packets.write_end(0))
            return
        copy_offset = self.position
        if len(self._header_bytes) <= HEADER_COPY_MAX:
            values = vars(HeaderCopy(self._header_bytes))
            self._put(packets.frame_packet(syntax.PacketType.HEADER_COPY << 4, syntax.HEADER_COPY.write(values)))
        duration = self._last_end - self._first_pts if self._first_pts is not None else 0
        index_offset = self.position
        self._put(
            packets.write_index(StreamIndex(self.frames, duration, index_offset - copy_offset, tuple(self._entries)))
        )
        self._put(packets.write_end(self.position - index_offset))

    def _still(self) -> None:
        self._open()
        if not self.header.video.still:
            raise StreamError("tiles, alpha and attachments are for still pictures")
        if self.header.bare:
            raise StreamError("a bare picture has neither alpha nor attachments")

    def _open(self) -> None:
        if self._finished:
            raise StreamError("the stream is finished")

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest)
                # Only raw files and pipes write less than they are given.
                rest = rest[len(rest) if written is None else written :]
        except OSError as error:
            raise OutputError(f"the stream cannot be written: {error}") from error
        self.position += len(data)
