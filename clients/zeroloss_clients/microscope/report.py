"""What a sender is doing, and how its run went out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SenderState(StrEnum):
    """What the sender is doing, in the words shown to the user."""

    WAITING = "waiting for the daemon"
    STREAMING = "streaming"
    BEHIND = "the daemon is behind"
    REPAIRING = "sending missing spectra again"
    FINISHING = "waiting for confirmation"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class SendReport:
    """How a run went out.

    `complete`: the daemon has every spectrum that the source could give; None where no daemon
    could be asked. `repaired` spectra were sent again, `lost` ones the source no longer had.
    """

    spectra: int
    messages: int
    repaired: int
    lost: int
    complete: bool | None
    reason: str = ""
