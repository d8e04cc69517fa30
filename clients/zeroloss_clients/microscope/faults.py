"""Faults between sender and socket: what a bad network or a failing source does, on purpose.

A plan is read from `name=value` texts:

| fault             | what happens                                                              |
|-------------------|---------------------------------------------------------------------------|
| `drop=P`          | a message is lost with probability P                                      |
| `duplicate=P`     | a message arrives twice with probability P                                |
| `reorder=P`       | a message is overtaken by the one after it with probability P             |
| `corrupt=P`       | the header is noise or a buffer is cut short with probability P           |
| `stall=S@N`       | nothing is sent for S seconds after message N                             |
| `abort=N`         | the source vanishes after message N: no heartbeat, no run end             |
| `endless`         | the run end is never sent                                                 |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from zeroloss.wire import Part, RunEnd


class FaultError(ValueError):
    """A fault that cannot be read: what was expected and what came."""


class SourceAbortedError(RuntimeError):
    """The fault `abort` struck: the source is gone in the middle of its run."""


Deliver: TypeAlias = Callable[[Sequence[Part]], None]
"""Puts the frames of one message on their way."""

PROBABILITIES = ("drop", "duplicate", "reorder", "corrupt")
NAMES = (*PROBABILITIES, "stall", "abort", "endless")
END_TOPIC = f"{RunEnd.KIND}/".encode("ascii")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults strike, seeded: the same plan harms the same messages."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    stall_s: float = 0.0
    stall_after: int = 0
    abort_after: int | None = None
    endless: bool = False
    seed: int = 0

    @classmethod
    def parse(cls, texts: Iterable[str], seed: int = 0) -> FaultPlan:
        """Read `drop=0.01`, `stall=2@100`, `endless` ...; `FaultError` names what is wrong."""
        plan = cls(seed=seed)
        for text in texts:
            name, _, value = text.partition("=")
            try:
                plan = replace(plan, **_fields(name, value))
            except (ValueError, OverflowError):
                raise FaultError(
                    f"fault {text!r}: expected one of drop=P, duplicate=P, reorder=P, corrupt=P "
                    "(P from 0 to 1), stall=SECONDS@MESSAGE, abort=MESSAGE, endless"
                ) from None
        return plan

    @property
    def harmless(self) -> bool:
        """Whether nothing will happen."""
        return self == FaultPlan(seed=self.seed)


def _fields(name: str, value: str) -> dict[str, Any]:
    if name in PROBABILITIES:
        probability = float(value)
        if not 0 <= probability <= 1:
            raise ValueError
        return {name: probability}
    if name == "stall":
        seconds, _, after = value.partition("@")
        stall_s, stall_after = float(seconds), int(after or 0)
        if not 0 <= stall_s <= 86400 or stall_after < 0:
            raise ValueError
        return {"stall_s": stall_s, "stall_after": stall_after}
    if name == "abort":
        after_message = int(value)
        if after_message < 0:
            raise ValueError
        return {"abort_after": after_message}
    if name == "endless" and not value:
        return {"endless": True}
    raise ValueError


class FaultySender:
    """Passes messages on to `deliver` and lets the faults of `plan` strike them.

    `struck` counts the messages per fault; `pause` is what a stall does (seconds).
    """

    def __init__(
        self,
        deliver: Deliver,
        plan: FaultPlan,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._deliver = deliver
        self._plan = plan
        self._pause = pause
        self._rng = np.random.default_rng(plan.seed)
        self._held: Sequence[Part] | None = None
        self._sent = 0
        self.struck = dict.fromkeys(NAMES, 0)

    def send(self, parts: Sequence[Part]) -> None:
        """Send the message, or what the faults leave of it; may raise `SourceAbortedError`."""
        plan = self._plan
        if plan.abort_after is not None and self._sent >= plan.abort_after:
            self.struck["abort"] += 1
            raise SourceAbortedError(f"the source vanished after {self._sent} messages, as asked")
        if plan.stall_s and self._sent == plan.stall_after:
            self.struck["stall"] += 1
            self._pause(plan.stall_s)
        self._sent += 1
        if plan.endless and bytes(parts[0]).startswith(END_TOPIC):
            self.struck["endless"] += 1
            return
        drop, duplicate, reorder, corrupt = self._rng.random(4)
        if drop < plan.drop:
            self.struck["drop"] += 1
            return
        if corrupt < plan.corrupt:
            self.struck["corrupt"] += 1
            parts = self._corrupted(parts)
        if self._held is None and reorder < plan.reorder:
            self.struck["reorder"] += 1
            self._held = [bytes(part) for part in parts]
            return
        self._deliver(parts)
        if duplicate < plan.duplicate:
            self.struck["duplicate"] += 1
            self._deliver(parts)
        held, self._held = self._held, None
        if held is not None:
            self._deliver(held)

    def _corrupted(self, parts: Sequence[Part]) -> list[Part]:
        spoilt: list[Part] = [bytes(part) for part in parts]
        if len(spoilt) > 2 and self._rng.random() < 0.5:
            spoilt[-1] = bytes(spoilt[-1])[: -1 - int(self._rng.integers(8))]
            return spoilt
        spoilt[1] = self._rng.bytes(len(spoilt[1]))
        return spoilt
