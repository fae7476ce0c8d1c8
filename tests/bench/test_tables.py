"""The papers' tables: from counters and streams of a tiny model, with rows kept for systems that do not exist."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from neuralcodec.bench import cache, ours, tables_times
from neuralcodec.bench import tables as tables_module
from neuralcodec.bench.points import Point
from neuralcodec.bench.tables import Table, installed_models, paper_tables, tsv
from neuralcodec.bench.tables_cgslim import (
    LEARNED,
    TABLE_1,
    UNIFORM,
    UNSKIPPED,
    complexity_shares,
    curve_settings,
    skip_shares,
)
from neuralcodec.bench.tables_counting import count_coding, count_frames, table_parts
from neuralcodec.bench.tables_slimvc import CODED_1080P, work_by_width
from neuralcodec.bench.tables_systems import HOSTS, Setting, full, label
from neuralcodec.bench.tables_times import TABLE_3
from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.complexity import INTER, INTRA, complexity, total
from neuralcodec.codecs.files import load_model
from neuralcodec.core.errors import MeasureError, UsageError
from neuralcodec.pipeline import DecodeOptions, EncodeOptions, StreamDecoder

QUALITIES = (60.0, 20.0)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def progress() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def tables(loaded, clip, progress) -> dict[str, Table]:
    result = paper_tables(
        [loaded],
        [clip],
        qualities=QUALITIES,
        gop=2,
        frames=3,
        threads=1,
        repeats=1,
        count_size=(64, 128),
        on_progress=lambda *step: progress.append(step),
    )
    return {table.title: table for table in result}


def table(tables: dict[str, Table], start: str) -> Table:
    return next(t for title, t in tables.items() if title.startswith(start))


def rows(table: Table, *starts: str) -> list[dict]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows if row[: len(starts)] == starts]


def test_every_table_says_what_it_is_from_and_what_was_measured(tables):
    sources = [t.source.rpartition(", ")[2] for t in tables.values()]
    assert sorted(sources) == ["Figure 3", "Figure 3", "Table 1", "Table 2", "Table 2", "Table 3"]
    for t in tables.values():
        notes = " ".join(t.notes)
        assert "20" in notes and ("texture.y4m 70x50, 3 frames" in notes or "Counted on pictures of 128x64" in notes)
    assert "threads of the networks: 1" in " ".join(table(tables, "Decoding time").notes)


def test_progress_counts_every_step(tables, progress):
    assert tables
    count = progress[0][1]
    assert progress == [(n, count, text) for n, (_, _, text) in enumerate(progress)]
    assert len(progress) == count + 1
    assert progress[-1][2] == ""


def test_table_1_has_shares_that_add_up_and_the_declared_work(tables, loaded):
    t = table(tables, "Complexity of the modules")
    own = {row["module"]: row for row in rows(t, loaded.name)}
    for head, widths in (("original", full(loaded)), *((f"level {n}", loaded.widths[n - 1]) for n in (1, 2, 3))):
        assert sum(own[module][f"{head} %"] for module in TABLE_1) == pytest.approx(100)
        declared = float(total(complexity(loaded.model, widths), INTER)) / 1000
        assert own["all"][f"{head} kMAC"] == pytest.approx(declared)
        listed = sum(own[module][f"{head} kMAC"] for module in TABLE_1)
        assert own["priors (exact, never slimmed)"][f"{head} kMAC"] + listed == pytest.approx(declared)
    assert own["context encoder"]["level 1 kMAC"] == own["context encoder"]["level 3 kMAC"] > 0
    assert own["contextual decoder"]["level 3 kMAC"] < own["contextual decoder"]["level 1 kMAC"]
    paper = rows(t, "cgSlimDecoder(DCVC), as printed in the paper")
    assert [sum(row[f"{h} %"] for row in paper) for h in ("original", "level 1", "level 2", "level 3")] == [
        101,
        100,
        101,
        100,
    ]


def test_table_2_is_what_the_streams_masks_say(tables, loaded, clip):
    own = {row["latent"]: row for row in rows(table(tables, "Skipped"), loaded.name)}
    assert list(own) == ["P motion", "P contextual", "I contextual"]
    short = replace(clip, frames=clip.frames[:3])
    for quality in QUALITIES:
        data = ours.encode(short, loaded, EncodeOptions(1, quality, 2, workers=1)).data
        decoder = StreamDecoder(
            StreamReader(io.BytesIO(data)), loaded, DecodeOptions(workers=1, pictures=False), ours.CPU
        )
        masks = [
            (f"{'I' if f.packet.intra else 'P'} {name}", mask)
            for f in decoder.run()
            for name, mask in f.parsed.masks.items()
        ]
        for latent, row in own.items():
            of_latent = [mask for name, mask in masks if name == latent]
            expected = 100 * (1 - sum(int(m.sum()) for m in of_latent) / sum(m.size for m in of_latent))
            assert row[f"quality {quality:g}"] == pytest.approx(expected)
    assert table(tables, "Skipped").columns == ("system", "latent", "quality 60", "quality 20")


def test_table_3_times_decoding_beside_the_papers_figures(tables, loaded):
    t = table(tables, "Decoding time")
    own = {row["what"]: row for row in rows(t, loaded.name)}
    for head in ("original", "level 1", "level 2", "level 3"):
        assert 0 < own["until the first frame"][head] <= 3 * own["end to end"][head]
        assert 0 < own["entropy decoding alone"][head] < own["exact path alone"][head]
        assert own["entropy decoding alone, nothing skipped"][head] > 0
    for host in HOSTS:
        paper, missing = rows(t, f"cgSlimDecoder({host})")
        assert [paper[h] for h in ("original", "level 1", "level 2", "level 3")] == list(TABLE_3[host])
        assert missing["level 1"] is None


def test_figure_3_starts_at_its_anchor_and_has_every_series(tables, loaded):
    t = table(tables, "BD-PSNR")
    own = {(row["series"], row["setting"]): row for row in rows(t) if row["series"].startswith(loaded.name)}
    names = [(f"{loaded.name}, {s}", n) for s, points in ((UNIFORM, ("100 %", "50 %", "25 %")),) for n in points]
    names += [(f"{loaded.name}, {s}", f"level {n}") for s in (LEARNED, UNSKIPPED) for n in (1, 2, 3)]
    assert list(own) == names
    anchor = own[names[0]]
    assert anchor["complexity %"] == 100
    kmacs = [float(total(complexity(loaded.model, widths), INTER)) / 1000 for widths in loaded.widths]
    assert [own[f"{loaded.name}, {LEARNED}", f"level {n}"]["kMAC"] for n in (1, 2, 3)] == pytest.approx(kmacs)
    assert t.plot == ("series", "complexity %", "BD-PSNR dB")


def made_up(clip: str, codec: str, quality: float, shift: float) -> Point:
    psnr = 25 + quality / 10 + shift
    return Point(
        clip,
        codec,
        quality,
        64,
        64,
        int(1000 * 2 ** (quality / 20)),
        0,
        psnr,
        psnr,
        psnr,
        psnr,
        None,
        None,
        None,
        kinds="IP",
        frame_bits=[1, 1],
        frame_psnr=[psnr, psnr],
        skipped={"P motion": quality / 100},
    )


def test_figure_3_of_known_curves_and_each_codec_measured_once(loaded, clip):
    calls = []

    def measure(clip, used, level, quality, *, variant, **options):
        calls.append((variant.widths, variant.mask_modes, quality))
        return made_up(
            clip.name, "ours", quality, -1.0 if 2 in variant.widths else 0.5 if variant.mask_modes == () else 0.0
        )

    result = paper_tables(
        [loaded],
        [clip],
        qualities=(20, 50, 80),
        frames=1,
        repeats=1,
        measure=measure,
        levels=(2, 3),
        count_size=(64, 64),
    )
    figure = next(t for t in result if t.plot)
    own = {(row["series"].rpartition(f"{loaded.name}, ")[2], row["setting"]): row for row in rows(figure)}
    assert own[UNIFORM, "100 %"]["BD-PSNR dB"] == pytest.approx(0)
    assert own[UNIFORM, "25 %"]["BD-PSNR dB"] == pytest.approx(-1, abs=1e-6)
    assert own[UNSKIPPED, "level 1"]["BD-PSNR dB"] == pytest.approx(0.5, abs=1e-6)
    assert own[LEARNED, "level 3"]["clips"] == "1 of 1"
    # The tiny model's levels are the uniform widths: three codecs with skipping, three without.
    assert len(calls) == len(set(calls)) == 6 * 3
    skipped = next(t for t in result if t.title.startswith("Skipped"))
    assert rows(skipped, loaded.name, "P motion")[0]["quality 80"] == pytest.approx(80)


def test_work_of_a_1080p_frame(tables, loaded):
    t = table(tables, "Work for")
    for kind, role in (("I", INTRA), ("P", INTER)):
        own = rows(t, loaded.name, f"decoding, {kind} frame")
        whole = own[-1]
        assert whole["module"] == "all"
        for head, widths in (("100 %", full(loaded)), ("level 2", loaded.widths[1])):
            declared = float(total(complexity(loaded.model, widths), role)) * CODED_1080P / 1e9
            assert whole[head] == pytest.approx(declared)
            assert sum(row[head] for row in own[:-1]) == pytest.approx(whole[head])
        encoding = rows(t, loaded.name, f"encoding, {kind} frame")[-1]
        assert encoding["100 %"] > whole["100 %"]
    paper = {row["module"]: row for row in rows(t, "SlimVC, as printed in the paper", "decoding")}
    assert sum(row["100 %"] for name, row in paper.items() if name != "all") == pytest.approx(
        paper["all"]["100 %"], abs=1
    )


def test_memory_by_width(tables, loaded):
    t = table(tables, "Memory")
    for row in rows(t, loaded.name):
        if row["module"] in ("P: feature extraction", "P: context refinement"):  # left out where nothing reads the context
            assert row["100 %"] > 0 == row["50 %"] == row["25 %"]
        elif row["what"] == "weights":
            assert row["100 %"] >= row["50 %"] >= row["25 %"] > 0
        else:  # a narrow block's input is kept beside its result, which may cost more than it saves
            assert 1.05 * row["100 %"] >= row["50 %"] > 0 < row["25 %"]
    own = {(row["module"], row["what"]): row for row in rows(t, loaded.name)}
    decoder = own["P: contextual decoder", "activations"]
    assert decoder["25 %"] < decoder["100 %"] < own["P: all", "activations and pictures"]["100 %"]
    assert own["P: all", "weights"]["100 %"] < own["model in memory, encoder included", "weights"]["100 %"]


def test_rows_of_missing_systems_stay_and_fill_when_the_system_exists(tables, loaded):
    missing = [row for t in tables.values() for row in t.text_rows() if "missing" in row]
    assert {row[0].split(",")[0] for row in missing} == {
        *(f"cgSlimDecoder({host})" for host in HOSTS),
        "cgSlimDecoder+SaEC(FVC)",
        "SlimVC",
    }
    host = replace(loaded, name="some-weights", metadata=loaded.metadata | {"architecture": "dcvc-1"})
    assert label(host) == "cgSlimDecoder(DCVC), some-weights"
    counts = {
        host.name: {w: count_coding(host, w, count_frames((64, 64)), table_parts(host)) for w in loaded.widths[:1]}
    }
    t = complexity_shares([host], counts, [1], ())
    assert not any("missing" in row for row in t.text_rows())
    assert rows(t, "cgSlimDecoder(DCVC), some-weights", "motion decoder")[0]["level 1 %"] > 0
    assert rows(work_by_width([], {}, [1], ()), "SlimVC", "decoding", "all")[0]["100 %"] is None
    slimvc = replace(loaded, metadata=loaded.metadata | {"architecture": "slimvc-2"})
    assert not rows(
        skip_shares(
            [replace(loaded, metadata=loaded.metadata | {"architecture": "fvc-1"})], {loaded.name: []}, [50], ()
        )
    )
    assert [s.name for s in curve_settings(slimvc, [3]) if s.series == LEARNED] == ["level 1", "level 3"]


def test_a_level_that_the_model_lacks_is_an_empty_column(loaded):
    two = replace(loaded, widths=loaded.widths[:2])
    counts = {two.name: {w: count_coding(two, w, count_frames((64, 64)), table_parts(two)) for w in two.widths}}
    row = rows(complexity_shares([two], counts, [1, 2, 3], ()), two.name, "motion decoder")[0]
    assert row["level 2 %"] > 0
    assert row["level 3 %"] is None and row["level 3 kMAC"] is None


def test_tables_survive_json_and_are_written_as_tsv(tables):
    for t in tables.values():
        assert Table.from_dict(json.loads(json.dumps(t.to_dict()))) == t
        lines = [line for line in tsv(t).splitlines() if not line.startswith("#")]
        assert lines[0].split("\t") == list(t.columns)
        assert len(lines) == 1 + len(t.rows)
        for line, row in zip(lines[1:], t.rows, strict=True):
            assert line.split("\t") == ["" if cell is None else str(cell) for cell in row]


def test_cells_as_text():
    t = Table("t", "s", ("a", "b", "c"), (("x", 1.25, None), ("y", None, None), ("z", 2, 3.0)), formats=("", ".1f", ""))
    assert t.labels == 1
    assert t.text_rows() == [["x", "1.2", "-"], ["y", "missing", ""], ["z", "2.0", "3.0"]]
    with pytest.raises(ValueError, match="do not fit"):
        Table("t", "s", ("a",), (("x", 1),))
    with pytest.raises(ValueError, match="unknown column"):
        Table("t", "s", ("a",), (), plot=("a", "b", "c"))


def test_a_table_in_a_terminal(tables):
    from rich.console import Console

    from neuralcodec.cli.tables import rich_table

    out = io.StringIO()
    Console(file=out, width=200).print(rich_table(table(tables, "BD-PSNR")))
    text = out.getvalue()
    assert "CVPR 2023, Figure 3" in text and "missing" in text and "25 %" in text
    assert "texture.y4m" in text


def test_threads_are_named_in_the_note():
    assert "threads of the networks: 3, on cpu" in Setting(threads=3).threads_note()


def test_what_cannot_be_measured_is_refused(loaded, clip):
    for wrong in (
        {"loaded_models": []},
        {"clips": []},
        {"qualities": ()},
        {"levels": (0,)},
        {"clips": [clip, clip]},
        {"count_size": (64, 100)},
    ):
        with pytest.raises(UsageError, match="tables"):
            paper_tables(**({"loaded_models": [loaded], "clips": [clip]} | wrong))


def test_a_clip_that_fails_is_left_out_of_the_tables(loaded, clip, monkeypatch):
    def measure(clip, used, level, quality, *, variant, **options):
        if clip.name == "bad" and variant.mask_modes == ():
            raise MeasureError("damaged")
        return made_up(clip.name, "ours-l1", quality, 0.0)

    def timed(used, clip, *rest):
        if clip.name == "late" and used.widths[0] == loaded.widths[0]:
            raise MeasureError("too late")
        return {"end to end": 40.0 if clip.name == "late" else 20.0, "day": "2026-01-02"}

    monkeypatch.setattr(tables_times, "_time", timed)
    short = [replace(clip, name=name, frames=clip.frames[:1]) for name in ("bad", "good", "late")]
    wanted = {"qualities": (20, 50, 80), "levels": (2,), "count_size": (64, 64), "measure": measure}
    failed = []
    result = paper_tables([loaded], short, **wanted, on_failure=lambda c, error: failed.append((c.name, str(error))))
    assert failed == [("bad", "damaged"), ("late", "too late")]
    figure = next(t for t in result if t.plot)
    assert {row["clips"] for row in rows(figure) if row["series"].startswith(loaded.name)} == {"2 of 2"}
    assert "bad" not in " ".join(figure.notes) and "late" in " ".join(figure.notes)
    times = next(t for t in result if t.title.startswith("Decoding time"))
    own = rows(times, loaded.name, "end to end")[0]
    assert (own["original"], own["level 2"]) == (20, 20) and "late" not in " ".join(times.notes)
    assert paper_tables([loaded], short[:1], **wanted, on_failure=lambda c, error: None) == []
    with pytest.raises(MeasureError, match="damaged"):
        paper_tables([loaded], short, **wanted)


def test_installed_models_are_those_of_the_registry():
    assert "flagship" in [m.name for m in installed_models()]


def test_a_second_run_takes_everything_from_the_store(loaded, clip, tmp_path, monkeypatch):
    store = cache.Store(tmp_path)
    wanted = {"qualities": (50.0,), "levels": (1,), "frames": 2, "repeats": 1, "count_size": (64, 64), "store": store}
    first = paper_tables([loaded], [clip], **wanted)

    def nothing(*args, **options):
        raise AssertionError("measured again")

    for module, name in ((ours, "measure"), (ours, "encode"), (ours, "decode"), (tables_module, "count_coding")):
        monkeypatch.setattr(module, name, nothing)
    assert paper_tables([loaded], [clip], **wanted) == first
    with pytest.raises(AssertionError, match="measured again"):
        paper_tables([loaded], [clip], **wanted | {"frames": 3})
