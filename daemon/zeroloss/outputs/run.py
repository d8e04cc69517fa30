"""What the publisher needs to know of a run."""

from __future__ import annotations

from typing import Protocol

from zeroloss.maps import Closing, MapStore
from zeroloss.wire import LedgerTotals, PackageInfo, Refusal, Request, RunStart, Spectra


class PublishedRun(Protocol):
    """A run as the publisher sees it; every member but `spectra` is for the publisher's thread."""

    @property
    def start(self) -> RunStart:
        """The run as its source announced it."""

    @property
    def packages(self) -> tuple[PackageInfo, ...]:
        """What fills the map."""

    @property
    def store(self) -> MapStore:
        """The map."""

    def totals(self) -> LedgerTotals:
        """The ledger of this moment."""

    def lag_s(self) -> float:
        """Age of the newest mapped spectrum since the daemon received it; finite."""

    def rate_hz(self) -> float:
        """Spectra mapped per second of late; finite."""

    def gaps(self) -> list[tuple[int, int]]:
        """Announced spectra that have not come, as half-open ranges of positions."""

    @property
    def ended(self) -> bool:
        """Whether the source's end of the run is known."""

    @property
    def closing(self) -> Closing | None:
        """Set once nothing more will be written to the map."""

    def spectra(self, request: Request) -> Spectra | Refusal:
        """The answer to a request of the operation `spectrum`; called on a thread of its own."""
