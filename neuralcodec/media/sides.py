"""Side streams: audio, subtitles, data and attachments, copied as packets without decoding.

Reading is plain. Writing needs a trick: PyAV copies a stream only from a template, a stream of an open input container.
A decoder that starts from a bitstream has none, so a tiny file with one stream of that codec is made in memory, opened,
and its stream is the template; extradata, sample rate, layout and format are then set on the copy.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction

import av
from av.error import FFmpegError

from neuralcodec.core.types import SidePacket, SideStream

# Tags that describe the file a stream came from, not the stream.
_STALE = ("encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "vendor_id", "source_id")
# Formats tried, in this order, for a stream of a given codec.
_TEMPLATE_FORMATS = ("matroska", "mp4", "wav", "nut", "mov")
# Codecs that begin with samples to be thrown away, by their Matroska name; only Matroska templates can say how many.
_MATROSKA_AUDIO = {
    "aac": b"A_AAC",
    "ac3": b"A_AC3",
    "eac3": b"A_EAC3",
    "mp2": b"A_MPEG/L2",
    "mp3": b"A_MPEG/L3",
    "opus": b"A_OPUS",
    "vorbis": b"A_VORBIS",
}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def keep_tags(metadata: dict[str, str]) -> dict[str, str]:
    """A stream's or file's tags without those that go stale when it is rewritten."""
    return {
        key: value
        for key, value in metadata.items()
        if not key.lower().startswith("_statistics") and key.lower().split("-")[0] not in _STALE
    }


def describe(stream: av.stream.Stream) -> SideStream | None:
    """The SideStream of an input stream, or None for a stream that cannot be carried (unknown codec)."""
    context = stream.codec_context
    common = {
        "kind": stream.type,
        "time_base": stream.time_base or Fraction(1, 1000),
        "disposition": int(stream.disposition),
        "metadata": keep_tags(dict(stream.metadata)),
    }
    if stream.type == "attachment":
        return SideStream(codec="none", extradata=stream.data, **common)
    if stream.type == "data":
        return SideStream(codec=stream.name or "none", **common)
    if context is None or stream.type not in ("audio", "subtitle"):
        return None
    parameters = {"codec_tag": context.codec_tag.rstrip("\0") if context.codec_tag else ""}
    if context.profile:
        parameters["profile"] = str(context.profile)
    if stream.type == "audio":
        parameters |= {
            "sample_rate": str(context.sample_rate),
            "layout": context.layout.name,
            "channels": str(context.layout.nb_channels),
            "format": context.format.name if context.format else "",
            "frame_size": str(context.frame_size),
            "bit_rate": str(context.bit_rate or 0),
        }
    return SideStream(
        codec=context.codec.canonical_name,
        extradata=bytes(context.extradata or b""),
        parameters={key: value for key, value in parameters.items() if value and value.isprintable()},
        **common,
    )


def skipped_samples(packet: av.Packet) -> tuple[int, int]:
    """Samples that a decoder throws away at a packet's start and end (from FFmpeg's AV_PKT_DATA_SKIP_SAMPLES)."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    return struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))


def side_packet(packet: av.Packet, index: int) -> SidePacket:
    """A demuxed packet as plain data."""
    return SidePacket(index, bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)


def _element(identifier: str, payload: bytes) -> bytes:
    """One EBML element: identifier in hexadecimal, size in eight bytes, payload (RFC 8794, section 4)."""
    return bytes.fromhex(identifier) + (0x01 << 56 | len(payload)).to_bytes(8, "big") + payload


def _matroska_file(codec: bytes, rate: int, channels: int, delay: int) -> bytes:
    """A Matroska file with one audio track, a codec delay of ``delay`` samples and one empty packet (RFC 9559)."""
    audio = _element("b5", struct.pack(">d", rate)) + _element("9f", bytes([channels]))
    track = (
        _element("d7", b"\x01")
        + _element("73c5", b"\x01")
        + _element("83", b"\x02")
        + _element("86", codec)
        + _element("56aa", round(Fraction(delay * 10**9, rate)).to_bytes(8, "big"))
        + _element("e1", audio)
    )
    segment = _element("1549a966", _element("2ad7b1", (1000000).to_bytes(4, "big")))
    segment += _element("1654ae6b", _element("ae", track))
    # FFmpeg reads no header to its end before it has seen a cluster.
    segment += _element("1f43b675", _element("e7", b"\x00") + _element("a3", b"\x81\x00\x00\x80" + bytes(16)))
    return _element("1a45dfa3", _element("4282", b"matroska")) + _element("18538067", segment)


def _made_file(codec: str, container_format: str, rate: int | None) -> bytes:
    buffer = io.BytesIO()
    output = av.open(buffer, "w", format=container_format)
    try:
        stream = output.add_mux_stream(codec, **({"rate": rate} if rate else {}))
        stream.time_base = Fraction(1, rate or 1000)
        output.start_encoding()
        packet = av.Packet(bytes(16))
        packet.stream, packet.time_base = stream, stream.time_base
        packet.pts = packet.dts = 0
        packet.duration = 1
        output.mux(packet)
    finally:
        output.close()
    return buffer.getvalue()


def _template(side: SideStream) -> tuple[av.container.InputContainer, av.stream.Stream] | None:
    """An open container in memory and its only stream, whose codec is that of ``side``."""
    rate = int(side.parameters.get("sample_rate", 0)) or None
    padding = int(side.parameters.get("initial_padding", 0))
    candidates: list[Callable[[], bytes]] = []
    if padding and rate and side.codec in _MATROSKA_AUDIO:
        channels = int(side.parameters.get("channels", 2))
        candidates.append(lambda: _matroska_file(_MATROSKA_AUDIO[side.codec], rate, channels, padding))
    candidates += [lambda name=name: _made_file(side.codec, name, rate) for name in _TEMPLATE_FORMATS]
    for make in candidates:
        try:
            container = av.open(io.BytesIO(make()))
            stream = container.streams[0]
        except (FFmpegError, ValueError, IndexError):
            continue
        if stream.codec_context is not None and stream.codec_context.codec.canonical_name == side.codec:
            return container, stream
        container.close()
    return None


def add_side_stream(output: av.container.OutputContainer, side: SideStream) -> av.stream.Stream | None:
    """Add a stream to an output container so that packets of ``side`` can be muxed into it unchanged.

    Attachments get their payload at once. Returns None when no stream of this kind can be made at all. Raises
    ValueError or FFmpegError when the container refuses the codec.
    """
    if side.kind == "attachment":
        name = side.metadata.get("filename", "attachment")
        stream = output.add_attachment(name, side.metadata.get("mimetype", "application/octet-stream"), side.extradata)
    elif side.kind == "data":
        if side.codec == "none":
            return None
        stream = output.add_mux_stream(side.codec)
    else:
        made = _template(side)
        if made is None:
            return None
        container, template = made
        with container:
            stream = output.add_stream_from_template(template)
        _set_parameters(stream.codec_context, side)
    stream.time_base = side.time_base
    stream.disposition = side.disposition
    stream.metadata.update(keep_tags(side.metadata))
    return stream


def _set_parameters(context: av.CodecContext, side: SideStream) -> None:
    context.extradata = side.extradata or None
    if side.kind != "audio":
        return
    values = side.parameters
    if int(values.get("sample_rate", 0)):
        context.sample_rate = int(values["sample_rate"])
    for layout in (values.get("layout"), _LAYOUTS.get(int(values.get("channels", 0)))):
        try:
            # "2 channels" is FFmpeg's name for a layout without an order, which MP4 and MOV refuse.
            if layout and not layout.endswith(" channels"):
                context.layout = layout
                break
        except ValueError:
            continue
    if values.get("format"):
        context.format = values["format"]
    if int(values.get("bit_rate", 0)):
        context.bit_rate = int(values["bit_rate"])


def refusal(container_format: str, side: SideStream) -> str | None:
    """Why a container cannot hold a stream (found by writing a header with it alone), or None when it can."""
    if side.kind == "attachment" and container_format != "matroska":
        return "has no attachments"
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as output:
            stream = add_side_stream(output, side)
            if stream is None:
                kind = f"this kind of {side.kind}" if side.codec == "none" else side.codec
                return f"cannot hold {kind} without its original header"
            if side.kind == "attachment":
                return None
            output.start_encoding()
    except (FFmpegError, ValueError, TypeError):
        return f"cannot hold {side.codec}"
    return None
