"""The reader's state machine: from packets with a right CRC to content, and what is lost when something is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from neuralcodec.bitstream import packets, syntax
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import (
    AlphaPacket,
    Attachment,
    ChromaPacket,
    Content,
    EndOfStream,
    GopStart,
    GroupState,
    StreamIndex,
    TilePacket,
)
from neuralcodec.bitstream.resync import BrokenPacket, PacketScanner, RawPacket
from neuralcodec.bitstream.syntax import KNOWN_FLAGS, STILL_TYPES, PacketType
from neuralcodec.core.errors import StreamError, VersionError
from neuralcodec.core.types import SidePacket

_CRC_SIZE = 4
_CHUNK = 1 << 16
_FRAMES = (PacketType.FRAME_I, PacketType.FRAME_P, PacketType.FRAMES)


@dataclass(frozen=True)
class Packet:
    """A packet as it stands in the file, or a frame of a packet with several: ``offset`` of its first byte from the start of the stream, ``size`` of all of
    it, ``framing`` of all but the payload of a frame, tile, alpha or chroma packet or the data of a side packet or an attachment. All in
    bytes."""

    offset: int
    size: int
    framing: int
    content: Content


@dataclass(frozen=True)
class Damage:
    """``size`` bytes from ``offset`` that could not be used (0: bytes are missing there).

    ``breaks_group`` is true where the group of pictures around it may have lost a frame: its later frames are not
    delivered. It is false where only a side packet, the index, the header or the like was hit.
    """

    offset: int
    size: int
    reason: str
    breaks_group: bool


class PacketWalk:
    """Goes through the packets from the scanner's position, where ``first_frame`` frames came before.

    ``index`` is asked, when frames seem to be missing, for the stream's index (None: there is none). ``still_types``: those
    of STILL_TYPES that the stream may have. ``bare``: the group of a picture whose packet is the only one of its stream.
    """

    def __init__(
        self,
        scanner: PacketScanner,
        side_streams: int,
        index: Callable[[], StreamIndex | None],
        first_frame: int = 0,
        still_types: tuple[PacketType, ...] = (),
        bare: GopStart | None = None,
    ):
        self._scanner = scanner
        self._side_streams = side_streams
        self._still_types = still_types
        self._index = index
        self._pending: deque[Packet] = deque()
        self._bare = bare is not None
        self._group: GroupState | None = GroupState(bare) if bare is not None else None
        self._broken = False
        self._ended = False
        # Offsets of the packet or damage now looked at, and of the one before: there an end packet's index must stand.
        self._offset = self._offset_before = -1
        # Types of these two, None of what has no right CRC: a packet that happens to be as long as the index is none.
        self._type: int | None = None
        self._type_before: int | None = None
        # Number of the frame that is due; and, after a gap that nothing has confirmed yet, of the one due before the gap.
        self._due = first_frame
        self._due_before_gap: int | None = None

    def next(self) -> Packet | Damage | None:
        """The next item, None after the last. Raises VersionError for a packet that must be understood and is not."""
        if self._pending:
            return self._pending.popleft()
        source = self._scanner.source
        if self._bare and not self._ended:
            self._ended = True
            return self._only()
        while not self._ended:
            self._offset_before, self._offset = self._offset, source.position
            self._type_before, self._type = self._type, None
            offset = self._offset
            try:
                raw = self._scanner.packet()
            except BrokenPacket as broken:
                return self._skip_broken(broken, offset)
            if raw is None:
                self._ended = True
                return self._damage(offset, "the stream ends without an end packet")
            self._scanner.skip(raw.size)
            self._type = raw.type
            if raw.type >= syntax.FIRST_CRITICAL_TYPE and raw.type not in KNOWN_FLAGS:
                raise VersionError(f"the stream needs packets of type {raw.type}, which this reader does not know")
            try:
                item = self._item(raw, offset)
            except StreamError as error:
                return self._damage(offset, str(error), raw.type)
            if item is not None:
                return item
        return None

    def _only(self) -> Packet | Damage | None:
        """The packet of a bare picture, behind which nothing counts."""
        source = self._scanner.source
        offset = source.position
        try:
            raw = self._scanner.packet()
            if raw is None:
                raise StreamError("the stream ends before its picture")
            if raw.type != PacketType.FRAME_I:
                raise StreamError(f"a packet of type {raw.type} where the picture is due")
            item = self._item(raw, offset)
            self._scanner.skip(raw.size)
            return item
        except (BrokenPacket, StreamError) as error:
            while rest := source.peek(_CHUNK):
                self._scanner.skip(len(rest))
            return self._damage(offset, str(error))

    def _skip_broken(self, broken: BrokenPacket, offset: int) -> Damage:
        if broken.size is not None and self._scanner.follows(broken.size):
            self._scanner.skip(broken.size)
            return self._damage(offset, str(broken), broken.type)
        # Its length can't be trusted, and so neither can its type.
        if not self._scanner.find(self._lowest() - 1, self._side_streams > 0, bool(self._still_types)):
            self._ended = True
        return self._damage(offset, str(broken))

    def _damage(self, offset: int, reason: str, type_: int = 0) -> Damage:
        breaks = type_ <= PacketType.FRAME_P or type_ == PacketType.FRAMES
        self._broken |= breaks
        return Damage(offset, self._scanner.source.position - offset, reason, breaks)

    def _item(self, raw: RawPacket, offset: int) -> Packet | Damage | None:
        """The item for a packet with a right CRC; None for a frame of a broken group. Raises StreamError."""
        if raw.flags & ~(15 if raw.type in STILL_TYPES and raw.type not in self._still_types else KNOWN_FLAGS.get(raw.type, 15)):
            raise StreamError(f"unknown flags {raw.flags} in a packet of type {raw.type}")
        limits = self._scanner.limits
        if raw.type in _FRAMES:
            return self._frames(raw, offset, limits)
        content = packets.read_content(raw.type, raw.flags, raw.body, limits, self._still_types)
        packet = Packet(offset, raw.size, raw.size, content)
        match content:
            case GopStart():
                return self._start_group(content, packet)
            case SidePacket():
                if content.stream >= self._side_streams:
                    raise StreamError(f"a packet of side stream {content.stream}, which the header does not have")
                return Packet(offset, raw.size, raw.size - len(content.data), content)
            case TilePacket() | AlphaPacket() | ChromaPacket():
                # They say which part they are, so what was lost before them does not matter.
                if self._group is None or not self._group.frames:
                    raise StreamError("a part of a picture before its frame packet")
                return Packet(offset, raw.size, raw.size - len(content.payload), content)
            case Attachment():
                return Packet(offset, raw.size, raw.size - len(content.data), content)
            case StreamIndex() if not self._broken and content.frame_count != self._due:
                if content.frame_count < self._due:
                    raise StreamError(f"the index knows {content.frame_count} frames, {self._due} were read")
                return self._after_gap(content.frame_count, packet)
            case EndOfStream():
                beside_index = offset - content.index_distance == self._offset_before and self._type_before in (PacketType.INDEX, None)
                if content.index_distance and not beside_index:
                    raise StreamError("an end packet out of its place")
                self._ended = True
        return packet

    def _frames(self, raw: RawPacket, offset: int, limits: Limits) -> Packet | None:
        """The first frame of a packet with one or more; the others wait."""
        if self._broken:
            return None
        if self._group is None:
            raise StreamError("a frame before the first group of pictures")
        several = raw.type == PacketType.FRAMES
        records = packets.read_records(raw.body, limits) if several else [(raw.flags, raw.body, raw.size)]
        found = []
        for n, (flags, body, size) in enumerate(records):
            frame = self._group.read(raw.type == PacketType.FRAME_I, flags, body, limits)
            # What stands before the records counts for the first, the CRC for the last.
            size += (several and n == 0) * (raw.size - _CRC_SIZE - sum(r[2] for r in records)) + (several and n == len(records) - 1) * _CRC_SIZE
            found.append(Packet(offset, size, size - len(frame.payload), frame))
            offset += size
        self._due += len(found)
        self._pending += found[1:]
        return found[0]

    def _lowest(self) -> int:
        """The lowest number that the next group can start with."""
        return self._due if self._due_before_gap is None else self._due_before_gap

    def _start_group(self, gop: GopStart, packet: Packet) -> Packet | Damage:
        first, lowest = gop.first_frame, self._lowest()
        if first < lowest:
            raise StreamError(f"a group that starts with frame {first} where frame {self._due} is due")
        if first != self._due:
            index = self._index()
            if index is not None and index.entries:
                if all(entry.first_frame != first for entry in index.entries):
                    raise StreamError(f"a group that starts with frame {first}, which the index does not know")
            elif first - lowest > self._scanner.limits.max_frame_gap:
                raise StreamError(f"a group that starts with frame {first} where frame {self._due} is due")
        item = self._after_gap(first, packet) if first > self._due and not self._broken else packet
        # A wrong number must not make all groups after it look wrong: the next one may still go back behind the gap.
        self._due_before_gap = lowest if first > self._due else None
        self._due = first
        self._group, self._broken = GroupState(gop), False
        return item

    def _after_gap(self, first: int, packet: Packet) -> Damage:
        self._pending.append(packet)
        self._broken = True
        return Damage(packet.offset, 0, f"{first - self._due} frames are missing", True)
