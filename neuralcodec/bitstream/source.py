"""A window that slides forward over a file or pipe: look ahead any number of bytes, then move on."""

from __future__ import annotations

from typing import BinaryIO

from neuralcodec.core.errors import InputError

_PIECE = 1 << 18


class Source:
    """``position`` counts from where the file stood at the beginning. ``size`` is None where the file cannot seek.

    The window holds what was looked at and not yet passed, plus at most one piece: memory follows the bytes that are
    really there, not what a length field claims. Raises InputError when the file cannot be read.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        # A pipe should hand over what it has, not wait until a whole piece is there.
        self._read = getattr(file, "read1", file.read)
        self._window = bytearray()
        self._start = 0
        self._ended = False
        self.position = 0
        self.size: int | None = None
        try:
            if file.seekable():
                self._origin = file.tell()
                self.size = max(0, file.seek(0, 2) - self._origin)
                file.seek(self._origin)
        except OSError:
            self.size = None

    def peek(self, count: int, skip: int = 0) -> bytes:
        """``count`` bytes, ``skip`` bytes after the position; fewer only at the end of the file."""
        missing = skip + count - (len(self._window) - self._start)
        while missing > 0 and not self._ended:
            missing -= self._fill(missing)
        begin = self._start + skip
        return bytes(memoryview(self._window)[begin : begin + count])

    def skip(self, count: int) -> None:
        """Moves on by ``count`` bytes, which must have been looked at."""
        self._start += count
        self.position += count
        if self._start > _PIECE:
            del self._window[: self._start]
            self._start = 0

    def seek(self, position: int) -> None:
        """Moves to ``position``; only where ``size`` is known."""
        behind = position - self.position
        if -self._start <= behind <= len(self._window) - self._start:
            self._start += behind
            self.position = position
            return
        try:
            self._file.seek(self._origin + position)
        except OSError as error:
            raise InputError(f"the stream cannot be read: {error}") from error
        self._window.clear()
        self._start = 0
        self._ended = False
        self.position = position

    def _fill(self, missing: int) -> int:
        try:
            piece = self._read(max(4096, min(missing, _PIECE)))
        except OSError as error:
            raise InputError(f"the stream cannot be read: {error}") from error
        if not piece:
            self._ended = True
            return 0
        self._window += piece
        return len(piece)
