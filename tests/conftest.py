"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# On a shared build machine an example may take long, and a run must be repeatable: new examples
# are looked for on the machines of developers.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
