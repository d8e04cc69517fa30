"""Many spectra of different energy axes in one .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.scan import AxisError, EnergyAxis
from zeroloss.wire.limits import MAX_CHANNELS, MAX_TEXT

from ._errors import SpectrumFileError
from ._holes import on_even_axis

_MAX_SPECTRA = 1 << 20
_MAX_VALUES = 1 << 28
_CAPS = {
    "ids": _MAX_SPECTRA * 64 * 4,
    "offsets": (_MAX_SPECTRA + 1) * 8,
    "energy": _MAX_VALUES * 8,
    "counts": _MAX_VALUES * 8,
}


@dataclass(frozen=True, slots=True)
class NamedSpectrum:
    """One spectrum: counts float64 [channels] with NaN and negative counts as they are.

    Channels that the file's list of energies leaves out are NaN: not measured.
    """

    name: str
    axis: EnergyAxis
    counts: npt.NDArray[np.float64]


def read_spectrum_collection(path: Path) -> list[NamedSpectrum]:
    """The spectra of an .npz with `ids`, `offsets`, `energy` (eV) and `counts`.

    Spectrum i is `[offsets[i]:offsets[i + 1]]` of `energy` and `counts`. Raises
    `SpectrumFileError`, naming the spectrum, where one of them cannot be used.
    """
    try:
        arrays = _arrays(path)
        return list(_spectra(arrays))
    except SpectrumFileError as error:
        raise SpectrumFileError(f"{path.name}: {error}") from None
    except OSError as error:
        raise SpectrumFileError(f"{path.name}: {error.strerror or error}") from None


def _arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {item.filename: item.file_size for item in archive.infolist()}
        for key, cap in _CAPS.items():
            size = sizes.get(f"{key}.npy")
            if size is None:
                raise SpectrumFileError(
                    f"no array {key!r} (found {', '.join(sorted(sizes)) or 'nothing'}): expected "
                    "ids, offsets, energy and counts"
                )
            if size > cap + 4096:
                raise SpectrumFileError(f"the array {key!r} of {size} bytes: the cap is {cap}")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in _CAPS}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        if isinstance(error, SpectrumFileError):
            raise
        raise SpectrumFileError(
            f"not a readable .npz file ({str(error).splitlines()[0][:200]})"
        ) from None


def _spectra(arrays: dict[str, npt.NDArray[np.generic]]) -> Iterator[NamedSpectrum]:
    ids, offsets, energy, counts = (arrays[key] for key in ("ids", "offsets", "energy", "counts"))
    for key in ("energy", "counts"):
        if arrays[key].ndim != 1 or arrays[key].dtype.kind not in "uif":
            raise SpectrumFileError(
                f"{key} is {arrays[key].dtype} {list(arrays[key].shape)}: expected real numbers [n]"
            )
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise SpectrumFileError(f"ids is {ids.dtype} {list(ids.shape)}: expected text [spectra]")
    if offsets.shape != (len(ids) + 1,) or offsets.dtype.kind not in "ui":
        raise SpectrumFileError(
            f"offsets is {offsets.dtype} {list(offsets.shape)}: expected integers [{len(ids) + 1}]"
        )
    at = offsets.astype(np.int64)
    if len(energy) != len(counts) or at[0] < 0 or at[-1] > len(counts) or (np.diff(at) < 0).any():
        raise SpectrumFileError(
            f"offsets from {at[0]} to {at[-1]} do not divide {len(energy)} energies and "
            f"{len(counts)} counts"
        )
    for name, begin, end in zip(ids, at[:-1], at[1:], strict=True):
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        if end - begin > MAX_CHANNELS:
            raise SpectrumFileError(
                f"spectrum {text[:80]!r} has {end - begin} channels: the cap is {MAX_CHANNELS}"
            )
        try:
            axis, filled, _ = on_even_axis(energy[begin:end], counts[begin:end].astype(np.float64))
        except AxisError as error:
            raise SpectrumFileError(f"spectrum {text[:80]!r}: {error}") from None
        yield NamedSpectrum(text[:MAX_TEXT], axis, filled)
