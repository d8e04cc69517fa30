"""Typed reading of msgpack header fields: the right type and range, or a `WireError`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from .errors import Fault, WireError
from .limits import MAX_METADATA, MAX_NAME, MAX_TEXT

Scalar: TypeAlias = str | int | float | bool | None
HeaderMap: TypeAlias = Mapping[str, object]


def _fail(key: str, expected: str, got: object) -> WireError:
    # A hostile value may be huge or deeply nested: reprlib looks at its outside only.
    shown = reprlib.repr(got)[:60]
    return WireError(
        Fault.MALFORMED, f"header field {key[:MAX_NAME]!r}: expected {expected}, got {shown}"
    )


class Fields:
    """A header map read field by field; keys nobody asks for are ignored."""

    def __init__(self, raw: object, what: str = "header") -> None:
        if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
            raise _fail(what, "a map with text keys", raw)
        self._raw: HeaderMap = raw

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._raw.get(key) is not None

    def get(self, key: str) -> object:
        """The raw value; `WireError` when the field is missing."""
        if key not in self._raw:
            raise WireError(Fault.MALFORMED, f"header field {key!r} is missing")
        return self._raw[key]

    def integer(self, key: str, low: int, high: int) -> int:
        """An integer within [low, high]."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _fail(key, f"an integer in [{low}, {high}]", value)
        if value > high:
            raise WireError(Fault.OVERSIZED, f"header field {key!r}: {value} is above {high}")
        if value < low:
            raise _fail(key, f"an integer in [{low}, {high}]", value)
        return value

    def number(self, key: str) -> float:
        """A finite float."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _fail(key, "a finite number", value)
        try:
            number = float(value)
        except OverflowError:
            raise _fail(key, "a finite number", value) from None
        if not math.isfinite(number):
            raise _fail(key, "a finite number", value)
        return number

    def positive(self, key: str) -> float:
        """A finite float above zero."""
        value = self.number(key)
        if value <= 0:
            raise _fail(key, "a number above zero", value)
        return value

    def optional_positive(self, key: str) -> float | None:
        """A finite float above zero, or None where the field is absent or null."""
        return self.positive(key) if self.has(key) else None

    def optional_not_negative(self, key: str) -> float | None:
        """A finite float from zero on, or None where the field is absent or null."""
        value = self.number(key) if self.has(key) else None
        if value is not None and value < 0:
            raise _fail(key, "zero or a number above it", value)
        return value

    def flag(self, key: str) -> bool:
        """A boolean."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise _fail(key, "true or false", value)
        return value

    def text(self, key: str, limit: int = MAX_TEXT) -> str:
        """Text of at most `limit` characters."""
        value = self.get(key)
        if not isinstance(value, str):
            raise _fail(key, "text", value)
        if len(value) > limit:
            raise WireError(
                Fault.OVERSIZED, f"header field {key!r}: {len(value)} characters, cap {limit}"
            )
        return value

    def name(self, key: str) -> str:
        """A non-empty name of at most `MAX_NAME` characters; `@` begins the protocol's own."""
        value = self.text(key, MAX_NAME)
        if not value or value.startswith("@"):
            raise _fail(key, "a name that does not begin with @", value)
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of `choices`."""
        value = self.get(key)
        if not isinstance(value, str) or value not in choices:
            raise _fail(key, "one of " + ", ".join(choices), value)
        return value

    def raw(self, key: str, size: int) -> bytes:
        """Exactly `size` bytes."""
        value = self.get(key)
        if not isinstance(value, bytes) or len(value) != size:
            raise _fail(key, f"{size} bytes", value)
        return value

    def items(self, key: str, limit: int) -> list[object]:
        """A list of at most `limit` entries."""
        value = self.get(key)
        if not isinstance(value, list):
            raise _fail(key, "a list", value)
        if len(value) > limit:
            raise WireError(
                Fault.OVERSIZED, f"header field {key!r}: {len(value)} entries, cap {limit}"
            )
        return value

    def texts(self, key: str, limit: int) -> tuple[str, ...]:
        """A list of at most `limit` texts."""
        values = self.items(key, limit)
        if not all(isinstance(value, str) and len(value) <= MAX_TEXT for value in values):
            raise _fail(key, "a list of texts", values)
        return tuple(str(value) for value in values)

    def integers(self, key: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Exactly `count` integers within [low, high]."""
        values = self.items(key, max(count, 64))
        if len(values) != count:
            raise _fail(key, f"{count} integers", values)
        return tuple(Fields({key: value}).integer(key, low, high) for value in values)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """Exactly `count` finite floats."""
        values = self.items(key, max(count, 64))
        if len(values) != count:
            raise _fail(key, f"{count} numbers", values)
        return tuple(Fields({key: value}).number(key) for value in values)

    def counters(self, key: str, high: int) -> dict[str, int]:
        """A map from names to non-negative integers."""
        inner = Fields(self.get(key), key)
        if len(inner._raw) > MAX_METADATA:
            raise WireError(Fault.OVERSIZED, f"header field {key!r}: more than {MAX_METADATA} keys")
        return {name: inner.integer(name, 0, high) for name in inner._raw}

    def named_numbers(self, key: str) -> dict[str, float]:
        """A map from names to finite floats."""
        inner = Fields(self.get(key), key)
        if len(inner._raw) > MAX_METADATA:
            raise WireError(Fault.OVERSIZED, f"header field {key!r}: more than {MAX_METADATA} keys")
        return {name: inner.number(name) for name in inner._raw}

    def metadata(self, key: str) -> dict[str, Scalar]:
        """A flat map of text, numbers, booleans and nulls."""
        inner = Fields(self.get(key), key)
        if len(inner._raw) > MAX_METADATA:
            raise WireError(Fault.OVERSIZED, f"header field {key!r}: more than {MAX_METADATA} keys")
        out: dict[str, Scalar] = {}
        for name, value in inner._raw.items():
            if isinstance(value, str):
                out[name] = inner.text(name)
            elif value is None or isinstance(value, bool | int | float):
                out[name] = value
            else:
                raise _fail(f"{key}.{name}", "text, a number, true, false or null", value)
        return out
