"""The seam between this room and its rANS implementations: two functions, found in each backend module.

``encode_runs(runs) -> (words, bits)``
    Codes ``runs``, a list of (indices, model) in the order of decoding, and returns the words (native uint32 array,
    last one not zero) and the bits that each run took (float, adding up to the size of words and state).
``open_decoder(words) -> decoder``
    Starts decoding ``words`` (native uint32 array, last one not zero). The decoder has ``decode(model, count)`` ->
    int32 array, ``position()`` -> bits left, and ``is_empty()``.

``rans_constriction`` is fast; ``rans_python`` stands in where constriction has no wheel (64-bit Arm Linux) and
produces the same words. The environment variable NCODEC_ENTROPY_BACKEND ("constriction" or "python") chooses.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from math import log2
from types import ModuleType

from neuralcodec.core.errors import UsageError

_MODULES = {
    "constriction": "neuralcodec.entropy.rans_constriction",
    "python": "neuralcodec.entropy.rans_python",
}


@cache
def load_backend(name: str) -> ModuleType:
    """The backend module ``name``. Raises UsageError on an unknown name, ImportError where its library is missing."""
    if name not in _MODULES:
        raise UsageError(f"NCODEC_ENTROPY_BACKEND={name}: the entropy backends are {', '.join(_MODULES)}")
    return importlib.import_module(_MODULES[name])


@cache
def _default_name() -> str:
    try:
        load_backend("constriction")
    except ImportError:
        return "python"
    return "constriction"


def backend_name() -> str:
    """The backend in use: the environment's choice, else constriction where it is installed, else Python."""
    return os.environ.get("NCODEC_ENTROPY_BACKEND") or _default_name()


def current_backend() -> ModuleType:
    """The backend module in use. Raises UsageError when the environment asks for one that cannot be had."""
    name = backend_name()
    try:
        return load_backend(name)
    except ImportError as error:
        raise UsageError(f"NCODEC_ENTROPY_BACKEND={name}: {error}") from error


def size_in_bits(word_count: int, state: int) -> float:
    """Information in a coder: whole words, and the logarithm of its state."""
    return 32.0 * word_count + log2(max(state, 1))
