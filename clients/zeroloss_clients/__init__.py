"""Programs that talk to a running zeroloss daemon: they feed it spectra and follow its maps.

`LiveMaps` follows the maps; `StreamSender` streams spectra. The core needs numpy, pyzmq and
msgpack only.
"""

from __future__ import annotations

from ._live_run import LiveRun, MapTooLargeError, MapView
from .spectrum import PixelError, Spectrum, SpectrumRefusedError, SummedSpectra
from .subscriber import LiveMaps, MapEvent

__all__ = [
    "LiveMaps",
    "LiveRun",
    "MapEvent",
    "MapTooLargeError",
    "MapView",
    "PixelError",
    "Spectrum",
    "SpectrumRefusedError",
    "SummedSpectra",
]
