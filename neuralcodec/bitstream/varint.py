"""Reading forward through bytes, and the integers of variable length.

``uvar`` is unsigned LEB128 (seven bits a byte, least significant first, bit 7 set on all bytes but the last) of at most 9
bytes, values 0 to 2^63 - 1, always in its shortest form; ``svar`` is a signed integer v in -2^62 to 2^62 - 1, sent as the
uvar 2v (v >= 0) or -2v - 1 (v < 0).
"""

from __future__ import annotations

from neuralcodec.bitstream.limits import Limits
from neuralcodec.core.errors import StreamError

UVAR_MAX = (1 << 63) - 1
SVAR_MIN, SVAR_MAX = -(1 << 62), (1 << 62) - 1
_NO_LIMITS = Limits()


class Cursor:
    """Reads forward through ``data`` and never past its end. Raises StreamError when the bytes run out."""

    def __init__(self, data: bytes, position: int = 0, limits: Limits = _NO_LIMITS):
        self.data = data
        self.position = position
        self.limits = limits
        self.map_entries = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise StreamError(f"{count} bytes expected, {self.left} left")
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise StreamError("1 byte expected, 0 left")
        self.position += 1
        return self.data[self.position - 1]


def write_uvar(value: int) -> bytes:
    """``value`` (0 to 2^63 - 1) as a uvar. Raises StreamError outside that range."""
    if not 0 <= value <= UVAR_MAX:
        raise StreamError(f"{value} is outside 0..{UVAR_MAX}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_uvar(cursor: Cursor) -> int:
    """The uvar at the cursor. Raises StreamError when it is cut, longer than 9 bytes or not in its shortest form."""
    value = 0
    for shift in range(0, 63, 7):
        byte = cursor.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise StreamError("integer is not in its shortest form")
            return value
    raise StreamError("integer is longer than 9 bytes")


def write_svar(value: int) -> bytes:
    """``value`` (-2^62 to 2^62 - 1) as an svar. Raises StreamError outside that range."""
    if not SVAR_MIN <= value <= SVAR_MAX:
        raise StreamError(f"{value} is outside {SVAR_MIN}..{SVAR_MAX}")
    return write_uvar(2 * value if value >= 0 else -2 * value - 1)


def read_svar(cursor: Cursor) -> int:
    """The svar at the cursor. Raises StreamError as ``read_uvar`` does."""
    value = read_uvar(cursor)
    return value >> 1 if value & 1 == 0 else -(value >> 1) - 1
