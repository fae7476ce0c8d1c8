"""The rANS decoder of entropy.md, sections 1 and 2."""

from __future__ import annotations

import numpy as np


class StreamError(ValueError):
    """A stream that breaks the specification."""


class Rans:
    """Decoder over one frame's payload. The state is an unsigned 64-bit integer; Python's integers hold it."""

    def __init__(self, payload: bytes) -> None:
        if payload and payload[-1] == 0:
            raise StreamError("the payload ends in a zero byte")
        while len(payload) % 4:
            payload += b"\0"
        self.words = [int.from_bytes(payload[i : i + 4], "little") for i in range(0, len(payload), 4)]
        self.state = 0
        for _ in range(min(2, len(self.words))):
            self.state = self.state * 2**32 + self.words.pop()

    def symbol(self, frequencies: np.ndarray) -> int:
        """One symbol under ``frequencies``, int64 (n,) with sum 2^24."""
        high, quantile = divmod(self.state, 2**24)
        ends = np.cumsum(frequencies)
        symbol = int(np.count_nonzero(ends <= quantile))
        left = int(ends[symbol] - frequencies[symbol])
        self._advance(high, int(frequencies[symbol]), quantile - left)
        return symbol

    def bits(self, count: int) -> int:
        """One unsigned integer of ``count`` equiprobable bits, 0 <= count <= 16."""
        if count == 0:
            return 0
        high, quantile = divmod(self.state, 2**24)
        value, rest = divmod(quantile, 2 ** (24 - count))
        self._advance(high, 2 ** (24 - count), rest)
        return value

    def _advance(self, high: int, frequency: int, rest: int) -> None:
        self.state = high * frequency + rest
        if self.state < 2**32 and self.words:
            self.state = self.state * 2**32 + self.words.pop()

    def at_end(self) -> bool:
        """Whether everything was consumed."""
        return not self.words and self.state == 0

    def check_end(self) -> None:
        """Raise StreamError unless everything was consumed."""
        if not self.at_end():
            raise StreamError("the payload does not end with the last symbol")
