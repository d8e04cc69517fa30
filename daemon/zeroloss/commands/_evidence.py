"""Evidence for what a model detects: where its edges rise, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from zeroloss.models.manifest import Manifest

from ._csv_rows import Rows, number

ONSET, SNR, EXPECTED = EVIDENCE = ("edge_onset_ev", "edge_snr", "edge_expected_ev")
"""Outputs of kind spectrum with labels such as `Mn L3`: a label of the probability, and a name."""

AXIS_ERROR_EV = 12.0
"""Edges as near as this may be one another's on an axis that nobody has checked."""
LEAST_ALTERNATIVE = 0.1
"""Probability from which a neighbour is named as the other possibility."""
EVIDENCE_HEADER = ("id", "element", "probability", "edge", "tabulated_ev", "found_ev", "snr")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge in range: its tabulated onset, the one found, and its signal-to-noise ratio."""

    label: str
    name: str
    expected_ev: float
    onset_ev: float
    snr: float


def gives_evidence(manifest: Manifest) -> bool:
    """Whether the package has the three outputs."""
    return {*EVIDENCE} <= {item.name for item in manifest.outputs}


def edges_in_range(manifest: Manifest, answers: Mapping[str, Floats]) -> dict[str, list[Edge]]:
    """The edges in range of every label, from the answers [1, edges] for one spectrum."""
    edges: dict[str, list[Edge]] = {}
    rows = (answers[name][0].tolist() for name in (EXPECTED, ONSET, SNR))
    for name, expected, onset, snr in zip(manifest.output(SNR).labels, *rows, strict=True):
        # An onset of 0 says that the range does not hold the edge.
        if onset > 0:
            label = name.partition(" ")[0]
            edges.setdefault(label, []).append(Edge(label, name, expected, onset, snr))
    return edges


def detected(
    labels: Sequence[str], probability: Floats, threshold: float, edges: Mapping[str, list[Edge]]
) -> list[list[int]]:
    """What one spectrum shows, the surest first; several indices where it is one of them.

    Two labels that follow one another (elements of neighbouring atomic numbers) cannot be told
    apart where both have edges in range and each of these lies within `AXIS_ERROR_EV` of one of the
    other's. Such labels of a probability of `LEAST_ALTERNATIVE` or more are named together; they
    count as detected where that of any of them being there, 1 - (1 - p)(1 - q), reaches the
    threshold.
    """
    likely = np.flatnonzero(probability >= min(LEAST_ALTERNATIVE, threshold)).tolist()
    groups = neighbours(likely, labels, edges)
    sure = [(1 - float(np.prod(1 - probability[group])), group) for group in groups]
    sure.sort(key=lambda pair: -pair[0])
    return [
        sorted(group, key=lambda index: -probability[index]) for p, group in sure if p >= threshold
    ]


def neighbours(
    indices: Sequence[int], labels: Sequence[str], edges: Mapping[str, list[Edge]]
) -> list[list[int]]:
    """Rising indices of labels, those that follow one another and are alike in one list."""
    groups: list[list[int]] = []
    for index in indices:
        before = groups[-1][-1] if groups else None
        if before == index - 1 and alike(edges, labels[index - 1], labels[index]):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def alike(edges: Mapping[str, list[Edge]], one: str, other: str) -> bool:
    """Whether each edge in range of both lies within `AXIS_ERROR_EV` of one of the other's."""
    mine = [edge.expected_ev for edge in edges.get(one, ())]
    theirs = [edge.expected_ev for edge in edges.get(other, ())]
    return bool(mine and theirs) and all(
        any(abs(energy - another) <= AXIS_ERROR_EV for another in others)
        for energies, others in ((mine, theirs), (theirs, mine))
        for energy in energies
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """What one spectrum, or the mean of an image, shows: labels with probability and edges."""

    title: str
    found: Sequence[tuple[str, float]]
    edges: Mapping[str, list[Edge]]


def evidence_table(shown: Sequence[Shown]) -> Table:
    """A row for every edge in range of everything detected."""
    table = Table(box=None)
    if len(shown) > 1:
        table.add_column("spectrum", overflow="fold")
    for heading in ("edge", "tabulated eV", "found eV", "signal / noise"):
        table.add_column(heading, justify="left" if heading == "edge" else "right")
    for item in shown:
        for label, _ in item.found:
            for edge in item.edges.get(label, ()):
                row = [edge.name, f"{edge.expected_ev:.1f}", f"{edge.onset_ev:.1f}"]
                row.append(f"{edge.snr:.1f}")
                table.add_row(*([escape(item.title), *row] if len(shown) > 1 else row))
    return table


def write_evidence(rows: Rows, shown: Shown) -> None:
    """Write the rows below `EVIDENCE_HEADER`."""
    for label, p in shown.found:
        for edge in shown.edges.get(label, ()):
            values = (edge.expected_ev, edge.onset_ev, edge.snr)
            rows.writerow(
                [shown.title, label, number(p, 6), edge.name, *(number(v, 6) for v in values)]
            )
