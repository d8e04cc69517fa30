"""Ground-state electron configurations and quantum numbers of relativistic orbitals.

An orbital is (n, l, 2j); a configuration maps orbitals to electrons, those of a subshell spread
over its two j by degeneracy.
"""

from __future__ import annotations

from typing import Final

Orbital = tuple[int, int, int]

_FILLING: Final = (
    (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (3, 2), (4, 1), (5, 0), (4, 2), (5, 1),
    (6, 0), (4, 3), (5, 2), (6, 1),
)  # fmt: skip

# Ground states that differ from the filling order (NIST Atomic Spectra Database).
_EXCEPTIONS: Final[dict[int, dict[tuple[int, int], int]]] = {
    24: {(3, 2): 5, (4, 0): 1},
    29: {(3, 2): 10, (4, 0): 1},
    41: {(4, 2): 4, (5, 0): 1},
    42: {(4, 2): 5, (5, 0): 1},
    44: {(4, 2): 7, (5, 0): 1},
    45: {(4, 2): 8, (5, 0): 1},
    46: {(4, 2): 10, (5, 0): 0},
    47: {(4, 2): 10, (5, 0): 1},
    57: {(4, 3): 0, (5, 2): 1},
    58: {(4, 3): 1, (5, 2): 1},
    64: {(4, 3): 7, (5, 2): 1},
    78: {(5, 2): 9, (6, 0): 1},
    79: {(5, 2): 10, (6, 0): 1},
}


def kappa(ell: int, twice_j: int) -> int:
    """Dirac quantum number: -(l + 1) for j = l + 1/2, l for j = l - 1/2."""
    return -(ell + 1) if twice_j == 2 * ell + 1 else ell


def spin_orbit_pair(ell: int) -> tuple[int, ...]:
    """Both 2j of an l, ascending; one for l = 0."""
    return (2 * ell - 1, 2 * ell + 1) if ell else (1,)


def ground_state(atomic_number: int) -> dict[Orbital, float]:
    """Electrons per orbital of the neutral atom."""
    shells: dict[tuple[int, int], int] = {}
    left = atomic_number
    for n, ell in _FILLING:
        shells[n, ell] = min(left, 2 * (2 * ell + 1))
        left -= shells[n, ell]
    shells |= _EXCEPTIONS.get(atomic_number, {})
    return {
        (n, ell, twice_j): electrons * (twice_j + 1) / (4 * ell + 2)
        for (n, ell), electrons in shells.items()
        if electrons
        for twice_j in spin_orbit_pair(ell)
    }
