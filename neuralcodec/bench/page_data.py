"""What the report's page shows, from a bench's result: codecs with their looks, curves by metric, and speeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neuralcodec.bench.bd import BdResult, Curve, bd, mean_bd
from neuralcodec.bench.metrics import MEASURES, Measure
from neuralcodec.bench.page_plots import Look
from neuralcodec.bench.plan import Plan, Result
from neuralcodec.bench.points import Point

MEAN = "mean over clips"
MARKERS = "oosD^vPX*hp<>d"
_FIRST_CLASSICAL = 3


@dataclass(frozen=True)
class Metric:
    """A measure of distortion. ``value`` is None where a point does not have it."""

    key: str
    title: str
    unit: str
    value: Callable[[Point], float | None]
    digits: int = 2


def _metric(measure: Measure) -> Metric:
    return Metric(measure.name, measure.label, measure.unit, lambda point: point.quality(measure.name))


METRICS = (
    _metric(MEASURES["psnr"]),
    Metric("psnr_y", "PSNR Y", "dB", lambda point: point.psnr_y),
    *(_metric(measure) for name, measure in MEASURES.items() if name != "psnr"),
)


@dataclass(frozen=True)
class Codec:
    """A codec of the report. ``name`` as in points; ``label`` for readers."""

    name: str
    ours: bool
    look: Look

    @property
    def label(self) -> str:
        return self.name.replace("ours-l", "ours, level ") if self.ours else self.name


@dataclass(frozen=True)
class Speed:
    """Million luma samples a second over all timed points of a codec, and mean milliseconds until the first picture;
    None where nothing was timed. Peak memory in bytes, the largest of all points. ``ratio``: decoding time for each
    second of plan.SPEED_ANCHOR. ``bd_rate`` in percent against the report's anchor, over ``clips`` clips."""

    encode: float | None
    decode: float | None
    first_ms: float | None
    encode_memory: int | None
    decode_memory: int | None
    threads: int | None
    ratio: float | None
    bd_rate: float | None
    clips: int


class View:
    """A result as a reader sees it. Points of variants (whose names hold a space) are in tables of their own only."""

    def __init__(self, plan: Plan, result: Result) -> None:
        self.plan, self.result = plan, result
        self.points = [p for p in result.points if not p.variant]
        present = list(dict.fromkeys(p.codec for p in self.points))
        known = {name for curves in result.anchor_curves.values() for name in curves}
        ours = sorted({p.codec for p in self.points if p.ours})
        others = [n for n in dict.fromkeys((*plan.against, *present)) if n not in ours and (n in present or n in known)]
        self.codecs = [
            Codec(n, True, Look(i % _FIRST_CLASSICAL, MARKERS[i % 3 and i % 3 + 1])) for i, n in enumerate(ours)
        ]
        for i, name in enumerate(others):
            line = "--" if name.endswith("-psnr") else "-"
            self.codecs.append(
                Codec(name, False, Look(_FIRST_CLASSICAL + i, MARKERS[(i + 3) % len(MARKERS)], line, False))
            )
        self.clips = [c for c in result.anchor_curves if any(p.clip == c for p in result.points)]
        self.clips += [c for c in dict.fromkeys(p.clip for p in self.points) if c not in self.clips]
        self._by_codec = {}
        for p in sorted(self.points, key=lambda p: p.setting):
            self._by_codec.setdefault((p.clip, p.codec), []).append(p)

    def of(self, clip: str, codec: str) -> list[Point]:
        """The points of a codec on a clip, by rising setting."""
        return self._by_codec.get((clip, codec), [])

    def by_name(self, name: str) -> Codec | None:
        """The codec of this name, None for one that the report does not have."""
        return next((c for c in self.codecs if c.name == name), None)

    @cached_property
    def metrics(self) -> list[Metric]:
        """Those that at least one point has."""
        return [m for m in METRICS if any(m.value(p) is not None for p in self.points)]

    @cached_property
    def anchor(self) -> str | None:
        """The first classical codec with a curve: what speeds are held against."""
        return next((c.name for c in self.codecs if not c.ours), None)

    def curve(self, clip: str, codec: str) -> Curve:
        """(bits for a luma sample, PSNR), measured here or before."""
        return self.result.anchor_curves.get(clip, {}).get(codec) or [(p.bpp, p.psnr) for p in self.of(clip, codec)]

    def plotted(self, clip: str, codec: str, metric: Metric) -> list[tuple[float, float, str]]:
        """Points by rising rate: bits for a luma sample, the metric, and what to say about the point. ``clip`` may be
        MEAN: the means of rate and metric over all clips at one setting, for settings that every clip has."""
        if clip == MEAN:
            found = self._mean(codec, metric)
        elif metric.key == "psnr" and codec in self.result.anchor_curves.get(clip, {}):
            found = [(bpp, value, "") for bpp, value in self.curve(clip, codec)]
        else:
            values = [(p, metric.value(p)) for p in self.of(clip, codec)]
            found = [(p.bpp, value, f"setting {p.setting:g}") for p, value in values if value is not None]
        return sorted(found)

    def _mean(self, codec: str, metric: Metric) -> list[tuple[float, float, str]]:
        by_setting: dict[float, list[tuple[float, float]]] = {}
        for clip in self.clips:
            for p in self.of(clip, codec):
                if (value := metric.value(p)) is not None:
                    by_setting.setdefault(p.setting, []).append((p.bpp, value))
        whole = {s: np.mean(values, axis=0) for s, values in by_setting.items() if len(values) == len(self.clips)}
        return [(float(bpp), float(value), f"setting {s:g}") for s, (bpp, value) in whole.items()]

    def bd(self, anchor: str, codec: str) -> dict[str, BdResult]:
        """By clip: as the bench found it, or from the curves for pairs that it did not compare."""
        found = self.result.bd.get(anchor, {}).get(codec)
        if found:
            return found
        pairs = {clip: (self.curve(clip, anchor), self.curve(clip, codec)) for clip in self.clips}
        return {clip: bd(a, b) for clip, (a, b) in pairs.items() if a and b}

    def speed(self, codec: str) -> Speed:
        """A codec's figures over its timed points of all clips."""
        points = [p for p in self.points if p.codec == codec]
        timed = [p for p in points if p.encode_s is not None and p.decode_s is not None]
        samples = sum(p.width * p.height * p.frames for p in timed) / 1e6
        first = [1000 * p.first_frame_s for p in timed if p.first_frame_s is not None]
        memory = [
            max((m for p in points if (m := getattr(p, name)) is not None), default=None)
            for name in ("encode_memory", "decode_memory")
        ]
        ratio = next((row.decode_ratio for row in self.result.speeds if row.codec == codec), None)
        rate, clips = (
            mean_bd(self.bd(self.anchor, codec).values()) if self.anchor and self.anchor != codec else (None, 0)
        )
        encode, decode = (
            samples / sum(getattr(p, name) for p in timed) if timed else None for name in ("encode_s", "decode_s")
        )
        threads = max((p.threads for p in timed if p.threads is not None), default=None)
        return Speed(
            encode,
            decode,
            float(np.mean(first)) if first else None,
            *memory,
            threads,
            ratio,
            0.0 if codec == self.anchor else rate,
            clips,
        )
