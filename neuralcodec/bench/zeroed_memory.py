"""Memory that an encoder allocates, filled with zeros.

x264's macroblock tree (on by default; x264 core 165) reads memory that it has not written: its bits then depend on what the process did before, by
some percent on small pictures (tests/bench/test_bench_ruler.py). Zeros are what it finds in a process that has just started, so with them a curve can
be measured again. Of C libraries glibc alone can be told; with others nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_M_PERTURB = -6
"""mallopt(3): bytes are filled with the complement of the value as they are allocated, and with the value as they are freed; 0 fills nothing."""


def fill_allocations(byte: int | None) -> None:
    """From now on all memory that C code of this process allocates, on any thread, has this byte (0..254) throughout; None: it is left as it is."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no library of the process itself
        return
    mallopt(_M_PERTURB, 0 if byte is None else byte ^ 0xFF)


@contextmanager
def zeroed_memory() -> Iterator[None]:
    """What is allocated meanwhile is zero at first."""
    fill_allocations(0)
    try:
        yield
    finally:
        fill_allocations(None)
