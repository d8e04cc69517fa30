"""What is known of a pixel: the codes of the coverage layer."""

from __future__ import annotations

from enum import IntEnum


class Coverage(IntEnum):
    """State of one pixel of a map; the number is what travels and what is stored."""

    UNSEEN = 0
    """The beam has not been there yet."""
    PENDING = 1
    """Its spectrum was received and waits."""
    DONE = 2
    """Its layers are on the map."""
    LOST = 3
    """Its spectrum was announced and never came."""
    REJECTED = 4
    """Its spectrum came and cannot be used; the ledger says why."""
