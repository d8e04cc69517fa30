"""The specimen of the demo: an oxide superlattice with iron oxide particles, as end members.

LaMnO3 and SrTiO3 layers on a SrTiO3 substrate, steps and some intermixing at their interfaces, and
magnetite particles on top. Spectra are mean counts from the project's own cross sections (frozen
core), near-edge lines of usual position and width, plural scattering and a power-law background.

    python -m zeroloss_export.demo_specimen --out superlattice.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.physics.cross_section import cross_section
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.physics.table import GosTable

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
RESOLUTION_EV: Final = 1.0
BACKGROUND_EXPONENT: Final = 3.0
BACKGROUND_PER_EDGE: Final = 1.0
"""Background over Ti L3 continuum at the Ti L3 onset, in SrTiO3."""


@dataclass(frozen=True, slots=True)
class Line:
    """A near-edge line: position above the onset and FWHM in eV; area over the continuum.

    The area is relative to the continuum of its subshell in the first 50 eV.
    """

    above_ev: float
    area: float
    fwhm_ev: float


@dataclass(frozen=True, slots=True)
class Member:
    """One material: its atoms in the formula unit, formula units per volume, plasmon energy."""

    name: str
    atoms: dict[str, float]
    units_per_nm3: float
    plasmon_ev: float


# Formula units per nm3 from the lattice constants of the three oxides.
MEMBERS: Final = (
    Member("SrTiO3", {"Sr": 1, "Ti": 1, "O": 3}, 16.8, 30.0),
    Member("LaMnO3", {"La": 1, "Mn": 1, "O": 3}, 16.4, 28.0),
    Member("Fe3O4", {"Fe": 3, "O": 4}, 13.5, 23.0),
)
VISIBLE: Final = ("O", "Ti", "Mn", "Fe", "La")

# Crystal-field pairs of Ti4+, single lines of the others; 4d white lines of La.
LINES: Final = {
    "Ti_L3": (Line(2.0, 0.25, 1.2), Line(4.2, 0.45, 1.6)),
    "Ti_L2": (Line(1.6, 0.35, 1.6), Line(3.8, 0.45, 2.0)),
    "Mn_L3": (Line(2.0, 0.75, 3.2),),
    "Mn_L2": (Line(2.0, 0.70, 3.6),),
    "Fe_L3": (Line(1.8, 0.70, 3.0),),
    "Fe_L2": (Line(1.8, 0.65, 3.6),),
    "La_M5": (Line(1.5, 1.40, 2.8),),
    "La_M4": (Line(1.5, 1.50, 2.8),),
}
OXYGEN: Final = {
    "SrTiO3": (Line(0.5, 0.04, 1.6), Line(5.0, 0.09, 3.5), Line(12.0, 0.12, 6.0)),
    "LaMnO3": (Line(-1.5, 0.03, 2.0), Line(4.0, 0.08, 4.0), Line(11.0, 0.10, 7.0)),
    "Fe3O4": (Line(-1.0, 0.04, 2.2), Line(9.0, 0.12, 6.0), Line(14.0, 0.06, 6.0)),
}


def energies() -> FloatArray:
    """Channel energies [channels] in eV."""
    return OFFSET_EV + SCALE_EV * np.arange(CHANNELS, dtype=np.float64)


def edges(member: Member, table: GosTable, energy_ev: FloatArray) -> FloatArray:
    """Single-scattering core losses [n] of a formula unit, barn/eV, at even energies [n]."""
    total = np.zeros_like(energy_ev)
    for group in edge_groups():
        if group.element not in member.atoms:
            continue
        for subshell in group.subshells:
            onset = subshell.onset_ev
            if onset > energy_ev[-1]:
                continue
            above = onset + table.energy_ev
            node = cross_section(
                above,
                table.gos[table.entry(subshell.label)],
                table.momentum_au,
                BEAM_KEV,
                CONVERGENCE_MRAD,
                COLLECTION_MRAD,
            )
            edge = np.interp(energy_ev, above, node, left=0.0)
            first = max(onset, energy_ev[0])
            window = (energy_ev >= first) & (energy_ev < first + 50.0)
            continuum = edge[window].sum() * (energy_ev[1] - energy_ev[0])
            lines = OXYGEN[member.name] if subshell.label == "O_K" else LINES.get(subshell.label)
            for line in lines or ():
                half = line.fwhm_ev / 2
                centre = onset + line.above_ev
                shape = half / np.pi / ((energy_ev - centre) ** 2 + half**2)
                # No intensity long before the edge: a Lorentzian's foot is not there.
                shape = shape * (energy_ev > centre - 4 * half)
                edge = edge + line.area * continuum * shape
            total += member.atoms[group.element] * edge
    return total


def scattered(single: FloatArray, plasmon_ev: float, step_ev: float) -> FloatArray:
    """Core losses [n] convolved with a Poisson series of plasmons and the resolution.

    Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), section
    4.1; the plasmon is a Drude peak (section 3.3) of 0.5 plasmon energies FWHM.
    """
    size = 1 << (2 * len(single)).bit_length()
    energy = step_ev * np.arange(size // 2)
    width = 0.5 * plasmon_ev
    drude = energy * width * plasmon_ev**2
    drude = drude / ((energy**2 - plasmon_ev**2) ** 2 + (energy * width) ** 2)
    drude[energy > 150.0] = 0.0
    drude = drude / drude.sum()
    omega = 2 * np.pi * np.fft.rfftfreq(size, step_ev)
    transfer = np.exp(THICKNESS * np.fft.rfft(drude, size))
    transfer = transfer * np.exp(-0.5 * (omega * RESOLUTION_EV / 2.355) ** 2)
    folded: FloatArray = np.fft.irfft(np.fft.rfft(single, size) * transfer, size)[: len(single)]
    return np.maximum(folded, 0.0)


def member_spectra(table: GosTable) -> FloatArray:
    """Mean counts [member, channel] of one pixel filled by each material."""
    # The calculation reaches beyond the range, for what scatters into it and for the blurred end.
    before, after = 200, 20
    axis = OFFSET_EV + SCALE_EV * np.arange(-before, CHANNELS + after, dtype=np.float64)
    spectra = []
    for member in MEMBERS:
        core = scattered(edges(member, table, axis), member.plasmon_ev, SCALE_EV)[before:-after]
        spectra.append(member.units_per_nm3 * core)
    counts = np.array(spectra)
    energy = energies()
    at = int(np.searchsorted(energy, 500.0))
    height = BACKGROUND_PER_EDGE * counts[0, at]
    weights = np.array([m.units_per_nm3 * sum(m.atoms.values()) for m in MEMBERS])
    power = (energy / energy[at]) ** -BACKGROUND_EXPONENT
    counts += height * (weights / weights[0])[:, None] * power
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
    spectra = member_spectra(GosTable.load())
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
