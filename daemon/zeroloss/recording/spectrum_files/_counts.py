"""Counts in one of the number formats that the wire carries."""

from __future__ import annotations

import numpy as np

from zeroloss.wire import COUNT_DTYPES

from ._errors import SpectrumFileError
from ._spectra import Counts

_LOSSLESS = {"int8": "int32", "int16": "int32", "float16": "float32"}


def plain_counts(data: Counts) -> tuple[Counts, str | None]:
    """The same numbers in a dtype of `COUNT_DTYPES` and native byte order, C-contiguous.

    Returns a note where the format had to change for one that may round. `SpectrumFileError` for
    data that are no counts at all (complex, text, colours, flags).
    """
    name = data.dtype.name
    note = None
    if data.dtype.kind not in "uif" or data.dtype.names is not None:
        raise SpectrumFileError(
            f"the data are of type {data.dtype}: expected counts (real numbers), not an image or "
            "a complex signal"
        )
    if name in COUNT_DTYPES:
        target = name
    elif name in _LOSSLESS:
        target = _LOSSLESS[name]
    elif data.dtype.kind in "ui" and data.size and data.min() >= 0 and data.max() < 1 << 32:
        target = "uint32"
    elif data.dtype.kind == "i" and data.size and -(1 << 31) <= data.min() <= data.max() < 1 << 31:
        target = "int32"
    else:
        target = "float64"
        note = f"counts of type {name} are kept as float64"
    return np.ascontiguousarray(data, dtype=target), note
