"""Curves of a run as a PNG beside its metrics."""

from __future__ import annotations

import json
from pathlib import Path


def plot(run: Path) -> Path | None:
    """Draw every metric of ``metrics.jsonl`` over minutes into ``curves.png``; None where there is nothing to draw or no matplotlib."""
    source = run / "metrics.jsonl"
    try:
        import matplotlib
    except ImportError:
        return None
    if not source.exists():
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [json.loads(line) for line in source.read_text().splitlines()]
    names = [n for n in dict.fromkeys(k for r in rows for k in r) if n not in ("step", "minutes") and not n.startswith("grad/")]
    columns = 4
    figure, axes = plt.subplots(-(-len(names) // columns), columns, figsize=(16, 2.6 * -(-len(names) // columns)), squeeze=False)
    for axis, name in zip(axes.flat, names):
        points = [(r["minutes"], r[name]) for r in rows if name in r]
        axis.plot(*zip(*points), linewidth=0.9)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
        if name == "loss":
            axis.set_yscale("log")
    for axis in list(axes.flat)[len(names):]:
        axis.axis("off")
    figure.supxlabel("minutes")
    figure.tight_layout()
    path = run / "curves.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path
