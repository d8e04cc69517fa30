"""Total ionisation cross sections against an independent calculation.

Reference values in barn: the analytical fit of D. Bote, F. Salvat, A. Jablonski and C. J. Powell,
At. Data Nucl. Data Tables 95, 871 (2009), to distorted-wave and plane-wave Born calculations,
evaluated with the coefficients that NIST dedicates to the public domain (N. W. M. Ritchie,
BoteSalvatICX). They are other atoms, other continuum waves and other integrals than ours.
"""

from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.physics.cross_section import cross_section
from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.table import GosTable

BEAMS_KEV = (60.0, 100.0, 200.0, 300.0)
REFERENCE_BARN = {
    "C_K": (31882.9, 22545.2, 15173.7, 12728.6),
    "N_K": (21663.5, 15382.0, 10395.5, 8738.0),
    "O_K": (15585.4, 11115.8, 7545.7, 6356.0),
    "Al_K": (4234.1, 3091.0, 2143.1, 1822.1),
    "Ti_L2": (20310.8, 14495.8, 9853.7, 8308.4),
    "Ti_L3": (41279.3, 29451.7, 20012.5, 16870.1),
    "Fe_L3": (24322.0, 17473.7, 11952.1, 10106.3),
    "Cu_L3": (17509.7, 12648.9, 8696.5, 7370.6),
    "Ag_M5": (89049.8, 63909.0, 43743.2, 37025.7),
    "Sn_M5": (70412.3, 50729.4, 34859.8, 29563.9),
    "Ba_M5": (39501.7, 28598.7, 19733.2, 16763.5),
    "La_M4": (23049.4, 16704.0, 11535.8, 9804.0),
    "La_M5": (35463.2, 25689.5, 17731.2, 15063.3),
    "Ce_M5": (33040.5, 23957.8, 16550.5, 14065.8),
    "Eu_M5": (24194.3, 17638.2, 12244.7, 10429.0),
}


def _total_barn(table: GosTable, label: str, beam_kev: float) -> float:
    """All angles and all losses; above the table's last energy by a power law."""
    above = table.energy_ev
    loss = subshell(label).onset_ev + above
    gos = table.gos[table.entry(label, False)]
    spectrum = cross_section(loss, gos, table.momentum_au, beam_kev, 0.0, 1000.0)
    exponent = -np.log(spectrum[-1] / spectrum[-8]) / np.log(loss[-1] / loss[-8])
    tail = spectrum[-1] * loss[-1] / (exponent - 1)
    return float(np.trapezoid(spectrum, above) + spectrum[0] * above[0] + tail)


@pytest.mark.parametrize("label", REFERENCE_BARN)
def test_totals_agree_with_bote_and_salvat(shipped: GosTable, label: str) -> None:
    for beam_kev, expected in zip(BEAMS_KEV, REFERENCE_BARN[label], strict=True):
        # The transverse interaction is left out here: it adds a few per cent at 300 kV.
        low, high = (0.95, 1.035) if beam_kev <= 200 else (0.93, 1.0)
        assert low <= _total_barn(shipped, label, beam_kev) / expected <= high, beam_kev
