"""A subset of a bench that ends within two minutes on two cores: few clips and frames, the outer levels, three points a curve."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from neuralcodec.bench.plan import Plan
from neuralcodec.core.errors import NcodecError
from neuralcodec.media import open_source

SAMPLES = 3_000_000
"""Luma samples of all clips together."""
MOST_FRAMES, LEAST_FRAMES, SENSIBLE_FRAMES = 32, 2, 12
QUALITIES = (30.0, 60.0, 90.0)
SETTINGS = 3


def quick(plan: Plan, *, levels: bool = True, qualities: bool = True, frames: bool = True) -> Plan:
    """A plan cut down. ``levels``, ``qualities``, ``frames``: whether these may be changed; two clips at most stay, one where two would leave less than
    SENSIBLE_FRAMES frames of each."""
    samples: dict[str, int] = {}
    unreadable = []
    for path in plan.clips:
        try:
            with contextlib.closing(open_source(path, audio=False)) as source:
                samples[path] = source.properties.width * source.properties.height
        except NcodecError:
            unreadable.append(path)  # stays, so that the bench says why
        if len(samples) == 2:
            break
    two = 2 * SENSIBLE_FRAMES * max(samples.values(), default=1) <= SAMPLES
    clips = list(samples)[: 2 if two else 1]
    share = SAMPLES // max(1, sum(samples[c] for c in clips))
    return replace(plan, clips=(*clips, *unreadable), memory=False, settings=plan.settings or SETTINGS,
                   levels=tuple(dict.fromkeys((plan.levels[0], plan.levels[-1]))) if levels and plan.levels else plan.levels,
                   qualities=QUALITIES if qualities else plan.qualities,
                   frames=min(MOST_FRAMES, max(LEAST_FRAMES, share)) if frames else plan.frames)
