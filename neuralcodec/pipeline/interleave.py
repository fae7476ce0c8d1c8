"""The order of pictures and side packets in a stream: by time, so that a group of pictures has its own sound with it.

Sources deliver packets in file order, where sound runs ahead of the pictures by as many frames as their decoder holds
back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from neuralcodec.core.types import Frame, SidePacket, SideStream, VideoProperties

LONGEST = Fraction(1, 10)
"""Seconds after its begin at which a packet is let go even if it lasts longer: a subtitle must not wait for its end."""
MOST_WAITING = 4096


def by_time(
    items: Iterable[Frame | SidePacket], video: VideoProperties, sides: Sequence[SideStream]
) -> Iterator[Frame | SidePacket]:
    """All items again; a side packet comes before the first frame that begins when the packet has ended, and not
    earlier.

    Frames keep their order, and so do the packets of each side stream. At most ``MOST_WAITING`` packets are held.
    """
    waiting: deque[SidePacket] = deque()
    for item in items:
        if isinstance(item, SidePacket):
            waiting.append(item)
            if len(waiting) > MOST_WAITING:
                yield waiting.popleft()
        else:
            yield from _ended(waiting, item.pts * video.time_base, sides)
            yield item
    yield from waiting


def _ended(waiting: deque[SidePacket], time: Fraction, sides: Sequence[SideStream]) -> Iterator[SidePacket]:
    kept: list[SidePacket] = []
    held: set[int] = set()
    while waiting:
        packet = waiting.popleft()
        stamp = packet.pts if packet.pts is not None else packet.dts
        base = sides[packet.stream].time_base
        if packet.stream in held or (stamp is not None and stamp * base + min(packet.duration * base, LONGEST) > time):
            held.add(packet.stream)
            kept.append(packet)
        else:
            yield packet
    waiting.extend(kept)
