"""The README's block of current figures, made from a report: wins and losses alike, with date, machine and commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuralcodec.bench.metrics import MEASURES
from neuralcodec.bench.ours import codec_name
from neuralcodec.core.errors import InputError, OutputError

BEGIN, END = "<!-- bench figures: begin (make figures writes what is between these lines) -->", "<!-- bench figures: end -->"


def rewrite(report: Path, readme: Path) -> None:
    """Put a report's figures between the two marked lines of a Markdown file. Raises InputError for a report that is none or a file without the
    marks, OutputError where it cannot be written."""
    try:
        document = json.loads(report.read_text())
        block = figures(document)
    except OSError as error:
        raise InputError(f"{report}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{report}: no report of a bench (report.json)") from error
    try:
        text = readme.read_text()
    except OSError as error:
        raise InputError(f"{readme}: {error.strerror}") from error
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{readme}: the lines {BEGIN!r} and {END!r} are missing")
    try:
        readme.write_text(f"{head}{BEGIN}\n\n{block}\n{END}{tail}")
    except OSError as error:
        raise OutputError(f"{readme}: {error.strerror}") from error


def _effort(effort: int | None) -> str:
    return "default effort" if effort is None else f"effort {effort}"


def figures(document: dict[str, Any]) -> str:
    """Markdown of a report."""
    plan, machine = document["plan"], document["machine"]
    clips = list(dict.fromkeys(p["clip"] for p in document["points"]))
    frames = sorted({p["frames"] for p in document["points"]})
    counted = "-".join(map(str, dict.fromkeys((frames[0], frames[-1]))))
    about = (f"Measured {document['date'][:10]} at commit {document['commit'] or 'unknown'} with model {document['model']['name']} "
             f"({document['model']['identity'][:12]}) on {machine['processor']}, {machine['cores']} cores: {len(clips)} clips, {counted} frames each, "
             f"qualities {', '.join(f'{q:g}' for q in plan['qualities'])}, {_effort(plan.get('effort', 0))}. Positive BD-rate: we need more bits at equal quality. In brackets: over how "
             "many clips there is a figure, where on others the curves share too little.")
    lines = [about]
    levels = [codec_name(level) for level in plan["levels"]]
    for title, means in _means(document):
        rows = [[anchor, *(_mean(codecs.get(level)) for level in levels)] for anchor, codecs in means.items()]
        lines += ["", *_table([f"BD-rate, {title}, against", *(level.replace("ours-l", "level ") for level in levels)], rows)]
    extremes = _extremes(document, levels[0]) if levels else []
    if extremes:
        lines += ["", *extremes]
    if document["speeds"]:
        lines += ["", *_table(["codec", "encode, frames/s", "decode, frames/s", "first picture, ms", "decoding time / x264's", "peak memory encode / decode, MB"],
                              [[s["codec"].replace("ours-l", "level "), f"{s['encode_fps']:.2f}", f"{s['decode_fps']:.2f}", f"{s['first_ms']:.1f}",
                                _number(s["decode_ratio"], ".1f"), " / ".join(_number(m and m / 1e6, ".0f") for m in (s["encode_memory"], s["decode_memory"]))]
                               for s in document["speeds"]])]
    return "\n".join(lines) + "\n"


def _means(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [(MEASURES["psnr"].label, document["bd_mean"])]
    found += [(MEASURES[name].label, entry["mean"]) for name, entry in document["bd_measures"].items()]
    return [(title, means) for title, means in found if means]


def _mean(mean: dict[str, Any] | None) -> str:
    if mean is None:
        return ""
    if mean["bd_rate"] is None:
        return "refused"
    return f"{mean['bd_rate']:+.1f} %" + (f" ({mean['clips']} of {mean['of']})" if mean["clips"] < mean["of"] else "")


def _extremes(document: dict[str, Any], level: str) -> list[str]:
    """The clip where we lose most and the one where we win most (or lose least), against each anchor."""
    lines = []
    for anchor, codecs in document["bd"].items():
        rates = sorted((b["rate"], clip) for clip, b in codecs.get(level, {}).items() if b["rate"] is not None)
        if len(rates) > 1 and not anchor.startswith("ours"):
            lines.append(f"- against {anchor}: worst clip {rates[-1][1]} ({rates[-1][0]:+.1f} %), best {rates[0][1]} ({rates[0][0]:+.1f} %)")
    return lines


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
