"""Damaged variants of an .nvc file, for every test that must show that damage is survived.

    from tests.bitstream.damage import damaged_variants
    for variant in damaged_variants(data, 500, seed=1):
        ...  # variant.data, variant.kind, variant.repaired

Shares no code with the reader and writer: packets are taken apart here by the specification alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import google_crc32c

HUGE = (1 << 20, 1 << 24, (1 << 26) - 1, 1 << 26, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63)


@dataclass(frozen=True)
class Variant:
    """A damaged file. ``repaired``: the CRC of each touched packet, and of the header, was made right again (then the
    damage shows, if at all, only in what the fields say). ``chunks``: numbers of the touched chunks of the original
    (0 the header, then the packets; see ``split``)."""

    kind: str
    data: bytes
    repaired: bool
    chunks: frozenset[int]


def uvar(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def crc(data: bytes) -> bytes:
    """CRC-32C, as its four bytes in the file."""
    return google_crc32c.value(bytes(data)).to_bytes(4, "little")


def length_field(chunk: bytes) -> tuple[int, int, int]:
    """Of a packet: the body's length, and where the length field begins and ends."""
    value, end = 0, 1
    while True:
        value |= (chunk[end] & 0x7F) << 7 * (end - 1)
        end += 1
        if chunk[end - 1] < 0x80:
            return value, 1, end


def split(data: bytes) -> list[bytes]:
    """An undamaged file as its chunks: the header, then each packet."""
    end = 18 + int.from_bytes(data[10:14], "little")
    chunks = [data[:end]]
    while end < len(data):
        length, _, body = length_field(data[end : end + 10])
        chunks.append(data[end : end + body + length + 4])
        end += len(chunks[-1])
    return chunks


def repair(chunk: bytes, header: bool) -> bytes:
    """The chunk with a right length and CRC, whatever its size has become."""
    if header:
        if len(chunk) < 18:
            return chunk
        chunk = chunk[:10] + (len(chunk) - 18).to_bytes(4, "little") + chunk[14:-4]
        return chunk + crc(chunk)
    if len(chunk) < 6:
        return chunk
    try:
        end = length_field(chunk)[2]
    except IndexError:
        end = 2
    if end + 4 > len(chunk):
        end = 2
    body = chunk[end:-4]
    chunk = chunk[:1] + uvar(len(body)) + body
    return chunk + crc(chunk)


Edit = Callable[[bytearray, random.Random], None]


def _flip_bits(chunk: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        chunk[rng.randrange(len(chunk))] ^= 1 << rng.randrange(8)


def _flip_framing(chunk: bytearray, rng: random.Random) -> None:
    chunk[rng.randrange(min(16, len(chunk)))] ^= 1 << rng.randrange(8)


def _random_run(chunk: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(chunk))
    size = min(rng.randint(1, 64), len(chunk) - at)
    chunk[at : at + size] = rng.randbytes(size)


def _zero_run(chunk: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(chunk))
    size = min(rng.choice((1, 4, 64, 1 << 20)), len(chunk) - at)
    chunk[at : at + size] = bytes(size)


def _ones_run(chunk: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(chunk))
    size = min(rng.choice((1, 2, 4, 9, 10)), len(chunk) - at)
    chunk[at : at + size] = b"\xff" * size


def _huge_number(chunk: bytearray, rng: random.Random) -> None:
    """A huge varint over what may be a count or a length inside."""
    at = rng.randrange(len(chunk))
    chunk[at : at + 1] = uvar(rng.choice(HUGE))


def _cut_inside(chunk: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(chunk))
    del chunk[at : at + rng.randint(1, 200)]


def _insert(chunk: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(chunk))
    chunk[at:at] = rng.randbytes(rng.randint(1, 200))


_EDITS: dict[str, Edit] = {
    "flip_bits": _flip_bits,
    "flip_framing": _flip_framing,
    "random_run": _random_run,
    "zero_run": _zero_run,
    "ones_run": _ones_run,
    "huge_number": _huge_number,
    "cut_inside": _cut_inside,
    "insert": _insert,
}
KINDS = (*_EDITS, "huge_length", "change_type", "cut_end", "cut_across", "zero_across", "drop", "double", "swap")
"""Kinds of damage. Those up to ``change_type`` touch one chunk each."""


def _huge_length(chunk: bytes, header: bool, fix: bool, rng: random.Random) -> bytes:
    if header:
        chunk = chunk[:10] + rng.choice((1 << 20, 1 << 26, (1 << 32) - 1)).to_bytes(4, "little") + chunk[14:]
    else:
        _, begin, end = length_field(chunk)
        chunk = chunk[:begin] + uvar(rng.choice(HUGE)) + chunk[end:]
    return chunk[:-4] + crc(chunk[:-4]) if fix else chunk


def _damage(chunks: list[bytes], kind: str, fix: bool, rng: random.Random) -> Variant:
    chunks = list(chunks)
    at = rng.choice((0, len(chunks) - 1, len(chunks) - 2, *[rng.randrange(len(chunks)) for _ in range(9)]))
    touched = {at}
    match kind:
        case "huge_length":
            chunks[at] = _huge_length(chunks[at], at == 0, fix, rng)
        case "change_type":
            at = max(1, at)
            touched = {at}
            data = bytes([rng.randrange(16) << 4 | chunks[at][0] & 15]) + chunks[at][1:]
            chunks[at] = repair(data, False) if fix else data
        case "cut_end" | "cut_across" | "zero_across":
            size = sum(map(len, chunks))
            begin = rng.randrange(size)
            end = size if kind == "cut_end" else min(size, begin + rng.choice((10, 1000, size // 3)))
            touched, offset = set(), 0
            for i, chunk in enumerate(chunks):
                low, high = max(0, begin - offset), min(len(chunk), end - offset)
                offset += len(chunk)
                if low < high:
                    touched.add(i)
                    middle = bytes(high - low) if kind == "zero_across" else b""
                    chunk = chunk[:low] + middle + chunk[high:]
                    chunks[i] = repair(chunk, i == 0) if fix and low else chunk
        case "drop":
            del chunks[at]
        case "double":
            to = rng.randrange(1, len(chunks) + 1)
            touched = {to}
            chunks.insert(to, chunks[at])
        case "swap":
            other = rng.randrange(len(chunks))
            touched.add(other)
            chunks[at], chunks[other] = chunks[other], chunks[at]
        case _:
            data = bytearray(chunks[at])
            _EDITS[kind](data, rng)
            chunks[at] = repair(bytes(data), at == 0) if fix else bytes(data)
    return Variant(kind, b"".join(chunks), fix, frozenset(touched))


def damaged_variants(
    data: bytes, count: int, seed: int, kinds: tuple[str, ...] = KINDS, repaired: bool | None = None
) -> Iterator[Variant]:
    """``count`` damaged variants of the undamaged file ``data``, the same for the same ``seed``.

    Kinds take turns; ``repaired`` None repairs the CRCs of every second round.
    """
    rng = random.Random(seed)
    chunks = split(data)
    for number in range(count):
        fix = bool(number // len(kinds) % 2) if repaired is None else repaired
        yield _damage(chunks, kinds[number % len(kinds)], fix, rng)
