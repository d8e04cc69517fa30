"""Physical constants (CODATA 2018) in the units used here: eV, Hartree atomic units, barn."""

from __future__ import annotations

from typing import Final

HARTREE_EV: Final = 27.211386245988
RYDBERG_EV: Final = HARTREE_EV / 2
SPEED_OF_LIGHT_AU: Final = 137.035999084
ELECTRON_REST_EV: Final = 510998.95
HBAR_C_EV_BOHR: Final = SPEED_OF_LIGHT_AU * HARTREE_EV
BOHR_SQUARED_BARN: Final = 0.529177210903**2 * 1e8
