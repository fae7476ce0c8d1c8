"""``ncodec bench --tables``: the papers' tables from our own models.

Work and memory come from counters in the running modules, skipped shares and rates from real streams, times from
decoding them. Rows of systems that do not exist yet stay, marked missing; they fill as models of these systems are
installed. Other readers of the papers' figures find them in the tables as rows of their own, named so.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from neuralcodec.bench import cache, ours
from neuralcodec.bench.keep import keeping, model_facts
from neuralcodec.bench.points import Clip, Point
from neuralcodec.bench.table import Cell, Table, tsv
from neuralcodec.bench.tables_cgslim import (
    LEARNED,
    CurveSetting,
    complexity_shares,
    curve_settings,
    skip_shares,
    slimming_curves,
)
from neuralcodec.bench.tables_counting import COUNT_SIZE, CodingCount, count_coding, count_frames, table_parts
from neuralcodec.bench.tables_slimvc import memory_by_width, uniform_tables, work_by_width
from neuralcodec.bench.tables_systems import Setting, Usable
from neuralcodec.bench.tables_times import decoding_times
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.registry import by_name, installed
from neuralcodec.core.errors import ModelError, NcodecError, UsageError

__all__ = ["Cell", "Table", "installed_models", "paper_tables", "tsv"]


def installed_models() -> list[LoadedModel]:
    """All models of the registry that this program can load and that have P frames, each with tables of its own."""
    models = []
    for name in installed():
        try:
            models.append(by_name(name))
        except ModelError:
            continue  # made for another version; `ncodec models` says so
    return [loaded for loaded in models if not loaded.intra_only]


def paper_tables(
    loaded_models: Sequence[LoadedModel],
    clips: Sequence[Clip],
    *,
    levels: Sequence[int] = (1, 2, 3),
    qualities: Sequence[float] = (10.0, 30.0, 50.0, 70.0, 90.0),
    frames: int | None = None,
    on_progress: Callable[[int, int, str], None] = lambda done, count, text: None,
    gop: int = 32,
    device: torch.device = ours.CPU,
    threads: int | None = None,
    repeats: int = 3,
    count_size: tuple[int, int] = COUNT_SIZE,
    store: cache.Store | None = None,
    measure: Callable[..., Point] | None = None,
    on_failure: Callable[[Clip, NcodecError], None] | None = None,
) -> list[Table]:
    """Tables 1 to 3 and Figure 3 of paper 000, Table 2 and Figure 3 of paper 001.

    ``levels`` are shown where a model has them; ``frames``: only the first of each clip; ``threads`` of the networks in
    timed runs (None: all processors), which are repeated ``repeats`` times and run alone, after everything else;
    ``count_size`` is the (height, width), in multiples of 64, of the pictures that work and memory are counted on; what
    was measured is kept in ``store`` and taken from there; ``measure`` stands in for ours.measure. ``on_progress(done,
    all, what comes next)`` before each step, and at the end. A clip on which something fails is left out of all tables
    of points and told to ``on_failure`` (None: the error is raised); where none is left there are no tables. Raises
    UsageError when there is nothing to measure."""
    if not loaded_models or not clips or not qualities or not levels or min(levels) < 1:
        raise UsageError("tables need a model, a clip, a quality and levels from 1 on")
    if any(side < 64 or side % 64 for side in count_size):
        raise UsageError(f"tables count on pictures with sides that are multiples of 64, not {count_size}")
    for names in ([loaded.name for loaded in loaded_models], [clip.name for clip in clips]):
        if len(set(names)) < len(names):
            raise UsageError(
                f"tables tell models and clips apart by name, and one comes twice among {', '.join(names)}"
            )
    clips = [replace(clip, frames=clip.frames[:frames]) for clip in clips]
    store = store or cache.Store(None)
    setting = Setting(gop, device, threads, repeats, store)
    measure = measure or keeping(store)
    levels, qualities = sorted(set(levels)), sorted(set(qualities))
    settings = {loaded.name: curve_settings(loaded, levels) for loaded in loaded_models}
    steps = _Steps(
        on_progress,
        sum(
            len(_width_tables(loaded))
            + len(set(map(_codec, settings[loaded.name]))) * len(clips) * len(qualities)
            + len([None, *(n for n in levels if n <= loaded.levels)])
            for loaded in loaded_models
        ),
    )
    usable = Usable(clips, on_failure)
    counts = {loaded.name: _count(loaded, count_size, store, steps) for loaded in loaded_models}
    points = {
        loaded.name: _points(loaded, settings[loaded.name], usable, qualities, setting, measure, steps)
        for loaded in loaded_models
    }
    if not (left := usable.names()):
        return []
    points = {
        name: {one: [p for p in found if p.clip in left] for one, found in own.items()} for name, own in points.items()
    }
    # The paper's Table 2 is at the highest complexity.
    highest = {
        name: next(p for s, p in by_setting.items() if s.series == LEARNED and s.level == 1)
        for name, by_setting in points.items()
    }
    today = datetime.date.today().isoformat()
    size = f"{count_size[1]}x{count_size[0]}"
    counted = (f"Counted on pictures of {size}; work and activations grow with the number of luma samples; {today}.",)
    days = {p.measured[:10] or today for own in points.values() for found in own.values() for p in found}
    measured = setting.notes(usable.clips, days)
    tables = [
        complexity_shares(loaded_models, counts, levels, counted),
        skip_shares(loaded_models, highest, qualities, measured),
        slimming_curves(
            loaded_models, points, counts, (f"Qualities {', '.join(f'{q:g}' for q in qualities)}.", *measured)
        ),
        work_by_width(loaded_models, counts, levels, counted),
        memory_by_width(loaded_models, counts, levels, counted),
        decoding_times(loaded_models, usable, levels, qualities[len(qualities) // 2], setting, steps.next),
    ]
    on_progress(steps.count, steps.count, "")
    return tables


class _Steps:
    """Counts steps for ``on_progress``."""

    def __init__(self, on_progress: Callable[[int, int, str], None], count: int) -> None:
        self._on_progress, self.count, self.done = on_progress, count, 0

    def next(self, text: str) -> None:
        self._on_progress(self.done, self.count, text)
        self.done += 1


def _width_tables(loaded: LoadedModel) -> list[bytes]:
    return list(dict.fromkeys([*uniform_tables(loaded), *loaded.widths]))


def _count(loaded: LoadedModel, size: tuple[int, int], store: cache.Store, steps: _Steps) -> dict[bytes, CodingCount]:
    counts, parts, pictures = {}, table_parts(loaded), count_frames(size)
    for number, widths in enumerate(tables := _width_tables(loaded), 1):
        steps.next(f"{loaded.name}: counting, widths {number} of {len(tables)}")
        key = cache.key(
            "counts", **model_facts(loaded), widths=widths.hex(), size=size, program=cache.program(ours=True)
        )
        if (found := store.get(key)) is not None:
            counts[widths] = CodingCount.from_dict(found)
            continue
        counts[widths] = count_coding(loaded, widths, pictures, parts)
        store.put(key, asdict(counts[widths]))
    return counts


def _codec(setting: CurveSetting) -> tuple[bytes, bool]:
    """What of a setting decides over pictures and rate."""
    return setting.widths, setting.skip


def _points(
    loaded: LoadedModel,
    settings: Sequence[CurveSetting],
    usable: Usable,
    qualities: Sequence[float],
    setting: Setting,
    measure: Callable[..., Any],
    steps: _Steps,
) -> dict[CurveSetting, list[Point]]:
    """Points of all clips and qualities by setting; settings that are the same codec are measured once."""
    measured: dict[tuple[bytes, bool], list[Point]] = {}
    for one in settings:
        if _codec(one) in measured:
            continue
        own = measured[_codec(one)] = []
        for clip in usable.clips:
            for quality in qualities:
                steps.next(f"{loaded.name}, {one.series} {one.name}: {clip.name}, quality {quality:g}")
                take = functools.partial(
                    measure,
                    clip,
                    loaded,
                    one.level,
                    quality,
                    gop=setting.gop,
                    variant=one.variant,
                    device=setting.device,
                    timed=False,
                )
                if (point := usable.attempt(clip, take)) is None:
                    break
                own.append(point)
    return {one: measured[_codec(one)] for one in settings}
