"""Compute the table of generalised oscillator strengths, element by element."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.physics.atom import Atom
from zeroloss_export.physics.edges import EdgeGroup, Subshell, edge_groups, subshells
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.physics.gos import GosSolver, SubshellGos
from zeroloss_export.physics.table import GosTable

ENERGY_EV: Final[NDArray[np.float64]] = np.concatenate(([0.3], np.geomspace(1.0, 3300.0, 55)))
MOMENTUM_AU: Final[NDArray[np.float64]] = np.concatenate(([0.02], np.geomspace(0.08, 26.0, 39)))


def element_table(element: str) -> GosTable:
    """Oscillator strengths of an element's subshells.

    First all subshells with a frozen core, then the major ones in the field of an atom relaxed
    around a hole in the group's lowest major subshell.
    """
    groups = [group for group in edge_groups() if group.element == element]
    listed = [subshell for group in groups for subshell in group.subshells]
    atom = Atom(groups[0].atomic_number)
    solver = GosSolver(atom.atomic_number, ENERGY_EV, MOMENTUM_AU)
    frozen = solver.solve(atom, tuple(subshell.orbital for subshell in listed))
    relaxed = [pair for group in groups for pair in _relaxed(solver, atom, group)]
    return _collect(
        [(subshell, False, result) for subshell, result in zip(listed, frozen, strict=True)]
        + [(subshell, True, result) for subshell, result in relaxed]
    )


def generate(out: Path, jobs: int = 1, elements: Sequence[str] = ELEMENTS) -> GosTable:
    """The table of the elements, frozen-core entries first, each in the order of ``subshells``.

    Finished elements are kept in a folder beside ``out`` until it is written, so that a second
    call computes only what is missing.
    """
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [element for element in elements if not (folder / f"{element}.npz").exists()]
    started = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_write_part, element, folder): element for element in missing}
        for done, future in enumerate(as_completed(running), start=1):
            future.result()
            seconds = time.monotonic() - started
            element = running[future]
            print(f"{element:2s} {done}/{len(missing)} elements, {seconds:.0f} s", flush=True)
    parts = [folder / f"{element}.npz" for element in elements]
    table = GosTable.concatenate(GosTable.load(part) for part in parts)
    order = [
        table.entry(subshell.label, core_hole)
        for core_hole in (False, True)
        for subshell in subshells()
        if (subshell.label, core_hole) in table
    ]
    for part in parts:
        part.unlink()
    folder.rmdir()
    return table.select(order)


def _write_part(element: str, folder: Path) -> None:
    partial = folder / f"{element}.partial.npz"
    element_table(element).save(partial)
    partial.replace(folder / f"{element}.npz")


def _relaxed(solver: GosSolver, atom: Atom, group: EdgeGroup) -> list[tuple[Subshell, SubshellGos]]:
    major = [subshell for subshell in group.subshells if subshell.major]
    ion = Atom(atom.atomic_number, hole=major[0].orbital, start=atom)
    results = solver.solve(ion, tuple(subshell.orbital for subshell in major))
    return list(zip(major, results, strict=True))


def _collect(results: list[tuple[Subshell, bool, SubshellGos]]) -> GosTable:
    lines = [(entry, line) for entry, (_, _, r) in enumerate(results) for line in r.lines]
    return GosTable(
        energy_ev=ENERGY_EV,
        momentum_au=MOMENTUM_AU,
        labels=tuple(subshell.label for subshell, _, _ in results),
        core_hole=np.array([core_hole for _, core_hole, _ in results]),
        binding_ev=np.array([result.binding_ev for _, _, result in results]),
        gos=np.stack([result.gos for _, _, result in results]).astype(np.float32),
        line_entry=np.array([entry for entry, _ in lines], dtype=np.int64),
        line_final=np.array([line.final for _, line in lines], dtype=np.int64).reshape(-1, 3),
        line_ev=np.array([(line.offset_ev, line.strength) for _, line in lines]).reshape(-1, 2),
    )
