"""Where the zero loss rules a spectrum, where it mixes with the specimen, where it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .noise import Floats

_SPAN: Final = 1.25
"""The local exponent is fitted from E / span to E * span."""
_STEP: Final = 0.03
_GONE: Final = 0.35
"""Of its largest value so far: below it the fall of the spectrum is no longer that of a tail."""
_RULING: Final = (0.97, 0.85)
"""Of the exponent's plateau: between these the zero loss stops to rule."""
_LOST: Final = 0.25
"""Relative error of the exponent from which noise hides it."""
_SHARE: Final = 0.01
"""Of the spectrum: the zero loss is gone where its continuation holds less."""
_FEWEST: Final = 5
_FIRST_WIDTHS: Final = 0.8
"""Zero-loss widths (FWHM) from the maximum at which the tail begins to be looked at."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Boundaries in eV above the zero-loss maximum.

    Below ``ruling_ev[0]`` the zero loss surely rules; the boundary lies somewhere up to
    ``ruling_ev[1]``. From ``gone_ev`` on it is gone. ``exponent`` is the local power r of I ~ E^-r
    at the boundary.
    """

    ruling_ev: tuple[float, float]
    gone_ev: float
    exponent: float


@dataclass(frozen=True, slots=True)
class Exponent:
    """Local exponent r = -d ln I / d ln E with its error, at energies [n]."""

    energy_ev: Floats
    value: Floats
    error: Floats


def local_exponent(
    energy_ev: Floats, counts: Floats, variance: Floats, width_ev: float
) -> Exponent:
    """Slope of the log spectrum by weighted parabolas of ln I in ln E, each over a span of E.

    A zero-loss tail falls about as a power of the energy, so its exponent is flat where the slope
    of ln I itself is not; what the specimen adds shows as a fall of the exponent.
    """
    last = min(60.0 * width_ev, 0.8 * float(energy_ev[-1]))
    centres = np.exp(np.arange(np.log(_FIRST_WIDTHS * width_ev), np.log(last), _STEP))
    value = np.full(len(centres), np.nan)
    error = np.full(len(centres), np.inf)
    good = np.isfinite(counts) & (counts > 0) & (energy_ev > 0)
    energy, level, sigma = energy_ev[good], counts[good], np.sqrt(variance[good])
    for index, centre in enumerate(centres):
        here = (energy > centre / _SPAN) & (energy < centre * _SPAN)
        if here.sum() < _FEWEST:
            continue
        x = np.log(energy[here] / centre)
        weight = level[here] / sigma[here]
        table = np.stack([np.ones_like(x), -x, x * x], 1) * weight[:, None]
        solution = np.linalg.lstsq(table, np.log(level[here]) * weight, rcond=None)[0]
        value[index] = solution[1]
        error[index] = np.sqrt(np.linalg.pinv(table.T @ table)[1, 1])
    return Exponent(centres, value, error)


def find_regions(
    energy_ev: Floats,
    counts: Floats,
    variance: Floats,
    width_ev: float,
    *,
    vacuum: bool = False,
) -> Regions:
    """The regions of a mean spectrum [channels] from the slope and curvature of its logarithm.

    Upwards in energy, the exponent first falls far below its plateau where the specimen's
    intensity takes over (or is lost in noise). From there back down, the zero loss rules from where
    the exponent has reached the plateau again. The zero loss is gone where the continuation of its
    tail holds less than 1 % of the spectrum. In a vacuum all that is not lost in noise is zero
    loss. Raises ValueError where no tail can be seen.
    """
    exponent = local_exponent(energy_ev, counts, variance, width_ev)
    lost = exponent.error > _LOST * np.abs(exponent.value)
    known = np.isfinite(exponent.value)
    stop = len(exponent.value) - 1
    largest = -np.inf
    for index in np.flatnonzero(known):
        if largest > 0 and lost[index] and exponent.energy_ev[index] > 2 * width_ev:
            stop = int(index)
            break
        value = exponent.value[index]
        if not vacuum and value + exponent.error[index] < _GONE * largest:
            stop = int(index)
            break
        if not lost[index]:
            largest = max(largest, value)
    if largest <= 0:
        raise ValueError(
            "no falling tail beside the zero-loss peak: expected several channels a peak width and "
            "a few widths before the specimen prevails; or give both boundaries by hand"
        )
    last = float(energy_ev[-1])
    plateau, at = _plateau(exponent, stop)
    if vacuum:
        edge = float(exponent.energy_ev[stop])
        level = _value_at(exponent, edge)
        return Regions((edge, edge), min(1.5 * edge, last), level)
    inner = _first_below(exponent, _RULING[0] * plateau, at, stop)
    outer = max(inner, _first_below(exponent, _RULING[1] * plateau, at, stop))
    gone = _gone(energy_ev, counts, variance, inner, plateau)
    return Regions((inner, outer), min(max(gone, 2.0 * outer), last), plateau)


def tail_exponent(energy_ev: Floats, counts: Floats, variance: Floats, up_to_ev: float) -> float:
    """Power r of I ~ E^-r just below an energy, over the same span of E or five channels."""
    good = np.isfinite(counts) & (counts > 0) & (energy_ev > 0) & (energy_ev <= up_to_ev)
    enough = np.flatnonzero(good)[-_FEWEST:]
    if len(enough) < 2:
        raise ValueError(f"no counts between the zero-loss maximum and {up_to_ev:g} eV to go by")
    here = good & (energy_ev >= min(up_to_ev / _SPAN**2, float(energy_ev[enough[0]])))
    weight = counts[here] / np.sqrt(variance[here])
    slope, _ = np.polyfit(np.log(energy_ev[here]), np.log(counts[here]), 1, w=weight)
    return -float(slope)


def _plateau(exponent: Exponent, stop: int) -> tuple[float, int]:
    """Largest exponent reached from ``stop`` downwards before it falls again, and where."""
    best, at = -np.inf, stop
    for index in range(stop, -1, -1):
        value, error = exponent.value[index], exponent.error[index]
        if not np.isfinite(value):
            continue
        if value > best:
            best, at = float(value), index
        elif value + 3.0 * error + 0.05 * best < best:
            break
    return best, at


def _first_below(exponent: Exponent, level: float, at: int, stop: int) -> float:
    below = [index for index in range(at, stop + 1) if exponent.value[index] < level]
    return float(exponent.energy_ev[below[0] if below else stop])


def _value_at(exponent: Exponent, energy_ev: float) -> float:
    good = np.isfinite(exponent.value) & (exponent.error < _LOST * np.abs(exponent.value))
    return float(np.interp(energy_ev, exponent.energy_ev[good], exponent.value[good]))


def _gone(
    energy_ev: Floats, counts: Floats, variance: Floats, inner_ev: float, exponent: float
) -> float:
    level = float(np.interp(inner_ev, energy_ev, smoothed(counts)))
    tail = level * (np.clip(energy_ev, 1e-3, None) / inner_ev) ** -exponent
    floor = np.maximum(smoothed(counts), 0.75 * np.sqrt(variance))
    gone: NDArray[np.intp] = np.flatnonzero((energy_ev > inner_ev) & (tail < _SHARE * floor))
    # A tail that never falls so far leaves the last third of the range to the pseudo-data.
    last = 0.7 * float(energy_ev[-1])
    return min(float(energy_ev[gone[0]]), last) if len(gone) else last


def smoothed(counts: Floats, window: int = 15) -> Floats:
    """Running mean over ``window`` channels; NaN is left out."""
    good = np.isfinite(counts)
    kernel = np.ones(window)
    total = np.convolve(np.where(good, counts, 0.0), kernel, "same")
    mean: Floats = total / np.maximum(np.convolve(good, kernel, "same"), 1.0)
    return mean


def bridged(counts: Floats) -> Floats:
    """Counts [channels] with straight lines across channels that were not measured."""
    good = np.flatnonzero(np.isfinite(counts))
    return np.interp(np.arange(len(counts)), good, counts[good])
