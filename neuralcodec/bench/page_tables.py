"""Tables of the report's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np

from neuralcodec.bench.bd import BdResult, mean_bd
from neuralcodec.bench.metrics import MEASURES
from neuralcodec.bench.page_data import MEAN, View
from neuralcodec.bench.plan import SPEED_ANCHOR
from neuralcodec.bench.points import Point
from neuralcodec.bench.table import Cell, Table

REFUSED = "refused"
"""In place of a BD-rate between curves that share too little."""


def points_table(view: View, clip: str) -> Table:
    """All points of a clip, or of the mean over clips."""
    rows: list[tuple[Cell, ...]] = []
    metrics = view.metrics
    if clip == MEAN:
        for codec in view.codecs:
            by_metric = [{text: (bpp, value) for bpp, value, text in view.plotted(MEAN, codec.name, m)} for m in metrics]
            rows += [(codec.label, float(text.split()[1]), bpp, *(m.get(text, (0, None))[1] for m in by_metric))
                     for text, (bpp, _) in by_metric[0].items()]
        columns, times = ("codec", "setting", "bits/sample"), ()
    else:
        columns, times = ("codec", "setting", "bits/sample", "kB", "file kB"), ("encode s", "decode s", "first frame s")
        for codec in view.codecs:
            points = view.of(clip, codec.name)
            rows += [(codec.label, p.setting, p.bpp, p.bits / 8000, p.file_bytes / 1000, *(m.value(p) for m in metrics), p.encode_s, p.decode_s,
                      p.first_frame_s) for p in points]
            if not points:
                rows += [(codec.label, None, bpp, None, None, *((psnr if m.key == "psnr" else None) for m in metrics), None, None, None)
                         for bpp, psnr in view.curve(clip, codec.name)]
    formats = ("", "g", ".4f", *(".1f",) * (len(columns) - 3), *(f".{m.digits}f" for m in metrics), *(".3f",) * len(times))
    heads = (*columns, *(f"{m.title}{m.unit and ', ' + m.unit}" for m in metrics), *times)
    return Table("All points", "", heads, tuple(rows), formats=formats)


def bd_tables(view: View) -> list[Table]:
    """For each of our codecs: BD-rate by clip and anchor; the last rows are their mean and over how many clips it is."""
    tables, labels = [], {c.name: c.label for c in view.codecs}
    for codec in (c for c in view.codecs if c.ours):
        against = {anchor: codecs[codec.name] for anchor, codecs in view.result.bd.items() if codec.name in codecs}
        if not against:
            continue
        rows = [(clip, *(_rate(clips.get(clip)) for clips in against.values())) for clip in view.clips]
        means = [mean_bd(clips.values()) for clips in against.values()]
        rows.append(("mean", *(REFUSED if mean is None else mean for mean, _ in means)))
        rows.append(("clips in the mean", *(f"{count} of {len(clips)}" for clips, (_, count) in zip(against.values(), means, strict=True))))
        tables.append(Table(f"BD-rate of {codec.label}, in %", "", ("clip", *(f"against {labels.get(a, a)}" for a in against)), tuple(rows),
                            formats=("", *("+.1f",) * len(against))))
    return tables


def measure_table(view: View) -> Table:
    """Mean BD-rate of our first level by measure of quality and anchor, in measures beside PSNR that the bench took."""
    ours = next((c for c in view.codecs if c.ours), None)
    by_measure = {"psnr": view.result.bd, **view.result.bd_measures}
    anchors = [a for a, codecs in view.result.bd.items() if ours and ours.name in codecs]
    rows = []
    for name, found in by_measure.items():
        means = [mean_bd(found.get(a, {}).get(ours.name, {}).values())[0] if found.get(a, {}).get(ours.name) else None for a in anchors]
        refused = [mean is None and bool(found.get(a, {}).get(ours.name)) for a, mean in zip(anchors, means, strict=True)]
        rows.append((MEASURES[name].label, *(REFUSED if r else mean for r, mean in zip(refused, means, strict=True))))
    labels = {c.name: c.label for c in view.codecs}
    return Table(f"Mean BD-rate of {ours.label if ours else 'ours'} by measure, in %", "", ("measure", *(f"against {labels.get(a, a)}" for a in anchors)),
                 tuple(rows), formats=("", *("+.1f",) * len(anchors)))


def _rate(result: BdResult | None) -> Cell:
    return None if result is None else REFUSED if result.rate is None else result.rate


def overlap_table(view: View) -> Table:
    """Every BD figure with what it rests on, refusals with their reason."""
    labels = {c.name: c.label for c in view.codecs}
    rows = [(labels.get(anchor, anchor), labels.get(codec, codec), clip, b.rate, b.psnr, b.overlap_db, 100 * b.overlap, b.reason or "")
            for anchor, codecs in view.result.bd.items() for codec, clips in codecs.items() for clip, b in clips.items()]
    return Table("BD figures with overlap", "", ("anchor", "codec", "clip", "BD-rate %", "BD-PSNR dB", "overlap dB", "overlap %", "refused because"),
                 tuple(rows), formats=("", "", "", "+.1f", "+.2f", ".2f", ".0f", ""))


def speed_table(view: View) -> Table:
    rows = []
    for codec in view.codecs:
        s = view.speed(codec.name)
        memory = [None if m is None else m / 1e6 for m in (s.encode_memory, s.decode_memory)]
        if s.decode is None and not any(memory):
            continue
        rows.append((codec.label, s.bd_rate, s.encode, s.decode, s.ratio, s.first_ms, s.threads, *memory))
    return Table("Speed and memory", "", ("codec", f"BD-rate % against {view.anchor}", "encoding, Msamples/s", "decoding, Msamples/s",
                                          f"decoding time / {SPEED_ANCHOR}", "first frame decoded, ms", "threads, decoding", "peak memory, encoding, MB", "decoding, MB"), tuple(rows),
                 formats=("", "+.1f", ".3g", ".3g", ".2f", ".1f", "g", ".0f", ".0f"))


def level_table(view: View) -> Table:
    """Our levels: what each costs in rate and saves in work and time."""
    rows, ours = [], [c for c in view.codecs if c.ours]
    for codec in ours:
        rate, clips = (0.0, len(view.clips)) if codec is ours[0] else mean_bd(view.bd(ours[0].name, codec.name).values())
        point = next(p for p in view.points if p.codec == codec.name)
        s = view.speed(codec.name)
        rows.append((codec.label, rate, clips, point.extra.get("kmac_i"), point.extra.get("kmac_p"), s.encode, s.decode))
    return Table("Levels", "", ("codec", f"BD-rate % against {ours[0].label.removeprefix('ours, ') if ours else 'level 1'}", "clips", "I frame, kMAC/sample",
                                "P frame, kMAC/sample", "encoding, Msamples/s", "decoding, Msamples/s"), tuple(rows),
                 formats=("", "+.1f", "g", ".2f", ".2f", ".3g", ".3g"))


def kind_table(view: View) -> Table:
    """I and P frames beside the other codec's at equal PSNR."""
    labels = {c.name: c.label for c in view.codecs}
    rows = [(r.clip, labels.get(r.codec, r.codec), r.kind, r.setting, r.psnr, r.bits, r.anchor_bits, r.ratio) for r in view.result.kinds]
    name = view.result.kinds[0].anchor if view.result.kinds else "x265"
    return Table(f"Bits of I and P frames beside {name} at the same PSNR of these frames", "",
                 ("clip", "codec", "frames", "quality", "PSNR, dB", "bits", "its bits", "ours / its"), tuple(rows),
                 notes=("-: outside its curve, nothing is extrapolated",), formats=("", "", "", "g", ".2f", ".0f", ".0f", ".2f"))


def share_tables(view: View) -> list[Table]:
    """Our codec: where the bits go and what is skipped, by level and quality, over all clips."""
    tables = []
    ours = sorted((p for p in view.points if p.codec.startswith("ours")), key=lambda p: (p.codec, p.setting))
    groups = [(key, list(group)) for key, group in groupby(ours, key=lambda p: (p.codec, p.setting))]
    elements = _names(p.syntax_bits for p in ours)
    if elements:
        rows = [(codec.replace("ours-l", "level "), setting, sum(p.bits for p in points) / 8000,
                 *(100 * sum(p.syntax_bits.get(e, 0) for p in points) / sum(p.bits for p in points) for e in elements))
                for (codec, setting), points in groups]
        tables.append(Table("Bits by syntax element, in % of all", "", ("level", "quality", "kB, all clips", *elements), tuple(rows),
                            formats=("", "g", ".1f", *(".1f",) * len(elements))))
    latents = _names(p.skipped for p in ours)
    if latents:
        rows = [(codec.replace("ours-l", "level "), setting, *(_mean_of([100 * p.skipped[n] for p in points if n in p.skipped]) for n in latents))
                for (codec, setting), points in groups]
        tables.append(Table("Skipped latent elements in %, mean over clips", "", ("level", "quality", *latents), tuple(rows),
                            formats=("", "g", *(".1f",) * len(latents))))
    return tables


def variant_tables(view: View) -> list[Table]:
    """Ways to skip, and learned widths against uniform ones, where they were measured."""
    tables = []
    for title, found in (("Ways to skip; BD against the encoder's free choice", view.result.saec), ("Widths; BD against the learned ones", view.result.widths)):
        rows = [(r.clip, r.codec.replace("ours-l", "level "), r.bd_rate, r.bd_psnr, s["setting"], s["bpp"], s["psnr"], s.get("entropy_ms"),
                 s.get("kmac_i"), s.get("kmac_p")) for r in found for s in r.settings]
        if rows:
            tables.append(Table(title, "", ("clip", "variant", "BD-rate %", "BD-PSNR dB", "quality", "bits/sample", "PSNR, dB", "entropy decoding, ms/frame",
                                            "I, kMAC/sample", "P, kMAC/sample"), tuple(rows),
                                formats=("", "", "+.2f", "+.3f", "g", ".4f", ".2f", ".2f", ".2f", ".2f")))
    return tables


def frame_table(points: Sequence[Point], label: Callable[[str], str]) -> Table:
    """The text beside a plot by frame: kinds of frames with their mean bits, and the range of PSNR."""
    rows = []
    for p in points:
        kinds = [p.of_kind(kind) for kind in "IPB"]
        rows.append((label(p.codec), p.setting, p.bpp, *(k and k[0] / 1000 for k in kinds), *(k and k[1] for k in kinds),
                     min(p.frame_psnr), max(p.frame_psnr)))
    return Table("Frames", "", ("codec", "setting", "bits/sample", "I, kbit", "P, kbit", "B, kbit", "I, dB", "P, dB", "B, dB", "lowest dB", "highest dB"),
                 tuple(rows), formats=("", "g", ".4f", *(".1f",) * 3, *(".2f",) * 5))


def _names(counts: Iterable[dict[str, float]]) -> list[str]:
    return sorted({name for c in counts for name in c})


def _mean_of(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
