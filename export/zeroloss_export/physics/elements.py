"""Chemical elements: symbols, atomic numbers and the 80 elements that are identified."""

from __future__ import annotations

from typing import Final

_PERIODIC_TABLE: Final = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As "
    "Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu "
    "Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
)

SYMBOLS: Final[tuple[str, ...]] = tuple(_PERIODIC_TABLE.split())
"""Symbols of Z = 1..83 in order."""

FIRST_ATOMIC_NUMBER: Final = 4

ELEMENTS: Final[tuple[str, ...]] = SYMBOLS[FIRST_ATOMIC_NUMBER - 1 :]
"""The identified elements Be..Bi (Z = 4..83), in the order of every label axis."""

_NUMBERS: Final = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}
_INDICES: Final = {symbol: i for i, symbol in enumerate(ELEMENTS)}


def symbol(atomic_number: int) -> str:
    """Symbol of an atomic number in 1..83; ValueError otherwise."""
    if not 1 <= atomic_number <= len(SYMBOLS):
        raise ValueError(f"expected an atomic number in 1..{len(SYMBOLS)}, got {atomic_number}")
    return SYMBOLS[atomic_number - 1]


def atomic_number(symbol: str) -> int:
    """Atomic number of a symbol H..Bi; ValueError otherwise."""
    if symbol not in _NUMBERS:
        raise ValueError(f"expected an element symbol H..Bi, got {symbol!r}")
    return _NUMBERS[symbol]


def element_index(symbol: str) -> int:
    """Position of a symbol in ELEMENTS; ValueError if it is not one of the identified elements."""
    if symbol not in _INDICES:
        raise ValueError(f"expected one of the elements Be..Bi, got {symbol!r}")
    return _INDICES[symbol]
