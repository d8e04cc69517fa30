"""Model packages to warm sessions, before the daemon is ready."""

from __future__ import annotations

import logging

from zeroloss.config import Models
from zeroloss.models import ModelSession, ModelStore

log = logging.getLogger(__name__)

WARM_UP_CHANNELS = 2048
"""Channels of the spectra used for warming up before a run tells its own number."""


class ModelChoiceError(ValueError):
    """A model was asked for that is not there."""


def load_sessions(config: Models) -> list[ModelSession]:
    """A warm session of every package that the configuration names, or of every good one.

    Raises `ModelChoiceError` for an unknown name; packages that are damaged are logged.
    """
    store = ModelStore(config.models)
    for folder, sentence in store.broken.items():
        log.warning("model package %s is not used: %s", folder, sentence)
    packages = store.packages()
    unknown = [name for name in config.use if name not in packages]
    if unknown:
        known = ", ".join(sorted(packages)) or "none"
        raise ModelChoiceError(f"no model package named {', '.join(unknown)}; there are: {known}")
    sessions = []
    for name in config.use or sorted(packages):
        session = ModelSession(packages[name], config.provider)
        session.warm_up(WARM_UP_CHANNELS)
        log.info(
            "model %s %s on %s: %.2f ms per spectrum",
            name,
            session.package.manifest.version,
            session.provider,
            1000 * session.seconds_per_spectrum,
        )
        sessions.append(session)
    return sessions
