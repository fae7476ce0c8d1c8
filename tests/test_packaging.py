"""The wheel holds every module, table and model, and finds its models when it runs from somewhere else."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from neuralcodec.core import resources
from neuralcodec.core.errors import ModelError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources, because setuptools leaves its own files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("neuralcodec", "models", "demo"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "neuralcodec").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert "neuralcodec/entropy/entropy_tables.json" in package
    assert package - held == set()


def test_the_wheel_holds_every_model(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    models = {f"neuralcodec/weights/{p.name}" for p in (ROOT / "models").iterdir() if p.is_file()}
    assert models
    assert models - held == set()


def test_an_installed_wheel_finds_its_models(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (tmp_path / "models").mkdir()  # another package's
    code = "from neuralcodec.core.resources import model_folder; print(model_folder())"
    result = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    found = Path(result.stdout.strip())
    assert found == tmp_path / "neuralcodec" / "weights", result.stderr
    assert (found / "README.md").read_bytes() == (ROOT / "models" / "README.md").read_bytes()


def test_the_wheel_holds_the_demo_clip(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from neuralcodec.core.resources import demo_clip; print(demo_clip())"
    result = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert Path(result.stdout.strip()) == tmp_path / "neuralcodec" / "democlip" / "frog.mp4", result.stderr


def test_the_wheel_installs_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
    assert "ncodec = neuralcodec.cli:main" in archive.read(name).decode()


def test_a_checkout_finds_its_models():
    assert resources.model_folder() == ROOT / "models"


def test_an_installation_without_models_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "__file__", str(tmp_path / "neuralcodec" / "core" / "resources.py"))
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelError, match="model folder is missing"):
        resources.model_folder()


def test_every_dependency_is_pinned():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    wanted = settings["options"]["install_requires"].split("\n")
    for extra in settings["options.extras_require"].values():
        wanted += extra.split("\n")
    names = {w.split(";")[0].split(">")[0].strip().lower() for w in wanted} - {""}
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    assert names and names - pinned == set()
    assert all("==" in line and "+" not in line for line in lines if line and not line.startswith("#"))
