"""The one error that a message which cannot be understood raises."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Why a message was refused; the ledger counts refusals by this name."""

    TRUNCATED = "truncated"
    """Parts or bytes are missing."""
    OVERSIZED = "oversized"
    """A length, shape or count beyond the caps of `zeroloss.wire.limits`."""
    MALFORMED = "malformed"
    """Not msgpack, a missing key, or a value of the wrong type or range."""
    DTYPE = "dtype"
    """A number format that the protocol does not carry."""
    SHAPE = "shape"
    """A buffer whose length does not fit its announced shape."""
    VERSION = "version"
    """Another major version of the protocol."""
    KIND = "kind"
    """A kind of message that this version does not know."""


class WireError(ValueError):
    """A message that cannot be understood: what was expected and what came.

    `fault` names the class of the error for the ledger.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
