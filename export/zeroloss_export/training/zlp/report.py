"""What a training did, for people: figures, plots and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .points import FIRST_WIDTHS
from .training import TrainedZeroLoss, band

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 100
_WORST = 1e4
"""Costs are shown up to this."""


def summary(trained: TrainedZeroLoss) -> list[str]:
    """The training in a few lines of text."""
    spectra, ensemble = trained.spectra, trained.ensemble
    noise = spectra.noise
    match = trained.table.match_ev
    plural = "s" if len(spectra.clusters) > 1 else ""
    kept = ensemble.cost[ensemble.kept]
    lines = [
        (
            f"{spectra.used} of {spectra.pixels} spectra with a sound zero-loss peak, "
            f"{len(spectra.clusters)} cluster{plural}, width {spectra.width_ev:.3f} eV"
        ),
        (
            f"noise: variance {noise.gain:.2f} x counts + {noise.readout:.1f}^2, next channels "
            f"correlated by {noise.correlation[0]:.2f}"
        ),
        (
            f"replicas: {len(kept)} of {len(ensemble.kept)} converged and kept, cost per point "
            f"{np.median(kept):.2f} (expected 1 to 2)"
        ),
        f"chi2 per point of their median against the measured means: {ensemble.chi2:.2f}",
        f"matched between {match[0]:.2f} and {match[1]:.2f} eV",
    ]
    for item in trained.regions:
        low, high = item.ruling_ev
        lines.append(
            f"zero loss rules up to {low:.2f} ... {high:.2f} eV, falls as E^-{item.exponent:.2f} "
            f"there, gone from {item.gone_ev:.2f} eV on"
        )
    return lines


def write_report(folder: Path, trained: TrainedZeroLoss) -> Path:
    """Write `report.md` with its plots into ``folder``; returns the page."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "fit": ("Mean spectra, replicas' median and 68 % band", _fit),
        "band": ("Relative band of the zero loss, and the residual of the trained region", _band),
        "cost": ("Cost per point of all replicas; those right of the line were left out", _cost),
    }
    page = ["# Training of a zero-loss peak", "", *(f"- {line}" for line in summary(trained)), ""]
    for name, (title, draw) in plots.items():
        figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
        draw(axes, trained)
        figure.savefig(folder / f"{name}.png", dpi=_DPI)
        plt.close(figure)
        page += [f"## {title}", "", f"![{title}]({name}.png)", ""]
    path = folder / "report.md"
    path.write_text("\n".join(page), encoding="utf-8")
    return path


def _fit(axes: Axes, trained: TrainedZeroLoss) -> None:
    energy = trained.spectra.energy_ev
    first = FIRST_WIDTHS * trained.spectra.width_ev
    shown = energy > first
    for index, cluster in enumerate(trained.spectra.clusters):
        colour = f"C{index}"
        axes.plot(energy, np.maximum(cluster.counts, 1e-3), color=colour, lw=0.7)
        logs = trained.ensemble.curves(energy[shown], cluster.log_counts, cluster.condition)
        low, middle, high = np.exp(band(logs))
        axes.plot(energy[shown], middle, color=colour, ls="--")
        axes.fill_between(energy[shown], low, high, color=colour, alpha=0.3, lw=0)
    axes.axvspan(*trained.table.match_ev, color="0.9")
    for item in trained.regions:
        for boundary in (*item.ruling_ev, item.gone_ev):
            axes.axvline(boundary, color="0.6", lw=0.7)
    top = max(float(np.nanmax(item.counts)) for item in trained.spectra.clusters)
    axes.set_yscale("log")
    axes.set_ylim(1e-6 * top, 2 * top)
    axes.set_xlim(energy[0], 2.0 * max(item.gone_ev for item in trained.regions))
    axes.set_xlabel("energy loss (eV)")
    axes.set_ylabel("counts per channel")


def _band(axes: Axes, trained: TrainedZeroLoss) -> None:
    spectra = trained.spectra
    energy = spectra.energy_ev
    for index, (cluster, item) in enumerate(zip(spectra.clusters, trained.regions, strict=True)):
        shown = (energy > FIRST_WIDTHS * spectra.width_ev) & (energy < item.gone_ev)
        logs = trained.ensemble.curves(energy[shown], cluster.log_counts, cluster.condition)
        low, middle, high = np.exp(band(logs))
        colour = f"C{index}"
        axes.fill_between(
            energy[shown], low / middle - 1, high / middle - 1, color=colour, alpha=0.3
        )
        ruled = energy[shown] <= item.ruling_ev[0]
        residual = cluster.counts[shown][ruled] / middle[ruled] - 1
        axes.plot(energy[shown][ruled], residual, ".", color=colour, ms=3)
    axes.axhline(0.0, color="0.6", lw=0.7)
    axes.set_ylim(-1.0, 2.0)
    axes.set_xlabel("energy loss (eV)")
    axes.set_ylabel("relative to the median")


def _cost(axes: Axes, trained: TrainedZeroLoss) -> None:
    cost, kept = trained.ensemble.cost, trained.ensemble.kept
    known = np.clip(np.nan_to_num(cost, nan=_WORST), 0.1, _WORST)
    edges = np.geomspace(known.min() / 1.01, max(known.max(), 10.0) * 1.01, 40).tolist()
    axes.hist([known[kept], known[~kept]], bins=edges, stacked=True, label=["kept", "left out"])
    axes.axvline(float(cost[kept].max()), color="0.4", lw=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("cost per point")
    axes.set_ylabel("replicas")
    axes.legend()
