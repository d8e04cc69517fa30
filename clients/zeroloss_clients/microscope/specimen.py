"""A specimen as a few end-member spectra and the maps of their abundance; numpy only.

The file is an .npz without pickles: `elements` (all that can be seen), `members` and `contains`
(texts [member]: a name, and its elements with spaces between), `abundance` float32
[member, ny, nx], `step` [2] in `step_unit`, `dwell_s` (the dwell time of the stated counts),
`beam_kev`, `convergence_mrad`, `collection_mrad`, `ranges` (names), and per range
`spectra_<name>` float32 [member, channels] (mean counts) and `axis_<name>` (offset, scale in eV).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroloss.scan import EnergyAxis
from zeroloss.wire.limits import MAX_CHANNELS, MAX_RANGES

MAX_FILE_BYTES = 256 << 20
MAX_MEMBERS = 256
SHIPPED = "superlattice"


class SpecimenError(ValueError):
    """A specimen file that cannot be used: what was expected and what came."""


@dataclass(frozen=True, slots=True)
class SpecimenRange:
    """Mean counts [member, channels] of one energy range at the stated dwell time."""

    axis: EnergyAxis
    spectra: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Specimen:
    """What lies under the beam; `elements` is the truth about it."""

    title: str
    elements: tuple[str, ...]
    members: tuple[str, ...]
    contains: tuple[frozenset[str], ...]
    abundance: npt.NDArray[np.float64]
    ranges: Mapping[str, SpecimenRange]
    dwell_s: float
    step: tuple[float, float]
    step_unit: str
    beam_kev: float
    convergence_mrad: float
    collection_mrad: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the abundance maps."""
        return self.abundance.shape[1], self.abundance.shape[2]

    @classmethod
    def shipped(cls, name: str = SHIPPED) -> Specimen:
        """A specimen that comes with this package."""
        folder = files("zeroloss_clients.microscope") / "specimens"
        names = sorted(
            Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".npz")
        )
        if name not in names:
            raise SpecimenError(f"no specimen {name!r} comes with zeroloss; there are: {names}")
        with (folder / f"{name}.npz").open("rb") as stream:
            return cls._read(stream, name)

    @classmethod
    def load(cls, path: Path) -> Specimen:
        """Read a specimen file; `SpecimenError` tells what is wrong with it."""
        if not path.is_file():
            raise SpecimenError(f"no specimen file {path}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SpecimenError(f"{path} is longer than {MAX_FILE_BYTES >> 20} MiB")
        with path.open("rb") as stream:
            return cls._read(stream, str(path))

    @classmethod
    def _read(cls, stream: Any, name: str) -> Specimen:
        try:
            with np.load(stream, allow_pickle=False) as arrays:
                return cls._from_arrays(arrays, name)
        except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, SpecimenError):
                raise
            raise SpecimenError(f"{name} is not a specimen file: {error}") from None

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Specimen:
        members = tuple(str(item) for item in arrays["members"])
        abundance = np.asarray(arrays["abundance"], dtype=np.float64)
        if not 1 <= len(members) <= MAX_MEMBERS or abundance.shape[:1] != (len(members),):
            raise SpecimenError(f"{name}: {len(members)} members, abundance {abundance.shape}")
        if abundance.ndim != 3 or not (np.isfinite(abundance) & (abundance >= 0)).all():
            raise SpecimenError(f"{name}: expected abundance [member, ny, nx], finite, from 0 on")
        contains = tuple(frozenset(str(item).split()) for item in arrays["contains"])
        if len(contains) != len(members):
            raise SpecimenError(
                f"{name}: {len(members)} members, {len(contains)} lists of elements"
            )
        names = [str(item) for item in arrays["ranges"]]
        if not 1 <= len(names) <= MAX_RANGES:
            raise SpecimenError(f"{name}: {len(names)} energy ranges, expected 1 to {MAX_RANGES}")
        ranges = {}
        for range_name in names:
            spectra = np.asarray(arrays[f"spectra_{range_name}"], dtype=np.float64)
            offset_ev, scale_ev = (float(item) for item in arrays[f"axis_{range_name}"])
            if spectra.ndim != 2 or len(spectra) != len(members) or spectra.shape[1] > MAX_CHANNELS:
                raise SpecimenError(
                    f"{name}: spectra of {range_name} are {spectra.shape}, "
                    f"expected [{len(members)}, channels]"
                )
            if not (np.isfinite(spectra) & (spectra >= 0)).all():
                raise SpecimenError(
                    f"{name}: mean counts of {range_name} must be finite, from 0 on"
                )
            axis = EnergyAxis(offset_ev, scale_ev, spectra.shape[1])
            ranges[range_name] = SpecimenRange(axis, spectra)
        step = tuple(float(item) for item in arrays["step"])
        return cls(
            title=str(arrays["title"]),
            elements=tuple(str(item) for item in arrays["elements"]),
            members=members,
            contains=contains,
            abundance=abundance,
            ranges=ranges,
            dwell_s=float(arrays["dwell_s"]),
            step=(step[0], step[1]),
            step_unit=str(arrays["step_unit"]),
            beam_kev=float(arrays["beam_kev"]),
            convergence_mrad=float(arrays["convergence_mrad"]),
            collection_mrad=float(arrays["collection_mrad"]),
        )

    def share(self, element: str) -> float:
        """Share of the pixels in which members with this element fill a tenth or more."""
        inside = np.array([element in elements for elements in self.contains], dtype=np.float64)
        return float((np.tensordot(inside, self.abundance, 1) >= 0.1).mean())

    def resampled(self, shape: tuple[int, int]) -> Specimen:
        """The same specimen on a grid of another shape, linearly interpolated."""
        from dataclasses import replace

        if shape == self.shape:
            return self
        rows, columns = (
            (np.arange(new) + 0.5) * old / new - 0.5
            for new, old in zip(shape, self.shape, strict=True)
        )
        rows = np.clip(rows, 0, self.shape[0] - 1)
        columns = np.clip(columns, 0, self.shape[1] - 1)
        top, left = rows.astype(np.intp), columns.astype(np.intp)
        bottom = np.minimum(top + 1, self.shape[0] - 1)
        right = np.minimum(left + 1, self.shape[1] - 1)
        down, across = (rows - top)[:, None], columns - left
        upper = self.abundance[:, top][:, :, left] * (1 - across)
        upper += self.abundance[:, top][:, :, right] * across
        lower = self.abundance[:, bottom][:, :, left] * (1 - across)
        lower += self.abundance[:, bottom][:, :, right] * across
        step = tuple(
            size * old / new for size, old, new in zip(self.step, self.shape, shape, strict=True)
        )
        return replace(self, abundance=upper * (1 - down) + lower * down, step=(step[0], step[1]))

    def mean_counts(
        self, name: str, pixels: npt.NDArray[np.integer[Any]], dwell_s: float
    ) -> npt.NDArray[np.float64]:
        """Mean counts [n, channels] of the range `name` at flat pixel indices [n]."""
        flat = self.abundance.reshape(len(self.members), -1)
        mean: npt.NDArray[np.float64] = flat[:, pixels].T @ self.ranges[name].spectra
        return mean * (dwell_s / self.dwell_s)
