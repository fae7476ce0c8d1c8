"""Integers, field types, CRC: limits on the way out and on the way in."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralcodec.bitstream import Limits, syntax
from neuralcodec.bitstream.crc import crc32c, crc32c_plain
from neuralcodec.bitstream.fields import Blob, Pairs, Ratio, Raw, Sequence, Svar, Text, Uint, Uvar
from neuralcodec.bitstream.varint import Cursor, read_svar, read_uvar, write_svar, write_uvar
from neuralcodec.core.errors import LimitError, StreamError


@given(st.integers(0, 2**63 - 1))
def test_uvar_round_trip(value):
    data = write_uvar(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    cursor = Cursor(data + b"\xff")
    assert read_uvar(cursor) == value
    assert cursor.position == len(data)


@given(st.integers(-(2**62), 2**62 - 1))
def test_svar_round_trip(value):
    assert read_svar(Cursor(write_svar(value))) == value


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**63 - 1, "ff" * 8 + "7f")],
)
def test_uvar_bytes(value, data):
    assert write_uvar(value) == bytes.fromhex(data)


@pytest.mark.parametrize(("value", "data"), [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001")])
def test_svar_bytes(value, data):
    assert write_svar(value) == bytes.fromhex(data)


@pytest.mark.parametrize("data", ["", "80", "ff" * 9, "80" * 9 + "01", "8000", "ff00"])
def test_uvar_cut_long_or_padded_is_refused(data):
    with pytest.raises(StreamError):
        read_uvar(Cursor(bytes.fromhex(data)))


@pytest.mark.parametrize(
    ("write", "value"), [(write_uvar, -1), (write_uvar, 2**63), (write_svar, 2**62), (write_svar, -(2**62) - 1)]
)
def test_varint_range_on_write(write, value):
    with pytest.raises(StreamError):
        write(value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Uint(1, 0, 200), 201),
        (Uint(1, 0, 200), -1),
        (Uint(1, 0, 200), 1.0),
        (Uint(1, 0, 200), None),
        (Uvar(1, 10), 0),
        (Uvar(1, 10), 11),
        (Svar(-3, 3), 4),
        (Raw(4), b"12345"),
        (Blob(3), b"1234"),
        (Text(1, 4), ""),
        (Text(1, 4), "ééé"),
        (Text(1, 4), "\ud800"),
        (Text(1, 4), 7),
        (Ratio(), Fraction(0)),
        (Ratio(), Fraction(-1, 2)),
        (Ratio(), Fraction(1, 2**31)),
        (Ratio(), "x"),
        (Pairs(1), {"a": "b", "c": "d"}),
        (Sequence(Uvar(), 1), [1, 2]),
        (syntax.WidthTables(), ()),
        (syntax.WidthTables(), (b"\x04",)),
        (syntax.WidthTables(), (b"\x01", b"\x01\x02")),
        (syntax.WidthTables(), (b"",) * 17),
        (syntax.WidthTables(), (bytes(4097),)),
        (syntax.Modes(), (0,) * 4),
        (syntax.Modes(), (5,)),
        (syntax.Modes(), (256,)),
        (syntax.Modes(), (-1,)),
    ],
)
def test_write_refuses_values_out_of_range(type_, value):
    with pytest.raises(StreamError):
        type_.write(value)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (Uint(1, 0, 200), "c9"),
        (Uint(8, 0, 2**63 - 1), "00" * 7 + "80"),
        (Uvar(1, 10), "0b"),
        (Svar(-3, 3), "08"),
        (Blob(3), "0401020304"),
        (Blob(3), "0301"),
        (Text(0, 9), "02ff41"),
        (Ratio(), "0001"),
        (Ratio(), "0100"),
        (Pairs(), "02" + "0161" + "0162" + "0161" + "0163"),
        (Pairs(), "ff07"),
        (Sequence(Uvar(), 1), "0200"),
        (syntax.WidthTables(), "0005"),
        (syntax.WidthTables(), "1100"),
        (syntax.WidthTables(), "010104"),
        (syntax.Modes(), "04"),
        (syntax.Modes(), "0d40"),
        (syntax.Modes(), "0d"),
    ],
)
def test_read_refuses_values_out_of_range(type_, data):
    with pytest.raises(StreamError):
        type_.read(Cursor(bytes.fromhex(data)))


@given(st.lists(st.one_of(st.just(0), st.integers(64, 255)), max_size=3))
def test_modes_round_trip(modes):
    data = syntax.Modes().write(tuple(modes))
    assert len(data) == 1 + sum(mode > 0 for mode in modes)
    assert syntax.Modes().read(Cursor(data)) == tuple(modes)


@given(st.integers(1, 16), st.integers(0, 70), st.randoms())
def test_width_tables_round_trip(levels, entries, rng):
    tables = tuple(bytes(rng.randrange(4) for _ in range(entries)) for _ in range(levels))
    data = syntax.WidthTables().write(tables)
    assert len(data) == 2 + levels * -(-entries // 4)
    assert syntax.WidthTables().read(Cursor(data)) == tables


@pytest.mark.parametrize(
    ("type_", "value", "limits"),
    [
        (Blob(100, "max_extradata"), b"12345", Limits(max_extradata=4)),
        (Text(0, 100), "12345", Limits(max_text=4)),
        (Pairs(), {"a": "", "b": ""}, Limits(max_map_entries=1)),
        (Sequence(Uvar(), 9, "max_chapters"), [1, 2], Limits(max_chapters=1)),
        (syntax.WidthTables(), (bytes(9),), Limits(max_width_table=8)),
    ],
)
def test_reader_limits_are_tighter_than_the_format(type_, value, limits):
    data = type_.write(value)
    type_.read(Cursor(data))
    with pytest.raises(LimitError):
        type_.read(Cursor(data, limits=limits))


def test_crc_check_value():
    # The check values of RFC 3720, B.4, and of the CRC catalogue.
    assert crc32c(b"123456789") == crc32c_plain(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == crc32c_plain(bytes(32)) == 0x8A9136AA


@given(st.binary(), st.binary())
def test_crc_fast_equals_plain_and_continues(head, tail):
    assert crc32c(tail, crc32c(head)) == crc32c_plain(tail, crc32c_plain(head)) == crc32c_plain(head + tail)
