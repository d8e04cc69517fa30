"""The 107 core-loss edge groups of the elements Be..Bi and their 417 subshells.

Onsets are the edge energies of xraylib (T. Schoonjans et al., Spectrochim. Acta B 66 (2011) 776,
BSD licence), stored in ``edges.csv`` beside this module. Write that file anew with
``python -m zeroloss_export.physics.edges --out FILE`` (needs xraylib).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

from zeroloss_export.physics.elements import FIRST_ATOMIC_NUMBER, SYMBOLS, atomic_number, symbol

_SHELLS: Final = "KLMN"
_ORBITALS: Final = ((0, 1), (1, 1), (1, 3), (2, 3), (2, 5), (3, 5), (3, 7))  # (l, 2j) of 1..7
_LISTED: Final = {"K": ("K",), "L": ("L3", "L2", "L1"), "M": ("M5", "M4", "M3", "M2", "M1")} | {
    "N": ("N5", "N4", "N3", "N2", "N1")
}
_MAJOR: Final = frozenset({"K", "L2", "L3", "M4", "M5", "N4", "N5"})
_COLUMNS: Final = ("element", "subshell", "onset_ev")


@dataclass(frozen=True, slots=True)
class Subshell:
    """One ionised subshell, e.g. ``Subshell("Ti", "L3", 455.5)``; ``onset_ev`` is its edge."""

    element: str
    name: str
    onset_ev: float

    @property
    def atomic_number(self) -> int:
        return atomic_number(self.element)

    @property
    def shell(self) -> str:
        """Letter of the principal shell: K, L, M or N."""
        return self.name[0]

    @property
    def label(self) -> str:
        """Unique key, e.g. ``Ti_L3``."""
        return f"{self.element}_{self.name}"

    @property
    def major(self) -> bool:
        """True for the subshells that make the visible edge: K, L2,3, M4,5 and N4,5."""
        return self.name in _MAJOR

    @property
    def orbital(self) -> tuple[int, int, int]:
        """Quantum numbers (n, l, 2j)."""
        number = int(self.name[1:] or 1)
        return (_SHELLS.index(self.shell) + 1, *_ORBITALS[number - 1])


@dataclass(frozen=True, slots=True)
class EdgeGroup:
    """All subshells of one principal shell of an element, majors first."""

    element: str
    shell: str
    subshells: tuple[Subshell, ...]

    @property
    def atomic_number(self) -> int:
        return atomic_number(self.element)

    @property
    def onset_ev(self) -> float:
        """Lowest onset of the major subshells."""
        return min(subshell.onset_ev for subshell in self.subshells if subshell.major)

    @property
    def label(self) -> str:
        """Unique key, e.g. ``Ti_L``."""
        return f"{self.element}_{self.shell}"


def shells_of(atomic_number: int) -> tuple[str, ...]:
    """Shells whose major edges lie at core losses (98 to 2840 eV), lowest energy first.

    K for Be-Al, L+K for Si-Cl, L for Ar-Kr, M+L for Rb-Ru, M for Rh-Ba, N+M for La-Lu and M for
    Hf-Bi.
    """
    for last, shells in (
        (13, ("K",)),
        (17, ("L", "K")),
        (36, ("L",)),
        (44, ("M", "L")),
        (56, ("M",)),
        (71, ("N", "M")),
        (83, ("M",)),
    ):
        if FIRST_ATOMIC_NUMBER <= atomic_number <= last:
            return shells
    raise ValueError(f"expected an atomic number in 4..83, got {atomic_number}")


@lru_cache(maxsize=1)
def edge_groups() -> tuple[EdgeGroup, ...]:
    """The 107 groups, by atomic number and then by onset."""
    text = resources.files(__package__).joinpath("edges.csv").read_text(encoding="utf-8")
    members: dict[tuple[str, str], list[Subshell]] = {}
    for row in csv.DictReader(text.splitlines()):
        subshell = Subshell(row["element"], row["subshell"], float(row["onset_ev"]))
        members.setdefault((subshell.element, subshell.shell), []).append(subshell)
    return tuple(EdgeGroup(*key, tuple(subshells)) for key, subshells in members.items())


@lru_cache(maxsize=1)
def subshells() -> tuple[Subshell, ...]:
    """The 417 subshells in the order of ``edge_groups``."""
    return tuple(subshell for group in edge_groups() for subshell in group.subshells)


@lru_cache(maxsize=1)
def _by_label() -> dict[str, Subshell]:
    return {subshell.label: subshell for subshell in subshells()}


def subshell(label: str) -> Subshell:
    """The subshell of a label such as ``Ti_L3``; ValueError if there is none."""
    found = _by_label().get(label)
    if found is None:
        raise ValueError(f"expected a subshell label such as 'Ti_L3', got {label!r}")
    return found


def _xraylib_rows() -> Iterator[tuple[str, str, str]]:
    import xraylib

    for z in range(FIRST_ATOMIC_NUMBER, len(SYMBOLS) + 1):
        for shell in shells_of(z):
            for name in _LISTED[shell]:
                onset_ev = 1e3 * xraylib.EdgeEnergy(z, getattr(xraylib, f"{name}_SHELL"))
                yield symbol(z), name, f"{onset_ev:.1f}"


def main(arguments: list[str] | None = None) -> None:
    """Command: write the edge list from xraylib."""
    parser = argparse.ArgumentParser(description="Write the list of core-loss edges from xraylib.")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    out: Path = parser.parse_args(arguments).out
    with out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_xraylib_rows())


if __name__ == "__main__":
    main()
