"""The materials that simulated specimens are made of, and how they scatter at low losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FIRST_LOSS_EV: Final = 2.0


@dataclass(frozen=True, slots=True)
class Material:
    """A material of fixed composition.

    ``atoms`` are those of a formula unit, of which ``units_per_nm3`` fill the volume at
    ``density_g_cm3``. ``plasmon_ev`` is the energy of the plasmon, 0.5 of it its FWHM. The
    background under the edges is ``background`` times the continuum of the subshell
    ``reference`` at its onset, falling with the power ``exponent``.
    """

    name: str
    atoms: dict[str, float]
    units_per_nm3: float
    density_g_cm3: float
    plasmon_ev: float
    reference: str
    background: float
    exponent: float

    def mean_free_path_nm(
        self, beam_kev: float, convergence_mrad: float, collection_mrad: float
    ) -> float:
        """Inelastic mean free path lambda.

        From the density: Iakoubovskii, Mitsuishi, Nakayama and Furuya, Microscopy Research and
        Technique 71, 626 (2008), their equations for the convergent probe.
        """
        factor = (1 + beam_kev / 1022) / (1 + beam_kev / 511) ** 2
        root = self.density_g_cm3**0.3
        angle = 5.5 * root / (factor * beam_kev)
        alpha, beta = convergence_mrad**2, collection_mrad**2
        wide = alpha + beta + abs(alpha - beta)
        inside = (wide + 2 * angle**2) / (wide + 2 * 20.0**2) * (20.0 / angle) ** 2
        return float(200 * factor * beam_kev / (11 * root * np.log(inside)))

    def single_losses(self, energy_ev: Floats) -> Floats:
        """Distribution [n] of one valence loss at even energies, of sum one.

        A plasmon of the Drude model (Egerton, Electron Energy-Loss Spectroscopy in the Electron
        Microscope, 3rd ed. (2011), section 3.3) with nothing below a gap of 2 eV.
        """
        width = 0.5 * self.plasmon_ev
        drude = energy_ev * width * self.plasmon_ev**2
        drude = drude / ((energy_ev**2 - self.plasmon_ev**2) ** 2 + (energy_ev * width) ** 2)
        drude[energy_ev < _FIRST_LOSS_EV] = 0.0
        normalised: Floats = drude / drude.sum()
        return normalised


# Formula units per nm3 from lattice constants and densities in reference books; plasmon energies
# rounded from measured spectra of the compounds.
SRTIO3: Final = Material(
    "SrTiO3", {"O": 3, "Ti": 1, "Sr": 1}, 16.8, 5.12, 30.0, "O_K", 4.0, 3.1
)  # fmt: skip
LAMNO3: Final = Material(
    "LaMnO3", {"O": 3, "Mn": 1, "La": 1}, 16.4, 6.60, 28.0, "O_K", 4.0, 3.0
)  # fmt: skip
FE3O4: Final = Material("Fe3O4", {"O": 4, "Fe": 3}, 13.5, 5.18, 24.0, "O_K", 3.0, 3.0)
MN3O4: Final = Material("Mn3O4", {"O": 4, "Mn": 3}, 12.8, 4.86, 23.5, "O_K", 3.0, 3.0)
CERIA: Final = Material(
    "Ce0.9Gd0.1O1.95", {"O": 1.95, "Ce": 0.9, "Gd": 0.1}, 25.2, 7.2, 31.0, "O_K", 5.0, 2.9
)  # fmt: skip
BOUNDARY: Final = Material(
    "Ce0.62Gd0.30Ca0.08O1.77",
    {"O": 1.77, "Ca": 0.08, "Ce": 0.62, "Gd": 0.30},
    25.2, 7.0, 30.0, "O_K", 5.0, 2.9,
)  # fmt: skip
BORON_NITRIDE: Final = Material("BN", {"B": 1, "N": 1}, 55.4, 2.27, 25.5, "B_K", 1.0, 2.9)
CARBON: Final = Material("C", {"C": 1}, 100.0, 2.0, 24.0, "C_K", 1.0, 3.2)
"""Amorphous: a support film, or what grows where the beam has been."""
