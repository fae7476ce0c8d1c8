"""Field types of the syntax: each writes a checked value to bytes, reads it back with the same check, and says what it is.

Byte order is little-endian throughout.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.varint import (
    SVAR_MAX,
    SVAR_MIN,
    UVAR_MAX,
    Cursor,
    read_svar,
    read_uvar,
    write_svar,
    write_uvar,
)
from neuralcodec.core.errors import LimitError, StreamError

RATIO_MAX = (1 << 31) - 1


class FieldType(Protocol):
    """What a declared field can be. ``write`` and ``read`` raise StreamError for a value outside the type's range."""

    def write(self, value: Any) -> bytes: ...

    def read(self, cursor: Cursor) -> Any: ...

    @property
    def text(self) -> str: ...


def _integer(value: Any, low: int, high: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise StreamError(f"{value!r} is not an integer") from None
    if not low <= value <= high:
        raise StreamError(f"{value} is outside {low}..{high}")
    return value


def _bounded(value: int, limits: Limits, limit: str | None) -> int:
    if limit and value > getattr(limits, limit):
        raise LimitError(f"{value} is above the reader's limit {limit} = {getattr(limits, limit)}")
    return value


def _power(value: int) -> str:
    """``value`` for the specification's tables: small ones as they are, large ones by their power of two."""
    for sign, base in (("", value), ("-", -value)):
        if base > 1 << 16:
            if base & base - 1 == 0:
                return f"{sign}2^{base.bit_length() - 1}"
            if base & base + 1 == 0:
                return f"{sign}2^{base.bit_length()}-1"
    return str(value)


@dataclass(frozen=True)
class Uint:
    """Unsigned integer of a fixed number of bytes."""

    size: int
    low: int
    high: int

    @property
    def text(self) -> str:
        return f"u{8 * self.size}, {_power(self.low)}..{_power(self.high)}"

    def write(self, value: Any) -> bytes:
        return _integer(value, self.low, self.high).to_bytes(self.size, "little")

    def read(self, cursor: Cursor) -> int:
        return _integer(int.from_bytes(cursor.take(self.size), "little"), self.low, self.high)


@dataclass(frozen=True)
class Uvar:
    """Unsigned integer of variable length; ``limit`` names the reader's limit, if there is one."""

    low: int = 0
    high: int = UVAR_MAX
    limit: str | None = None

    @property
    def text(self) -> str:
        return f"uvar, {_power(self.low)}..{_power(self.high)}"

    def write(self, value: Any) -> bytes:
        return write_uvar(_integer(value, self.low, self.high))

    def read(self, cursor: Cursor) -> int:
        return _bounded(_integer(read_uvar(cursor), self.low, self.high), cursor.limits, self.limit)


@dataclass(frozen=True)
class Svar:
    """Signed integer of variable length."""

    low: int = SVAR_MIN
    high: int = SVAR_MAX

    @property
    def text(self) -> str:
        return f"svar, {_power(self.low)}..{_power(self.high)}"

    def write(self, value: Any) -> bytes:
        return write_svar(_integer(value, self.low, self.high))

    def read(self, cursor: Cursor) -> int:
        return _integer(read_svar(cursor), self.low, self.high)


@dataclass(frozen=True)
class Const:
    """Bytes that are always the same."""

    value: bytes

    @property
    def text(self) -> str:
        return f"{len(self.value)} bytes {self.value.hex(' ').upper()}"

    def write(self, value: Any) -> bytes:
        return self.value

    def read(self, cursor: Cursor) -> bytes:
        if cursor.take(len(self.value)) != self.value:
            raise StreamError("not the expected bytes")
        return self.value


@dataclass(frozen=True)
class Raw:
    """A fixed number of opaque bytes."""

    size: int

    @property
    def text(self) -> str:
        return f"{self.size} bytes"

    def write(self, value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != self.size:
            raise StreamError(f"{self.size} bytes expected")
        return value

    def read(self, cursor: Cursor) -> bytes:
        return cursor.take(self.size)


@dataclass(frozen=True)
class Blob:
    """A uvar, the length, then so many opaque bytes."""

    high: int
    limit: str | None = None

    @property
    def text(self) -> str:
        return f"blob, 0..{_power(self.high)} bytes"

    def write(self, value: Any) -> bytes:
        value = bytes(value)
        return write_uvar(_integer(len(value), 0, self.high)) + value

    def read(self, cursor: Cursor) -> bytes:
        return cursor.take(_bounded(_integer(read_uvar(cursor), 0, self.high), cursor.limits, self.limit))


@dataclass(frozen=True)
class Text:
    """A uvar, the length in bytes, then so many bytes of UTF-8."""

    low: int
    high: int

    @property
    def text(self) -> str:
        return f"text, {self.low}..{_power(self.high)} bytes"

    def write(self, value: Any) -> bytes:
        try:
            data = value.encode()
        except (AttributeError, UnicodeEncodeError):
            raise StreamError(f"{value!r} is not text that UTF-8 can hold") from None
        return write_uvar(_integer(len(data), self.low, self.high)) + data

    def read(self, cursor: Cursor) -> str:
        data = cursor.take(_bounded(_integer(read_uvar(cursor), self.low, self.high), cursor.limits, "max_text"))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise StreamError("not UTF-8") from None


@dataclass(frozen=True)
class Ratio:
    """Two uvars, numerator and denominator; a numerator of 0, where allowed, means unknown."""

    low: int = 1

    @property
    def text(self) -> str:
        return f"ratio, {self.low}..2^31-1 / 1..2^31-1"

    def write(self, value: Any) -> bytes:
        try:
            value = Fraction(value)
        except (TypeError, ValueError, OverflowError):
            raise StreamError(f"{value!r} is not a ratio") from None
        numerator = _integer(value.numerator, self.low, RATIO_MAX)
        return write_uvar(numerator) + write_uvar(_integer(value.denominator, 1, RATIO_MAX))

    def read(self, cursor: Cursor) -> Fraction:
        numerator = _integer(read_uvar(cursor), self.low, RATIO_MAX)
        return Fraction(numerator, _integer(read_uvar(cursor), 1, RATIO_MAX))


@dataclass(frozen=True)
class Rest:
    """All bytes up to the end of the packet's body."""

    text: str = "rest of the body"

    def write(self, value: Any) -> bytes:
        return bytes(value)

    def read(self, cursor: Cursor) -> bytes:
        return cursor.take(cursor.left)


@dataclass(frozen=True)
class Sequence:
    """A uvar, the count, then so many items, each of one type. ``make``, if given, is applied to each item read."""

    item: Any
    high: int
    limit: str | None = None
    make: Callable[[Any], Any] | None = None

    @property
    def text(self) -> str:
        return f"list of 0..{_power(self.high)}: {self.item.text}"

    def write(self, value: Any) -> bytes:
        return write_uvar(_integer(len(value), 0, self.high)) + b"".join(map(self.item.write, value))

    def read(self, cursor: Cursor) -> list[Any]:
        count = _bounded(_integer(read_uvar(cursor), 0, self.high), cursor.limits, self.limit)
        if self.make:
            return [self.make(self.item.read(cursor)) for _ in range(count)]
        return [self.item.read(cursor) for _ in range(count)]


@dataclass(frozen=True)
class Pairs:
    """A uvar, the count, then so many pairs of texts, key and value; no key twice."""

    high: int = 1024
    key: Text = Text(0, 256)
    value: Text = Text(0, 1 << 20)

    @property
    def text(self) -> str:
        return f"map of 0..{self.high}: {self.key.text}; {self.value.text}"

    def write(self, value: Any) -> bytes:
        items = [self.key.write(key) + self.value.write(text) for key, text in value.items()]
        return write_uvar(_integer(len(items), 0, self.high)) + b"".join(items)

    def read(self, cursor: Cursor) -> dict[str, str]:
        count = _integer(read_uvar(cursor), 0, self.high)
        cursor.map_entries = _bounded(cursor.map_entries + count, cursor.limits, "max_map_entries")
        result: dict[str, str] = {}
        for _ in range(count):
            key = self.key.read(cursor)
            if key in result:
                raise StreamError(f"key {key!r} twice")
            result[key] = self.value.read(cursor)
        return result
