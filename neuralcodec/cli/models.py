"""``ncodec models``: what is installed, what it costs, what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from neuralcodec.codecs.files import LoadedModel

ROLES = (("I", "decoding an I frame"), ("P", "decoding a P frame"), ("encoder", "encoding only"))


@click.command(short_help="List the installed models.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, one object for each model.")
@click.option("--model", metavar="NAME", help="This one only; a model file will do as well.")
def models(as_json: bool, model: str | None) -> None:
    """List the installed models: levels with their cost for decoding, parameters, training data and licences.

    Costs are thousands of multiply-accumulates of the networks' convolutions for one luma sample.

    \b
    JSON, for each model:
      name, identity            the hash by which streams name it (64 hexadecimal digits)
      key                       the shorter one by which bare pictures name it (16 digits)
      architecture, file, bytes
      parameters                of all parts
      levels                    [{level, widths, decoder_kmac_per_pixel: {I, P}, parts}]; each part:
                                {name, role: I, P or encoder, kmac_per_pixel, parameters, exact}
                                Where all layers have one width, also its channels; parts have the parameters of
                                the level, and activation_bytes_per_pixel (float32, the largest input and output of
                                a layer together)
      card                      the model's card as it stands beside it, null without one
      notes                     what else the model file says
    """
    from neuralcodec.codecs import registry

    names = [model] if model else list(registry.installed())
    described = [describe(registry.by_name(name), _file(name, registry.installed())) for name in names]
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    if not described:
        click.echo("ncodec: no model is installed", err=True)
    for one in described:
        _show(one)


def _file(name: str, installed: dict[str, Path]) -> Path:
    return installed.get(name) or Path(name)


def describe(loaded: LoadedModel, path: Path) -> dict[str, Any]:
    """A model as the object that ``--json`` prints."""
    from neuralcodec.codecs.complexity import INTER, INTRA, complexity, total

    levels = []
    for level, widths in enumerate(loaded.widths, 1):
        parts = complexity(loaded.model, widths)
        levels.append(
            {
                "level": level,
                "widths": list(widths),
                **({"channels": loaded.channels[level - 1]} if loaded.channels else {}),
                "decoder_kmac_per_pixel": {role: float(total(parts, role)) / 1000 for role in (INTRA, INTER)},
                "parts": [
                    {
                        "name": p.name,
                        "role": p.role,
                        "kmac_per_pixel": p.kmacs,
                        "parameters": p.parameters,
                        "exact": p.exact,
                    }
                    | ({"activation_bytes_per_pixel": float(p.activations)} if p.activations else {})
                    for p in parts
                ],
            }
        )
    known = {"format", "architecture", "config", "widths"}
    return {
        "name": loaded.name,
        "identity": loaded.identity.hex(),
        "key": loaded.key.hex(),
        "architecture": loaded.metadata["architecture"],
        "file": path.name,
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for n, p in loaded.model.named_parameters() if "selection." not in n),
        "levels": levels,
        "card": _card(path),
        "notes": {k: v for k, v in loaded.metadata.items() if k not in known},
    }


def _card(path: Path) -> dict[str, Any] | None:
    card: dict[str, Any] = {}
    data, prose = path.with_suffix(".json"), path.with_suffix(".md")
    if data.is_file():
        try:
            read = json.loads(data.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            read = {"unreadable": str(error)}
        card |= read if isinstance(read, dict) else {"card": read}
    if prose.is_file():
        card["prose"] = prose.read_text(encoding="utf-8")
    return card or None


def _show(one: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{one['name']}   {one['architecture']}, {one['parameters']:,} parameters, {one['bytes'] / 1e6:.2f} MB"
    )
    console.print(f"identity {one['identity']}, key {one['key']}")
    table = Table(
        box=SIMPLE_HEAD, title="thousands of multiply-accumulates for a pixel", title_justify="left", pad_edge=False
    )
    table.add_column("part")
    for level in one["levels"]:
        table.add_column(f"level {level['level']}", justify="right")
    table.add_column("parameters", justify="right")
    rows = list(zip(*(level["parts"] for level in one["levels"]), strict=True))
    for role, title in ROLES:
        own = [row for row in rows if row[0]["role"] == role]
        if not own:
            continue
        for row in own:
            exact = " (exact)" if row[0]["exact"] else ""
            table.add_row(
                row[0]["name"] + exact, *(f"{cell['kmac_per_pixel']:.2f}" for cell in row), f"{row[0]['parameters']:,}"
            )
        sums = [sum(row[n]["kmac_per_pixel"] for row in own) for n in range(len(one["levels"]))]
        table.add_row(
            title,
            *(f"{s:.2f}" for s in sums),
            f"{sum(row[0]['parameters'] for row in own):,}",
            style="bold",
            end_section=True,
        )
    console.print(table)
    if any("activation_bytes_per_pixel" in part for part in one["levels"][0]["parts"]):
        _show_memory(console, one["levels"])
    card = one["card"] or {}
    for key, value in {**card, **one["notes"]}.items():
        _show_field(console, key, value, "")
    if not card:
        console.print("no card")


def _show_memory(console: Any, levels: list[dict[str, Any]]) -> None:
    """What a level reads and holds, for decoding and for encoding."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="memory by level", title_justify="left", pad_edge=False)
    measures = ("parameters", "activation bytes a pixel")
    for column in ("level", "channels", *(f"{what}, {side}" for side in ("decoder", "encoder") for what in measures)):
        table.add_column(column, justify="right")
    for level in levels:
        cells = [str(level["channels"])]
        for side in ("I", "encoder"):
            parts = [part for part in level["parts"] if part["role"] == side]
            cells += [f"{sum(p['parameters'] for p in parts):,}", f"{max(p['activation_bytes_per_pixel'] for p in parts):.1f}"]
        table.add_row(str(level["level"]), *cells)
    console.print(table)


def _show_field(console: Any, key: str, value: Any, indent: str) -> None:
    key = key.replace("_", " ")
    if isinstance(value, dict):
        console.print(f"{indent}{key}:")
        for k, v in value.items():
            _show_field(console, str(k), v, indent + "  ")
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        console.print(f"{indent}{key}:")
        for item in value:
            text = ", ".join(f"{k} {v}" for k, v in item.items()) if isinstance(item, dict) else str(item)
            console.print(f"{indent}  - {text}")
    elif isinstance(value, str) and "\n" in value:
        console.print(f"{indent}{key}:")
        for line in value.strip().splitlines():
            console.print(f"{indent}  {line}")
    else:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        console.print(f"{indent}{key}: {shown}")
