"""Writes spectra that a daemon answered with: .csv for anybody, .npz for numpy, .msa (EMSA/MAS)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .spectrum import Spectrum, SummedSpectra

MSA_TITLE = 64
"""Characters of the title in an .msa file."""


class SpectrumFileError(ValueError):
    """Spectra that cannot be written to such a file: what to do instead."""


def check_path(path: Path, *, force: bool) -> None:
    """`SpectrumFileError` for an unknown kind of file, or one that exists without `force`."""
    if path.suffix.lower() not in _WRITERS:
        raise SpectrumFileError(f"{path}: expected a file name ending in {', '.join(_WRITERS)}")
    if path.exists() and not force:
        raise SpectrumFileError(f"{path} exists: name another file or add --force")


def write_spectra(path: Path, summed: SummedSpectra) -> None:
    """Write the answers to `path`, in the way its suffix says.

    .csv: a column of energies (eV) and one per curve; numbers without an axis stand in the header.
    .npz: arrays by name, `<name>:energies_ev` beside them, and `about`, JSON of what made them.
    .msa: one curve (EMSA/MAS spectral data file, version 1.0). Invalid channels are `nan`.
    Raises `SpectrumFileError` for what such a file cannot hold, `OSError` where it cannot be made.
    """
    _WRITERS[path.suffix.lower()](path, summed)


def about(summed: SummedSpectra) -> dict[str, Any]:
    """What the spectra are of, and what made them."""
    return {
        "run": summed.start.run.hex(),
        "title": summed.start.title,
        "pixels": summed.pixels,
        "counted": summed.counted,
        "empty": summed.empty,
        "left_out": dict(summed.left_out),
        "answers": {
            name: {
                "kind": item.kind,
                "unit": item.unit,
                "labels": list(item.labels),
                "range": item.range_name,
                "version": item.version,
                "sha256": item.sha256,
                "provider": item.provider,
                "precision": item.precision,
                "parameters": {
                    key: None if math.isnan(value) else value
                    for key, value in item.parameters.items()
                },
            }
            for name, item in summed.items()
        },
    }


def head_lines(summed: SummedSpectra) -> list[str]:
    """What to say before the curves: run, how many spectra, models, and what is no spectrum."""
    title = " ".join(summed.start.title.split())
    out = [f"run {summed.start.run.hex()} {title}".rstrip(), _how_many(summed)]
    for name, item in summed.items():
        if item.sha256:
            made = [item.version, item.sha256[:12], item.provider]
            made += [f"{key} {value:g}" for key, value in item.parameters.items()]
            out.append(f"{name}: {', '.join(made)}")
        if item.energies_ev is None:
            out.append(f"{name} = {item.text}")
    return out


def _write_csv(path: Path, summed: SummedSpectra) -> None:
    spectra = [item for item in summed.values() if item.energies_ev is not None]
    axes = [item.energies_ev for item in spectra if item.energies_ev is not None]
    if any(not np.array_equal(axis, axes[0]) for axis in axes):
        names = ", ".join(item.name for item in spectra)
        raise SpectrumFileError(
            f"{path}: {names} have different energy axes; write an .npz, or one at a time"
        )
    with path.open("w", encoding="utf-8", newline="") as file:
        for line in head_lines(summed):
            file.write(f"# {line}\n")
        if not spectra:
            return
        curves = [pair for item in spectra for pair in _named_curves(item)]
        writer = csv.writer(file)
        writer.writerow(["energy_ev", *(name for name, _ in curves)])
        for index, energy in enumerate(axes[0]):
            writer.writerow([f"{energy:.10g}", *(f"{values[index]:.10g}" for _, values in curves)])


def _write_npz(path: Path, summed: SummedSpectra) -> None:
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about(summed)))}
    for name, item in summed.items():
        arrays[name] = item.values
        if item.energies_ev is not None:
            arrays[f"{name}:energies_ev"] = item.energies_ev
    np.savez_compressed(path, **arrays)


def _write_msa(path: Path, summed: SummedSpectra) -> None:
    curves = [
        (item, *pair)
        for item in summed.values()
        if item.energies_ev is not None
        for pair in _named_curves(item)
    ]
    if len(curves) != 1 or len(summed) != 1:
        raise SpectrumFileError(f"{path}: an .msa file holds one spectrum; write .csv or .npz")
    spectrum, name, values = curves[0]
    with path.open("w", encoding="ascii", errors="replace", newline="\r\n") as file:
        _write_msa_text(file, summed, spectrum, name)
        file.writelines(f"{value:.10g},\n" for value in values)
        file.write("#ENDOFDATA   : \n")


def _write_msa_text(file: TextIO, summed: SummedSpectra, spectrum: Spectrum, name: str) -> None:
    start, energies = summed.start, spectrum.energies_ev
    assert energies is not None
    scale = (energies[-1] - energies[0]) / (len(energies) - 1) if len(energies) > 1 else 1.0
    fields: dict[str, object] = {
        "FORMAT": "EMSA/MAS Spectral Data File",
        "VERSION": "1.0",
        "TITLE": f"{start.title or start.run[:4].hex()} {name}"[:MSA_TITLE],
        "DATE": "",
        "TIME": "",
        "OWNER": "",
        "NPOINTS": float(len(energies)),
        "NCOLUMNS": 1.0,
        "XUNITS": "eV",
        "YUNITS": spectrum.unit,
        "DATATYPE": "Y",
        "XPERCHAN": f"{scale:.10g}",
        "OFFSET": f"{energies[0]:.10g}",
        "SIGNALTYPE": "ELS" if start.modality == "eels" else "EDS",
        "XLABEL": "Energy loss" if start.modality == "eels" else "Energy",
        "BEAMKV   -kV": start.beam_kev,
        "CONVANGLE-mR": start.convergence_mrad,
        "COLLANGLE-mR": start.collection_mrad,
        "COMMENT": f"run {start.run.hex()}, {_how_many(summed)}",
        "SPECTRUM": "Spectral Data Starts Here",
    }
    for key, value in fields.items():
        if value is not None:
            # ": " ends a keyword, also for readers that look for it anywhere in the line.
            file.write(f"#{key:<12}: {str(value).replace(': ', '; ')}\n")


def _named_curves(item: Spectrum) -> list[tuple[str, Any]]:
    curves = item.curves
    if len(curves) == 1:
        return list(curves.items())
    return [(f"{item.name} {label}", values) for label, values in curves.items()]


def _how_many(summed: SummedSpectra) -> str:
    spectra = "1 spectrum" if summed.counted == 1 else f"{summed.counted} spectra"
    pixels = "1 pixel" if summed.pixels == 1 else f"{summed.pixels} pixels"
    text = f"{spectra} of {pixels} summed"
    if summed.empty:
        text += f", {summed.empty} of them gave none"
    for reason, count in summed.left_out.items():
        text += f", {count} left out: {reason}"
    return text


_WRITERS: dict[str, Callable[[Path, SummedSpectra], None]] = {
    ".csv": _write_csv,
    ".npz": _write_npz,
    ".msa": _write_msa,
}
