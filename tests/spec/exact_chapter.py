"""The tables of exact_pictures.md, section 10, as data."""

from __future__ import annotations

import re
from collections.abc import Collection
from math import prod
from pathlib import Path

CHAPTER = (Path(__file__).resolve().parents[2] / "bitstream_spec" / "exact_pictures.md").read_text("utf-8")


def rows(first: str) -> list[list[str]]:
    """Cells of a table of the chapter, by the name of its first column."""
    body = CHAPTER[CHAPTER.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def number(text: str, sizes: dict[str, int]) -> int:
    """A sum like "M + 96" or "2 C"."""
    return sum(prod(sizes.get(factor) or int(factor) for factor in term.split()) for term in text.split(" + "))


def tensors_of_the_chapter(config: dict, rounds: Collection[str] = ()) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> type and shape of each tensor that section 10 gives a decoder, with layers of these names that round."""
    sizes = {"A": config["intra"]["channels"], "M": config["motion"]["channels"], "X": config["inter"]["channels"],
             "LA": config["intra"]["latent"], "LM": config["motion"]["latent"], "LX": config["inter"]["latent"]}
    blocks = {}
    for text, kind, channels in rows("units"):
        name, *many = re.findall(r"`([^`]+)`", text)
        count = 1
        if many:
            part = re.search(r"i < (\w+)", text)[1]
            count = config[part][many[0]]
        if kind == "block":
            blocks |= {name.removesuffix("i") + str(i) if many else name: sizes[channels] for i in range(count)}
    shapes = {}
    for text, kind, weight, *_ in rows("layer"):
        name = text.strip("`")
        for unit, c in blocks.items() if name.startswith("U.") else [(None, 0)]:
            numbers = tuple(number(text, sizes | {"C": c}) for text in weight.strip("()").split(", "))
            shapes[name.replace("U.", f"{unit}.") if unit else name] = (kind.split(",")[0], numbers)
    found = {}
    for text, of, kind, shape_text, _ in rows("tensor"):
        tensor = text.strip("`")
        if tensor.startswith("N."):
            for name, (layer_kind, shape) in shapes.items():
                if layer_kind in of:
                    entries = re.findall(r"\((\d)\)", shape_text)  # of a format that is short, and of one that is long
                    own = (int(entries[name in rounds]),) if entries else shape if tensor == "N.weight" else shape[:1]
                    found[tensor.replace("N.", f"{name}.")] = (kind, own)
        else:
            found |= {row[0].strip("`"): (kind, (9, sizes[row[1].strip("()").split(", ")[1]])) for row in rows("gain")}
    return found
