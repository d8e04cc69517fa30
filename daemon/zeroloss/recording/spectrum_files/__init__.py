"""Files of spectra and spectrum images: read with one energy axis per range, streamed as a run."""

from __future__ import annotations

from ._collection import NamedSpectrum, read_spectrum_collection
from ._errors import SpectrumFileError
from ._read import read_spectrum_file
from ._run import blocks, run_start
from ._spectra import SpectrumFile

__all__ = [
    "NamedSpectrum",
    "SpectrumFile",
    "SpectrumFileError",
    "blocks",
    "read_spectrum_collection",
    "read_spectrum_file",
    "run_start",
]
