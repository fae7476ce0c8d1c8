"""The report's page as text: what it says, that it needs nothing else, and that nobody's file names become markup."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import page_samples
import pytest
from page_samples import ABOUT, CLIPS, HOSTILE, PAPER

from neuralcodec.bench.conditions import CONDITIONS, STILLS
from neuralcodec.bench.page import frame_figures, page_html, table_figure, write_page
from neuralcodec.bench.page_data import MEAN, METRICS, View
from neuralcodec.bench.page_pictures import SOURCE, comparisons, nearest
from neuralcodec.bench.page_tables import bd_tables, measure_table, points_table, speed_table
from neuralcodec.bench.page_tables_ours import level_table, share_tables
from neuralcodec.bench.page_words import commands, title, verdicts
from neuralcodec.bench.plan import Plan, Result, SpeedRow
from neuralcodec.core.errors import OutputError


class Elements(HTMLParser):
    """All start tags with their attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def result() -> Result:
    return page_samples.result()


@pytest.fixture(scope="module")
def view(result) -> View:
    return View(page_samples.plan(), result)


@pytest.fixture(scope="module")
def text(result) -> str:
    return page_html(page_samples.plan(), result, tables=[PAPER], about=ABOUT)


@pytest.fixture(scope="module")
def page(text) -> Elements:
    return Elements(text)


def test_the_page_refers_to_nothing_outside_itself(page):
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            if name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not page.named("base") and not page.named("iframe") and not page.named("object")
    (policy,) = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_style_sheets_load_nothing(text):
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_a_clips_name_is_text_and_never_markup(page, text):
    assert HOSTILE in page.text
    assert not [a for a in page.named("img") if not a["src"].startswith("data:image/png;base64,")]
    assert len(page.named("script")) == 1
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert html.escape(HOSTILE, quote=False) not in "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))


def test_identifiers_are_unique_and_all_references_have_their_target(page):
    found = [a["id"] for _, a in page.tags if "id" in a]
    assert len(found) == len(set(found))
    used = {v[1:] for _, a in page.tags for k, v in a.items() if k in ("href", "xlink:href") and v.startswith("#")}
    used |= {match for _, a in page.tags for match in re.findall(r"url\(#([^)]*)\)", a.get("clip-path") or "")}
    assert used - set(found) == set()


def test_every_plot_has_a_text_alternative_and_its_numbers(page, text):
    plots = [a for _, a in page.tags if a.get("class") == "plot"]
    assert len(plots) > 8
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in plots)
    figures = re.findall(r"<figure class=\"plots.*?</figure>", text, re.DOTALL)
    curves = [f for f in figures if "data-metric" in f]
    assert curves and all("<table>" in f for f in curves)


def test_a_tables_plot_is_drawn_where_there_is_something_to_draw(page):
    plots = [a["aria-label"] for _, a in page.tags if a.get("class") == "plot" and a["aria-label"].startswith(PAPER.title)]
    assert len(plots) == 1 and "flagship" in plots[0] and "DCVC" not in plots[0]
    nothing = replace(PAPER, rows=(("DCVC", 1, None, None),))
    assert table_figure(nothing)["plots"] == []


def test_every_picture_says_what_it_is(page):
    pictures = page.named("img")
    assert len(pictures) == 2 * 6
    assert pictures[0]["alt"] == "Source: the input"
    assert "% rate" in pictures[4]["alt"] and "dB" in pictures[4]["alt"]


def test_conditions_are_on_the_page(page):
    for words in ("0123abc", "a processor", "1.2.3", "2026-01-02 03:04:05 UTC", "neuralcodec 9.9", "VMAF is left out",
                  "-c:v libx264", "-preset medium", "-crf {", CONDITIONS["x264-medium-ld32"].options["x264-params"], "--level 3"):
        assert words in page.text
    assert "1 thing could not be measured" in page.text and "broken.mkv: no video at all" in page.text


def test_wins_and_losses_are_said_alike(view):
    loss, win = verdicts(view)
    assert (loss["anchor"], loss["kind"], loss["figure"]) == ("x264-medium-ld32", "loss", "+30.0 %")
    assert (win["anchor"], win["kind"], win["figure"]) == ("x265-medium-ld32", "win", "\N{MINUS SIGN}7.1 %")
    assert loss["words"].startswith("more bits") and win["words"].startswith("fewer bits")


def test_refusals_are_shown_and_left_out_of_the_mean(view):
    level_2 = bd_tables(view)[1]
    column = level_2.columns.index("against x264-medium-ld32")
    assert [row[column] for row in level_2.rows] == [pytest.approx(50), "refused", pytest.approx(50), "1 of 2"]


def test_nothing_to_say_is_said(result):
    few = replace(result, bd={"x264-medium-ld32": {"ours-l1": {CLIPS[0]: result.bd["x264-medium-ld32"]["ours-l2"][CLIPS[1]]}}})
    (verdict,) = verdicts(View(page_samples.plan(), few))
    assert verdict["kind"] == "none" and "share too little on the clip" in verdict["words"]


def test_metrics_are_those_that_were_taken(view):
    assert [m.key for m in view.metrics] == ["psnr", "psnr_y", "xpsnr"]
    assert {"ms_ssim", "vmaf"} < {m.key for m in METRICS}


def test_the_mean_curve_is_over_settings_that_every_clip_has(result):
    other = page_samples.point(CLIPS[0], "ours-l1", 3, 1.3)
    view = View(page_samples.plan(), replace(result, points=[p for p in result.points if p != other]))
    psnr = METRICS[0]
    assert [round(q) for _, q, _ in view.plotted(MEAN, "ours-l1", psnr)] == [30, 33, 36]
    assert view.plotted(MEAN, "ours-l1", psnr)[0][0] == pytest.approx(52_000 / (64 * 48 * 4), rel=1e-3)


def test_precomputed_curves_are_drawn_without_points(result):
    known = {CLIPS[0]: {"x264-medium-ld32": [(0.5, 30.0), (1.0, 34.0)]}, CLIPS[1]: {}}
    points = [p for p in result.points if (p.clip, p.codec) != (CLIPS[0], "x264-medium-ld32")]
    view = View(page_samples.plan(), replace(result, points=points, anchor_curves=known))
    assert [(x, y) for x, y, _ in view.plotted(CLIPS[0], "x264-medium-ld32", METRICS[0])] == known[CLIPS[0]]["x264-medium-ld32"]
    assert [row[:3] for row in points_table(view, CLIPS[0]).rows if row[0] == "x264-medium-ld32"] == [("x264-medium-ld32", None, 0.5), ("x264-medium-ld32", None, 1.0)]


def test_speed_is_over_all_timed_points(result):
    untimed = [replace(p, encode_s=None, decode_s=None, first_frame_s=None) if p.setting > 20 else p for p in result.points]
    view = View(page_samples.plan(), replace(result, points=untimed, speeds=[SpeedRow("ours-l1", 2, 2.0, 4.0, 10.0, 50.0, None, None)]))
    speed = view.speed("ours-l1")
    assert speed.decode == pytest.approx(64 * 48 * 4 / 1e6) and speed.encode == pytest.approx(64 * 48 * 4 / 2e6)
    assert (speed.first_ms, speed.decode_memory, speed.ratio) == (pytest.approx(10), 50_000_000, 50.0)
    assert speed.bd_rate == pytest.approx(30)
    row = next(row for row in speed_table(view).rows if row[0] == "x265-medium-ld32")
    assert row[1] == pytest.approx(40)


def test_levels_are_held_against_the_first(view):
    assert [row[1] for row in level_table(view).rows] == pytest.approx([0, 100 * (1.5 / 1.3 - 1), 100 * (2 / 1.3 - 1)])
    assert [row[4] for row in level_table(view).rows] == pytest.approx([20, 10, 20 / 3])


def test_bits_by_element_are_shares_of_all(view):
    elements, skipped = share_tables(view)
    assert elements.rows[0][3:] == pytest.approx((20, 80), abs=0.1)
    assert skipped.rows[0][-1] == pytest.approx(90)
    assert len(elements.rows) == 3 * 4


def test_other_measures_have_their_row(result):
    view = View(page_samples.plan(), replace(result, bd_measures={"xpsnr": result.bd}))
    assert [row[0] for row in measure_table(view).rows] == ["PSNR 6:1:1", "XPSNR 6:1:1"]


def test_the_nearest_rate_counts_by_factors(result):
    x264, x265 = (result.of(CLIPS[0], c) for c in ("x264-medium-ld32", "x265-medium-ld32"))
    assert nearest(x264, x264[1].bpp * 1.7**0.49) == x264[1]
    assert nearest(x264, x264[1].bpp * 1.7**0.51) == x264[2]
    assert nearest([], 1.0) is None
    (found, _) = comparisons(result)
    assert [s.codec for s in found.shots] == [SOURCE, *page_samples.FACTORS]
    assert (found.reference, found.setting) == ("ours-l1", 40.0)
    aim = next(p for p in result.of(CLIPS[0], "ours-l1") if p.setting == 40).bpp
    assert next(s for s in found.shots if s.codec == "x265-medium-ld32").bpp == nearest(x265, aim).bpp
    assert found.shots[1].frame_bits == result.of(CLIPS[0], "ours-l1")[2].frame_bits[2]


def test_a_result_of_nearly_nothing_makes_a_page(result):
    one = Result(points=[replace(result.points[0], encode_s=None, decode_s=None, first_frame_s=None, kinds="I", frame_bits=[9], frame_psnr=[30.0],
                                 syntax_bits={}, skipped={}, extra={})], anchor_curves={CLIPS[0]: {}})
    page = Elements(page_html(Plan((CLIPS[0],), "flagship", (), levels=(1,)), one))
    assert "flagship, measured" in page.text and not page.named("img")
    empty = Elements(page_html(Plan((), "flagship", ()), Result(failures=["a.mkv: no such file"])))
    assert "a.mkv: no such file" in empty.text


def test_still_pictures_have_their_conditions():
    stills = [page_samples.point("a.png", codec, step, 1.0, kinds="I", frame_bits=[9000], frame_psnr=[30.0], psnr_rgb=30.0 + step)
              for codec in ("ours-l1", "jpeg", "x265-intra") for step in range(2)]
    view = View(Plan(("a.png",), "flagship", ("jpeg", "x265-intra")), Result(points=stills, anchor_curves={"a.png": {}}))
    assert title(view) == "flagship beside JPEG and x265"
    assert "psnr_rgb" in [m.key for m in view.metrics]
    lines = {name: line for name, line, _ in commands(view)}
    assert f"quality={{{','.join(map(str, STILLS['jpeg'].crf))}}}" in lines["jpeg"] and "'JPEG'" in lines["jpeg"]
    assert frame_figures(view, []) == []


def test_the_page_is_one_file(tmp_path, result):
    small = Result(points=result.points[:4], anchor_curves={CLIPS[0]: {}})
    path = write_page(tmp_path / "index.html", page_samples.plan(), small)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in Path(tmp_path).iterdir()] == ["index.html"]
    with pytest.raises(OutputError):
        write_page(tmp_path / "missing" / "index.html", page_samples.plan(), small)
