"""What the daemon needs of any source of spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zeroloss.wire import Part


class SourceError(OSError):
    """A source that cannot be used; one sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Received:
    """The frames of one message, and when it was received (ns of the UTC epoch)."""

    parts: list[Part]
    received_ns: int


class Source(Protocol):
    """Wire messages from somewhere, one at a time."""

    @property
    def endpoint(self) -> str:
        """Where the messages come from, with the real port."""
        ...

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, or None when none came within `timeout_s`."""
        ...

    def close(self) -> None:
        """Let go of whatever is held; nothing can be received afterwards."""
        ...
