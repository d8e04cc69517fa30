"""From timed readouts to a sender, at the pace of the beam."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from threading import Event

from .readout import Timed
from .sender import StreamSender


def stream(
    items: Iterable[Timed],
    sender: StreamSender,
    *,
    stop: Event | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> bool:
    """Send every readout when it is due; false where `stop` was set before the last one.

    A sender that could not keep up (the daemon was away) shifts the rest of the schedule: the beam
    waits for its readout. `on_progress` is told the position reached. Raises `SourceAbortedError`
    when the sender has stopped.
    """
    stop = stop or Event()
    began = time.monotonic()
    for item in items:
        ahead_s = began + item.due_s - time.monotonic()
        if ahead_s > 0:
            stop.wait(ahead_s)
        else:
            began -= ahead_s if item.due_s else 0.0
        if stop.is_set():
            return False
        sender.send(item.first, item.readout.counts, item.readout.pixels)
        if on_progress is not None:
            on_progress(item.first + len(item.readout))
    return True
