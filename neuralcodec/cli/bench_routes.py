"""``ncodec bench --routes``: AdaNIC's capacities, by block, by picture and everywhere the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import Talk

if TYPE_CHECKING:
    from neuralcodec.bench.routes import RoutePoint


def run_routes(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    """Returns the exit code. Raises NcodecError and click.UsageError."""
    from neuralcodec.bench import routes
    from neuralcodec.bench.check import check
    from neuralcodec.bench.plan import Plan
    from neuralcodec.cli.bench_modes import Failures
    from neuralcodec.cli.bench_tables import show
    from neuralcodec.codecs.coders import place
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.pipeline import choose_device
    from neuralcodec.pipeline.device import core_count

    if not clips:
        raise click.UsageError("Missing argument 'CLIP...'.")
    loaded = by_name(options["model"] or DEFAULT_MODEL)
    qualities, threads = options["qualities"] or Plan.qualities, options["threads"] or core_count()
    count = len(dict.fromkeys(clips)) * routes.step_count(loaded, qualities)
    check(loaded, (1,), qualities)
    device = choose_device(options["device"])
    place(loaded.model, device)
    failures = Failures(talk)
    points: list[RoutePoint] = []
    with talk.steps("bench", count) as step:
        failures.read(clips, 1, lambda clip: points.extend(routes.measure(clip, loaded, qualities, threads=threads, device=device, on_step=step)))
    if points:
        show(routes.tables(points, (f"{len(set(p.clip for p in points))} pictures at qualities {', '.join(f'{q:g}' for q in qualities)}, {threads} threads, {device}.",)))
    return failures.code
