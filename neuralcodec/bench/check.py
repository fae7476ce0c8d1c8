"""What can be refused before anything is measured: levels and qualities, and what this machine lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from neuralcodec.bench import classical, stills
from neuralcodec.bench.conditions import STILLS
from neuralcodec.bench.perceptual import unavailable
from neuralcodec.bench.plan import Plan, Result
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.errors import UsageError
from neuralcodec.pipeline import EncodeOptions


def check(loaded: LoadedModel, levels: Iterable[int], qualities: Iterable[float], effort: int | None = None) -> None:
    """Raises UsageError for a level or an effort that a model lacks and a quality that there is none of."""
    for level in levels:
        if not 1 <= level <= loaded.levels:
            known = ", ".join(map(str, range(1, loaded.levels + 1)))
            raise UsageError(f"level {level}: model {loaded.name!r} has levels {known}")
    EncodeOptions(effort=effort).search_effort(loaded, still=False)
    for quality in qualities:
        EncodeOptions(quality=quality).quality_index()


def check_video(loaded: LoadedModel, option: str) -> None:
    """Raises UsageError for a model without P frames, where an option is about them and about widths unit by unit."""
    if loaded.intra_only:
        raise UsageError(f"{option} is not for model {loaded.name!r}, which codes every frame by itself")


def with_what_there_is(plan: Plan, result: Result) -> Plan:
    """The plan without encoders and measures that this machine lacks; each costs one line of the result."""
    against, measures = [], []
    for name in plan.against:
        reason = stills.missing(name) if name in STILLS else classical.missing(name)
        if reason:
            result.fail(f"{name} is left out: {reason}", UsageError.exit_code)
        else:
            against.append(name)
    for name in plan.measures:
        reason = unavailable(name)
        if reason:
            result.fail(reason, UsageError.exit_code)
        else:
            measures.append(name)
    return replace(plan, against=tuple(against), measures=tuple(measures))
