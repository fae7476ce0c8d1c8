"""A bench's findings as one HTML page that needs nothing else: no network, no other file, and no script to be read.

The page's style, script and markup are in assets/; what it shows comes from page_data.py and page_tables.py, its plots from page_plots.py.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralcodec.bench.bd import mean_bd
from neuralcodec.bench.page_data import MARKERS, MEAN, Codec, Metric, View
from neuralcodec.bench.page_pictures import SOURCE, Comparison, comparisons, nearest
from neuralcodec.bench.page_plots import WIDE, Look, Series, curves, frames, lines, number_identifiers, scatter, swatch
from neuralcodec.bench.page_tables import (
    bd_tables,
    frame_table,
    measure_table,
    overlap_table,
    points_table,
    speed_table,
)
from neuralcodec.bench.page_tables_ours import kind_table, level_table, share_tables, variant_tables
from neuralcodec.bench.page_words import about_rows, commands, headline, title, verdicts
from neuralcodec.bench.plan import Plan, Result
from neuralcodec.bench.points import Point
from neuralcodec.bench.table import Table
from neuralcodec.core.errors import OutputError, UsageError

ASSETS = Path(__file__).parent / "assets"


def write_page(path: Path, plan: Plan, result: Result, crops: Sequence[Comparison] | None = None, *, tables: Sequence[Table] = (),
               about: Mapping[str, Any] | None = None) -> Path:
    """Write the page.

    ``crops``: comparisons of pictures (None: those that the result has crops for); ``tables``: the papers' tables; ``about``: what the points were measured with and on (program,
    date, machine, commit, versions), of which mappings are shown flat. Raises UsageError where a package for it is missing, OutputError where
    the file cannot be written."""
    text = page_html(plan, result, crops, tables=tables, about=about)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror}") from error
    return path


def page_html(plan: Plan, result: Result, crops: Sequence[Comparison] | None = None, *, tables: Sequence[Table] = (),
              about: Mapping[str, Any] | None = None) -> str:
    """The page as text, see ``write_page``."""
    try:
        import jinja2
        import matplotlib  # noqa: F401 - page_plots needs it
    except ImportError as error:
        raise UsageError(f"no page: the package {error.name} is missing (pip install 'neuralcodec[bench]')") from error
    view = View(plan, result)
    crops = comparisons(result) if crops is None else crops
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters |= {"cells": _cells, "is_text": _is_text, "figure_of": table_figure}
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    speed, levels, inside, kinds = speed_table(view), level_table(view), [*share_tables(view), *variant_tables(view)], kind_table(view)
    content = {
        "title": title(view), "headline": headline(view, about or {}), "failures": result.failures, "notes": result.notes, "verdicts": verdicts(view),
        "view": view, "codecs": view.codecs, "metrics": view.metrics, "swatches": {c.name: swatch(c.look) for c in view.codecs},
        "bd_tables": bd_tables(view), "measures": measure_table(view), "overlap": overlap_table(view), "rd_figures": rd_figures(view), "speed": speed, "levels": levels,
        "speed_figures": speed_figures(view), "show_speed": bool(speed.rows or len(levels.rows) > 1), "comparisons": [_viewer(view, c) for c in crops], "frame_figures": frame_figures(view, crops),
        "inside": inside or ([kinds] if kinds.rows else []), "kinds": kinds, "papers": tables, "about": about_rows(view, about or {}),
        "commands": commands(view), "css": (ASSETS / "page.css").read_text(encoding="utf-8"), "js": script,
        # Only this script runs, whatever stands in the data.
        "script_hash": f"sha256-{base64.b64encode(digest).decode()}",
    }
    names = (("result", "Result", True), ("rd", "Curves", True), ("speed", "Speed", content["show_speed"]), ("pictures", "Pictures", crops),
             ("frames", "Frames", content["frame_figures"]), ("inside", "Bits", content["inside"]), ("papers", "Papers", tables), ("conditions", "Conditions", True))
    content["sections"] = [(name, text) for name, text, shown in names if shown]
    return number_identifiers(environment.get_template("page.html").render(content))


def rd_figures(view: View) -> list[dict[str, Any]]:
    """The mean (where there are several clips; else the clip, large) and every clip, by every metric."""
    clips = [MEAN, *view.clips] if len(view.clips) > 1 else view.clips
    figures = []
    for number, clip in enumerate(clips):
        plots = []
        for metric in view.metrics:
            series = [(c, view.plotted(clip, c.name, metric)) for c in view.codecs]
            series = [(c, points) for c, points in series if points]
            if not series:
                continue
            drawn = [Series(c.look, [p[0] for p in points], [p[1] for p in points]) for c, points in series]
            label = f"{metric.title}{metric.unit and ', ' + metric.unit}"
            plots.append({
                "metric": metric.key, "hidden": metric != view.metrics[0], "svg": curves(drawn, label), "wide": curves(drawn, label, size=WIDE) if not number else "",
                "points": {c.look.number: [_words(c, p, metric) for p in points] for c, points in series},
                "description": f"Rate-distortion curves, {clip}: {metric.title} over bits per luma sample (logarithmic) of "
                               f"{_listed(c.label for c, _ in series)}. The numbers follow.",
            })
        if plots:
            figures.append({**_clip_title(view, clip), "codecs": [], "plots": plots, "table": points_table(view, clip)})
    return figures


def speed_figures(view: View) -> list[dict[str, Any]]:
    """BD-rate over speed of decoding and encoding, and over work in the decoder for our levels."""
    speeds = [(c, view.speed(c.name)) for c in view.codecs]
    figures = []
    for name, title_ in (("decode", "Decoding speed and BD-rate"), ("encode", "Encoding speed and BD-rate")):
        points = [(c, speed, s.bd_rate) for c, s in speeds if (speed := getattr(s, name)) and s.bd_rate is not None]
        if points:
            figures.append(_scatter(title_, points, f"{name[:-1]}ing, million luma samples a second", view.anchor))
    ours = [c for c in view.codecs if c.ours]
    rates = {c.name: 0.0 if c is ours[0] else mean_bd(view.bd(ours[0].name, c.name).values())[0] for c in ours}
    points = [(c, kmac, rates[c.name]) for c in ours if rates[c.name] is not None and (kmac := _kmac(view, c))]
    if len(points) > 1:
        figures.append(_scatter("What a level saves and costs", points, "decoder, kMAC a luma sample of a P frame", ours[0].label.replace("ours, ", "")))
    return figures


def _scatter(title_: str, points: list[tuple[Codec, float, float]], x_label: str, anchor: str) -> dict[str, Any]:
    drawn = [Series(c.look, [x], [y], c.label.replace("ours, ", "")) for c, x, y in points]
    texts = {c.look.number: [f"{c.label}\n{x:.3g}: BD-rate {y:+.1f} %"] for c, x, y in points}
    told = "; ".join(f"{c.label} {x:.3g}, {y:+.1f} %" for c, x, y in points)
    plot = {"metric": "", "hidden": False, "svg": scatter(drawn, x_label, f"BD-rate against {anchor}, %"), "wide": "", "points": texts,
            "description": f"{title_}: BD-rate in percent over {x_label} (logarithmic). {told}."}
    return {"title": title_, "small": "", "codecs": [], "plots": [plot], "table": None}


def frame_figures(view: View, crops: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Bits and PSNR by frame on each clip: our middle quality, and the others at the rate nearest to it."""
    references = {c.clip: (c.reference, c.setting) for c in crops}
    figures = []
    for clip in view.clips:
        codec, setting = references.get(clip, (None, None))
        ours = view.of(clip, codec or next((c.name for c in view.codecs if c.ours), ""))
        if not ours:
            continue
        reference = next((p for p in ours if p.setting == setting), ours[len(ours) // 2])
        chosen = [reference if c.name == reference.codec else nearest(view.of(clip, c.name), reference.bpp) for c in view.codecs]
        points = [p for p in chosen if p is not None and p.frames > 1]
        if points:
            figures.append(_by_frame(view, clip, points))
    return figures


def _by_frame(view: View, clip: str, points: list[Point]) -> dict[str, Any]:
    looks = {c.name: c for c in view.codecs}
    bits = [Series(looks[p.codec].look, range(p.frames), [max(b, 1) / 1000 for b in p.frame_bits]) for p in points]
    psnr = [Series(looks[p.codec].look, range(p.frames), p.frame_psnr) for p in points]
    texts = {looks[p.codec].look.number: [f"{looks[p.codec].label}\nframe {n} ({k}): {b / 1000:.1f} kbit, {d:.2f} dB"
                                         for n, (k, b, d) in enumerate(zip(p.kinds, p.frame_bits, p.frame_psnr, strict=True))] * 2 for p in points}
    described = f"Kilobits (logarithmic) and PSNR of each frame of {clip}, for {_listed(looks[p.codec].label for p in points)}. Their means and ranges follow."
    plot = {"metric": "", "hidden": False, "svg": frames(bits, psnr), "wide": frames(bits, psnr, size=WIDE), "points": texts, "description": described}
    return {"title": clip, "small": "", "codecs": [looks[p.codec] for p in points], "plots": [plot], "table": frame_table(points, lambda name: looks[name].label)}


def table_figure(table: Table) -> dict[str, Any]:
    """The figure that a table's ``plot`` asks for: its lines, labelled at their ends."""
    which, x, y = (table.columns.index(name) for name in table.plot)
    series: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        if isinstance(row[x], int | float) and isinstance(row[y], int | float):
            series.setdefault(str(row[which]), []).append((row[x], row[y]))
    drawn = [Series(Look(n, MARKERS[n % len(MARKERS)]), *zip(*sorted(points), strict=True), label=name) for n, (name, points) in enumerate(series.items())]
    texts = {n: [f"{name}\n{a:.4g}: {b:.4g}" for a, b in sorted(points)] for n, (name, points) in enumerate(series.items())}
    plots = [] if not drawn else [{
        "metric": "", "hidden": False, "svg": lines(drawn, table.columns[x], table.columns[y]),
        "wide": lines(drawn, table.columns[x], table.columns[y], size=WIDE), "points": texts,
        "description": f"{table.title}: {table.columns[y]} over {table.columns[x]} for {_listed(series)}. The numbers are in the table above."}]
    return {"title": table.title, "small": table.source, "codecs": [], "plots": plots, "table": None}


def _viewer(view: View, comparison: Comparison) -> dict[str, Any]:
    place, shots = comparison.place, []
    rate = next((s.bpp for s in comparison.shots if (s.codec, s.setting) == (comparison.reference, comparison.setting)), None)
    for shot in comparison.shots:
        codec = view.by_name(shot.codec)
        figures = []
        if shot.bpp is not None:
            beside = f", {100 * (shot.bpp / rate - 1):+.0f} % rate".replace("-", "\N{MINUS SIGN}") if rate and shot.codec != comparison.reference else ""
            figures.append(f"{shot.bpp:.4f} bits/sample{beside}")
        if shot.psnr is not None:
            figures.append(f"{shot.psnr:.2f} dB" + (f", this frame {shot.frame_psnr:.2f} dB" if shot.frame_psnr is not None else ""))
        label = "Source" if shot.codec == SOURCE else codec.label if codec else shot.codec
        shots.append({"label": label, "codec": codec, "lines": figures or ["the input"], "data": base64.b64encode(shot.png).decode()})
    return {"title": comparison.clip, "frame": place.frame, "x": place.x, "y": place.y, "width": place.width, "height": place.height, "shots": shots}


def _words(codec: Codec, point: tuple[float, float, str], metric: Metric) -> str:
    bpp, value, text = point
    return f"{codec.label}{text and ', ' + text}\n{bpp:.4f} bits/sample, {value:.{metric.digits}f}{metric.unit and ' ' + metric.unit}"


def _kmac(view: View, codec: Codec) -> float | None:
    return next((p.extra.get("kmac_p") for p in view.points if p.codec == codec.name), None)


def _clip_title(view: View, clip: str) -> dict[str, str]:
    if clip == MEAN:
        return {"title": f"Mean over {len(view.clips)} clips", "small": ""}
    point = next(p for p in view.points if p.clip == clip)
    return {"title": clip, "small": f"{point.width}x{point.height}, {point.frames} frame{'s' * (point.frames > 1)}"}


def _listed(names: Iterable[str]) -> str:
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last


def _cells(table: Table) -> list[list[str]]:
    """A table's cells as text, with a real minus sign before numbers."""
    rows = table.text_rows()
    return [[text.replace("-", "\N{MINUS SIGN}", 1) if not isinstance(value, str) and text.startswith("-") and len(text) > 1 else text
             for text, value in zip(texts, values, strict=True)] for texts, values in zip(rows, table.rows, strict=True)]


def _is_text(table: Table, column: int) -> bool:
    """Whether a column is set to the left: text, and not in place of figures."""
    cells = [row[column] for row in table.rows]
    return not (table.formats and table.formats[column]) and any(isinstance(c, str) for c in cells) and not any(isinstance(c, int | float) for c in cells)
