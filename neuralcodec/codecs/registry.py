"""Installed models: found by name or by the identity that a stream names (DESIGN D6)."""

from __future__ import annotations

import functools
from pathlib import Path

from neuralcodec.codecs.files import LoadedModel, load_model
from neuralcodec.core.errors import ModelError
from neuralcodec.core.resources import model_folder

DEFAULT_MODEL = "flagship"


def installed() -> dict[str, Path]:
    """Model files by name, in alphabetical order."""
    return {p.stem: p for p in sorted(model_folder().glob("*.safetensors"))}


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: float) -> LoadedModel:
    return load_model(path)


def by_name(name: str = DEFAULT_MODEL) -> LoadedModel:
    """A model by its name, or by the path of a model file. Raises ModelError, naming those installed."""
    models = installed()
    path = models.get(name) or (Path(name) if name.endswith(".safetensors") and Path(name).is_file() else None)
    if path is None:
        raise ModelError(f"no model named {name!r}; installed: {', '.join(models) or 'none'}")
    return _load(path, path.stat().st_mtime)


def describe(identity: bytes, name: str) -> str:
    """For messages: a model by its name and identity, or by its key alone."""
    return f"model {name!r} with identity {identity.hex()[:16]}..." if name else f"a model with key {identity.hex()}"


def by_identity(identity: bytes, name: str, extra: Path | None = None) -> LoadedModel:
    """The model that a stream was made with, by its identity or, for a bare picture, its key; ``name``, if there is one, is tried first, ``extra`` is one
    more file to look at.

    Raises ModelError, saying which model the stream needs."""
    models = installed()
    paths = ([extra] if extra else []) + [p for n, p in models.items() if n == name] + [p for n, p in models.items() if n != name]
    for path in paths:
        loaded = _load(path, path.stat().st_mtime)
        if identity in (loaded.identity, loaded.key):
            return loaded
    raise ModelError(f"the stream needs {describe(identity, name)}, which is not installed "
                     f"(installed: {', '.join(models) or 'none'})")
