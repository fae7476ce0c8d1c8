"""The text that ``ncodec inspect`` prints, made from the same object as its JSON."""

from __future__ import annotations

from typing import Any

GOP_LINES = 24
WIDTH_PERCENT = ("100", "50", "25")
WIDTH_MARKS = "HMLX"
ARITHMETIC = {
    "float pictures": "exact entropy path; pictures in floating point",
    "exact": "everything exact: one md5 on every machine",
}
"""What a stream's header says of its arithmetic, in words."""


def report(document: dict[str, Any]) -> str:
    """Lines of text for the object that ``inspect --json`` prints."""
    sections = [_stream(document), _model(document), _packets(document), _bits(document), _gops(document)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _stream(d: dict[str, Any]) -> list[str]:
    h, colour = d["header"], d["header"]["colour"]
    size = f"{h['width']}x{h['height']}"
    samples = f"8-bit {'4:4:4' if h['full_chroma'] else '4:2:0'}"
    extras = [f"rotated by {h['rotation']} degrees"] if h["rotation"] else []
    extras += [f"sample aspect ratio {h['sample_aspect_ratio']}"] if h["sample_aspect_ratio"] != "1/1" else []
    extras += ["still"] if h["still"] else []
    extras += ["gray"] if h["gray"] else []
    extras += [f"in tiles of {h['tile_size']}x{h['tile_size']}"] if h["tile_size"] else []
    extras += ["alpha"] if "alpha" in d["packets"] else []
    extras += ["bare"] if h["bare"] else []
    tags = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in colour.items())
    levels = f" of {h['levels']}" if h["levels"] else ""
    coding = f"level {h['level']}{levels}{' (locked)' if h['level_locked'] else ''}, quality {h['quality']:g}"
    rate = f"{d['bits_per_pixel']:.4f} bits/pixel"
    lines = [
        f"{d['file']}: {d['bytes']} bytes, {d['frames']} frames, {d['seconds']:.3f} s, {rate}",
        f"  picture      {', '.join([size, samples, *extras])}",
        f"  time         base {h['time_base']}, nominal rate {h['frame_rate'] or 'unknown'}",
        f"  colour       {tags}",
        f"  coding       {coding}, groups of {h['gop_size'] or 'all'} frames",
        f"  arithmetic   {ARITHMETIC[h['arithmetic']]}",
        f"  written by   {h['encoder'] or 'unknown'}; {'with' if d['index'] else 'without'} an index",
    ]
    if d["attachments"]:
        lines.append("  attached     " + ", ".join(f"{a['kind']} ({a['bytes']} bytes)" for a in d["attachments"]))
    for n, side in enumerate(h["side_streams"]):
        facts = ", ".join(
            f"{k} {v}" for k, v in side["parameters"].items() if k in ("sample_rate", "layout", "channels", "bit_rate")
        )
        tags = ", ".join(f"{k} {v}" for k, v in side["metadata"].items() if k == "language")
        lines.append(f"  side {n}       " + ", ".join(filter(None, [f"{side['kind']} {side['codec']}", facts, tags])))
    lines += [f"  {key:<12} {value}" for key, value in h["metadata"].items()]
    if h["chapters"]:
        lines.append(f"  chapters     {len(h['chapters'])}")
    return lines


def _model(d: dict[str, Any]) -> list[str]:
    model = d["model"]
    lines = [
        f"model {model['name'] or 'without a name'}{'' if model['installed'] else ' (not installed)'}",
        f"  identity     {model['identity']}",
    ]
    for level, table in enumerate(d["width_tables"], 1):
        if "channels" in model:
            lines.append(f"  level {level}{'*' if level == d['header']['level'] else ' '}     {model['channels'][level - 1]} channels")
            continue
        shares = ", ".join(f"{table.count(o)} at {p} %" for o, p in enumerate(WIDTH_PERCENT) if o in table)
        marks = "".join(WIDTH_MARKS[min(o, 3)] for o in table)
        lines.append(f"  level {level}{'*' if level == d['header']['level'] else ' '}     {marks}  ({shares})")
    if d["latents_md5"]:
        lines.append(f"  latents md5  {d['latents_md5']}")
    return lines


def _packets(d: dict[str, Any]) -> list[str]:
    lines = [f"{'packets':<14}{'count':>8}{'bytes':>12}{'framing':>10}{'mean':>10}{'smallest':>10}{'largest':>10}"]
    lines.append(f"  {'header':<12}{1:>8}{d['header']['bytes']:>12}")
    for kind, p in d["packets"].items():
        lines.append(
            f"  {kind:<12}{p['count']:>8}{p['bytes']:>12}{p['framing']:>10}{p['bytes'] / p['count']:>10.1f}"
            f"{p['smallest']:>10}{p['largest']:>10}"
        )
    return lines


def _bits(d: dict[str, Any]) -> list[str]:
    total = max(1, 8 * d["bytes"])
    lines = [f"{'bits by syntax element':<26}{'bits':>14}{'share':>9}"]
    for element, bits in sorted(d["bits"].items(), key=lambda e: -e[1]):
        lines.append(f"  {element:<24}{bits:>14.0f}{100 * bits / total:>7.2f} %")
    if d["skipped_percent"]:
        lines += ["", "skipped elements"] + [
            f"  {latent:<24}{percent:>8.2f} %" for latent, percent in d["skipped_percent"].items()
        ]
    if d["predicted_percent"]:
        lines += ["", "predictions of cells"] + [f"  {what:<24}{percent:>8.2f} %" for what, percent in d["predicted_percent"].items()]
    return lines


def _gops(d: dict[str, Any]) -> list[str]:
    gops = d["gops"]
    if not gops:
        return []
    lines = [
        f"{'groups of pictures':<20}{'first':>8}{'frames':>8}{'time':>12}{'quality':>9}{'offset':>12}{'bytes':>10}"
    ]
    for n, g in enumerate(gops[:GOP_LINES]):
        lines.append(
            f"  {n:<18}{g['first_frame']:>8}{g['frames']:>8}{g['time']:>10.3f} s"
            f"{g['quality']:>9g}{g['offset']:>12}{g['frame_bytes']:>10}"
        )
    if len(gops) > GOP_LINES:
        lines.append(f"  and {len(gops) - GOP_LINES} more (--json has all)")
    return lines
