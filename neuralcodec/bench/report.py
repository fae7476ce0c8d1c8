"""The findings of a bench as files: points.tsv, report.json and index.html."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuralcodec import __version__
from neuralcodec.bench import cache
from neuralcodec.bench.bd import BdResult, mean_bd
from neuralcodec.bench.conditions import condition
from neuralcodec.bench.plan import Plan, Result
from neuralcodec.bench.table import Table, tsv
from neuralcodec.codecs.registry import by_name
from neuralcodec.core.errors import OutputError, UsageError

COLUMNS = ("clip", "codec", "setting", "width", "height", "frames", "bits", "file_bytes", "bpp", "psnr_y", "psnr_u", "psnr_v", "psnr", "psnr_rgb",
           "ms_ssim", "xpsnr", "vmaf", "encode_s", "encode_first_s", "decode_s", "first_frame_s", "warmup_s", "reference_s", "threads", "encode_memory",
           "decode_memory", "measured", "program", "commit", "processor")
TABLES = "tables.json"


def write_report(folder: Path, plan: Plan, result: Result) -> tuple[list[Path], str]:
    """Write all files into ``folder``, made where it is missing; returns them, and why there is no page (empty if there is one). The page shows the
    papers' tables that ``write_tables`` left in the folder. Raises OutputError."""
    from neuralcodec.bench.page import write_page

    about, why = facts(plan.model), ""
    document = to_json(plan, result, about)
    written = [_write(folder / "points.tsv", to_tsv(result, about)), _write(folder / "report.json", json.dumps(document, indent=1) + "\n")]
    try:
        written.append(write_page(folder / "index.html", plan, result, tables=read_tables(folder), about=about))
    except UsageError as error:
        why = str(error)
    return written, why


def write_tables(folder: Path, tables: Sequence[Table]) -> list[Path]:
    """The papers' tables: one TSV file each, and all of them as JSON. Raises OutputError."""
    written = [_write(folder / TABLES, json.dumps([t.to_dict() for t in tables], indent=1) + "\n")]
    return written + [_write(folder / f"table-{number}.tsv", tsv(table)) for number, table in enumerate(tables, 1)]


def read_tables(folder: Path) -> list[Table]:
    """What ``write_tables`` left; nothing where it left nothing or what is there cannot be read."""
    try:
        return [Table.from_dict(d) for d in json.loads((folder / TABLES).read_text())]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise OutputError(f"{error.filename or path}: {error.strerror}") from error
    return path


def facts(model: str) -> dict[str, Any]:
    """Date, program, commit, model, machine and versions: what a figure needs to be believed."""
    loaded = by_name(model)
    return {"date": cache.now(), "program": f"neuralcodec {__version__}", "commit": commit(), "model": {"name": loaded.name, "identity": loaded.identity.hex()},
            "machine": cache.machine(), "versions": cache.versions()}


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that the program runs from, with "-dirty" where tracked files differ from it; None outside a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "setup.cfg").is_file() or not (checkout / ".git").exists():
        return None
    try:
        answers = [subprocess.run(["git", "-C", str(checkout), *command], check=True, capture_output=True, text=True, timeout=20).stdout.strip()
                   for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0] + ("-dirty" if answers[1] else "")


def to_tsv(result: Result, about: dict[str, Any]) -> str:
    """One line for each point, empty where a figure was not taken."""
    common = {"program": about["program"], "commit": about["commit"], "processor": about["machine"]["processor"]}
    lines = ["\t".join(COLUMNS)]
    for point in result.points:
        values = point.to_dict() | common
        lines.append("\t".join(_cell(values[c]) for c in COLUMNS))
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_json(plan: Plan, result: Result, about: dict[str, Any]) -> dict[str, Any]:
    """Everything: program, machine, plan, literal options, points, BD figures, tables, failures."""
    # Names without folders: reports are for other machines too.
    settings = asdict(plan) | {"anchors": sorted(plan.anchors), "clips": [Path(c).name for c in plan.clips], "model": Path(plan.model).name,
                               "cache": plan.cache is not None}
    says = {p.codec: p.encoder for p in result.points if p.encoder}
    return about | {
        "plan": settings,
        "conditions": {name: condition(name).facts() | {"says": says.get(name, "")} for name in plan.against},
        "points": [{k: v for k, v in p.to_dict().items() if k != "encoder"} for p in result.points],
        "bd": _bd(result.bd),
        "bd_mean": _means(result.bd),
        "bd_measures": {name: {"clips": _bd(found), "mean": _means(found)} for name, found in result.bd_measures.items()},
        "speeds": [asdict(row) for row in result.speeds],
        "frame_kinds": [row.to_dict() for row in result.kinds],
        "skipping": [row.to_dict() for row in result.saec],
        "widths": [row.to_dict() for row in result.widths],
        "notes": result.notes,
        "failures": result.failures,
    }


Found = dict[str, dict[str, dict[str, BdResult]]]


def _bd(found: Found) -> dict[str, Any]:
    return {a: {c: {clip: asdict(b) for clip, b in clips.items()} for c, clips in codecs.items()} for a, codecs in found.items()}


def _means(found: Found) -> dict[str, Any]:
    return {a: {c: {"bd_rate": mean_bd(clips.values())[0], "bd_psnr": mean_bd(clips.values(), "psnr")[0], "clips": mean_bd(clips.values())[1],
                    "of": len(clips)} for c, clips in codecs.items()} for a, codecs in found.items()}

