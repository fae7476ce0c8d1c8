"""Streams that the tests of this room share. Payloads are random bytes: the container does not look into them."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from fractions import Fraction

from neuralcodec.bitstream import (
    AlphaPacket,
    Arithmetic,
    Attachment,
    Chapter,
    ChromaPacket,
    FramePacket,
    StreamHeader,
    StreamWriter,
    TilePacket,
    TilePart,
)
from neuralcodec.core.types import ColourTags, SidePacket, SideStream, VideoProperties

VIDEO = VideoProperties(
    width=1919,
    height=1079,
    time_base=Fraction(1, 90000),
    frame_rate=Fraction(30000, 1001),
    sample_aspect_ratio=Fraction(64, 45),
    rotation=270,
    colour=ColourTags(1, 13, 1, False, 1),
)
AUDIO = SideStream(
    "audio", "aac", Fraction(1, 48000), b"\x11\x90\x56\xe5\x00", 1, {"sample_rate": "48000"}, {"language": "deu"}
)
SUBTITLE = SideStream("subtitle", "subrip", Fraction(1, 1000), metadata={"title": "Größe", "": ""})
HEADER = StreamHeader(
    video=VIDEO,
    model_id=bytes(range(32)),
    model_name="flagship-test",
    width_tables=(b"\x00\x01\x02\x03\x01", b"\x01\x01\x01\x01\x01", b"\x02\x02\x02\x02\x03"),
    level=2,
    arithmetic=Arithmetic.EXACT,
    gop_size=8,
    quality=100,
    side_streams=(AUDIO, SUBTITLE),
    metadata={"title": "a clip"},
    chapters=(Chapter(0, 1000, Fraction(1, 1000), {"title": "start"}), Chapter(-5, 1 << 40, Fraction(1, 7))),
    encoder="ncodec 0.1.0",
)
STEP = 3003


def make_stream(
    groups: int = 4, frames: int = 8, size: int = 300, seed: int = 0, header: StreamHeader = HEADER, finish: bool = True,
    bundle: int = 0,
) -> tuple[bytes, list[list[FramePacket]], list[SidePacket]]:
    """A stream's bytes, its frame packets by group as a reader must return them, and its side packets.

    Most frames are ordinary; some of each group have an odd time, quality, references or order.
    """
    rng = random.Random(seed)
    file = io.BytesIO()
    writer = StreamWriter(file, header, bundle=bundle)
    written: list[list[FramePacket]] = []
    side: list[SidePacket] = []
    for group in range(groups):
        start = group * frames * STEP
        writer.start_gop(start, frame_step=STEP)
        written.append([])
        for i in range(frames):
            frame = FramePacket(
                intra=i == 0,
                pts=start + i * STEP + (7 if i % 5 == 4 else 0),
                payload=rng.randbytes(rng.randint(0, size)),
                modes=(0, 3 * 64 + 20) if i else (64 + i,),
                duration=STEP if i % 5 != 4 else 0,
                quality=120 if i == 3 else 100,
                references=(2, 1) if i == 2 else (1,) if i else (),
                display_order=i + 1 if i == 6 else i,
                decode_order=i,
            )
            writer.write_frame(frame)
            written[-1].append(frame)
            if header.side_streams:
                number = len(side)
                side.append(SidePacket(0, rng.randbytes(40), 1024 * number - 1024, 1024 * number - 1024, 1024))
                if i == 1:
                    side.append(SidePacket(1, b"hello", start // 90, None, 0, False))
                if i == 2:
                    side.append(SidePacket(1, b"", None, -5 if group else None))
                for packet in side[number:]:
                    writer.write_side(packet)
    if finish:
        writer.finish()
    return file.getvalue(), written, side


STILL = replace(
    HEADER,
    video=replace(VIDEO, width=1000, height=700, still=True, rotation=0, frame_rate=None, gray=True),
    side_streams=(),
    chapters=(),
    tile_size=256,
)


FULL = replace(STILL, video=replace(STILL.video, gray=False, full_chroma=True))


def make_still(size: int = 300, seed: int = 0, header: StreamHeader = STILL) -> tuple[bytes, list[TilePart], list[Attachment]]:
    """A stream of a still picture in 4 x 3 tiles with alpha, chroma with FULL, and attachments: its bytes, its parts and attachments in order."""
    rng = random.Random(seed)
    file = io.BytesIO()
    writer = StreamWriter(file, header)
    attachments = [Attachment(kind, rng.randbytes(40 * kind)) for kind in (1, 2, 3, 77)]
    for attachment in attachments[:3]:
        writer.write_attachment(attachment)
    writer.start_gop(0)
    writer.write_frame(FramePacket(True, 0, b""))
    parts: list[TilePart] = []
    for row in range(3):
        numbers = range(4 * row, 4 * row + 4)
        parts += [TilePacket(n, rng.randbytes(rng.randint(0, size)), (64 + n, 0)) for n in numbers]
        first = len(parts) - 4
        if header.video.full_chroma:
            parts += [ChromaPacket(n, plane, rng.randbytes(rng.randint(0, size)), (64 + n, 0)) for plane in (1, 2) for n in numbers]
        parts += [AlphaPacket(n, rng.randbytes(rng.randint(0, size)), (0, 128 + n), 150 + n) for n in numbers]
        for part in parts[first:]:
            writer.write_tile(part)
    writer.write_attachment(attachments[3])
    writer.finish()
    return file.getvalue(), parts, attachments


UNTIMED = replace(STILL, tile_size=0, metadata={}, gop_size=1, loop_filter=True, directed=True,
                  video=replace(STILL.video, time_base=Fraction(1, 25), sample_aspect_ratio=Fraction(1), rotation=90))
"""A picture that can be bare."""
BARE = UNTIMED.as_bare()
BARE_FRAME = FramePacket(True, 0, bytes(range(256)) * 5, (64 + 3, 0), 0, BARE.quality, (), 0, 0)


def make_bare(header: StreamHeader = BARE, frame: FramePacket = BARE_FRAME) -> bytes:
    """The stream of a picture of one packet."""
    file = io.BytesIO()
    writer = StreamWriter(file, header)
    writer.start_gop(0)
    writer.write_frame(frame)
    writer.finish()
    return file.getvalue()


def flat(groups: list[list[FramePacket]]) -> list[FramePacket]:
    """All frames of all groups."""
    return [frame for group in groups for frame in group]


class Pipe(io.RawIOBase):
    """A file that can only be read forward, a few bytes at a time."""

    def __init__(self, data: bytes, piece: int = 1000):
        self._data, self._piece = io.BytesIO(data), piece

    def readable(self):
        return True

    def read(self, size=-1):
        assert size > 0
        return self._data.read(min(size, self._piece))
