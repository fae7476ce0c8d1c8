"""The report's page in words: what it says first, conditions, literal commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuralcodec.bench.bd import mean_bd
from neuralcodec.bench.conditions import CONDITIONS, STILLS
from neuralcodec.bench.page_data import View


def title(view: View) -> str:
    """"flagship beside x264, x265 and SVT-AV1"."""
    encoders = [(CONDITIONS | STILLS)[c.name].encoder if c.name in CONDITIONS | STILLS else c.name for c in view.codecs if not c.ours]
    proper = {"libx264": "x264", "libx265": "x265", "libsvtav1": "SVT-AV1", "WEBP": "WebP"}
    others = list(dict.fromkeys(proper.get(e, e.removeprefix("lib")) for e in encoders))
    model = Path(view.plan.model).stem or "ours"
    if not others:
        return f"{model}, measured"
    return f"{model} beside {' and '.join(filter(None, [', '.join(others[:-1]), others[-1]]))}"


def headline(view: View, about: Mapping[str, Any]) -> list[str]:
    """A line of facts: how much was measured, and when, on what and with what where that is known."""
    counts = sorted({p.frames for p in view.points})
    facts = [f"{len(view.clips)} clip{'s' * (len(view.clips) != 1)}"]
    if counts:
        facts.append(f"{counts[0]} to {counts[-1]} frames" if counts[0] != counts[-1] else f"{counts[0]} frame{'s' * (counts[0] != 1)}")
    known = {key.lower(): value for key, value in flat(about)}
    for name in ("date", "processor", "program", "commit"):
        value = known.get(name) or next((v for k, v in known.items() if k.endswith(f" {name}")), None)
        if value:
            facts.append(f"commit {value}" if name == "commit" else value)
    return facts


def verdicts(view: View) -> list[dict[str, str]]:
    """Our first level against each anchor that the bench compared with, in words, losses as plainly as wins."""
    ours = next((c for c in view.codecs if c.ours), None)
    found = []
    for anchor, codecs in view.result.bd.items():
        if ours is None or ours.name not in codecs or anchor.startswith("ours"):
            continue
        clips = codecs[ours.name]
        mean, count = mean_bd(clips.values())
        if mean is None:
            found.append({"anchor": anchor, "kind": "none", "figure": "no figure", "range": "",
                          "words": f"{ours.label}: the curves share too little on {'the clip' if len(clips) == 1 else f'all {len(clips)} clips'}"})
            continue
        ranked = sorted((b.rate, clip) for clip, b in clips.items() if b.rate is not None)
        spread = f"best {_percent(ranked[0][0])} ({ranked[0][1]}), worst {_percent(ranked[-1][0])} ({ranked[-1][1]})" if count > 1 else ranked[0][1]
        refused = f"; no figure for {len(clips) - count}, where the curves share too little" if count < len(clips) else ""
        words = f"{'more' if mean > 0 else 'fewer'} bits at equal PSNR: {ours.label}, mean of {count} clip{'s' * (count != 1)}{refused}"
        found.append({"anchor": anchor, "kind": "loss" if mean > 0 else "win", "figure": _percent(mean), "words": words, "range": spread})
    return found


def about_rows(view: View, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Conditions as names and values."""
    plan = view.plan
    rows = flat(about)
    rows += [("clips", ", ".join(view.clips)), ("frames of each", str(plan.frames or "all")), ("levels", ", ".join(map(str, plan.levels))),
             ("qualities", ", ".join(f"{q:g}" for q in plan.qualities)), ("frames in a group, ours", str(plan.gop or "one group")), ("effort, ours", "default" if plan.effort is None else str(plan.effort)),
             ("device", plan.device), ("processes", f"{plan.jobs or 'one for each core'}"), ("threads", f"{plan.threads or 'one for each core'}")]
    before = sorted({name for curves in view.result.anchor_curves.values() for name in curves if not any(p.codec == name for p in view.points)})
    if before:
        rows.append(("measured before, not in this run", ", ".join(before)))
    return rows


def commands(view: View) -> list[tuple[str, str, str]]:
    """Each codec with its options as one would type them, and what it writes about itself into its streams."""
    qualities = ",".join(f"{q:g}" for q in view.plan.qualities)
    effort = "" if view.plan.effort is None else f" --effort {view.plan.effort}"
    lines = [(c.label, f"ncodec encode IN -o OUT.nvc --level {c.name.removeprefix('ours-l')} --quality {{{qualities}}} --gop {view.plan.gop}{effort} --no-audio", "")
             for c in view.codecs if c.ours]
    for codec in view.codecs:
        settings = (CONDITIONS | STILLS).get(codec.name)
        if codec.ours or settings is None:
            continue
        says = next((p.encoder for p in view.points if p.codec == codec.name and p.encoder), "")
        values = f"{{{','.join(map(str, settings.crf))}}}"
        if codec.name in STILLS:
            options = ", ".join(f"{key}={value!r}" for key, value in settings.options.items())
            lines.append((codec.label, f"PIL.Image.save(OUT, {settings.encoder!r}, {options}, {settings.key}={values})", says))
        else:
            options = " ".join(f"-{key} {value}" for key, value in settings.options.items())
            lines.append((codec.label, f"ffmpeg -i IN -c:v {settings.encoder} {options} -{settings.key} {values} -f {settings.container} OUT", says))
    return lines


def flat(about: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of nested mappings, a mapping's name before those in it (versions in one row); what is empty is left out."""
    rows: list[tuple[str, str]] = []
    for key, value in about.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping) and name == "versions":
            rows.append((name, ", ".join(f"{part} {version}" for part, version in value.items())))
        elif isinstance(value, Mapping):
            rows += flat(value, name)
        elif name == "date":
            rows.append((name, str(value).replace("T", " ").replace("+00:00", " UTC")))
        elif value not in (None, "", [], ()):
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return rows


def _percent(value: float) -> str:
    return f"{value:+.1f} %".replace("-", "\N{MINUS SIGN}")
