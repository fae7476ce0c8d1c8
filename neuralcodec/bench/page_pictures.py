"""Comparisons of pictures for the report's page: the same crop from the source and from each codec at nearly the same
rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neuralcodec.bench.crops import Place
from neuralcodec.bench.plan import Result
from neuralcodec.bench.points import Point

SOURCE = "source"
"""The name under which the source stands among the codecs of a comparison."""


@dataclass(frozen=True)
class Shot:
    """A codec's crop, as PNG. ``bpp`` (bits for a luma sample) and ``psnr`` (dB, 6:1:1) are of the whole clip,
    ``frame_bits`` and ``frame_psnr`` of this frame; None for the source."""

    codec: str
    setting: float | None
    bpp: float | None
    psnr: float | None
    png: bytes
    frame_bits: int | None = None
    frame_psnr: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The same crop from the source (first) and from each codec at the rate nearest to that of ``reference``."""

    clip: str
    place: Place
    reference: str
    setting: float
    shots: tuple[Shot, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the pictures."""
        shots = [{k: v for k, v in asdict(s).items() if k != "png"} for s in self.shots]
        return asdict(self) | {"shots": shots}


def nearest(points: Iterable[Point], bpp: float) -> Point | None:
    """The point whose rate differs from ``bpp`` by the smallest factor, the cheaper one of two alike; None without
    points."""
    return min(points, key=lambda p: (abs(math.log(p.bpp / bpp)), p.bpp), default=None)


def compare(
    place: Place,
    source: bytes,
    reference: Point,
    codecs: Sequence[Sequence[Point]],
    picture: Callable[[Point], bytes | None],
) -> Comparison:
    """A comparison around one point of ours.

    ``codecs``: the points of each codec on this clip, in the order in which they are shown (the reference's own among
    them or not); ``picture`` gives the crop of a point as PNG, None where there is none (then the codec is left
    out)."""
    shots = [Shot(SOURCE, None, None, None, source)]
    if not any(p.codec == reference.codec for points in codecs for p in points):
        codecs = [[reference], *codecs]
    for points in codecs:
        point = reference if any(p.codec == reference.codec for p in points) else nearest(points, reference.bpp)
        png = picture(point) if point else None
        if png:
            bits, psnr = point.frame_bits[place.frame], point.frame_psnr[place.frame]
            shots.append(Shot(point.codec, point.setting, point.bpp, point.psnr, png, bits, psnr))
    return Comparison(reference.clip, place, reference.codec, reference.setting, tuple(shots))


def comparisons(result: Result) -> list[Comparison]:
    """One for each clip of which crops were kept, around the middle setting of our first level."""
    found = []
    for clip, place in result.places.items():
        codecs: dict[str, list[Point]] = {}
        for p in sorted((p for p in result.points if p.clip == clip and not p.variant), key=lambda p: p.setting):
            codecs.setdefault(p.codec, []).append(p)
        ours = sorted(name for name in codecs if name.startswith("ours"))
        if not ours or clip not in result.sources:
            continue
        order = [*ours, *(name for name in codecs if name not in ours)]
        reference = codecs[ours[0]][len(codecs[ours[0]]) // 2]
        found.append(
            compare(
                place,
                result.sources[clip],
                reference,
                [codecs[name] for name in order],
                lambda p: result.crops.get((p.clip, p.codec, p.setting)),
            )
        )
    return found
