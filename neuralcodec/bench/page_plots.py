"""Plots of the report's page: matplotlib draws them, as SVG that takes its colours and fonts from the page's style sheet.

Nothing of a user's text (clip names) stands in the SVG. A series is a group of class ``series s<n>``; its n-th ``use`` element is its n-th point.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WIDE, NARROW = (9.6, 3.9), (4.1, 3.1)
"""Sizes in inches: across a laptop's page; a phone's width, or a column of several."""
COLOURS = 12
"""How many colours for series the style sheet has."""
# Colours that stand for variables of the style sheet; matplotlib takes only real ones.
_INK, _FAINT, _SURFACE = "#0a0a01", "#0a0a02", "#0a0a03"
_SERIES = "#0a0b{:02x}"
_VARIABLES = {_INK: "var(--ink-2)", _FAINT: "var(--grid)", _SURFACE: "var(--surface)"}


@dataclass(frozen=True)
class Look:
    """How a series is drawn: the number of its colour, marker, line style and whether markers are filled."""

    number: int
    marker: str
    line: str = "-"
    filled: bool = True

    @property
    def colour(self) -> str:
        return _SERIES.format(self.number % COLOURS)


@dataclass(frozen=True)
class Series:
    """Points of one series, drawn in their order. ``label`` is drawn beside the last one, but not by ``curves`` and ``frames``."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    label: str = ""


def curves(series: Sequence[Series], y_label: str, x_label: str = "bits per luma sample", *, size: tuple[float, float] = NARROW) -> str:
    """Lines with markers over a logarithmic rate."""

    def draw(axis: Any) -> None:
        for s in series:
            _line(axis, s, markersize=5)
        _logarithmic(axis.xaxis, axis.set_xscale)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)

    return _svg(draw, size)


def scatter(series: Sequence[Series], x_label: str, y_label: str, *, size: tuple[float, float] = NARROW, zero: bool = True) -> str:
    """Single labelled points over a logarithmic axis; with ``zero`` a line where the anchor stands."""

    def draw(axis: Any) -> None:
        if zero:
            axis.axhline(0, color=_INK, linewidth=0.8)
        for s in series:
            _line(axis, s, markersize=7)
        _logarithmic(axis.xaxis, axis.set_xscale)
        axis.margins(x=0.12, y=0.12)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        _labels(axis, series)

    return _svg(draw, size)


def lines(series: Sequence[Series], x_label: str, y_label: str, *, size: tuple[float, float] = NARROW) -> str:
    """Labelled lines with markers, over a logarithmic axis where x spans more than a factor of ten."""

    def draw(axis: Any) -> None:
        for s in series:
            _line(axis, s, markersize=5)
        every = [x for s in series for x in s.x]
        if min(every) > 0 and max(every) > 10 * min(every):
            _logarithmic(axis.xaxis, axis.set_xscale)
        axis.margins(x=0.12, y=0.1)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        _labels(axis, series)

    return _svg(draw, size)


def frames(bits: Sequence[Series], psnr: Sequence[Series], *, size: tuple[float, float] = NARROW) -> str:
    """Two panels over the frame's number: kilobits of each frame, and its PSNR."""

    def draw(upper: Any, lower: Any) -> None:
        for axis, all_series, label in ((upper, bits, "kilobits"), (lower, psnr, "PSNR, dB")):
            for s in all_series:
                _line(axis, s, markersize=2 if len(s.x) > 24 else 3.5, linewidth=1.1)
            axis.set_ylabel(label)
        _logarithmic(upper.yaxis, upper.set_yscale)
        lower.set_xlabel("frame")
        lower.xaxis.get_major_locator().set_params(integer=True)

    return _svg(draw, (size[0], size[1] * 1.35), panels=2)


def swatch(look: Look) -> str:
    """A series' line and marker, for a legend."""

    def draw(axis: Any) -> None:
        _line(axis, Series(look, [0, 1, 2], [0, 0, 0]), markersize=5, markevery=[1])
        axis.axis("off")

    return _svg(draw, (0.36, 0.18))


def _line(axis: Any, s: Series, **options: Any) -> None:
    fill = s.look.colour if s.look.filled else _SURFACE
    axis.plot(s.x, s.y, s.look.line, marker=s.look.marker, color=s.look.colour, markerfacecolor=fill, markeredgecolor=s.look.colour,
              gid=f"series-{s.look.number}", clip_on=False, zorder=3 if s.look.filled else 2, **({"linewidth": 1.6} | options))


def _logarithmic(axis: Any, set_scale: Callable[[str], None]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    set_scale("log")
    low, high = axis.get_view_interval()
    # Over less than two decades the powers of ten alone would be too few ticks.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _labels(axis: Any, series: Sequence[Series]) -> None:
    """Names beside last points, moved apart upwards where they would lie on each other."""
    axis.figure.draw_without_rendering()
    height, middle = axis.figure.dpi * 9.5 / 72, axis.bbox.x0 + axis.bbox.width / 2
    zero = axis.transData.transform((axis.get_xlim()[0], 0))[1]  # where scatter() draws a line
    placed: list[tuple[float, float, float]] = []
    for s in sorted((s for s in series if s.label and s.x), key=lambda s: s.y[-1]):
        x, y = axis.transData.transform((s.x[-1], s.y[-1]))
        right = x < middle
        width = len(s.label) * height * 0.6
        left = x + 8 if right else x - 8 - width
        text_y = y + height / 2 if abs(y - zero) < height else y
        while any(abs(text_y - b) < height and left < c + w and c < left + width for b, c, w in placed):
            text_y += height / 4
        placed.append((text_y, left, width))
        offset = ((8 if right else -8), (text_y - y) * 72 / axis.figure.dpi)
        axis.annotate(s.label, (s.x[-1], s.y[-1]), offset, textcoords="offset points", ha="left" if right else "right", va="center", fontsize=8.5,
                      color=s.look.colour, gid=f"series-{s.look.number}")


def _svg(draw: Callable[..., None], size: tuple[float, float], panels: int = 1) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none", "text.parse_math": False, "svg.hashsalt": "ncodec", "font.family": "sans-serif", "font.size": 9, "axes.edgecolor": _INK, "axes.linewidth": 0.6,
        "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "xtick.major.size": 0, "ytick.major.size": 0, "grid.color": _FAINT,
        "grid.linewidth": 0.7, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "xtick.major.pad": 5, "ytick.major.pad": 4, "axes.spines.left": False, "axes.labelsize": 9,
        "figure.facecolor": "none", "axes.facecolor": "none", "lines.dashed_pattern": (4, 2), "lines.dotted_pattern": (1.2, 1.6),
    }
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        draw(*axes)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    return _for_page(file.getvalue())


def number_identifiers(page: str) -> str:
    """A page in which identifiers of its plots, unique only within each, are unique."""
    number = itertools.count()

    def numbered(match: re.Match[str]) -> str:
        prefix = f"g{next(number)}-"
        return re.sub(r'( id="|#)(?=[mp][0-9a-f]{10}["\)])', rf"\1{prefix}", match[0])

    return re.sub(r"<svg viewBox.*?</svg>", numbered, page, flags=re.DOTALL)


def _for_page(svg: str) -> str:
    """matplotlib's file as an element of a page: no prologue, colours by variables, classes for identifiers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<path[^>]*style=\"fill: none\"/>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg, count=1)
    svg = re.sub(r'<g id="series-(\d+)">', r'<g class="series s\1">', svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"#0a0b([0-9a-f]{2})", lambda m: f"var(--s{int(m[1], 16)})", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"(font-size: [\d.]+px);[^\"]*?font-family: [^;\"]*", r"\1", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"|<g[^>]*/>|<g>\s*</g>|<defs>\s*</defs>', "", svg)
    svg = re.sub(r"(\d\.\d{2})\d+", r"\1", svg)  # hundredths of a point are enough
    return re.sub(r"\n\s*", "\n", svg)
