"""Decoding times as in paper 000, Table 3, and what skipping saves in entropy decoding (its section 4.3, "Running Time
Reduction of our SaEC")."""

from __future__ import annotations

import datetime
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from neuralcodec.bench import ours
from neuralcodec.bench.points import Clip
from neuralcodec.bench.table import Cell, Table
from neuralcodec.bench.tables_systems import CGSLIM_PAPER, HOSTS, Setting, Usable, found, full, label, printed
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.pipeline import DecodeOptions, EncodeOptions

TABLE_3 = {"DVC": (163, 140, 107, 79), "FVC": (127, 107, 89, 71), "DCVC": (283, 237, 189, 144)}
"""The paper's milliseconds a frame at 1080p, on hardware that it does not name: host, then levels 1, 2 and 3."""
DAY = "day"


def decoding_times(
    models: Sequence[LoadedModel],
    usable: Usable,
    levels: Sequence[int],
    quality: float,
    setting: Setting,
    on_step: Callable[[str], None],
) -> Table:
    """Table 3: milliseconds a frame for decoding, by level, mean over the clips that are usable to the end. Nothing
    else of this program may run meanwhile."""
    heads = ("original", *(f"level {n}" for n in levels))
    rows: list[tuple[Cell, ...]] = []
    timed: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for host in HOSTS:
        rows.append((f"cgSlimDecoder({host})", "as printed in the paper, 1080p", *printed(TABLE_3[host], levels)))
        if not found(models, host.lower()):
            rows.append((f"cgSlimDecoder({host})", "end to end", *[None] * len(heads)))
    for loaded in models:
        own = timed[loaded.name] = []
        for head, level in zip(heads, (None, *levels), strict=True):
            if level is not None and level > loaded.levels:
                own.append({})
                continue
            on_step(f"{loaded.name}: decoding time, {head}")
            used = replace(loaded, widths=(full(loaded), *loaded.widths[1:])) if level is None else loaded
            own.append(_by_clip(used, usable, level or 1, quality, setting))
    left = usable.names()
    kept = {name: [[f for clip, f in clips.items() if clip in left] for clips in own] for name, own in timed.items()}
    days = {figures[DAY] for own in kept.values() for clips in own for figures in clips}
    for loaded in models:
        own = kept[loaded.name]
        for what in dict.fromkeys(name for clips in own for figures in clips for name in figures if name != DAY):
            means = (statistics.fmean(figures[what] for figures in clips) if clips else None for clips in own)
            rows.append((label(loaded), what, *means))
    return Table(
        "Decoding time, milliseconds a frame",
        f"{CGSLIM_PAPER}, Table 3",
        ("system", "what", *heads),
        tuple(rows),
        (
            "End to end: a file in memory to 8-bit planes in memory, mean over clips;",
            f"median of {setting.repeats} runs after one that does not count.",
            "The exact path (priors and entropy decoding) runs in a thread of its own beside the pictures.",
            "Alone: on one thread, without pictures.",
            f"Quality {quality:g}. {setting.threads_note()}",
            *setting.notes(usable.clips, days),
        ),
        ("", "", *[".2f"] * len(heads)),
    )


def _by_clip(
    loaded: LoadedModel, usable: Usable, level: int, quality: float, setting: Setting
) -> dict[str, dict[str, Any]]:
    """Milliseconds by what was timed, and the day on which, of each clip."""
    found = {}
    for clip in usable.clips:

        def compute(clip: Clip = clip) -> dict[str, Any]:
            timing = functools.partial(_time, loaded, clip, level, quality, setting)
            return setting.kept(clip, loaded, timing, level=level, quality=quality)

        if (figures := usable.attempt(clip, compute)) is not None:
            found[clip.name] = figures
    return found


def _time(loaded: LoadedModel, clip: Clip, level: int, quality: float, setting: Setting) -> dict[str, Any]:
    options = DecodeOptions(workers=1, threads=setting.threads)
    streams = []
    for modes in (None, ()):
        how = EncodeOptions(level, quality, setting.gop, workers=1, mask_modes=modes)
        streams.append(ours.encode(clip, loaded, how, setting.device).data)
    ours.decode(streams[0], loaded, options, setting.device)
    runs = [ours.decode(streams[0], loaded, options, setting.device) for _ in range(setting.repeats)]
    entropy, parsing = ours.entropy_milliseconds(streams[0], loaded)
    return {
        "end to end": 1000 * statistics.median(r.seconds for r in runs) / len(clip.frames),
        "until the first frame": 1000 * statistics.median(r.first_seconds for r in runs),
        "exact path alone": parsing,
        "entropy decoding alone": entropy,
        "entropy decoding alone, nothing skipped": ours.entropy_milliseconds(streams[1], loaded)[0],
        DAY: datetime.date.today().isoformat(),
    }
