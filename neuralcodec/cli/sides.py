"""Sound and subtitles of a range of frames: which packets of the side streams belong to it."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

from neuralcodec.bitstream import StreamHeader
from neuralcodec.core.types import Frame, SidePacket


class SideCut:
    """Lets through the side packets that sound or show between the first frame's begin and the last frame's end.

    Feed it everything in the order of the stream; each call returns the packets that are now known to belong.
    """

    def __init__(self, header: StreamHeader) -> None:
        self._video, self._sides = header.video, header.side_streams
        step = 1 / header.video.frame_rate if header.video.frame_rate else Fraction(0)
        self._step = step
        self._start: Fraction | None = None
        self._end = Fraction(0)
        self._waiting: deque[SidePacket] = deque()

    def frame(self, frame: Frame) -> list[SidePacket]:
        """A frame of the range, before it is written."""
        time = frame.pts * self._video.time_base
        if self._start is None:
            self._start = time
        self._end = time + (frame.duration * self._video.time_base or self._step)
        return self._release()

    def packet(self, packet: SidePacket) -> list[SidePacket]:
        """A packet of a side stream."""
        self._waiting.append(packet)
        return self._release()

    def end(self) -> list[SidePacket]:
        """What still belongs after the last frame; the rest is dropped."""
        packets = self._release()
        self._waiting.clear()
        return packets

    def _release(self) -> list[SidePacket]:
        if self._start is None:
            return []
        out, kept = [], deque()
        for packet in self._waiting:
            stamp = packet.pts if packet.pts is not None else packet.dts
            base = self._sides[packet.stream].time_base
            if stamp is not None and stamp * base >= self._end:
                kept.append(packet)
            elif stamp is None or stamp * base >= self._start or (stamp + packet.duration) * base > self._start:
                out.append(packet)
        self._waiting = kept
        return out
