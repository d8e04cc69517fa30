"""Ranges from which a simulated measurement is drawn.

The defaults are the ``measured`` recipe: Table 1 of Annys et al. (Sci Rep 13, 13724, 2023), widened
where measured spectra differ from it; docs/training.md says what every change brought. A switch
set to 0 (or a range with equal ends) turns the effect off.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Probabilities are named ``*_chance``; ranges are (low, high); energies are in eV."""

    # specimen
    share: tuple[float, float, float, float] = (0.62, 0.10, 0.13, 0.15)
    lanthanide_weight: float = 2.5
    neighbour_chance: float = 0.04
    carbon_chance: float = 0.25
    oxygen_chance: float = 0.08
    support_chance: float = 0.03

    # edges
    chemical_shift_ev: float = 2.0
    lanthanide_shift_ev: float = 1.0
    amplitude_spread: float = 0.15
    white_line_strength: tuple[float, float] = (0.25, 1.15)
    giant_resonance: bool = True
    light_lines: bool = True
    molecular_chance: float = 0.25
    delayed_continuum_chance: float = 0.5
    generic_structure_chance: float = 0.8
    generic_structure_scale: tuple[float, float] = (0.02, 2.0)
    smooth_heavy_edges: bool = True
    exafs_chance: float = 0.5

    # low loss
    thickness: tuple[float, float] = (0.05, 1.3)
    deconvolved_chance: float = 0.1
    zero_loss_fwhm_ev: tuple[float, float] = (0.4, 3.0)

    # background
    exponent: tuple[float, float] = (1.5, 5.0)
    jump_ratio: tuple[float, float] = (0.03, 20.0)
    subtracted_chance: float = 0.08
    waves: tuple[float, float] = (0.001, 0.03)
    waves_chance: float = 0.3
    heavy_edges: tuple[float, float] = (0.003, 0.12)
    heavy_edges_chance: float = 0.8

    # energy axis and window
    shift_ev: float = 1.5
    shift_tail: tuple[float, float] = (0.18, 10.0)
    dispersion_error: float = 0.005
    dispersion_tail: tuple[float, float] = (0.08, 0.05)
    window_ev: tuple[float, float] = (70.0, 3100.0)
    any_window_chance: float = 0.04

    # detector
    counts_per_ev: tuple[float, float] = (20.0, 1e7)
    gain_noise: tuple[float, float] = (0.0005, 0.015)
    gain_noise_chance: float = 0.5
    read_noise: tuple[float, float] = (0.1, 6.0)
    read_noise_chance: float = 0.25
    blur_chance: float = 0.35
    artefact_scale: float = 1.0
    """Multiplies the chances of dead ends, cuts, gain steps, spikes, offsets and plateaus."""

    # labels
    visible_snr: float = 3.0

    # what is no spectrum at all; only for training
    negative_chance: float = 0.07

    def changed(self, **values: object) -> Recipe:
        """A copy with some fields replaced; ValueError names an unknown field."""
        unknown = set(values) - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"unknown recipe field {sorted(unknown)[0]!r}")
        return dataclasses.replace(self, **values)  # type: ignore[arg-type]
