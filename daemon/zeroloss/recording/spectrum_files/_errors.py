"""The one error of a file that cannot be used as spectra."""

from __future__ import annotations


class SpectrumFileError(ValueError):
    """A file without usable spectra: what was expected, what came, and what to do."""
