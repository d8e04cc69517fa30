"""The spectrum of the pixels that hold an element, as soon as the scan is over."""

from __future__ import annotations

import sys

from zeroloss_clients import LiveMaps

with LiveMaps(*sys.argv[1:]) as maps:
    run = maps.wait_for_close()
    found = run.spectrum(pixels=run[run.detected[0]].present)
    for name, spectrum in found.items():
        print(f"{run.detected[0]}, {found.counted} spectra, {name}: {spectrum.values} counts")
