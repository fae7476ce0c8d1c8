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
from neuralcodec.bench.perceptual import decibels
from neuralcodec.core.errors import InputError
from neuralcodec.core.types import Frame, VideoProperties
from neuralcodec.media import open_source
from neuralcodec.media.stills import open_still

_HDR = {16: "PQ", 18: "HLG"}
"""H.273 transfer characteristics of high dynamic range."""


@dataclass(frozen=True)
class Clip:
    """A whole clip in memory, as 8-bit 4:2:0 pictures. ``path`` is where it came from (empty: nowhere); ``notes`` are
    lines for the user."""

    name: str
    video: VideoProperties
    frames: list[Frame]
    path: str = ""
    notes: tuple[str, ...] = ()

    @property
    def planes(self) -> list[Planes]:
        return [f.planes for f in self.frames]

    @property
    def rate(self) -> Fraction:
        """Frames a second; 25 where the file does not say."""
        return self.video.frame_rate or Fraction(25)

    @property
    def still(self) -> bool:
        return self.video.still


def read_clip(path: str | Path, frames: int | None = None) -> Clip:
    """Read a clip, or its first ``frames`` frames. Raises InputError when it holds no picture, and for what cannot be
    compared fairly as 8-bit 4:2:0 pictures of one size: HDR video, and pictures that change their size."""
    if (picture := read_picture(path)) is not None:
        return picture
    with contextlib.closing(open_source(path, frames=(0, frames) if frames else None, audio=False)) as source:
        if (hdr := _HDR.get(source.properties.colour.transfer)) is not None:
            raise InputError(
                f"{path}: HDR video ({hdr}) is not measured: it would be cut down to 8 bits; convert it to SDR first"
            )
        pictures = [item for item in source.packets() if isinstance(item, Frame)]
        if not pictures:
            raise InputError(f"{path}: there is not a single frame")
        resized = [note for note in source.notes if "picture size changes" in note]
        if resized:
            raise InputError(f"{path}: not measured, {resized[0].partition(':')[0]}")
        notes = [*source.notes]
        if len(pictures) == 1 and not source.properties.still:
            notes.append("one frame only: no P frames, and times say little")
        return Clip(Path(path).name, source.properties, pictures, str(path), tuple(notes))


def read_picture(path: str | Path) -> Clip | None:
    """A picture as ``encode`` takes it, upright and by its conversion (libswscale's filters are others); None for anything else.
    Raises InputError for a picture that cannot be read."""
    source = open_still(str(path))
    if source is None:
        return None
    video = source.properties
    return Clip(Path(path).name, video, [Frame(source.planes(0, video.height), 0)], str(path), tuple(source.notes))


def upright(path: str) -> Any:
    """A picture through Pillow, as its file has it but for the orientation. Raises OSError and ValueError as Pillow does."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def rgb_source(clip: Clip) -> np.ndarray:
    """The samples of a still picture as its file has them, turned upright, (H, W, 3) uint8, alpha dropped; of a gray one those that are coded, for it may have
    had 16 bits. Raises InputError."""
    if clip.video.gray:
        return np.repeat(clip.planes[0][0][..., None], 3, 2)
    try:
        return np.asarray(upright(clip.path).convert("RGB"))
    except (OSError, ValueError) as error:
        raise InputError(f"{clip.path}: no still picture that can be read ({error})") from error


@dataclass(frozen=True)
class Point:
    """One clip through one codec at one setting.

    ``bits`` is the rate that counts: of our whole file without side streams, or of a classical encoder's elementary
    stream without supplemental information units. ``encode_s`` and ``decode_s`` are seconds, from pictures in memory to
    a file in memory and back, decoding on ``threads`` threads and the least of several runs; None where other work ran
    at the same time. ``first_frame_s`` is the part of ``decode_s`` until the first picture, ``reference_s`` the seconds
    that x264 took right afterwards to decode the same clip on the same threads (run.py), ``encode_first_s`` the part of
    ``encode_s`` until the first packet, ``warmup_s`` the time until the first picture of the very first run.
    ``encode_memory`` and ``decode_memory`` are the peak bytes of a process that does nothing else (see memory.py).

    ``kinds`` ("I", "P", "B"), ``frame_bits`` and ``frame_psnr`` (dB, weighted 6:1:1) are by frame in presentation
    order, frame bits without what belongs to no frame. ``syntax_bits`` counts bits by syntax element, ``skipped``
    shares (0 to 1) by latent, ``extra`` other figures by name. ``ms_ssim`` (0 to 1), ``xpsnr`` (dB), ``vmaf`` (0 to
    100) and, of still pictures, ``psnr_rgb`` (dB) are None where they were not taken. ``encoder`` is what a classical
    encoder writes about itself; ``measured`` the date and time (UTC)."""

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
    ms_ssim: float | None = None
    xpsnr: float | None = None
    vmaf: float | None = None
    psnr_rgb: float | None = None
    encode_first_s: float | None = None
    warmup_s: float | None = None
    reference_s: float | None = None
    threads: int | None = None
    encode_memory: int | None = None
    decode_memory: int | None = None
    encoder: str = ""
    measured: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is our codec's, or a variant's of it (names as by ours.codec_name)."""
        return self.codec.startswith("ours-l")

    @property
    def variant(self) -> bool:
        """Whether it is a variant's of our codec, which is compared with our codec alone."""
        return self.ours and " " in self.codec

    @property
    def level(self) -> int | None:
        """The level of our codec; None for another's."""
        return int(self.codec.removeprefix("ours-l").partition(" ")[0]) if self.ours else None

    @property
    def frames(self) -> int:
        return len(self.kinds)

    @property
    def bpp(self) -> float:
        """Bits for a luma sample."""
        return self.bits / (self.width * self.height * self.frames)

    @property
    def ms_ssim_db(self) -> float | None:
        """MS-SSIM as -10 log10(1 - MS-SSIM)."""
        return None if self.ms_ssim is None else decibels(self.ms_ssim)

    @property
    def encode_fps(self) -> float | None:
        """Frames a second, from the first to the last."""
        return self.frames / self.encode_s if self.encode_s else None

    @property
    def decode_fps(self) -> float | None:
        """Frames a second, from the first to the last."""
        return self.frames / self.decode_s if self.decode_s else None

    @property
    def decode_ratio(self) -> float | None:
        """Decoding time for each second of the reference's."""
        return self.decode_s / self.reference_s if self.decode_s and self.reference_s else None

    def quality(self, measure: str) -> float | None:
        """A figure of metrics.MEASURES, in its unit; None where it was not taken."""
        return self.ms_ssim_db if measure == "ms_ssim" else getattr(self, measure)

    def of_kind(self, kind: str) -> tuple[float, float] | None:
        """Mean bits and mean PSNR of the frames of a kind; None where there is none."""
        where = [i for i, k in enumerate(self.kinds) if k == kind]
        if not where:
            return None
        return float(np.mean([self.frame_bits[i] for i in where])), float(np.mean([self.frame_psnr[i] for i in where]))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all fields, and what follows from them."""
        return asdict(self) | {
            "frames": self.frames,
            "bpp": self.bpp,
            "ms_ssim_db": self.ms_ssim_db,
            "encode_fps": self.encode_fps,
            "decode_fps": self.decode_fps,
            "decode_ratio": self.decode_ratio,
        }

    @staticmethod
    def from_dict(d: dict[str, Any]) -> Point:
        """Raises TypeError where a field without a default is missing."""
        return Point(**{k: v for k, v in d.items() if k in Point.__dataclass_fields__})


@dataclass(frozen=True)
class Times:
    """Seconds of one point: see Point."""

    encode: float
    encode_first: float
    decode: float
    decode_first: float
    warmup: float
    threads: int


def make_point(
    clip: Clip,
    codec: str,
    setting: float,
    psnr: list[FramePsnr],
    *,
    bits: int,
    file_bytes: int,
    kinds: str,
    frame_bits: list[int],
    times: Times | None,
    **details: Any,
) -> Point:
    """A point from each frame's figures; ``details`` are other fields of Point."""
    mean = mean_psnr(psnr)
    if times is not None:
        details |= {"encode_first_s": times.encode_first, "warmup_s": times.warmup, "threads": times.threads}
    spent = (times.encode, times.decode, times.decode_first) if times else (None, None, None)
    return Point(
        clip.name,
        codec,
        setting,
        clip.video.width,
        clip.video.height,
        bits,
        file_bytes,
        mean.y,
        mean.u,
        mean.v,
        mean.yuv,
        *spent,
        kinds,
        frame_bits,
        [p.yuv for p in psnr],
        **details,
    )


def curve(points: Iterable[Point], measure: str = "psnr") -> Curve:
    """Bits for a luma sample over a measure of quality; points where it was not taken are left out."""
    found = ((p.bpp, p.quality(measure)) for p in points)
    return [(bpp, value) for bpp, value in found if value is not None]
