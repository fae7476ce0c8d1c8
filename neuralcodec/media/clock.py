"""Time stamps of decoded pictures."""

from __future__ import annotations

from collections.abc import Callable

import av


class Clock:
    """Time stamps that exist and rise, changed only where the source's are missing or wrong.

    ``step`` is the nominal distance of two frames in the time base.
    """

    def __init__(self, step: int, note: Callable[[str], None]) -> None:
        self._step, self._note = step, note
        self._next: int | None = None
        self._last: int | None = None

    def stamp(self, picture: av.VideoFrame) -> tuple[int, int]:
        """pts and duration (0: unknown) of the next picture in presentation order."""
        duration = picture.duration or 0
        pts = picture.pts
        if pts is None:
            pts = self._next if self._next is not None else 0
            if self._last is not None:  # a single picture needs no time
                self._note("the source lacks time stamps: they follow from its frame rate")
        if self._last is not None and pts <= self._last:
            self._note("time stamps that do not rise were moved up")
            pts = self._last + 1
        self._last, self._next = pts, pts + (duration or self._step)
        return pts, duration
