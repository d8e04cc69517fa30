"""Files of spectra and spectrum images: read with one energy axis per range, streamed as a run."""

from __future__ import annotations

from ._collection import NamedSpectrum, read_spectrum_collection
from ._errors import SpectrumFileError
from ._flags import add_axis_flags, axis_given
from ._measurement import is_recording, read_measurement
from ._read import read_spectrum_file
from ._run import blocks, run_start
from ._spectra import SpectrumFile
from ._text import Axis

__all__ = [
    "Axis",
    "NamedSpectrum",
    "SpectrumFile",
    "SpectrumFileError",
    "add_axis_flags",
    "axis_given",
    "blocks",
    "is_recording",
    "read_measurement",
    "read_spectrum_collection",
    "read_spectrum_file",
    "run_start",
]
