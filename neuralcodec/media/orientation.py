"""The orientation in EXIF and XMP: reset in place, so that nothing else in them moves."""

from __future__ import annotations

import re
import struct

PREFIX = b"Exif\0\0"
_TAG, _SHORT = 0x0112, 3
_XMP = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>\s*))[2-8]""")


def upright_exif(data: bytes) -> bytes:
    """EXIF, from its TIFF header on, whose orientation, if it has one, says that the samples are upright."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return data
    out = bytearray(data)
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag == _TAG and kind == _SHORT:
            struct.pack_into(f"{order}H", out, entry + 8, 1)
    return bytes(out)


def upright_xmp(data: bytes) -> bytes:
    """The same of XMP."""
    return _XMP.sub(rb"\g<1>1", data)
