"""Waiting in tests: for a condition, not for a time."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from time import monotonic

DEADLINE_S = 30.0


def poll_until(
    condition: Callable[[], object], what: str = "a condition", deadline_s: float = DEADLINE_S
) -> None:
    """Return as soon as `condition()` holds; fail after the deadline."""
    pause = Event()
    end = monotonic() + deadline_s
    while not condition():
        assert monotonic() < end, f"waited {deadline_s:g} s for {what}"
        pause.wait(0.005)
