"""The findings of a bench as files: points.tsv, report.json and rd.png."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuralcodec import __version__
from neuralcodec.bench.bd import mean_bd
from neuralcodec.bench.ours import codec_name
from neuralcodec.bench.points import curve
from neuralcodec.bench.run import Plan, Result
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import OutputError

COLUMNS = ("clip", "codec", "setting", "width", "height", "frames", "bits", "file_bytes", "bpp", "psnr_y", "psnr_u", "psnr_v", "psnr", "encode_s",
           "decode_s", "first_frame_s")


def write_report(folder: Path, plan: Plan, result: Result) -> list[Path]:
    """Write all files into ``folder``, made where it is missing; returns them. Without matplotlib there is no plot. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "points.tsv", folder / "report.json"]
        written[0].write_text(to_tsv(result))
        written[1].write_text(json.dumps(to_json(plan, result), indent=1) + "\n")
        if (picture := plot(folder / "rd.png", plan, result)) is not None:
            written.append(picture)
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: {error.strerror}") from error
    return written


def to_tsv(result: Result) -> str:
    """One line for each point, empty where a time was not taken."""
    lines = ["\t".join(COLUMNS)]
    for point in result.points:
        values = point.to_dict()
        lines.append("\t".join("" if values[c] is None else f"{values[c]:.6g}" if isinstance(values[c], float) else str(values[c]) for c in COLUMNS))
    return "\n".join(lines) + "\n"


def to_json(plan: Plan, result: Result) -> dict[str, Any]:
    """Everything: program, machine, plan, points, BD figures, tables, failures."""
    loaded = by_name(plan.model)
    means = {a: {c: dict(zip(("bd_rate", "clips"), mean_bd(clips.values()), strict=True)) for c, clips in codecs.items()}
             for a, codecs in result.bd.items()}
    # Names without folders: reports are for other machines too.
    settings = asdict(plan) | {"anchors": sorted(plan.anchors), "clips": [Path(c).name for c in plan.clips], "model": Path(plan.model).name}
    return {
        "program": f"neuralcodec {__version__}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "system": platform.platform()},
        "model": {"name": loaded.name, "identity": loaded.identity.hex()},
        "plan": settings,
        "points": [p.to_dict() for p in result.points],
        "bd": {a: {c: {clip: asdict(b) for clip, b in clips.items()} for c, clips in codecs.items()} for a, codecs in result.bd.items()},
        "bd_mean": means,
        "frame_kinds": [row.to_dict() for row in result.kinds],
        "skipping": [row.to_dict() for row in result.saec],
        "widths": [row.to_dict() for row in result.widths],
        "failures": result.failures,
    }


def plot(path: Path, plan: Plan, result: Result) -> Path | None:
    """Rate-distortion curves, one picture for each clip; None without matplotlib or anything to draw."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError:
        return None
    clips = [c for c in result.anchor_curves if any(p.clip == c for p in result.points)]
    if not clips:
        return None
    columns = min(3, len(clips))
    rows = -(-len(clips) // columns)
    figure = Figure(figsize=(5.2 * columns, 4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, clip in zip(axes.flat, clips, strict=False):
        names = [*(codec_name(level) for level in plan.levels), *plan.against]
        for name in names:
            points = sorted(result.anchor_curves[clip].get(name) or curve(result.of(clip, name)))
            if points:
                axis.plot(*zip(*points, strict=True), "o-" if name.startswith("ours") else "s--", markersize=3.5, linewidth=1.2, label=name)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(clip, fontsize=10)
        axis.set_xlabel("bits per luma sample")
        axis.set_ylabel("PSNR 6:1:1, dB")
        axis.grid(which="both", alpha=0.25)
        axis.legend(fontsize=7)
    for axis in list(axes.flat)[len(clips):]:
        axis.axis("off")
    figure.savefig(path, dpi=110)
    return path
