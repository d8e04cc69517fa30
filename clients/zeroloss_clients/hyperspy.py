"""Live maps and spectra as HyperSpy signals; optional: `pip install "zeroloss[hyperspy]"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._live_run import LiveRun
    from .spectrum import SummedSpectra


def signal_of(run: LiveRun, labels: tuple[str, ...] | None = None) -> Any:
    """A `Signal2D` [label, y, x] of probability maps; the ledger and provenance in its metadata."""
    try:
        import hyperspy.api as hs
    except ImportError as error:
        raise ImportError(
            'to_hyperspy() needs HyperSpy: pip install "zeroloss[hyperspy]"'
        ) from error
    labels = labels or run.detected or run.elements
    views = [run[label] for label in labels]
    step = run.start.scan.step or (1.0, 1.0)
    unit = run.start.scan.step_unit if run.start.scan.step else "px"
    sizes = (len(labels), *run.shape)
    axes = [
        {"name": name, "size": size, "scale": scale, "units": units, "navigate": name == "label"}
        for name, size, scale, units in zip(
            ("label", "y", "x"), sizes, (1.0, *step), ("", unit, unit), strict=True
        )
    ]
    signal = hs.signals.Signal2D(np.stack([view.values for view in views]), axes=axes)
    signal.metadata.General.title = run.start.title or f"run {run.run[:4].hex()}"
    signal.metadata.Signal.quantity = "Probability"
    signal.metadata.add_dictionary(
        {
            "zeroloss": {
                "labels": list(labels),
                "coverage": run.coverage,
                "ledger": run.ledger.to_header(),
                "provenance": run.provenance,
            }
        }
    )
    return signal


def signal_of_spectrum(summed: SummedSpectra, name: str) -> Any:
    """An `EELSSpectrum` or `EDSTEMSpectrum` [energy] or [label, energy], calibrated.

    Beam energy and angles are in its metadata where they were announced, and what it was made of.
    Raises `ValueError` for an answer without an energy axis.
    """
    try:
        import exspy
    except ImportError as error:
        raise ImportError(
            'to_hyperspy() needs HyperSpy and eXSpy: pip install "zeroloss[hyperspy]"'
        ) from error
    spectrum, start = summed[name], summed.start
    curves = spectrum.curves
    energies = spectrum.energies_ev
    assert energies is not None
    axes: list[dict[str, object]] = [
        {
            "name": "Energy loss" if start.modality == "eels" else "Energy",
            "size": len(energies),
            "offset": float(energies[0]),
            "scale": float(energies[1] - energies[0]) if len(energies) > 1 else 1.0,
            "units": "eV",
            "navigate": False,
        }
    ]
    if len(curves) > 1:
        axes.insert(0, {"name": "label", "size": len(curves), "navigate": True})
    eels = start.modality == "eels"
    kind = exspy.signals.EELSSpectrum if eels else exspy.signals.EDSTEMSpectrum
    values = spectrum.values.reshape([-1, len(energies)][len(curves) == 1 :])
    signal = kind(values, axes=axes)
    signal.metadata.General.title = f"{start.title or f'run {start.run[:4].hex()}'}: {name}"
    signal.metadata.Signal.quantity = f"{name} ({spectrum.unit})" if spectrum.unit else name
    if start.beam_kev is not None:
        signal.metadata.set_item("Acquisition_instrument.TEM.beam_energy", start.beam_kev)
    if start.convergence_mrad is not None:
        angle = "Acquisition_instrument.TEM.convergence_angle"
        signal.metadata.set_item(angle, start.convergence_mrad)
    if eels and start.collection_mrad is not None:
        angle = "Acquisition_instrument.TEM.Detector.EELS.collection_angle"
        signal.metadata.set_item(angle, start.collection_mrad)
    signal.metadata.add_dictionary(
        {
            "zeroloss": {
                "run": start.run.hex(),
                "labels": list(curves),
                "energy_range": spectrum.range_name,
                "pixels": summed.pixels,
                "counted": summed.counted,
                "empty": summed.empty,
                "left_out": dict(summed.left_out),
                "version": spectrum.version,
                "sha256": spectrum.sha256,
                "provider": spectrum.provider,
                "precision": spectrum.precision,
                "parameters": dict(spectrum.parameters),
            }
        }
    )
    return signal
