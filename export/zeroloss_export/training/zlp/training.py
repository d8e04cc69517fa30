"""From spectra of a vacuum or a specimen to the table of a zero-loss peak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.networks.low_loss.table import Noise, Setting, ZeroLossTable
from zeroloss_export.networks.low_loss.thickness import THICKEST

from .ensemble import DEFAULT_REPLICAS, Ensemble, train_ensemble
from .noise import Floats
from .points import FIRST_WIDTHS
from .regions import Regions, find_regions, tail_exponent
from .spectra import Prepared

Mode = Literal["vacuum", "sample"]
Bools = NDArray[np.bool_]

WHOLE_REPLICAS: Final = 32
"""Replicas that are kept whole, for quantities that need them jointly."""
_NODES: Final = 17
_SETTINGS: Final = 9
_BEYOND: Final = 0.5
"""Of the trained range of a setting: so far beyond it the table reaches, with its wider band."""
_MARGIN: Final = 0.5
"""Of ln N beyond the trained range that the table covers."""
_FLANK: Final = (0.05, 0.01)
"""Of the maximum: between these a vacuum peak is matched where no specimen says where."""
_VACUUM_GAPS_EV: Final = 10.0
"""Highest gap that is looked for where no specimen tells where the zero loss is gone."""
_MATCH: Final = 0.75
"""The matching window begins at this part of the boundary of the ruling region."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """What an expert sets by hand, eV above the zero-loss maximum; None is found."""

    ruling_ev: float | None = None
    gone_ev: float | None = None
    match_ev: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrainedZeroLoss:
    """A trained zero-loss peak with all that its report shows."""

    mode: Mode
    spectra: Prepared
    regions: list[Regions]
    ensemble: Ensemble
    table: ZeroLossTable


def train_zero_loss(
    spectra: Prepared,
    mode: Mode,
    *,
    specimen: Prepared | None = None,
    condition: str | None = None,
    boundaries: Boundaries | None = None,
    replicas: int = DEFAULT_REPLICAS,
    seed: int = 0,
    gap: bool = True,
    gap_range_ev: tuple[float, float] | None = None,
    peaks: int = 3,
    progress: Callable[[int], None] = lambda _: None,
) -> TrainedZeroLoss:
    """Train the replicas and tabulate them.

    ``mode`` "vacuum": all of the spectrum is zero loss. "sample": only what lies below the mixed
    region is. ``specimen``: spectra that a vacuum peak will be subtracted from; they tell where the
    matching window may lie. ``condition`` is the name of the instrument setting that differs
    between the clusters. ``gap_range_ev``: where a gap is looked for; by default from the
    matching window to where the zero loss is gone. Raises ValueError where the spectra do not
    allow it.
    """
    given = boundaries or Boundaries()
    regions = [_regions(spectra, index, mode, given) for index in range(len(spectra.clusters))]
    bounds = regions if mode == "sample" else []
    if specimen is not None:
        bounds = [
            _regions(specimen, index, "sample", given) for index in range(len(specimen.clusters))
        ]
    match = given.match_ev or _match_window(spectra, bounds)
    _check_window(spectra, match)
    outer = max([match[1], *(item.ruling_ev[1] for item in bounds)])
    if gap:
        far = max([item.gone_ev for item in bounds], default=_VACUUM_GAPS_EV)
        last = float(spectra.energy_ev[-1])
        gap_range_ev = gap_range_ev or (match[1], min(far, last))
        if not 0.0 < gap_range_ev[0] < gap_range_ev[1] <= last:
            raise ValueError(
                f"a gap cannot be looked for from {gap_range_ev[0]:.2f} to {gap_range_ev[1]:.2f} "
                f"eV: expected rising energies between 0 and {last:.2f} eV"
            )
    # All that can be wrong with what was given is told before the long part.
    ensemble = train_ensemble(
        spectra.energy_ev,
        spectra.clusters,
        regions,
        spectra.noise,
        spectra.width_ev,
        replicas=replicas,
        seed=seed,
        progress=progress,
    )
    table = tabulate(
        spectra,
        ensemble,
        match,
        outer,
        gap_range_ev if gap else None,
        condition=condition,
        peaks=peaks,
        seed=seed,
    )
    return TrainedZeroLoss(mode, spectra, regions, ensemble, table)


def _regions(spectra: Prepared, index: int, mode: Mode, given: Boundaries) -> Regions:
    group, last = spectra.clusters[index], float(spectra.energy_ev[-1])
    measured = (spectra.energy_ev, group.counts, group.variance(spectra.noise))
    ruling, gone = given.ruling_ev, given.gone_ev
    if ruling is not None and not FIRST_WIDTHS * spectra.width_ev < ruling <= last:
        raise ValueError(
            f"the zero loss cannot rule up to {ruling:g} eV: expected an energy on its flank or in "
            f"its tail, {FIRST_WIDTHS * spectra.width_ev:.2f} to {last:.2f} eV"
        )
    try:
        found = find_regions(*measured, spectra.width_ev, vacuum=mode == "vacuum")
    except ValueError as error:
        if ruling is None or gone is None:
            raise ValueError(
                f"cluster {index + 1} of {len(spectra.clusters)} ({group.pixels} spectra): {error}"
            ) from None
        found = Regions((ruling, ruling), gone, 0.0)
    if ruling is not None:
        found = Regions(
            (ruling, ruling),
            min(max(found.gone_ev, 2.0 * ruling), last),
            tail_exponent(*measured, ruling),
        )
    if gone is not None:
        if not found.ruling_ev[1] < gone <= last:
            raise ValueError(
                f"the zero loss cannot be gone from {gone:g} eV on while it rules up to "
                f"{found.ruling_ev[1]:.2f} eV and the spectra end at {last:.2f} eV: expected an "
                "energy between them"
            )
        found = replace(found, gone_ev=gone)
    return found


def _match_window(spectra: Prepared, regions: list[Regions]) -> tuple[float, float]:
    if regions:
        high = min(item.ruling_ev[0] for item in regions)
        return _MATCH * high, high
    beyond = np.flatnonzero(spectra.energy_ev > 0)
    ends = []
    for group in spectra.clusters:
        relative = group.counts[beyond] / np.nanmax(group.counts)
        ends.append([spectra.energy_ev[beyond[int((relative < part).argmax())]] for part in _FLANK])
    # The broadest peak tells: of a narrower one only more of the tail is then its own.
    low, high = np.max(ends, axis=0)
    return float(low), float(high)


def _check_window(spectra: Prepared, match_ev: tuple[float, float]) -> None:
    low, high = match_ev
    held = int(_inside(spectra.energy_ev, match_ev).sum())
    if not 0.0 < low < high or held < 2 or not high < spectra.energy_ev[-1]:
        raise ValueError(
            f"the matching window, {low:.2f} to {high:.2f} eV, holds {held} channels: expected at "
            f"least 2 between the zero-loss maximum and the end, {spectra.energy_ev[-1]:.2f} eV"
        )


def _inside(energy_ev: Floats, window_ev: tuple[float, float]) -> Bools:
    # As the table has it: a channel that rounding has put beside an end is on it.
    slack = 1e-3 * float(energy_ev[1] - energy_ev[0])
    return (energy_ev >= window_ev[0] - slack) & (energy_ev <= window_ev[1] + slack)


def tabulate(
    spectra: Prepared,
    ensemble: Ensemble,
    match_ev: tuple[float, float],
    outer_ev: float,
    gap_range_ev: tuple[float, float] | None,
    *,
    condition: str | None,
    peaks: int,
    seed: int,
) -> ZeroLossTable:
    """Percentiles and whole replicas of ln(curve / its mean in the window) over energy and ln N.

    Each replica takes the spectrum for zero loss up to a boundary of its own, drawn between the end
    of the matching window and ``outer_ev``.
    """
    energy = spectra.energy_ev
    low, high = spectra.log_counts
    several = ensemble.scaling.clusters > 1
    margin = _MARGIN if several else 0.5 * _MARGIN
    nodes = np.linspace(low - margin, high + margin, _NODES if several else 2)
    settings = _settings(ensemble)
    window = _inside(energy, match_ev)
    curves, whole = [], []
    chosen = _chosen(ensemble, spectra, window)
    for setting in settings:
        for node in nodes:
            logs = ensemble.curves(energy, float(node), float(setting))
            logs -= np.log(np.exp(logs[:, window]).mean(1, keepdims=True))
            curves.append(band(logs))
            whole.append(logs[chosen])
    rng = np.random.default_rng(seed)
    boundaries = rng.uniform(match_ev[1], outer_ev, len(chosen))
    noise = spectra.noise
    return ZeroLossTable(
        scale_ev=float(energy[1] - energy[0]),
        first_ev=float(energy[0]),
        match_ev=match_ev,
        log_counts=torch.from_numpy(nodes).float(),
        curves=_stack(curves),
        replicas=_stack(whole),
        trained_width_ev=spectra.widths_ev,
        # Where the shape does not depend on the counts, a specimen only takes some of them away.
        trained_log_counts=(low if several else low - THICKEST, high),
        noise=Noise(noise.gain, noise.readout, noise.correlation),
        gap_range_ev=gap_range_ev,
        peaks=peaks,
        boundaries_ev=torch.from_numpy(boundaries).float(),
        setting=_setting(ensemble, condition, settings),
    )


def band(logs: Floats) -> Floats:
    """Curves [replica, energy] to 16, 50 and 84 % of them, [3, energy]."""
    # Of n replicas: one more, or the truth, then falls between 16 and 84 % in 68 % of all cases;
    # the usual way of interpolating makes it 0.68 (n - 1) / (n + 1).
    ranked: Floats = np.percentile(logs, [16.0, 50.0, 84.0], axis=0, method="weibull")
    return ranked


def _settings(ensemble: Ensemble) -> Floats:
    """Values of the varied setting to tabulate, to half its range beyond what was trained."""
    varied = ensemble.scaling.condition
    if varied is None:
        return np.zeros(1)
    low, high = varied
    beyond = _BEYOND * (high - low)
    return np.linspace(low - beyond, high + beyond, _SETTINGS)


def _setting(ensemble: Ensemble, condition: str | None, values: Floats) -> Setting | None:
    trained = ensemble.scaling.condition
    if trained is None:
        return None
    return Setting(condition or "setting", torch.from_numpy(values).float(), trained)


def _chosen(ensemble: Ensemble, spectra: Prepared, window: Bools) -> NDArray[np.intp]:
    """Replicas that are even in rank of the zero loss they leave beyond the matching window."""
    energy = spectra.energy_ev
    end = float(energy[window][-1])
    setting = float(np.mean(ensemble.scaling.condition or 0.0))
    logs = ensemble.curves(energy, float(np.mean(spectra.log_counts)), setting)
    logs -= np.log(np.exp(logs[:, window]).mean(1, keepdims=True))
    order = np.argsort(logs[:, (energy > end) & (energy < 3.0 * end)].mean(1))
    ranks = (np.arange(WHOLE_REPLICAS) + 0.5) / WHOLE_REPLICAS * len(order)
    picked: NDArray[np.intp] = order[ranks.astype(np.intp)]
    return picked


def _stack(curves: list[Floats]) -> torch.Tensor:
    return torch.from_numpy(np.stack(curves, 1)).float().contiguous()
