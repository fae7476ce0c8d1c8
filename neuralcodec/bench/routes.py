"""AdaNIC's routes beside each other (paper 003, Tables 3 to 6): the same pictures with one capacity everywhere, and with just-unpenalized capacities (JUMC) by
block or by picture, found by trial or by the agent.

Rate is that of payloads, with the map; PSNR is (6 Y + U + V) / 8 of the planes. Coding is timed with a map that is there already, in and out, networks
and entropy coder; what it takes to find the map is told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuralcodec.bench.bd import bd, mean_bd
from neuralcodec.bench.metrics import clip_psnr
from neuralcodec.bench.points import Clip
from neuralcodec.bench.table import Cell, Table
from neuralcodec.codecs.adanic import AdaNIC
from neuralcodec.codecs.adanic_coding import AGENT, JUMC, AdaNICCoder
from neuralcodec.codecs.coding import Planes
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.codecs.jumc import tolerance
from neuralcodec.codecs.prior import latent_size
from neuralcodec.core.errors import UsageError
from neuralcodec.nn.capacity_map import map_shape
from neuralcodec.nn.layout import planes_to_tensors, tensors_to_planes
from neuralcodec.nn.selection import apply_widths

PICTURE = "picture"
TITLES = {JUMC: "JUMC by block, by trial", AGENT: "JUMC by block, by the agent", PICTURE: "JUMC by picture, by trial"}
SOURCE = "AdaNIC, ICCV 2023"


@dataclass(frozen=True)
class RoutePoint:
    """A picture at a quality by a route; seconds of finding the map, and of coding in and out with it. ``options``: the map."""

    clip: str
    route: str
    quality: float
    bits: int
    psnr: float
    choose_s: float
    encode_s: float
    decode_s: float
    options: np.ndarray


def routes_of(loaded: LoadedModel) -> tuple[str, ...]:
    """From the largest capacity down, then what is found for each picture or block. Raises UsageError for a model without capacities by block."""
    model = loaded.model
    if not isinstance(model, AdaNIC):
        raise UsageError(f"model {loaded.name!r} has no capacities to choose from by block: --routes is for AdaNIC")
    return (*(f"C{n}" for n in range(model.levels, 0, -1)), PICTURE, JUMC, *([AGENT] if model.agent is not None else []))


def measure(clip: Clip, loaded: LoadedModel, qualities: Sequence[float], *, threads: int, device: torch.device,
            on_step: Callable[[str], None] = lambda text: None) -> list[RoutePoint]:
    """All routes of ``routes_of`` for the first picture of a clip."""
    apply_widths(loaded.model, loaded.widths[0])
    coder, points = AdaNICCoder(loaded.model, device), []
    planes = clip.planes[0]
    height, width = size = planes[0].shape
    source = Planes(*planes_to_tensors(planes, device))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        coder.encode_intra(source, round(2 * qualities[0]), size)  # what is made ready once
        for quality in qualities:
            q = round(2 * quality)
            for route in routes_of(loaded):
                on_step(f"{clip.name}, quality {quality:g}, {TITLES.get(route, route)}")
                options, choose = _timed(lambda r=route, q=q: _choose(coder, r, source, q, size))
                coded, encode = _timed(lambda o=options, q=q: coder.encode_mapped(source, q, size, o))
                # An encoder makes the picture too, as the next step of a video would; that is not encoding.
                picture, decode = _timed(lambda c=coded, q=q: coder.reconstruct("I", coder.parse("I", c.payload, c.modes, q, size, None), q))
                _, rebuild = _timed(lambda c=coded, q=q: coder.reconstruct("I", c.parsed, q))
                psnr = clip_psnr([planes], [tensors_to_planes(picture.y, picture.uv, height, width)])[0]
                points.append(RoutePoint(clip.name, route, quality, 8 * len(coded.payload), psnr.yuv, choose,
                                         max(encode - rebuild, 0.0), decode, options))
    finally:
        torch.set_num_threads(before)
    return points


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _choose(coder: AdaNICCoder, route: str, source: Planes, quality: int, size: tuple[int, int]) -> np.ndarray:
    shape = map_shape(coder.model.config.block, *latent_size(*size))
    if route != PICTURE:
        coder.route = route
        return coder.choose_capacities(source, quality, size)
    # The paper's comparison of patches with pictures (Table 4): one capacity, the least whose mean cost is within the tolerance.
    costs = [float(coder.block_costs(source, quality, size, np.full(shape, option)).mean()) for option in range(coder.model.options)]
    within = [option for option, cost in enumerate(costs) if cost <= costs[0] + tolerance()]
    return np.full(shape, max(within))


def tables(points: Sequence[RoutePoint], notes: Sequence[str] = ()) -> list[Table]:
    """Rate and speed by route (Tables 3 and 4), what finding the map takes (5), and how well the agent does it (6)."""
    anchor = points[0].route
    found = [_overview(points, anchor, tuple(notes)), _choosing(points)]
    return found + ([_decisions(points)] if any(p.route == AGENT for p in points) else [])


def _of(points: Sequence[RoutePoint], route: str, clip: str | None = None) -> list[RoutePoint]:
    return [p for p in points if p.route == route and clip in (None, p.clip)]


def _overview(points: Sequence[RoutePoint], anchor: str, notes: tuple[str, ...]) -> Table:
    clips, full = list(dict.fromkeys(p.clip for p in points)), _of(points, anchor)
    rows: list[tuple[Cell, ...]] = []
    for route in dict.fromkeys(p.route for p in points):
        own = _of(points, route)
        curves = [[[(p.bits, p.psnr) for p in _of(points, r, clip)] for r in (anchor, route)] for clip in clips]
        rate, count = mean_bd([bd(*pair) for pair in curves])
        speedup = [100 * (sum(getattr(p, part) for p in full) / sum(getattr(p, part) for p in own) - 1) for part in ("encode_s", "decode_s")]
        rows.append((TITLES.get(route, route), rate, count, *speedup, float(np.mean([p.options.mean() for p in own]))))
    columns = ("route", "BD-rate %", "pictures", "encoding, speed-up %", "decoding, speed-up %", "mean option")
    said = (f"Against {anchor} everywhere; speed-up 100 % is twice as fast. Option 0 is the largest capacity.", *notes)
    return Table("Routes", f"{SOURCE}, Tables 3 and 4", columns, tuple(rows), said, ("", "+.2f", "d", "+.1f", "+.1f", ".2f"))


def _choosing(points: Sequence[RoutePoint]) -> Table:
    rows = []
    for route in (r for r in TITLES if _of(points, r)):
        own = _of(points, route)
        choose, encode = (sum(getattr(p, part) for p in own) for part in ("choose_s", "encode_s"))
        rows.append((TITLES[route], 1000 * choose / len(own), 1000 * encode / len(own), 100 * choose / (choose + encode)))
    return Table("Finding the map", f"{SOURCE}, Table 5", ("route", "finding ms", "encoding ms", "share of both %"), tuple(rows), (), ("", ".1f", ".1f", ".1f"))


def _decisions(points: Sequence[RoutePoint]) -> Table:
    true, own = (np.concatenate([p.options.reshape(-1) for p in _of(points, route)]) for route in (JUMC, AGENT))
    wrong = own.astype(int) - true
    row = (len(true), 100 * float((wrong == 0).mean()), 100 * float((wrong > 0).mean()), float(np.abs(wrong).mean()))
    notes = ("Degraded: a smaller capacity than the one found by trial. MAE counts options.",)
    return Table("The agent's decisions", f"{SOURCE}, Table 6", ("blocks", "accuracy %", "degraded %", "MAE"), (row,), notes, ("d", ".1f", ".1f", ".4f"))


def step_count(loaded: LoadedModel, qualities: Sequence[float]) -> int:
    """How often ``measure`` calls ``on_step``."""
    return len(qualities) * len(routes_of(loaded))


