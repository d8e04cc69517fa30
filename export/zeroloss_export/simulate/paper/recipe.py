"""Table 1 of Annys et al. (2023): what a simulated spectrum is drawn from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PaperRecipe:
    """Ranges are (lowest, highest), both included; energies in eV, angles in mrad.

    Numbers of type int are drawn as whole numbers, as the table says. ``compounds`` is not in the
    table: the share of charge-balanced compounds among the formulas, the rest being alloys. Nor is
    ``negative_chance``: the paper trains on no negative examples.
    """

    beam_kev: tuple[float, ...] = (60.0, 100.0, 200.0, 300.0)
    convergence_mrad: tuple[float, float] = (1.0, 20.0)
    collection_mrad: tuple[float, float] = (1.0, 100.0)
    start_ev: int = 75
    before_edge_ev: int = 10
    after_edge_ev: int = 25
    end_ev: int = 3272
    zero_loss_fwhm_ev: tuple[float, float] = (1.0, 3.0)
    plasmon_energy_ev: tuple[int, int] = (3, 20)
    plasmon_width_ev: tuple[int, int] = (3, 20)
    plasmons: tuple[int, int] = (2, 5)
    thickness: tuple[float, float] = (0.1, 1.0)
    jump_ratio: tuple[float, float] = (0.2, 1.5)
    exponent: tuple[float, float] = (2.0, 4.0)
    amplitude: tuple[float, ...] = (1e3, 1e4, 1e5, 1e6, 1e7)
    structure_width_ev: tuple[int, int] = (50, 100)
    structure_degree: tuple[int, int] = (10, 25)
    structure_scale: float = 10.0
    atomic_diameter_nm: tuple[float, float] = (0.025, 0.25)
    chemical_shift_ev: int = 5
    instrumental_shift_ev: int = 5
    compounds: float = 0.8
    negative_chance: float = 0.0

    def changed(self, **values: Any) -> PaperRecipe:
        """A copy with some fields replaced; ValueError names an unknown field."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        unknown = set(values) - set(fields)
        if unknown:
            raise ValueError(f"unknown field of the paper's recipe {sorted(unknown)[0]!r}")
        kept = {name: _as(getattr(self, name), value) for name, value in values.items()}
        return dataclasses.replace(self, **kept)


def _as(old: Any, new: Any) -> Any:
    """Whole numbers stay whole, so that a command line may give any number."""
    if isinstance(old, tuple) and isinstance(new, tuple):
        kind = type(old[0])
        return tuple(kind(item) for item in new)
    return int(new) if isinstance(old, int) and isinstance(new, float) else new
