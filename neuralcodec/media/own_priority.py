"""A thread's own scheduling priority, kept.

SVT-AV1, where its process runs as root, gives the thread that opens an encoder real-time priority for good, and what the thread starts later inherits it. With that it can
keep other programs from running.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Afterwards the calling thread is scheduled as it was before. Does nothing where the system knows no such thing."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before[0]:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, *before)
