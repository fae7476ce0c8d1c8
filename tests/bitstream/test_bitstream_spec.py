"""The specification says what the code does: its tables are the declared fields, and the Kaitai parser agrees."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from neuralcodec.bitstream import StreamReader, syntax
from neuralcodec.bitstream.header import read_header
from neuralcodec.bitstream.layout import Layout
from neuralcodec.bitstream.limits import Limits
from neuralcodec.bitstream.packets import frame_packet
from tests.bitstream.samples import make_bare, make_still, make_stream

SPEC = Path(__file__).resolve().parents[2] / "bitstream_spec"


def table(layout: Layout) -> str:
    """A record's table as it stands in container.md."""
    lines = ["| field | type, range | meaning |", "| --- | --- | --- |"]
    for field in layout.fields:
        present = f"if flag {field.flag:d}: " if field.flag else ""
        lines.append(f"| `{field.name}` | {field.type.text} | {present}{field.meaning} |")
    return "\n".join(lines)


@pytest.mark.parametrize("layout", syntax.LAYOUTS, ids=lambda layout: layout.name)
def test_tables_of_the_specification_are_the_declared_fields(layout):
    assert f"\n{table(layout)}\n" in (SPEC / "container.md").read_text()


@pytest.mark.parametrize(
    "value",
    [
        syntax.SIGNATURE.hex(" ").upper(),
        syntax.GOP_MARKER.hex(" ").upper(),
        syntax.END_MARKER.hex(" ").upper(),
        *(f"| {type_:d} | {type_.name.lower()} |" for type_ in syntax.PacketType),
    ],
)
def test_constants_of_the_specification(value):
    assert value in (SPEC / "container.md").read_text()


def limit_lines() -> list[str]:
    return [f"`{name}` {value:,}" for name, value in vars(Limits()).items()]


@pytest.mark.parametrize("line", limit_lines())
def test_default_limits_are_stated(line):
    assert line in (SPEC / "container.md").read_text()


# Kaitai Struct -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nvc():
    pytest.importorskip("kaitaistruct")
    spec = importlib.util.spec_from_file_location("nvc", SPEC / "kaitai" / "nvc.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Nvc


def plain(node, name: str):
    """A parsed Kaitai value in the form that ``Layout.read`` gives, ``name`` being the field's."""
    kind = type(node).__name__
    if kind in ("Uvar", "Svar", "Text", "Blob"):
        return node.value
    if kind == "Ratio":
        return Fraction(node.numerator.value, node.denominator.value)
    if kind == "Pairs":
        assert node.num_items.value == len(node.items)
        return {pair.key.value: pair.value.value for pair in node.items}
    if kind in ("SideStreams", "Chapters"):
        layout = {"SideStreams": syntax.SIDE_STREAM, "Chapters": syntax.CHAPTER}[kind]
        return [record(item, layout) for item in node.items]
    if kind == "WidthTables":
        count = node.num_entries.value
        return tuple(bytes(packed[i // 4] >> 2 * (i % 4) & 3 for i in range(count)) for packed in node.tables)
    if kind == "Modes":
        modes, parameters = (node.mode_0, node.mode_1, node.mode_2), iter(node.parameters)
        return tuple(64 * mode + (next(parameters) if mode else 0) for mode in modes[: node.num_modes])
    if name == "references":
        return [item.value for item in node]
    if name == "entries":
        return [tuple(record(item, syntax.INDEX_ENTRY).values()) for item in node]
    return node


def record(node, layout: Layout, flags: int = 0) -> dict:
    """A parsed Kaitai record as ``Layout.read`` gives it."""
    fields = [field for field in layout.fields if not field.flag or field.flag & flags]
    return {field.name: plain(getattr(node, field.name), field.name) for field in fields}


def parsed(layout: Layout, body: bytes, flags: int = 0) -> dict:
    from neuralcodec.bitstream.varint import Cursor

    cursor = Cursor(body)
    values = layout.read(cursor, flags)
    assert cursor.left == 0
    return values


@pytest.mark.parametrize("seed", range(4))
def test_kaitai_parser_reads_the_same(nvc, seed):
    data, _, _ = make_stream(seed=seed, size=50 if seed % 2 else 5000)
    check_kaitai(nvc, data, {1, 2, 3, 4, 5, 6, 7, 9})


def test_kaitai_parser_reads_frames_that_share_packets_the_same(nvc):
    data, _, _ = make_stream(size=50, bundle=5)
    check_kaitai(nvc, data, {1, 2, 3, 4, 5, 6, 7, 9, 12})
    for packet in (p for p in nvc.from_bytes(data).packets if int(p.type) == 12):
        assert 2 <= len(packet.body.records) <= 5 and all(r.flags == r.head.value & 15 for r in packet.body.records)


def test_kaitai_parser_reads_stills_the_same(nvc):
    check_kaitai(nvc, make_still()[0], {1, 2, 6, 8, 9, 10})


def test_kaitai_parser_reads_bare_pictures_the_same(nvc):
    data = make_bare()
    check_kaitai(nvc, data, {2}, syntax.BARE_HEADER)
    assert nvc.from_bytes(data).header.is_bare and not nvc.from_bytes(make_still()[0]).header.is_bare


def check_kaitai(nvc, data: bytes, expected: set[int], header: Layout = syntax.HEADER) -> None:
    from neuralcodec.bitstream.varint import write_uvar

    still = StreamReader(io.BytesIO(data)).header.video.still
    extra = b"" if still else frame_packet(0x95, b"not known") + frame_packet(0x38, b"\x00\x03ext\x01payload")
    end = len(data) - syntax.END_SIZE
    data = data[:end] + extra + data[end:]
    stream = nvc.from_bytes(data)
    features = stream.header.body.required_features.value
    fields = data[14 : 14 + stream.header.len_body]
    assert record(stream.header.body, header, features) == parsed(header, fields, features)
    assert (stream.header.version_major, stream.header.version_minor) == syntax.VERSION
    position = 18 + stream.header.len_body
    assert int.from_bytes(data[position - 4 : position], "little") == stream.header.crc
    kinds = set()
    for packet in stream.packets:
        type_ = int(packet.type)
        kinds.add(type_)
        assert data[position] == type_ << 4 | packet.flags
        body_at = position + 1 + len(packet.len_body.groups)
        body = data[body_at : body_at + packet.len_body.value]
        position = body_at + len(body) + 4
        assert packet.crc == int.from_bytes(data[position - 4 : position], "little")
        if (type_ not in syntax.BODIES and type_ != syntax.PacketType.FRAMES) or (type_ in syntax.STILL_TYPES and not still):
            assert packet.body == body
        elif type_ == syntax.PacketType.FRAMES:
            assert body == bytes([packet.body.decode_order]) + b"".join(write_uvar(r.head.value) + r.body for r in packet.body.records)
        elif type_ == syntax.PacketType.HEADER_COPY:
            assert record(packet.body.body, syntax.HEADER, features) == record(stream.header.body, syntax.HEADER, features)
            assert read_header(body, Limits()) == StreamReader(io.BytesIO(data)).header
        else:
            layout = syntax.BODIES[syntax.PacketType(type_)]
            assert record(packet.body, layout, packet.flags) == parsed(layout, body, packet.flags)
            if type_ == syntax.PacketType.SIDE:
                assert packet.body.keyframe == bool(packet.flags & syntax.SideFlag.KEYFRAME)
    assert position == len(data)
    assert kinds == expected


def test_kaitai_integers_at_their_limits(nvc):
    import kaitaistruct

    from neuralcodec.bitstream.varint import write_svar, write_uvar

    def stream(data):
        return kaitaistruct.KaitaiStream(io.BytesIO(data))

    for value in (0, 127, 128, 2**35, 2**62, 2**63 - 1):
        assert nvc.Uvar(stream(write_uvar(value))).value == value
    for value in (0, -1, 1, 63, 64, -64, -65, 2**62 - 1, -(2**62)):
        assert nvc.Svar(stream(write_svar(value))).value == value


def compiler_directory() -> Path | None:
    """A directory from which node finds the compiler: the repository, or where NODE_PATH's packages lie."""
    candidates = [
        SPEC.parent,
        *(Path(entry).parent for entry in os.environ.get("NODE_PATH", "").split(os.pathsep) if entry),
    ]
    for directory in candidates:
        if all((directory / "node_modules" / name).is_dir() for name in ("kaitai-struct-compiler", "js-yaml")):
            return directory
    return None


def test_committed_parser_is_the_generated_one(tmp_path):
    directory = compiler_directory()
    if shutil.which("node") is None or directory is None:
        pytest.skip("node with kaitai-struct-compiler and js-yaml is not installed")
    script = SPEC / "kaitai" / "generate.js"
    subprocess.run(["node", str(script), str(tmp_path)], cwd=directory, check=True, timeout=60)
    assert (tmp_path / "nvc.py").read_text() == (SPEC / "kaitai" / "nvc.py").read_text()
