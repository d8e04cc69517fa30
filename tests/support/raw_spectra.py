"""Answers to requests for spectra whose right counts can be worked out by hand."""

from __future__ import annotations

import numpy as np

from zeroloss.scan import Ledger
from zeroloss.wire import Refusal, Request, RunStart, Spectra, SpectrumInfo


def raw_spectra(start: RunStart, ledger: Ledger, request: Request) -> Spectra | Refusal:
    """The raw counts of a raster run whose pixel p has p + c counts in channel c of every range."""
    rows, columns = start.scan.shape
    asked = np.arange(rows * columns).reshape(rows, columns)
    flat = asked[slice(*(request.rows or (0, rows))), slice(*(request.columns or (0, columns)))]
    pixels = flat.ravel() if request.pixels is None else np.unique(request.pixels)
    missing = [pixel for begin, end in ledger.gaps() for pixel in range(begin, end)]
    there = pixels[(pixels < ledger.totals().announced) & ~np.isin(pixels, missing)]
    known = {f"raw/{item.name}": item for item in start.ranges}
    unknown = [name for name in request.what if name not in known]
    if unknown or not len(there):
        reason = f"nothing is called {unknown[0]}" if unknown else "no usable spectrum has come"
        return Refusal(ticket=request.ticket, t_ns=1, reason=reason, run=start.run)
    ranges = [known[name] for name in request.what or known]
    return Spectra(
        run=start.run,
        ticket=request.ticket,
        t_ns=1,
        pixels=len(pixels),
        spectra=len(there),
        empty=len(pixels) - len(there),
        counts_from="recording",
        infos=tuple(
            SpectrumInfo(
                name=f"raw/{item.name}",
                kind="raw",
                range_name=item.name,
                unit="counts",
                axis_ev=(item.offset_ev, item.scale_ev),
            )
            for item in ranges
        ),
        arrays={
            f"raw/{item.name}": (there[:, None] + np.arange(item.size)).sum(axis=0, dtype=float)
            for item in ranges
        },
    )
