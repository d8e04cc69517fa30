"""The page of an evaluation: a folder with ``card.md`` and its plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from zeroloss_export.evaluation.card import Card
from zeroloss_export.evaluation.garbage import GarbageScore
from zeroloss_export.evaluation.per_element import CONTESTED
from zeroloss_export.evaluation.reliability import Reliability
from zeroloss_export.evaluation.report import Report

CALIBRATION_TARGET: Final = 0.03


def write_page(folder: Path, card: Card, report: Report, about: Sequence[str]) -> None:
    """Write ``card.md`` and its PNG plots into ``folder``; ``about`` says what was evaluated."""
    # Nothing but the plots needs matplotlib.
    from zeroloss_export.evaluation import plots

    folder.mkdir(parents=True, exist_ok=True)
    curves = {f"probability {CONTESTED:g} or more": report.contested}
    if (report.temperature, report.bias) != (1, 0):
        curves["the same before calibration"] = report.before
    plots.plot_reliability(folder / "reliability.png", curves, report.threshold)
    plots.plot_elements(folder / "elements.png", report.elements)
    plots.plot_conditions(folder / "conditions.png", report.dose, report.jump_ratio)
    plots.plot_confusions(folder / "confusions.png", report.pairs)
    (folder / "card.md").write_text(as_markdown(card, report, about), encoding="utf-8")


def as_markdown(card: Card, report: Report, about: Sequence[str]) -> str:
    """The text of the page, with links to the plots that `write_page` puts beside it."""
    sections = [
        card.as_markdown().rstrip("\n"),
        _section("What was evaluated", "\n".join(f"- {line}" for line in about)),
        _calibration(report),
        _garbage(report),
        _conditions(report),
        _confusions(report),
        _elements(report),
    ]
    return "\n\n".join(sections) + "\n"


def _calibration(report: Report) -> str:
    about = (
        f"One decision is one element in one of {len(report.test.probability)} simulated test "
        f"spectra (seed {report.seed}, never trained on); the bins are of equal mass. Nearly all "
        "decisions are plain absences, so that the error over all of them is small for any "
        "network; the rows below are the ones that tell. Logits are divided by a temperature of "
        f"{report.temperature:.2f} and a bias of {report.bias:.2f} is added, both fitted to other "
        "simulated spectra."
    )

    def row(name: str, curve: Reliability) -> tuple[object, ...]:
        met = _met(curve.expected_error <= CALIBRATION_TARGET)
        error, largest = f"{curve.expected_error:.4f}", f"{curve.largest_error:.3f}"
        return name, curve.decisions.sum(), len(curve.decisions), error, largest, met

    contested = f"with a probability of {CONTESTED:g} or more"
    rows = [row("all", report.everything), row(contested, report.contested)]
    if (report.temperature, report.bias) != (1, 0):
        rows.append(row(f"{contested}, before calibration", report.before))
    if report.claimed is not None:
        rows.append(row("above the threshold", report.claimed))
    head = "decisions | number | bins | expected calibration error | largest error of a bin"
    table = _table(f"{head} | target ≤ {CALIBRATION_TARGET:g}", rows)
    return _section("Calibration", about, table, "![Reliability](reliability.png)")


def _garbage(report: Report) -> str:
    about = (
        "Every kind with random levels and energy ranges. The target is that no element passes "
        f"the threshold. Of the {len(report.test.unlike)} simulated test spectra "
        f"{report.unlike:.1%} are said to be unlike training."
    )

    def row(score: GarbageScore) -> tuple[object, ...]:
        if score.refused:
            return (
                score.kind,
                score.spectra,
                "refused by the session",
                "–",
                "–",
                "–",
                "–",
                _met(True),
            )
        often = " ".join(score.named) or "–"
        if score.not_finite:
            often += f" ({score.not_finite} values not finite)"
        shown = (score.claiming, score.elements, score.highest, score.unlike)
        figures = (f"{x:.3f}" for x in shown)
        return score.kind, score.spectra, *figures, often, _met(score.claiming == 0)

    head = "input | spectra | share with an element | elements per spectrum | highest probability"
    head += " | share unlike training"
    table = _table(f"{head} | most often | target", map(row, report.garbage))
    return _section("What is no spectrum", about, table)


def _conditions(report: Report) -> str:
    about = (
        "Over all counted labels. The dose is in counts per eV in the middle of the range; the "
        "jump ratio, the peak of an edge over the background, is set on one edge of each "
        "spectrum. Edges that drown in noise or are cut by the range do not count; the last "
        "column is their number per spectrum."
    )
    tables = [
        _table(
            f"{name} | F1 | precision | recall | labels not counted",
            (
                (
                    f"{row.low:g} to {row.high:g}",
                    *(f"{figure:.3f}" for figure in (row.f1, row.precision, row.recall)),
                    f"{row.uncounted:.2f}",
                )
                for row in rows
            ),
        )
        for name, rows in (("counts per eV", report.dose), ("jump ratio", report.jump_ratio))
    ]
    plot = "![Dose and jump ratio](conditions.png)"
    return _section("Dose and jump ratio", about, *tables, plot)


def _confusions(report: Report) -> str:
    about = (
        f"The most frequent pairs among {len(report.singles.probability)} simulated spectra of "
        "single elements: the first was there and missed, the second was claimed."
    )
    table = _table(
        "missed | claimed | spectra | of | share",
        ((p.missed, p.added, p.count, p.support, f"{p.share:.1%}") for p in report.pairs),
    )
    plot = "![Taken for each other](confusions.png)"
    return _section("Taken for each other", about, table, plot)


def _elements(report: Report) -> str:
    about = (
        "Support: test spectra that show the element. Bias: mean probability minus the share of "
        f"true labels where the probability is {CONTESTED:g} or more; above zero too much is "
        "claimed."
    )
    table = _table(
        "element | support | claimed | precision | recall | F1 | bias",
        (
            (
                row.element,
                row.support,
                row.claimed,
                *(f"{figure:.3f}" for figure in (row.precision, row.recall, row.f1)),
                f"{row.bias:+.3f}",
            )
            for row in report.elements
        ),
    )
    return _section("Every element", about, "![F1 of every element](elements.png)", table)


def _section(title: str, *blocks: str) -> str:
    return "\n\n".join((f"## {title}", *blocks))


def _table(head: str, rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def _met(yes: bool) -> str:
    return "met" if yes else "missed"
