"""Plain data that crosses room borders: pictures with time stamps, properties of a video, side streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

QUALITY_STEPS = 200
"""Quality indexes run from 0 to this value; the user's quality is half the index (0 to 100 in steps of 0.5)."""


@dataclass(frozen=True)
class ColourTags:
    """Colour description by the code points of ITU-T H.273 (2 is "unspecified").

    ``full_range`` is True for 0..255 samples, False for 16..235, None when the source does not say.
    ``chroma_location`` counts as in FFmpeg's AVChromaLocation (0 unspecified, 1 left, 2 centre, 3 top left, ...).
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool | None = None
    chroma_location: int = 0


@dataclass(frozen=True)
class VideoProperties:
    """What a video is, apart from its samples.

    ``width`` and ``height`` are of the coded picture in luma samples, before rotation. ``time_base`` is the unit of
    ``Frame.pts`` in seconds. ``frame_rate`` is the nominal rate, a hint only: time stamps rule. ``rotation`` is the
    clockwise turn in degrees (0, 90, 180, 270) that a player applies. ``gray``: chroma samples are 128, whatever was decoded. ``full_chroma``: a still
    picture's chroma planes have the size of Y (4:4:4).
    """

    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction | None = None
    sample_aspect_ratio: Fraction = Fraction(1, 1)
    rotation: int = 0
    colour: ColourTags = ColourTags()
    still: bool = False
    gray: bool = False
    full_chroma: bool = False


@dataclass
class Frame:
    """One 8-bit picture in 4:2:0, or a still one in 4:4:4.

    ``planes`` are uint8 arrays Y (H, W), U and V (ceil(H/2), ceil(W/2)), or (H, W) in 4:4:4. ``pts`` and ``duration`` count in the
    stream's time base; a duration of 0 means unknown.
    """

    planes: tuple[np.ndarray, np.ndarray, np.ndarray]
    pts: int
    duration: int = 0


@dataclass(frozen=True)
class SideStream:
    """An audio, subtitle, data or attachment stream of the source, carried along unchanged.

    ``kind`` is FFmpeg's media type ("audio", "subtitle", "data", "attachment"). ``codec`` is FFmpeg's codec name.
    ``parameters`` holds what a muxer needs beyond ``extradata``, as strings (sample_rate, layout, format, frame_size,
    channels, profile, codec_tag, bit_rate, initial_padding: the samples that a decoder throws away first, ...).
    ``disposition`` is FFmpeg's bit field. An attachment has no packets: ``extradata`` is its payload.
    """

    kind: str
    codec: str
    time_base: Fraction
    extradata: bytes = b""
    disposition: int = 0
    parameters: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SidePacket:
    """One packet of a side stream. ``pts`` and ``dts`` (None: unset) and ``duration`` count in that stream's time base."""

    stream: int
    data: bytes
    pts: int | None
    dts: int | None
    duration: int = 0
    keyframe: bool = True


@dataclass(frozen=True, eq=False)
class PlaneFilter:
    """The loop filter of one plane: ``coefficients`` int64 (classes, 12), -31..31; ``clip``: 0, or differences count for two samples (1), one (2)
    or half of one (3) at most; ``luma`` int64 (1, 12), of a filter of chroma: coefficients of luma's differences. Equal by what they hold."""

    coefficients: np.ndarray
    clip: int = 0
    luma: np.ndarray | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlaneFilter) or self.clip != other.clip or not np.array_equal(self.coefficients, other.coefficients):
            return False
        return self.luma is other.luma if self.luma is None or other.luma is None else np.array_equal(self.luma, other.luma)

    __hash__ = None

    @property
    def classes(self) -> int:
        return len(self.coefficients)


CORRECTION_BLOCK = 4
"""Rows and columns of samples of a corrected block."""
CORRECTION_STEPS = 32


@dataclass(frozen=True)
class PlaneCorrections:
    """What is added to blocks of 4x4 samples of one plane (nn.corrections). ``step``: index of the quantiser's step, below CORRECTION_STEPS; ``where`` int64 (n,): numbers of the
    blocks, rising, row by row; ``plain`` bool (n,): blocks whose levels are of samples, not of a cosine transform; ``levels`` int64 (n, 4, 4)."""

    step: int
    where: np.ndarray
    plain: np.ndarray
    levels: np.ndarray
