"""The specimen of the demo: an oxide superlattice with iron oxide particles, as end members.

LaMnO3 and SrTiO3 layers on a SrTiO3 substrate, steps and some intermixing at their interfaces, and
magnetite particles on top. Mean counts of the materials come from the simulated specimens.

    python -m zeroloss_export.demo_specimen --out superlattice.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.simulate.specimens import Conditions, EnergyRange, pure_spectra
from zeroloss_export.simulate.specimens.materials import FE3O4, LAMNO3, SRTIO3

FloatArray = NDArray[np.float64]

BEAM_KEV: Final = 200.0
CONVERGENCE_MRAD: Final = 20.0
COLLECTION_MRAD: Final = 40.0
OFFSET_EV: Final = 380.0
SCALE_EV: Final = 0.75
CHANNELS: Final = 800
DWELL_S: Final = 0.003
SHAPE: Final = (48, 64)
STEP_NM: Final = 0.4
COUNTS_PER_CHANNEL: Final = 4000.0
"""Mean counts at the Ti L edge of SrTiO3: what a bright probe and a counting camera reach."""
THICKNESS: Final = 0.4
"""t/λ, thickness over inelastic mean free path."""
MEMBERS: Final = (SRTIO3, LAMNO3, FE3O4)
VISIBLE: Final = ("O", "Ti", "Mn", "Fe", "La")
NEAR_EDGE_SEED: Final = 2
"""Of the near-edge structure: a draw in which every edge rises at its onset."""


def energies() -> FloatArray:
    """Channel energies [channels] in eV."""
    return OFFSET_EV + SCALE_EV * np.arange(CHANNELS, dtype=np.float64)


def member_spectra() -> FloatArray:
    """Mean counts [member, channel] of one pixel filled by each material."""
    given = Conditions(BEAM_KEV, CONVERGENCE_MRAD, COLLECTION_MRAD)
    core = EnergyRange(OFFSET_EV, SCALE_EV, CHANNELS)
    counts = pure_spectra(MEMBERS, THICKNESS, core, given, NEAR_EDGE_SEED)
    at = int(np.searchsorted(energies(), 500.0))
    scaled: FloatArray = counts * (COUNTS_PER_CHANNEL / counts[0, at])
    return scaled


def abundance(seed: int) -> FloatArray:
    """Shares [member, ny, nx] of the materials in every pixel; they sum to one."""
    rng = np.random.default_rng(seed)
    rows, columns = SHAPE
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    lamn = np.zeros(SHAPE)
    for first, last in ((14, 21), (29, 36), (44, 51)):
        # Terraces: the interface steps by a pixel here and there.
        steps = np.cumsum(rng.choice((-1, 0, 1), size=(2, rows), p=(0.06, 0.88, 0.06)), axis=1)
        left, right = first + steps[0][:, None], last + steps[1][:, None]
        lamn += 1 / (1 + np.exp(-(x - left) / 0.6)) - 1 / (1 + np.exp(-(x - right) / 0.6))
    iron = np.zeros(SHAPE)
    for row, column, radius in ((12.0, 6.5, 5.0), (35.0, 25.0, 6.5), (17.0, 57.0, 4.5)):
        distance = np.hypot(y - row, x - column)
        iron = np.maximum(iron, 0.8 / (1 + np.exp((distance - radius) / 0.5)))
    lamn = np.clip(lamn, 0.0, 1.0) * (1 - iron)
    return np.stack([1 - lamn - iron, lamn, iron])


def write(path: Path, seed: int = 1) -> None:
    """Write the specimen as an .npz that the simulated microscope reads."""
    spectra = member_spectra()
    np.savez_compressed(
        path,
        title=np.array("LaMnO3/SrTiO3 superlattice with Fe3O4 particles (simulated)"),
        elements=np.array(VISIBLE),
        members=np.array([member.name for member in MEMBERS]),
        contains=np.array([" ".join(member.atoms) for member in MEMBERS]),
        abundance=abundance(seed).astype(np.float32),
        ranges=np.array(["core_loss"]),
        spectra_core_loss=spectra.astype(np.float32),
        axis_core_loss=np.array([OFFSET_EV, SCALE_EV]),
        dwell_s=np.array(DWELL_S),
        step=np.array([STEP_NM, STEP_NM]),
        step_unit=np.array("nm"),
        beam_kev=np.array(BEAM_KEV),
        convergence_mrad=np.array(CONVERGENCE_MRAD),
        collection_mrad=np.array(COLLECTION_MRAD),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command: write the specimen."""
    parser = argparse.ArgumentParser(description="Simulate the specimen of the demo.")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    parser.add_argument("--seed", type=int, default=1, help="of the interfaces (default: 1)")
    options = parser.parse_args(arguments)
    write(options.out, options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
