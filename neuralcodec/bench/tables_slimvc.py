"""The tables of paper 001 (SlimVC) from our own models: Table 2 (work by module and width) and Figure 3 (memory) as a
table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuralcodec.bench.table import Cell, Table
from neuralcodec.bench.tables_counting import CodingCount
from neuralcodec.bench.tables_systems import SLIMVC, found, label
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.nn.selection import WIDTHS

PAPER = "Slimmable Video Codec, CVPR workshops 2022"
CODED_1080P = 1088 * 1920
"""Luma samples of a 1080p picture as it is coded: whole multiples of 64."""
ENCODING, DECODING = "encoding", "decoding"
TABLE_2 = {
    (ENCODING, "SlimFE/FD"): (90, 34, 9.6),
    (ENCODING, "SlimTPM"): (232.5, 95.7, 42.4),
    (ENCODING, "SlimEPM"): (66, 25.7, 11),
    (ENCODING, "SlimHE/HD"): (47.6, 20.7, 10),
    (ENCODING, "all"): (436, 176, 73),
    (DECODING, "SlimFE/FD"): (90, 34, 9.6),
    (DECODING, "SlimTPM"): (232.5, 95.7, 42.4),
    (DECODING, "SlimEPM"): (66, 25.7, 11),
    (DECODING, "SlimHD"): (27.4, 12.2, 6),
    (DECODING, "all"): (416, 168, 69),
}
"""The paper's billions of operations at widths 100, 50 and 25 %. Its operation is a multiply-accumulate: 16.2 million
parameters of SlimTPM (Table 1) at 160 x 90 positions are the 233 billion of Table 2."""
MEMORY_MODULES = ("SlimFE", "SlimFD", "SlimHE", "SlimHD", "SlimTPM", "SlimEPM", "all")


def uniform_tables(loaded: LoadedModel) -> list[bytes]:
    """Width tables with one option for everything."""
    return [bytes([option]) * len(loaded.widths[0]) for option in range(len(WIDTHS))]


def _columns(
    loaded: LoadedModel, counts: Mapping[bytes, CodingCount], levels: Sequence[int]
) -> list[CodingCount | None]:
    return [
        *(counts[t] for t in uniform_tables(loaded)),
        *(counts[loaded.widths[n - 1]] if n <= loaded.levels else None for n in levels),
    ]


def _heads(levels: Sequence[int]) -> list[str]:
    return [*(f"{100 * w:.0f} %" for w in WIDTHS), *(f"level {n}" for n in levels)]


def work_by_width(
    models: Sequence[LoadedModel],
    counts: Mapping[str, Mapping[bytes, CodingCount]],
    levels: Sequence[int],
    notes: tuple[str, ...],
) -> Table:
    """Table 2: billions of multiply-accumulates for a 1080p frame, by module and width. ``counts`` by model name and
    width table."""
    heads, none = _heads(levels), [None] * len(levels)
    rows: list[tuple[Cell, ...]] = [
        (f"{SLIMVC}, as printed in the paper", *key, *figures, *none) for key, figures in TABLE_2.items()
    ]
    if not found(models, SLIMVC):
        rows += [(SLIMVC, *key, *[None] * len(heads)) for key in TABLE_2]
    for loaded in models:
        columns = _columns(loaded, counts[loaded.name], levels)
        for verb, coding in (("encode", ENCODING), ("decode", DECODING)):
            for kind in "IP":
                for part in [*_running(columns, verb, kind), "all"]:
                    figures = (c and _gmac_at_1080p(c, verb, kind, part) for c in columns)
                    rows.append((label(loaded), f"{coding}, {kind} frame", part, *figures))
    return Table(
        "Work for a 1080p frame by module and width, GMAC",
        f"{PAPER}, Table 2",
        ("system", "coding", "module", *heads),
        tuple(rows),
        (
            "Multiply-accumulates counted by hooks; the paper calls one of them an operation.",
            "Encoding includes the decoder that an encoder runs.",
            "25 to 100 %: one width everywhere; levels: learned widths. SlimVC has 37.5 and 75 % as well.",
            "The context encoder is a part of the contextual prior that is counted apart.",
            *notes,
        ),
        ("", "", "", *[".2f"] * len(heads)),
    )


def memory_by_width(
    models: Sequence[LoadedModel],
    counts: Mapping[str, Mapping[bytes, CodingCount]],
    levels: Sequence[int],
    notes: tuple[str, ...],
) -> Table:
    """Figure 3: megabytes of weights and of activations for a 1080p frame, by module and width, when decoding (the
    paper's figure is missing from its text, so it has no figures here)."""
    heads = _heads(levels)
    rows: list[tuple[Cell, ...]] = []
    if not found(models, SLIMVC):
        rows += [(SLIMVC, module, "weights and activations", *[None] * len(heads)) for module in MEMORY_MODULES]
    for loaded in models:
        columns = _columns(loaded, counts[loaded.name], levels)
        for kind in "IP":
            for part in _running(columns, "decode", kind):
                counted = [c and c.of("decode", kind)[part] for c in columns]
                rows.append(
                    (label(loaded), f"{kind}: {part}", "weights", *(p and p.weight_bytes / 1e6 for p in counted))
                )
                rows.append(
                    (
                        label(loaded),
                        f"{kind}: {part}",
                        "activations",
                        *(p and _at_1080p(p.peak_bytes, columns) for p in counted),
                    )
                )
            weights = [c and sum(p.weight_bytes for p in c.of("decode", kind).values()) / 1e6 for c in columns]
            peaks = [c and _at_1080p(c.of("decode", kind)[""].peak_bytes, columns) for c in columns]
            rows += [
                (label(loaded), f"{kind}: all", "weights", *weights),
                (label(loaded), f"{kind}: all", "activations and pictures", *peaks),
            ]
        held = sum(p.numel() * p.element_size() for p in loaded.model.parameters()) / 1e6
        rows.append((label(loaded), "model in memory, encoder included", "weights", *(c and held for c in columns)))
    return Table(
        "Memory for decoding a 1080p frame by module and width, MB",
        f"{PAPER}, Figure 3",
        ("system", "module", "what", *heads),
        tuple(rows),
        (
            "Weights: bytes of the slices that convolutions read, as the processor holds them.",
            "Activations: the most bytes alive at one time while a module runs, its input included;",
            "scratch memory inside an operator is not seen. For all modules together an upper bound:",
            "what works in strips (motion compensation) grows less than the picture.",
            "Both by hooks in the running modules.",
            "The context encoder is a part of the contextual prior whose weights are counted apart.",
            *notes,
        ),
        ("", "", "", *[".2f"] * len(heads)),
    )


def _running(columns: Sequence[CodingCount | None], verb: str, kind: str) -> list[str]:
    """The parts that do any work, in the model's order."""
    first = next(c for c in columns if c is not None)
    return [name for name, part in first.of(verb, kind).items() if part.macs]


def _gmac_at_1080p(count: CodingCount, verb: str, kind: str, part: str) -> float:
    return count.kmacs(verb, kind, None if part == "all" else [part]) * CODED_1080P / 1e6


def _at_1080p(size: int, columns: Sequence[CodingCount | None]) -> float:
    counted = next(c.size for c in columns if c is not None)
    return size / (counted[0] * counted[1]) * CODED_1080P / 1e6
