"""Encoding into bytes and decoding from bytes, through the pipeline's own classes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import torch

from neuralcodec.bitstream import Damage, FramePacket, StreamReader, StreamWriter
from neuralcodec.codecs.coding import Coded
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.digest import md5_of_frame
from neuralcodec.core.types import Frame, SidePacket, VideoProperties
from neuralcodec.nn.layout import tensors_to_planes
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder, StreamEncoder
from neuralcodec.pipeline.decoder import DecodedFrame

CPU = torch.device("cpu")


@dataclass
class Encoded:
    """A stream's bytes, and what the encoder said of each frame."""

    data: bytes
    packets: list[FramePacket] = field(default_factory=list)
    coded: list[Coded] = field(default_factory=list)

    def reconstructions(self, height: int, width: int) -> list[Frame]:
        """The encoder's reference pictures."""
        return [Frame(tensors_to_planes(c.planes.y, c.planes.uv, height, width), p.pts, p.duration) for p, c in zip(self.packets, self.coded)]


def video_of(frames: list[Frame]) -> VideoProperties:
    """Properties that fit made-up frames: 25 frames a second."""
    height, width = frames[0].planes[0].shape
    return VideoProperties(width, height, Fraction(1, 25), Fraction(25))


def encode(loaded: LoadedModel, items: Iterable[Frame | SidePacket], video: VideoProperties, options: EncodeOptions, **more: object) -> Encoded:
    """``more``: side_streams, metadata, chapters."""
    file = io.BytesIO()
    encoder = StreamEncoder(loaded, video, options, CPU, **more)
    writer = StreamWriter(file, encoder.header)
    result = Encoded(b"")

    def on_frame(packet: FramePacket, coded: Coded, size: int) -> None:
        result.packets.append(packet)
        result.coded.append(coded)

    count = encoder.run(iter(items), writer, on_frame)
    writer.finish()
    assert count == len(result.packets)
    result.data = file.getvalue()
    return result


@dataclass
class Decoded:
    """Everything that a stream gave."""

    frames: list[DecodedFrame] = field(default_factory=list)
    sides: list[SidePacket] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    def md5s(self) -> dict[int, str]:
        return {f.number: md5_of_frame(f.frame) for f in self.frames}

    def latents(self) -> dict[int, bytes]:
        return {f.number: b"".join(f.parsed.digest_parts()) for f in self.frames}


def decode(data: bytes, loaded: LoadedModel, options: DecodeOptions | None = None, strict: bool = False, group: int | None = None) -> Decoded:
    """``group``: the reader is sent there first, and all from there on is decoded."""
    reader = StreamReader(io.BytesIO(data), strict=strict)
    decoder = StreamDecoder(reader, loaded, options or DecodeOptions(workers=1, threads=1), CPU)
    if group is not None:
        reader.seek_gop(group)
    result = Decoded()
    for item in decoder.run():
        (result.damages if isinstance(item, Damage) else result.sides if isinstance(item, SidePacket) else result.frames).append(item)
    return result
