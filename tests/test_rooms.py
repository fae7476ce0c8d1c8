"""A module imports only from rooms below it, and each room only the packages that are its business."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neuralcodec"

BELOW: dict[str, set[str]] = {
    "core": set(),
    "bitstream": {"core"},
    "entropy": {"core", "bitstream"},
    "nn": {"core", "bitstream", "entropy.tables"},
    "codecs": {"core", "bitstream", "entropy", "nn"},
    "pipeline": {"core", "bitstream", "entropy", "nn", "codecs"},
    "training": {"core", "bitstream", "entropy", "nn", "codecs"},
    "bench": {"core", "bitstream", "entropy", "nn", "codecs", "pipeline", "media"},
    "media": {"core"},
    "cli": {"core", "bitstream", "entropy", "nn", "codecs", "pipeline", "training", "bench", "media"},
}
"""What each room may import of the project, besides itself. "room.module" is that module alone."""

OUTSIDE: dict[str, set[str]] = {
    "core": {"numpy"},
    "bitstream": {"numpy", "google_crc32c"},
    "entropy": {"numpy", "constriction"},
    "nn": {"numpy", "torch"},
    "codecs": {"numpy", "torch", "safetensors", "cv2"},
    "pipeline": {"numpy", "torch", "safetensors", "cv2"},
    "training": {"numpy", "torch", "safetensors", "cv2", "av", "scipy", "matplotlib", "tensorboard"},
    "bench": {"numpy", "torch", "av", "scipy", "matplotlib", "bjontegaard", "pytorch_msssim", "PIL", "jinja2"},
    "media": {"numpy", "av", "imageio", "PIL", "pillow_heif"},
    "cli": {"numpy", "torch", "av", "click", "rich", "PIL"},
}
"""What each room may import besides the project and the standard library."""

HEAVY = {"torch", "av", "constriction", "cv2", "scipy", "numpy", "imageio", "PIL", "safetensors"}
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "joblib"}


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a module imports, wherever the statement stands.

    ``from a import b`` yields "a.b", since b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """One line for each import of ``module`` ("neuralcodec.room...") that the tables above do not allow."""
    room = module.split(".")[1]
    found = []
    for line, name in imports(source, module, is_package):
        parts = name.split(".")
        if parts[0] != "neuralcodec":
            if parts[0] in FORBIDDEN or (parts[0] not in sys.stdlib_module_names and parts[0] not in OUTSIDE[room]):
                found.append(f"line {line}: {room} imports {parts[0]}")
        elif parts[1:2] and parts[1] in BELOW:
            allowed = BELOW[room] | {room}
            if parts[1] not in allowed and ".".join(parts[1:3]) not in allowed:
                found.append(f"line {line}: {room} imports {name}")
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found.append((name.removesuffix(".__init__"), path))
    return found


def test_every_folder_is_a_room_that_the_tables_know():
    folders = {path.relative_to(PACKAGE).parts[0] for name, path in modules() if path.parent != PACKAGE}
    assert folders <= BELOW.keys()
    assert BELOW.keys() == OUTSIDE.keys()


@pytest.mark.parametrize(("module", "path"), [m for m in modules() if m[1].parent != PACKAGE], ids=lambda v: str(v)[-60:])
def test_a_module_imports_only_what_its_room_may(module, path):
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("neuralcodec.core.types", "import neuralcodec.bitstream.crc"),
        ("neuralcodec.bitstream.reader", "def f():\n    from neuralcodec import entropy"),
        ("neuralcodec.nn.exact", "from neuralcodec.entropy import coder"),
        ("neuralcodec.nn.exact", "from neuralcodec.entropy.coder import decode"),
        ("neuralcodec.nn.exact", "from ..entropy.coder import decode"),
        ("neuralcodec.media.sink", "from neuralcodec.pipeline import encode"),
        ("neuralcodec.training.loop", "from neuralcodec.pipeline.encode import Encoder"),
        ("neuralcodec.codecs.intra", "import constriction.stream as s"),
        ("neuralcodec.codecs.intra", "import pickle"),
        ("neuralcodec.media.sink", "import torch.nn"),
        ("neuralcodec.cli.main", "from google_crc32c import value"),
    ],
)
def test_the_check_sees_a_forbidden_import(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("neuralcodec.nn.exact", "from neuralcodec.entropy.tables import TOTAL"),
        ("neuralcodec.nn.exact", "from neuralcodec.entropy import tables"),
        ("neuralcodec.nn.exact", "from .fixed import x\nfrom . import fixed"),
        ("neuralcodec.cli.main", "from neuralcodec import __version__\nfrom neuralcodec.media.source import open_source"),
        ("neuralcodec.entropy.rans", "import math, constriction"),
    ],
)
def test_the_check_lets_an_allowed_import_pass(module, source):
    assert violations(source, module) == []


def loaded_after(code: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has after ``code``."""
    report = "import sys; sys.stderr.write('\\n' + ' '.join({m.split('.')[0] for m in sys.modules}))"
    wrapped = f"try:\n    {code}\nexcept SystemExit as e:\n    assert not e.code, e.code\nfinally:\n    {report}"
    result = subprocess.run([sys.executable, "-c", wrapped], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return set(result.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import neuralcodec",
        "import neuralcodec.cli",
        "import neuralcodec.cli; neuralcodec.cli.main(['--help'])",
        "import neuralcodec.cli; neuralcodec.cli.main(['encode', '--help'])",
        "import neuralcodec.cli; neuralcodec.cli.main(['--version'])",
    ],
)
def test_help_loads_nothing_heavy(code):
    assert loaded_after(code) & HEAVY == set()
