"""CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected, initial value and final XOR 0xFFFFFFFF), as in RFC 3720.

The check value, of the nine bytes ``123456789``, is 0xE3069283.
"""

from __future__ import annotations

from collections.abc import Callable


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        entries.append(byte)
    return tuple(entries)


_TABLE = _table()


def crc32c_plain(data: bytes, crc: int = 0) -> int:
    """CRC-32C of ``data`` in plain Python; ``crc`` is the value of the bytes before it. The reference for the fast one."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _fast() -> Callable[[bytes, int], int]:
    try:
        import google_crc32c
    except ImportError:
        return crc32c_plain
    if google_crc32c.implementation != "c":
        return crc32c_plain
    extend = google_crc32c.extend
    return lambda data, crc: extend(crc, data)


_crc32c = _fast()


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of ``data``; ``crc`` is the value of the bytes before it (0 at the start)."""
    return _crc32c(data, crc)
