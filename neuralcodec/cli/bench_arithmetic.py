"""``ncodec bench --arithmetic``: exact pictures beside the same model in floating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import Talk

if TYPE_CHECKING:
    from neuralcodec.bench.arithmetic import SpeedRow
    from neuralcodec.bench.compare import VariantRow
    from neuralcodec.bench.points import Clip
    from neuralcodec.bench.table import Table


def run_arithmetic(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    """Returns the exit code. Raises NcodecError and click.UsageError."""
    from neuralcodec.bench import arithmetic
    from neuralcodec.bench.check import check
    from neuralcodec.bench.plan import Plan
    from neuralcodec.cli.bench_modes import Failures
    from neuralcodec.cli.bench_tables import show, variants_table
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.codecs.twins import float_twin
    from neuralcodec.pipeline import choose_device
    from neuralcodec.pipeline.device import core_count

    if not clips:
        raise click.UsageError("Missing argument 'CLIP...'.")
    loaded = by_name(options["model"] or DEFAULT_MODEL)
    float_twin(loaded)  # refuses a model that has none
    levels = options["levels"] or tuple(range(1, loaded.levels + 1))
    qualities = options["qualities"] or Plan.qualities
    check(loaded, levels, qualities)
    conditions = {"gop": options["gop"], "threads": options["threads"] or core_count()}
    device, middle = choose_device(options["device"]), sorted(qualities)[len(qualities) // 2]
    failures, speeds, costs = Failures(talk), {}, []
    count = len(dict.fromkeys(clips)) * arithmetic.step_count(levels, qualities)
    with talk.steps("bench", count) as step:

        def measure(clip: Clip) -> None:
            speeds[clip.name] = arithmetic.speeds(
                clip, loaded, levels, middle, device=device, rounds=arithmetic.ROUNDS, on_step=step, **conditions)
            costs.extend(arithmetic.costs(clip, loaded, levels, qualities, on_step=step, **conditions))

        failures.read(clips, options["frames"], measure)
    if speeds:
        show([_speed_table(speeds, conditions["threads"], middle)])
    if costs:
        show([_cost_table(costs), variants_table("Exact and in floating point, by quality", costs)])
    return failures.code


def _speed_table(found: Mapping[str, Sequence[SpeedRow]], threads: int, quality: float) -> Table:
    from neuralcodec.bench.arithmetic import ROUNDS
    from neuralcodec.bench.table import Table

    rows = []
    for clip, levels in found.items():
        for row in levels:
            spent = [1000 * figure / row.frames for times in (row.exact, row.floating) for figure in (min(times), sorted(times)[len(times) // 2])]
            rows.append((clip, row.codec, *spent, row.least, row.median))
    columns = ("clip", "codec", "exact ms", "median", "float ms", "median", "exact / float", "median")
    notes = (f"Milliseconds a frame, the least and the median of {ROUNDS} rounds in turn, on {threads} threads, end to end, at quality {quality:g}.",)
    return Table("Decoding exactly and in floating point", "", columns, tuple(rows), notes, ("", "", *(".1f",) * 4, ".3f", ".3f"))


def _cost_table(rows: Sequence[VariantRow]) -> Table:
    from neuralcodec.bench.table import Table

    compared = [r for r in rows if r.codec != r.against]
    cells: list[tuple] = [(r.codec, r.against, r.clip, r.bd_rate, r.bd_psnr) for r in compared]
    for codec in dict.fromkeys(r.codec for r in compared):
        own = [r for r in compared if r.codec == codec and r.bd_rate is not None]
        if len(own) > 1:
            cells.append((codec, own[0].against, f"mean of {len(own)}", sum(r.bd_rate for r in own) / len(own), None))
    reasons = tuple(sorted({r.reason for r in compared if r.reason}))
    return Table("Cost of exactness", "", ("codec", "against", "clip", "BD-rate %", "BD-PSNR"), tuple(cells), reasons, ("", "", "", "+.2f", "+.3f"))
