"""The plots of the model card, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zeroloss_export.evaluation.conditions import Condition
from zeroloss_export.evaluation.per_element import Confusion, ElementScore
from zeroloss_export.evaluation.reliability import Reliability

_DPI: Final = 100
_BLUE, _ORANGE, _GREY = "#1f5f99", "#d9762b", "#888888"


def plot_reliability(path: Path, curves: dict[str, Reliability], threshold: float) -> None:
    """Share of true labels against the claimed probability; the diagonal is perfect."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    for (name, curve), colour in zip(curves.items(), (_BLUE, _ORANGE), strict=False):
        label = f"{name}: expected error {curve.expected_error:.3f}"
        axes.plot(curve.claimed, curve.found, "o-", color=colour, markersize=4, label=label)
    axes.axvline(threshold, color=_GREY, linestyle=":", label=f"threshold {threshold:.2f}")
    axes.set(xlabel="probability", ylabel="share of labels that are true", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", fontsize=8)
    _save(figure, path)


def plot_elements(path: Path, rows: Sequence[ElementScore]) -> None:
    """F1 of every element in two rows of forty."""
    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    half = (len(rows) + 1) // 2
    for place, part in enumerate((rows[:half], rows[half:])):
        axes = figure.add_subplot(2, 1, place + 1)
        position = np.arange(len(part))
        axes.bar(position, [row.f1 for row in part], color=_BLUE, width=0.8)
        axes.plot(position, [row.precision for row in part], "_", color=_ORANGE, label="precision")
        axes.plot(position, [row.recall for row in part], ".", color="black", label="recall")
        axes.set_xticks(position, [row.element for row in part], fontsize=8)
        axes.set(ylim=(0, 1.02), ylabel="F1", xlim=(-0.6, half - 0.4))
        axes.grid(axis="y", linewidth=0.4)
    figure.axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=8)
    _save(figure, path)


def plot_conditions(path: Path, dose: Sequence[Condition], jump_ratio: Sequence[Condition]) -> None:
    """Micro F1, precision and recall against dose and jump ratio."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    sides = ((dose, "counts per eV in the middle of the range"), (jump_ratio, "jump ratio"))
    for place, (rows, name) in enumerate(sides):
        axes = figure.add_subplot(1, 2, place + 1)
        middle = [float(np.sqrt(row.low * row.high)) for row in rows]
        axes.plot(middle, [row.f1 for row in rows], "o-", color=_BLUE, label="F1")
        axes.plot(middle, [row.precision for row in rows], "_--", color=_ORANGE, label="precision")
        axes.plot(middle, [row.recall for row in rows], ".:", color="black", label="recall")
        axes.set(xscale="log", ylim=(0, 1), xlabel=name, ylabel="over all counted labels")
        axes.grid(linewidth=0.4)
    figure.axes[0].legend(loc="lower right", fontsize=8)
    _save(figure, path)


def plot_confusions(path: Path, pairs: Sequence[Confusion]) -> None:
    """Share of single-element spectra in which one element was taken for the other."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes: Axes = figure.add_subplot()
    position = np.arange(len(pairs))
    axes.barh(position, [pair.share for pair in pairs], color=_BLUE)
    axes.set_yticks(position, [f"{p.missed} taken for {p.added}" for p in pairs], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of the spectra of the first element")
    axes.grid(axis="x", linewidth=0.4)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # Without the version of matplotlib the same figures give the same bytes.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
