"""Rows of a CSV that takes its place only when all of it is written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from ._model_flags import GivenError


class Rows(Protocol):
    """Where the rows go."""

    def writerow(self, row: Iterable[object], /) -> object:
        """Write one row."""
        ...


@contextmanager
def csv_rows(path: Path | None, header: Sequence[str]) -> Iterator[Rows | None]:
    """Rows below a header; None without a path.

    Raises `GivenError` where the file cannot be written; then an older one is untouched.
    """
    if path is None:
        yield None
        return
    if path.is_dir():
        raise GivenError(f"cannot write {path}: it is a folder; name a file")
    if not path.parent.is_dir():
        raise GivenError(f"cannot write {path}: there is no folder {path.parent}")
    # A pipe or a device (/dev/stdout) is written to, never replaced.
    in_place = path.exists() and not path.is_file()
    part = path if in_place else path.with_name(path.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(header)
            yield rows
        if not in_place:
            part.replace(path)
    except OSError as error:
        if error.strerror is None:
            raise
        raise GivenError(f"{path} could not be written: {error.strerror}") from None
    finally:
        if not in_place:
            part.unlink(missing_ok=True)


def number(value: float, digits: int = 7) -> str:
    """A cell; what is missing stays empty: it is not known, not zero."""
    return f"{value:.{digits}g}" if np.isfinite(value) else ""
