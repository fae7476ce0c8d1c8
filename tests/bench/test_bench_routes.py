"""``ncodec bench --routes``: AdaNIC's capacities beside each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from bench_command import run

from neuralcodec.bench.points import read_clip
from neuralcodec.bench.routes import PICTURE, RoutePoint, measure, routes_of, step_count, tables
from neuralcodec.codecs.adanic import AdaNIC, AdaNICConfig
from neuralcodec.codecs.adanic_coding import AGENT, JUMC
from neuralcodec.codecs.files import load_model, save_model
from neuralcodec.core.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("adanic") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AdaNIC(replace(AdaNICConfig((12, 10, 8, 6, 4), (20, 16, 12, 8, 4), 4), agent=True)).eval()
    save_model(path, model, model.width_tables())
    return path


def point(route: str, quality: float, bits: int, psnr: float, options: list[int], seconds: float = 1.0, choose: float = 0.0) -> RoutePoint:
    return RoutePoint("a", route, quality, bits, psnr, choose, seconds, seconds / 2, np.array([options]))


def test_every_route_is_coded_and_only_what_it_says(path, clip_file):
    loaded, steps = load_model(path), []
    points = measure(read_clip(str(clip_file), 1), loaded, (30.0, 70.0), threads=1, device=CPU, on_step=steps.append)
    assert len(points) == len(steps) == step_count(loaded, (30.0, 70.0)) and routes_of(loaded) == ("C5", "C4", "C3", "C2", "C1", PICTURE, JUMC, AGENT)
    for p in points:
        assert p.bits > 0 and p.psnr > 5 and p.decode_s > 0
        if p.route.startswith("C"):
            assert (p.options == 5 - int(p.route[1])).all()
        if p.route == PICTURE:
            assert len(np.unique(p.options)) == 1
    own = {p.route: p.psnr for p in points if p.quality == 70}
    assert own["C1"] != own["C5"]


def test_tables_hold_what_was_measured():
    curve = [(20.0, 1000, 30.0), (50.0, 2000, 34.0), (80.0, 4000, 38.0)]
    points = [point("C2", *p, [0, 0]) for p in curve]
    points += [point("C1", q, 2 * bits, psnr, [1, 1], seconds=0.5) for q, bits, psnr in curve]
    points += [point(JUMC, *p, [1, 0], choose=3.0) for p in curve] + [point(AGENT, *p, [1, 1], choose=0.1) for p in curve]
    routes, choosing, decisions = tables(points)
    rows = {row[0]: row[1:] for row in routes.rows}
    assert rows["C2"][:4] == (pytest.approx(0), 1, pytest.approx(0), pytest.approx(0))
    assert rows["C1"][:4] == (pytest.approx(100, abs=0.1), 1, pytest.approx(100), pytest.approx(100)) and rows["C1"][4] == 1
    assert [row[3] for row in choosing.rows] == [pytest.approx(75), pytest.approx(100 / 11)]
    assert decisions.rows == ((6, 50.0, 50.0, 0.5),)


def test_the_command_and_what_it_refuses(capsys, path, clip_file, tiny_exact_model):
    code, out, err = run(capsys, clip_file, "--model", path, "--routes", "--qualities", "30,70", "--threads", 1, "-v")
    assert code == 0 and all(title in out for title in ("Routes", "Finding the map", "The agent's decisions")) and "1/16 texture.y4m, quality 30, C4" in err
    code, out, err = run(capsys, clip_file, "--model", tiny_exact_model, "--routes")
    assert code == UsageError.exit_code and not out and "--routes is for AdaNIC" in err
    for wrong in (("--levels", "1"), ("--qualities", "101"), ()):
        arguments = ("--model", path, "--routes", *wrong) if wrong else ("--routes",)
        assert run(capsys, *([clip_file] if wrong else []), *arguments)[0] == 2
