"""Records of declared fields: what is written and read, in which order, and when a field is present."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuralcodec.bitstream.fields import FieldType
from neuralcodec.bitstream.varint import Cursor
from neuralcodec.core.errors import StreamError


@dataclass(frozen=True)
class Field:
    """One declared field: its name, type, meaning, and the flag bit on which its presence depends (0: always there)."""

    name: str
    type: FieldType
    meaning: str
    flag: int = 0


class Layout:
    """Fields in their order. It is itself a type, so that lists of records can be declared."""

    def __init__(self, name: str, *fields: Field):
        self.name = name
        self.fields = fields

    @property
    def text(self) -> str:
        return f"`{self.name}`"

    def write(self, values: Mapping[str, Any], flags: int = 0) -> bytes:
        """The fields' bytes. Raises StreamError, naming the field, for a value out of range."""
        out = bytearray()
        for field in self.fields:
            if field.flag and not field.flag & flags:
                continue
            try:
                out += field.type.write(values.get(field.name))
            except StreamError as error:
                raise type(error)(f"{self.name}.{field.name}: {error}") from None
        return bytes(out)

    def read(self, cursor: Cursor, flags: int = 0) -> dict[str, Any]:
        """The fields' values; those that ``flags`` leave out are missing. Raises StreamError, naming the field."""
        values: dict[str, Any] = {}
        for field in self.fields:
            if field.flag and not field.flag & flags:
                continue
            try:
                values[field.name] = field.type.read(cursor)
            except StreamError as error:
                raise type(error)(f"{self.name}.{field.name}: {error}") from None
        return values
