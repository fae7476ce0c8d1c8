"""A limit to what workers do at the same time, where each needs much memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 0.2
"""Seconds, after which who waits asks whether to go on."""


class Gate:
    """Lets threads through as long as their amounts together are within ``limit``; one alone may be beyond it."""

    def __init__(self, limit: int) -> None:
        self.limit, self._inside = limit, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Inside, ``amount`` is taken. ``while_waiting`` is called now and then before, and may end the wait by an error."""
        with self._changed:
            while self._inside and self._inside + amount > self.limit:
                self._changed.wait(_PATIENCE)
                while_waiting()
            self._inside += amount
        try:
            yield
        finally:
            with self._changed:
                self._inside -= amount
                self._changed.notify_all()
