"""Model files of networks.md, sections 6 and 7: a safetensors reader, and the identity that streams name.

What an architecture says of its tensors is checked by what uses them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np

from .adanic import ARCHITECTURE as ADANIC
from .networks import ModelError
from .slimcae import ARCHITECTURE as SLIMCAE

TABLES_SHA256 = "238b2f4d8fbe86aba975f239034f8efc6e51dd01a8e33acd3006b32f5718aa87"
DTYPES = {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "F16": "float16", "F32": "float32"}
EXACT = "flagship-exact-1"
ARCHITECTURES = ("flagship-1", EXACT, SLIMCAE, ADANIC)


class Model(NamedTuple):
    """``tensors`` by name, in the types of the file; ``metadata`` strings; ``identity``, 32 bytes."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    identity: bytes

    @property
    def width_tables(self) -> list[list[int]]:
        """Of each level."""
        return json.loads(self.metadata["widths"])

    @property
    def key(self) -> bytes:
        """By which bare pictures name it: container.md, section 3, bare_header."""
        tables = self.width_tables
        count = len(tables[0])
        written = bytearray([len(tables)])
        written += bytes([count & 127 | 128, count >> 7]) if count > 127 else bytes([count])
        for table in tables:
            padded = [*table, *[0] * (-count % 4)]
            written += bytes(sum(padded[i + j] << 2 * j for j in range(4)) for i in range(0, len(padded), 4))
        return hashlib.sha256(self.identity + written).digest()[:8]

    @property
    def exact(self) -> bool:
        """Whether its pictures are (exact_pictures.md)."""
        return self.metadata["architecture"] == EXACT

    @property
    def slim(self) -> bool:
        """Whether it is one of slimcae.md."""
        return self.metadata["architecture"] == SLIMCAE

    @property
    def adaptive(self) -> bool:
        """Whether it is one of adanic.md."""
        return self.metadata["architecture"] == ADANIC


def read_model(data: bytes) -> Model:
    """A model from the bytes of its file. Raises ModelError."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ModelError("not a safetensors file")
    try:
        return _model(data, json.loads(data[8 : 8 + length]), 8 + length)
    except ModelError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"not a safetensors file of a model ({error!r})") from error


def _model(data: bytes, header: dict[str, Any], start: int) -> Model:
    metadata = header.pop("__metadata__", {})
    if metadata.get("format") != "1" or metadata.get("architecture") not in ARCHITECTURES:
        raise ModelError(f"architecture {metadata.get('architecture')!r}, format {metadata.get('format')!r}")
    digest = hashlib.sha256()
    for part in (metadata["architecture"], metadata["config"], TABLES_SHA256):
        digest.update(part.encode("utf-8") + b"\0")
    tensors = {}
    for name in sorted(header):
        entry = header[name]
        if entry["dtype"] not in DTYPES:
            raise ModelError(f"{name} is of type {entry['dtype']}")
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        begin, end = (start + offset for offset in entry["data_offsets"])
        raw = data[begin:end]
        values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
        if values.size != int(np.prod(shape)):
            raise ModelError(f"{name} has {values.size} values, its shape is {shape}")
        tensors[name] = values.reshape(shape)
        digest.update(f"{name} {dtype} [{', '.join(map(str, shape))}]\0".encode())
        digest.update(raw)
    return Model(tensors, metadata, digest.digest())
