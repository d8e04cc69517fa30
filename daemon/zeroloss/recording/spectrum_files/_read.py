"""From paths to a `SpectrumFile`: choose the signal, order its axes, name its range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zeroloss.scan import AxisError
from zeroloss.wire import EnergyRange
from zeroloss.wire.limits import MAX_NAME, MAX_PIXELS, MAX_RANGES

from ._axes import pixel_step
from ._counts import plain_counts
from ._errors import SpectrumFileError
from ._rosetta import read_rosetta
from ._signal import Signal
from ._spectra import Counts, SpectrumFile
from ._text import TEXT_SUFFIXES, Axis, read_text


def read_spectrum_file(
    *paths: Path, names: Sequence[str] | None = None, axis: Axis | None = None
) -> SpectrumFile:
    """Read a file of spectra; several paths are several energy ranges of the same pixels.

    Reads what RosettaSciIO reads (.dm3 .dm4 .hspy .msa .emd .ser ...; the extra `hyperspy`), and
    text: two columns (energy in eV, counts), or rows of counts, a spectrum each, whose axis stands
    in the file name (`_m4d054eV_45d471eV`) or is given as `axis` (offset_ev, scale_ev). `names` are
    the names of the ranges in the order of the paths; else a range that holds 0 eV is `low_loss`,
    any other `core_loss`, and an X-ray spectrum `edx`. Raises `SpectrumFileError`, one sentence,
    for whatever cannot be used.
    """
    if not paths:
        raise SpectrumFileError("no file to read")
    if len(paths) > MAX_RANGES:
        raise SpectrumFileError(f"{len(paths)} files: at most {MAX_RANGES} ranges of one scan")
    if names is not None and len(names) != len(paths):
        raise SpectrumFileError(f"{len(names)} names of ranges for {len(paths)} files")
    if axis is not None and len(paths) > 1:
        raise SpectrumFileError(f"one energy axis for {len(paths)} files: put it into their names")
    files = [_read_one(Path(path), axis) for path in paths]
    for index, file in enumerate(files):
        name = _guess_name(file) if names is None else names[index]
        files[index] = _renamed(file, name)
    return files[0] if len(files) == 1 else _joined(files)


def _read_one(path: Path, axis: Axis | None) -> SpectrumFile:
    try:
        if not path.exists():
            raise SpectrumFileError("no such file")
        if path.is_dir() and not path.suffix:
            raise SpectrumFileError("a folder without a recording in it: expected a file, or a run")
        if path.is_file() and path.stat().st_size == 0:
            raise SpectrumFileError("the file is empty")
        if path.suffix.lower().lstrip(".") in TEXT_SUFFIXES:
            return _as_file(path, *read_text(path, axis))
        if axis is not None:
            raise SpectrumFileError(
                "such a file holds its own energy axis: give one for text with rows of counts only"
            )
        return _as_file(path, read_rosetta(path), [])
    except (SpectrumFileError, AxisError) as error:
        raise SpectrumFileError(f"{path.name or path}: {error}") from None
    except OSError as error:
        raise SpectrumFileError(f"{path.name or path}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class _Grid:
    """A signal as counts [rows x columns, channels]."""

    counts: Counts
    shape: tuple[int, int]
    step: tuple[float, float] | None
    step_unit: str


def _choose(signals: Sequence[Signal]) -> tuple[Signal, list[str]]:
    """The signal of most spectra, EELS before EDX; a note names what is left out."""
    spectral = [signal for signal in signals if signal.energy is not None]
    if not spectral:
        shown = "; ".join(
            (f"{signal.title}: " if signal.title else "") + ", ".join(map(str, signal.axes))
            for signal in signals[:4]
        )
        raise SpectrumFileError(
            f"no energy axis (found {shown or 'nothing'}): expected an axis in eV or keV"
        )
    chosen = max(spectral, key=lambda item: (item.pixels, item.stated_modality == "eels"))
    others = [signal for signal in spectral if signal is not chosen]
    if not others:
        return chosen, []
    listed = ", ".join(repr(signal.title) for signal in others[:8])
    return chosen, [f"took the signal {chosen.title!r} and left out {listed}"]


def _grid(signal: Signal, energy: int) -> _Grid:
    navigation = [i for i in range(signal.data.ndim) if i != energy]
    if len(navigation) > 2:
        navigation = [i for i in navigation if signal.data.shape[i] > 1]
    if len(navigation) > 2:
        listed = ", ".join(f"{signal.axes[i]} of {signal.data.shape[i]}" for i in navigation)
        raise SpectrumFileError(f"{len(navigation)} axes beside the energy ({listed}): at most 2")
    sizes = tuple(signal.data.shape[i] for i in navigation)
    shape = (1, 1) if not sizes else (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
    pixels = shape[0] * shape[1]
    if not 1 <= pixels <= MAX_PIXELS:
        raise SpectrumFileError(f"{shape[0]} x {shape[1]} pixels: expected 1 to {MAX_PIXELS}")
    channels = signal.data.shape[energy]
    counts = np.moveaxis(signal.data, energy, -1).reshape(pixels, channels)
    step, unit = pixel_step([signal.axes[i] for i in navigation])
    return _Grid(counts, shape, step, unit)


def _as_file(path: Path, signals: Sequence[Signal], known: Sequence[str]) -> SpectrumFile:
    signal, left_out = _choose(signals)
    notes = [*known, *left_out]
    assert signal.energy is not None
    described = signal.axes[signal.energy]
    axis = described.energy_axis()
    if described.ev_per_unit != 1.0:
        notes.append(f"the energy axis in {described.unit} was converted to eV")
    modality = signal.stated_modality
    if modality is None:
        modality = "eels"
        notes.append("the file does not say what it measured: taken as EELS")
    grid = _grid(signal, signal.energy)
    counts, note = plain_counts(grid.counts)
    notes += [note] if note else []
    energy_range = EnergyRange(
        name="spectrum",
        offset_ev=axis.offset_ev,
        scale_ev=axis.scale_ev,
        size=axis.size,
        dtype=counts.dtype.name,
    )
    detector = "Detector.EELS" if modality == "eels" else "Detector.EDS"
    return SpectrumFile(
        path=path,
        title=signal.title or path.stem,
        modality=modality,
        shape=grid.shape,
        step=grid.step,
        step_unit=grid.step_unit,
        ranges=(energy_range,),
        counts={energy_range.name: counts},
        beam_kev=signal.positive("beam_energy"),
        convergence_mrad=signal.positive("convergence_angle"),
        collection_mrad=signal.positive("Detector.EELS.collection_angle", "collection_angle"),
        dwell_s=signal.positive(
            f"{detector}.dwell_time", "dwell_time", f"{detector}.exposure_time", "exposure_time"
        ),
        notes=tuple(notes),
    )


def _guess_name(file: SpectrumFile) -> str:
    if file.modality == "edx":
        return "edx"
    item = file.ranges[0]
    end_ev = item.offset_ev + item.scale_ev * item.size
    return "low_loss" if item.offset_ev <= 0 <= end_ev else "core_loss"


def _renamed(file: SpectrumFile, name: str) -> SpectrumFile:
    if not 1 <= len(name) <= MAX_NAME or name.startswith("@"):
        raise SpectrumFileError(
            f"{name!r} is no name for an energy range: expected 1 to {MAX_NAME} characters, "
            "without @ in front"
        )
    counts = next(iter(file.counts.values()))
    return replace(file, ranges=(replace(file.ranges[0], name=name),), counts={name: counts})


def _joined(files: Sequence[SpectrumFile]) -> SpectrumFile:
    first = files[0]
    for other in files[1:]:
        if other.shape != first.shape:
            raise SpectrumFileError(
                f"{first.path.name} has {first.shape[0]} x {first.shape[1]} pixels and "
                f"{other.path.name} {other.shape[0]} x {other.shape[1]}: ranges of one scan must "
                "agree"
            )
        if other.modality != first.modality:
            raise SpectrumFileError(
                f"{first.path.name} is {first.modality} and {other.path.name} {other.modality}: "
                "a run holds one kind"
            )
    names = [file.ranges[0].name for file in files]
    if len(set(names)) < len(names):
        raise SpectrumFileError(
            f"energy ranges of the same name ({', '.join(names)}): give each file a name of its own"
        )

    def known(field: str) -> float | None:
        values = (getattr(file, field) for file in files)
        return next((value for value in values if value is not None), None)

    return replace(
        first,
        ranges=tuple(file.ranges[0] for file in files),
        counts={file.ranges[0].name: next(iter(file.counts.values())) for file in files},
        step=next((file.step for file in files if file.step is not None), None),
        beam_kev=known("beam_kev"),
        convergence_mrad=known("convergence_mrad"),
        collection_mrad=known("collection_mrad"),
        dwell_s=known("dwell_s"),
        notes=tuple(dict.fromkeys(note for file in files for note in file.notes)),
    )
