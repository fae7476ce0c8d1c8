"""What is measured on: clips; and what comes out: points of rate, distortion and time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from neuralcodec.bench.bd import Curve
from neuralcodec.bench.metrics import FramePsnr, Planes, mean_psnr
from neuralcodec.core.errors import InputError
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.media import open_source


@dataclass(frozen=True)
class Clip:
    """A whole clip in memory, as 8-bit 4:2:0 pictures."""

    name: str
    video: VideoProperties
    frames: list[Frame]

    @property
    def planes(self) -> list[Planes]:
        return [f.planes for f in self.frames]

    @property
    def rate(self) -> Fraction:
        """Frames a second; 25 where the file does not say."""
        return self.video.frame_rate or Fraction(25)


def read_clip(path: str | Path, frames: int | None = None) -> Clip:
    """Read a clip, or its first ``frames`` frames. Raises InputError when it holds no picture."""
    with contextlib.closing(open_source(path, frames=(0, frames) if frames else None, audio=False)) as source:
        pictures = [item for item in source.packets() if isinstance(item, Frame)]
        if not pictures:
            raise InputError(f"{path}: there is not a single frame")
        return Clip(Path(path).name, source.properties, pictures)


@dataclass(frozen=True)
class Point:
    """One clip through one codec at one setting.

    ``bits`` is the rate that counts: of our whole file without side streams, or of a classical encoder's elementary stream without
    supplemental information units. ``encode_s`` and ``decode_s`` are seconds, from pictures in memory to a file in memory and back; None where other
    work ran at the same time; ``first_frame_s`` is the part of ``decode_s`` until the first picture. ``kinds`` ("I", "P", "B"), ``frame_bits`` and
    ``frame_psnr`` (dB, weighted 6:1:1) are by frame in presentation order, frame bits without what belongs to no frame. ``syntax_bits``
    counts bits by syntax element, ``skipped`` shares (0 to 1) by latent, ``extra`` other figures by name.
    """

    clip: str
    codec: str
    setting: float
    width: int
    height: int
    bits: int
    file_bytes: int
    psnr_y: float
    psnr_u: float
    psnr_v: float
    psnr: float
    encode_s: float | None
    decode_s: float | None
    first_frame_s: float | None
    kinds: str
    frame_bits: list[int]
    frame_psnr: list[float]
    syntax_bits: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return len(self.kinds)

    @property
    def bpp(self) -> float:
        """Bits for a luma sample."""
        return self.bits / (self.width * self.height * self.frames)

    def of_kind(self, kind: str) -> tuple[float, float] | None:
        """Mean bits and mean PSNR of the frames of a kind; None where there is none."""
        where = [i for i, k in enumerate(self.kinds) if k == kind]
        if not where:
            return None
        return float(np.mean([self.frame_bits[i] for i in where])), float(np.mean([self.frame_psnr[i] for i in where]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all fields, and what follows from them."""
        return asdict(self) | {"frames": self.frames, "bpp": self.bpp}

    @staticmethod
    def from_dict(d: dict[str, Any]) -> Point:
        return Point(**{k: v for k, v in d.items() if k in Point.__dataclass_fields__})


def make_point(clip: Clip, codec: str, setting: float, psnr: list[FramePsnr], *, bits: int, file_bytes: int, kinds: str, frame_bits: list[int],
               times: tuple[float, float, float] | None, **details: dict[str, float]) -> Point:
    """A point from each frame's figures; ``times`` are seconds of encoding, decoding and until the first picture."""
    mean = mean_psnr(psnr)
    return Point(clip.name, codec, setting, clip.video.width, clip.video.height, bits, file_bytes, mean.y, mean.u, mean.v, mean.yuv,
                 *(times or (None, None, None)), kinds, frame_bits, [p.yuv for p in psnr], **details)


def curve(points: Iterable[Point]) -> Curve:
    """Bits for a luma sample over PSNR."""
    return [(p.bpp, p.psnr) for p in points]
