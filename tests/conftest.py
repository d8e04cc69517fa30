"""Settings of the whole suite."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# On a shared build machine an example may take long, and a run must be repeatable: new examples
# are looked for on the machines of developers.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure() -> None:
    """Ctrl-C as it is in a terminal: a shell has what it runs in the background ignore it, and so
    would every process that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
