"""The shipped table of generalised oscillator strengths: one npz, float16 logarithms.

Compute it anew with ``python -m zeroloss_export.physics.table --out FILE --jobs N``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.entries import SubshellEntries
from zeroloss_export.physics.gos import Line

FloatArray = NDArray[np.float64]

_SHIPPED: Final = "gos.npz"
_FLOOR: Final = 1e-9
_WHITE_LINE_WINDOW_EV: Final = 50.0


@dataclass(frozen=True, eq=False)
class GosTable(SubshellEntries):
    """Generalised oscillator strengths df/dE(q, E) of subshells.

    energy_ev    [energy]            energy above the onset, ascending
    momentum_au  [momentum]          momentum transfer in 1/bohr, ascending
    labels       [entry]             subshell labels such as ``Ti_L3``
    core_hole    [entry]             True where the atom was relaxed around a hole in the subshell
    binding_ev   [entry]             computed binding energy (minus the orbital energy)
    gos          [entry, momentum, energy]  df/dE in 1/eV, for the full subshell
    line_entry   [line]              entry that a bound-bound line belongs to
    line_final   [line, 3]           (n, l, 2j) of its final orbital
    line_ev      [line, 2]           its offset in eV and its hole-weighted oscillator strength
    """

    energy_ev: FloatArray
    momentum_au: FloatArray
    labels: tuple[str, ...]
    core_hole: NDArray[np.bool_]
    binding_ev: FloatArray
    gos: NDArray[np.float32]
    line_entry: NDArray[np.int64]
    line_final: NDArray[np.int64]
    line_ev: FloatArray

    @classmethod
    def load(cls, path: Path | None = None) -> GosTable:
        """Read a table; without a path, the one shipped with the package."""
        if path is None:
            with resources.as_file(resources.files(__package__).joinpath(_SHIPPED)) as shipped:
                return cls.load(shipped)
        with np.load(path, allow_pickle=False) as file:
            log_gos = file["log_gos"]
            expected = tuple(len(file[name]) for name in ("labels", "momentum_au", "energy_ev"))
            if log_gos.shape != expected:
                raise ValueError(
                    f"{path}: expected log_gos [entry, momentum, energy] of shape {expected}, "
                    f"got {log_gos.shape}; compute the table anew"
                )
            scale = file["log_scale"].astype(np.float32)[:, None, None]
            return cls(
                energy_ev=file["energy_ev"].astype(np.float64),
                momentum_au=file["momentum_au"].astype(np.float64),
                labels=tuple(str(label) for label in file["labels"]),
                core_hole=file["core_hole"].astype(bool),
                binding_ev=file["binding_ev"].astype(np.float64),
                gos=np.exp(log_gos.astype(np.float32) + scale),
                line_entry=file["line_entry"].astype(np.int64),
                line_final=file["line_final"].astype(np.int64).reshape(-1, 3),
                line_ev=file["line_ev"].astype(np.float64).reshape(-1, 2),
            )

    @classmethod
    def concatenate(cls, parts: Iterable[GosTable]) -> GosTable:
        """One table of all entries of tables on the same grids, in the order given."""
        tables = list(parts)
        first = np.cumsum([0] + [len(table.labels) for table in tables[:-1]])
        return cls(
            energy_ev=tables[0].energy_ev,
            momentum_au=tables[0].momentum_au,
            labels=tuple(label for table in tables for label in table.labels),
            core_hole=np.concatenate([table.core_hole for table in tables]),
            binding_ev=np.concatenate([table.binding_ev for table in tables]),
            gos=np.concatenate([table.gos for table in tables]),
            line_entry=np.concatenate(
                [table.line_entry + offset for table, offset in zip(tables, first, strict=True)]
            ),
            line_final=np.concatenate([table.line_final for table in tables]),
            line_ev=np.concatenate([table.line_ev for table in tables]),
        )

    def select(self, entries: Iterable[int]) -> GosTable:
        """The table of these entries alone, in the order given."""
        chosen = list(entries)
        lines = [np.flatnonzero(self.line_entry == entry) for entry in chosen]
        flat = np.concatenate(lines)
        return replace(
            self,
            labels=tuple(self.labels[entry] for entry in chosen),
            core_hole=self.core_hole[chosen],
            binding_ev=self.binding_ev[chosen],
            gos=self.gos[chosen],
            line_entry=np.repeat(np.arange(len(chosen)), [len(found) for found in lines]),
            line_final=self.line_final[flat],
            line_ev=self.line_ev[flat],
        )

    def save(self, path: Path) -> None:
        """Write the table; the logarithms are stored as float16 about each entry's median."""
        peak = self.gos.max(axis=(1, 2), keepdims=True)
        log_gos = np.log(np.maximum(self.gos.astype(np.float64), peak * _FLOOR))
        scale = np.median(log_gos, axis=(1, 2))
        np.savez_compressed(
            path,
            energy_ev=self.energy_ev,
            momentum_au=self.momentum_au,
            labels=np.array(self.labels, dtype=np.str_),
            core_hole=self.core_hole,
            binding_ev=self.binding_ev,
            log_scale=scale.astype(np.float32),
            log_gos=(log_gos - scale[:, None, None]).astype(np.float16),
            line_entry=self.line_entry.astype(np.int16),
            line_final=self.line_final.astype(np.int8),
            line_ev=self.line_ev.astype(np.float32),
        )

    def lines(self, entry: int) -> tuple[Line, ...]:
        """Bound-bound dipole transitions of an entry."""
        chosen = np.flatnonzero(self.line_entry == entry)
        return tuple(
            Line((int(n), int(ell), int(twice_j)), float(offset), float(strength))
            for (n, ell, twice_j), (offset, strength) in zip(
                self.line_final[chosen], self.line_ev[chosen], strict=True
            )
        )

    def white_line_ratio(self, entry: int) -> float:
        """Hole-weighted strength of the lines into l + 1, over the first 50 eV of the continuum.

        Both in the dipole limit; 0 for a filled shell, about 1 for Ti L3, 2.5 for La M5.
        """
        wanted = subshell(self.labels[entry]).orbital[1] + 1
        white = sum(line.strength for line in self.lines(entry) if line.final[1] == wanted)
        energy = np.linspace(self.energy_ev[0], _WHITE_LINE_WINDOW_EV, 501)
        dipole = np.interp(np.log(energy), np.log(self.energy_ev), self.gos[entry, 0])
        return white / float(np.trapezoid(dipole, energy))


def main(arguments: list[str] | None = None) -> None:
    """Command: compute the table; an interrupted run goes on where it stopped."""
    from zeroloss_export.physics.generate import generate

    parser = argparse.ArgumentParser(description="Compute the oscillator strengths of all edges.")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    options = parser.parse_args(arguments)
    generate(options.out, options.jobs).save(options.out)


if __name__ == "__main__":
    main()
