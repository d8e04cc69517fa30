"""The models of a daemon: loaded, warm, and renewed while it runs when their packages change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from zeroloss.config import Models, settings
from zeroloss.models import (
    InferenceError,
    ModelError,
    ModelPackage,
    ModelSession,
    ModelStore,
    PackageError,
    ParameterError,
)
from zeroloss.models.parameters import check_given, lacks_selection, selecting
from zeroloss.models.store import Stamp, look

log = logging.getLogger(__name__)

WARM_UP_CHANNELS = 2048
"""Channels of the spectra used for warming up before a run tells its own number."""
POLL_S = 0.5
CLOSE_S = 10.0
"""A file system that hangs must not hold the end of the daemon up for longer."""


class ModelChoiceError(ValueError):
    """A model was asked for that is not there."""


class ModelLibrary:
    """A warm session of every package that the configuration names, or else of every good one
    that does not run only when it is named; without those that have a selection of which nothing
    was chosen.

    `on_change` is given the sessions for the runs that begin from now on, whenever they change; a
    run keeps those that it was given. `on_swap` is told the name of each package that was renewed
    or came new after `load`.

    The folders are looked at twice a second. A change counts when two looks in a row see the same
    files. A package that is damaged, that does not open, or that is gone takes nothing away: the
    session of that name works on until another package of its name comes.
    """

    def __init__(
        self,
        config: Models,
        *,
        on_change: Callable[[tuple[ModelSession, ...]], None],
        on_swap: Callable[[str], None],
    ) -> None:
        self._config = config
        self._given = settings(config.set)
        self._on_change = on_change
        self._on_swap = on_swap
        self._sessions: dict[str, ModelSession] = {}
        # What the next run is given, and the look at the folders that it comes from.
        self._published: tuple[ModelStore, tuple[ModelSession, ...]] | None = None
        self._told: dict[Path, str] = {}
        self._off_disk: set[str] = set()
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="models", daemon=True)

    def load(self) -> None:
        """Load and warm the packages, and begin to watch their folders.

        Raises `ModelChoiceError` for a name in `use` or `set` that is not there, unless one of the
        folders is still empty: then it is waited for. Raises a `ModelError` when a package that was
        named does not open, a parameter cannot be set, or the device or ONNX Runtime is not there.
        """
        store = ModelStore(self._config.models)
        asked = dict.fromkeys((*self._config.use, *self._given))
        unknown = [name for name in asked if name not in store.packages()]
        empty = [folder for folder in self._config.models if not look([folder]).keys() - look([])]
        if unknown and not empty:
            known = ", ".join(sorted(store.packages())) or "none"
            raise ModelChoiceError(
                f"no model package named {', '.join(unknown)}; there are: {known}"
            )
        for name in unknown:
            log.warning("no model package named %s yet: waiting for it", name)
        running = self._chosen(store)
        for name, given in self._given.items():
            if name in store.packages():
                manifest = store.get(name).manifest
                if lacks_selection(manifest, given):
                    raise ModelChoiceError(
                        f"{name}.{min(given)} is set, but the model {name} runs only where "
                        f"something is selected: {selecting(manifest)}"
                    )
                if name not in running:
                    raise ModelChoiceError(
                        f"{name}.{min(given)} is set, but the model {name} does not run: name it "
                        f"in use beside {', '.join(running) or 'no other'}"
                    )
                check_given(manifest, given)
        for name in self._config.use:
            if name not in running:
                flag = selecting(store.get(name).manifest)
                log.warning("the model %s takes part in no run without %s", name, flag)
        for name in running:
            self._renew(name, store, starting=True)
        self._publish(store)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; the sessions stay with whoever has them."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def health(self) -> dict[str, object]:
        """What /health tells of the models that the next run is given."""
        if self._published is None:
            return {"models": [], "models_broken": [], "models_awaited": []}
        store, sessions = self._published
        on_disk = {package.sha256 for package in store.packages().values()}
        running = {session.package.name for session in sessions}
        return {
            "models": [
                {
                    "name": session.package.manifest.name,
                    "version": session.package.manifest.version,
                    "sha256": session.package.sha256,
                    "provider": session.provider,
                    "precision": session.precision,
                    "on_disk": session.package.sha256 in on_disk,
                }
                for session in sessions
            ],
            "models_broken": [
                {"folder": str(folder), "reason": sentence}
                for folder, sentence in sorted(store.broken.items())
            ],
            "models_awaited": [
                name
                for name in self._chosen(store)
                if name in self._config.use and name not in running
            ],
        }

    def _watch(self) -> None:
        changed: dict[Path, Stamp] | None = None
        fault = ""
        while not self._stop.wait(POLL_S):
            try:
                changed = self._look(changed)
            # The runs must go on whatever lies in these folders.
            except Exception as error:
                if fault != str(error):
                    log.exception("the folders of model packages could not be looked at")
                fault = str(error)

    def _look(self, before: dict[Path, Stamp] | None) -> dict[Path, Stamp] | None:
        """Renew what changed; returns a change that may still be under way."""
        assert self._published is not None
        store, _ = self._published
        seen = look(self._config.models)
        if seen == store.stamps:
            return None
        if seen != before:
            return seen
        store = ModelStore(self._config.models, before=store)
        for name in self._chosen(store):
            self._renew(name, store, starting=False)
        self._publish(store)
        return None

    def _chosen(self, store: ModelStore) -> tuple[str, ...]:
        """Names of the packages that run, whether they are there or not."""
        packages = store.packages()
        unasked = (name for name, item in packages.items() if not item.manifest.when_named)
        return tuple(
            name
            for name in self._config.use or unasked
            if name not in packages
            or not lacks_selection(packages[name].manifest, self._given.get(name, {}))
        )

    def _renew(self, name: str, store: ModelStore, *, starting: bool) -> None:
        session = self._sessions.get(name)
        while (package := store.packages().get(name)) is not None:
            if session is not None:
                # What was there before is no successor, though it may be first in line now.
                known = package.folder not in store.fresh
                if known or package.sha256 == session.package.sha256:
                    return
            try:
                renewed = self._open(package)
            except ModelError as error:
                of_package = isinstance(error, PackageError | InferenceError | ParameterError)
                if starting and (name in self._config.use or not of_package):
                    raise
                store.refuse(package.folder, str(error))
                continue
            self._sessions = {**self._sessions, name: renewed}
            if not starting:
                self._on_swap(name)
                was = "" if session is None else f" takes the place of {session.package.sha256[:8]}"
                log.info("model %s %s%s from the next run on", name, package.sha256[:8], was)
            return

    def _open(self, package: ModelPackage) -> ModelSession:
        check_given(package.manifest, self._given.get(package.name, {}))
        session = ModelSession(package, self._config.provider)
        session.warm_up(WARM_UP_CHANNELS)
        log.info(
            "model %s %s on %s: %.2f ms per spectrum",
            package.name,
            package.manifest.version,
            session.provider,
            1000 * session.seconds_per_spectrum,
        )
        return session

    def _publish(self, store: ModelStore) -> None:
        sessions = self._in_order()
        self._on_change(sessions)
        self._published = store, sessions
        for folder, sentence in store.broken.items():
            if self._told.get(folder) != sentence:
                log.warning("model package %s is not used: %s", folder, sentence)
        self._told = dict(store.broken)
        on_disk = {package.sha256 for package in store.packages().values()}
        off_disk = {
            name for name, item in self._sessions.items() if item.package.sha256 not in on_disk
        }
        for name in sorted(off_disk - self._off_disk):
            log.warning(
                "model %s %s is no longer in its folder: it works on until another comes",
                name,
                self._sessions[name].package.sha256[:8],
            )
        self._off_disk = off_disk

    def _in_order(self) -> tuple[ModelSession, ...]:
        sessions = self._sessions
        names = self._config.use or sorted(sessions)
        return tuple(sessions[name] for name in names if name in sessions)
