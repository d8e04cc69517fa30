"""Where the materials of each specimen lie: thickness along the beam, at any place of its field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.simulate.specimens.materials import (
    BORON_NITRIDE,
    BOUNDARY,
    CARBON,
    CERIA,
    FE3O4,
    LAMNO3,
    MN3O4,
    SRTIO3,
    Material,
)

Floats = NDArray[np.float64]

Shape = Callable[[Floats, Floats, int], Floats]
"""(y, x, seed) -> thickness in nm [material, ...] at places [...] given in nm."""


@dataclass(frozen=True, slots=True)
class Design:
    """A specimen: what it is, the field that is scanned, its materials, and a range for its edges.

    ``field_nm`` is (height, width). The core-loss range has ``channels`` of ``scale_ev`` from
    ``offset_ev`` (the centre of the first).
    """

    title: str
    field_nm: tuple[float, float]
    materials: tuple[Material, ...]
    shape: Shape
    offset_ev: float
    scale_ev: float
    channels: int = 1536


def _step(distance: Floats, width: float) -> Floats:
    return 1 / (1 + np.exp(-distance / width))


def _rough(seed: int, along: Floats, height: float, length: float) -> Floats:
    """A random line: sum of waves [...] of standard deviation ``height`` along a direction."""
    rng = np.random.default_rng(seed)
    wave = rng.uniform(0.2, 1.5, 8) * 2 * np.pi / length
    phase = rng.uniform(0, 2 * np.pi, 8)
    total: Floats = np.sin(along[..., None] * wave + phase).sum(-1) * (height / 2)
    return total


def superlattice(y: Floats, x: Floats, seed: int) -> Floats:
    """SrTiO3 with three layers of LaMnO3 upright; rough interfaces 0.5 nm wide, 25 to 31 nm."""
    share = np.zeros_like(x)
    for number, (left, right) in enumerate(((5.6, 8.4), (11.6, 14.4), (17.6, 20.4))):
        left_edge = left + _rough(seed + 2 * number, y, 0.15, 6.0)
        right_edge = right + _rough(seed + 2 * number + 1, y, 0.15, 6.0)
        share = share + _step(x - left_edge, 0.12) - _step(x - right_edge, 0.12)
    share = np.clip(share, 0.0, 1.0)
    depth = 25.0 + 0.3 * y
    return np.stack([(1 - share) * depth, share * depth])


def core_shell(y: Floats, x: Floats, seed: int) -> Floats:
    """A sphere of Fe3O4 in a shell of Mn3O4, and a smaller one, on 8 nm of carbon."""
    rng = np.random.default_rng(seed)
    core, shell = np.zeros_like(x), np.zeros_like(x)
    for row, column, radius in ((13.0, 15.0, 10.0), (22.0, 32.0, 6.5)):
        row, column = row + rng.uniform(-1, 1), column + rng.uniform(-1, 1)
        squared = (y - row) ** 2 + (x - column) ** 2
        outer = 2 * np.sqrt(np.maximum(radius**2 - squared, 0.0))
        inner = 2 * np.sqrt(np.maximum((0.65 * radius) ** 2 - squared, 0.0))
        core, shell = core + inner, shell + outer - inner
    return np.stack([core, shell, np.full_like(x, 8.0)])


def grain_boundary(y: Floats, x: Floats, seed: int) -> Floats:
    """Two grains of Gd-doped ceria; Gd and Ca are enriched at the upright boundary, 2 nm FWHM."""
    middle = 12.0 + 0.06 * (y - 8.0) + _rough(seed, y, 0.1, 8.0)
    enriched = np.exp(-4 * np.log(2) * ((x - middle) / 2.0) ** 2)
    enriched = enriched * (1 + _rough(seed + 1, y, 0.1, 5.0)).clip(0.5, 1.0)
    depth = 34.0 + 0.25 * x
    return np.stack([(1 - enriched) * depth, enriched * depth])


def wedge(_y: Floats, x: Floats, _seed: int) -> Floats:
    """Boron nitride of 10 nm at the left to 130 nm at the right."""
    return (10.0 + 3.0 * x)[None]


SPECIMENS: Final[dict[str, Design]] = {
    "superlattice": Design(
        "LaMnO3/SrTiO3 superlattice", (16.0, 24.0), (SRTIO3, LAMNO3), superlattice, 380.0, 0.5
    ),
    "core_shell": Design(
        "Fe3O4 particles in shells of Mn3O4",
        (30.0, 42.0),
        (FE3O4, MN3O4, CARBON),
        core_shell,
        250.0,
        0.5,
    ),
    "grain_boundary": Design(
        "Grain boundary in Gd-doped ceria",
        (16.0, 24.0),
        (CERIA, BOUNDARY),
        grain_boundary,
        300.0,
        0.75,
    ),
    "wedge": Design("Wedge of boron nitride", (20.0, 40.0), (BORON_NITRIDE,), wedge, 140.0, 0.5),
}
