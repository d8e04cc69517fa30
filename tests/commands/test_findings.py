"""What `zeroloss identify` says of answers that the test makes up."""

from __future__ import annotations

import numpy as np
import pytest

from zeroloss.commands._evidence import Edge, Shown, detected, evidence_table
from zeroloss.commands._findings import Answer, findings_of_image, findings_of_spectrum

LABELS = ("O", "Er", "Tm", "Yb")
N_EDGES = {"O": 532.0, "Er": 167.6, "Tm": 179.6, "Yb": 184.9}
M_EDGES = {"Er": 1409.3, "Tm": 1467.7, "Yb": 1527.8}


def edges(*tables):
    return {
        label: [
            Edge(label, f"{label} N5", table[label], table[label] + 1, 9.0)
            for table in tables
            if label in table
        ]
        for label in LABELS
    }


def answer(*rows, spread=None, doubts=None):
    return Answer(np.array(rows, np.float32), spread, doubts or {})


@pytest.mark.parametrize(
    ("probability", "shown"),
    [
        # Above the threshold by itself, its neighbour possible.
        ([0.0, 0.9, 0.3, 0.0], [["Er", "Tm"]]),
        # Neither by itself, one of them all the same.
        ([0.99, 0.6, 0.7, 0.05], [["O"], ["Tm", "Er"]]),
        # A neighbour that is all but excluded is none.
        ([0.0, 0.9, 0.09, 0.0], [["Er"]]),
        ([0.0, 0.4, 0.5, 0.0], []),
        # Three in a row.
        ([0.0, 0.3, 0.9, 0.4], [["Tm", "Yb", "Er"]]),
        # No neighbours: O comes long before, Er and Yb have one between.
        ([0.5, 0.9, 0.0, 0.5], [["Er"]]),
        ([np.nan] * 4, []),
    ],
)
def test_neighbours_below_the_error_of_the_axis_are_named_together(probability, shown):
    found = detected(LABELS, np.array(probability, np.float32), 0.8, edges(N_EDGES))
    assert [[LABELS[index] for index in group] for group in found] == shown


@pytest.mark.parametrize("tables", [(M_EDGES,), (N_EDGES, M_EDGES), ()])
def test_neighbours_are_told_apart_by_edges_that_are(tables):
    probability = np.array([0.0, 0.9, 0.3, 0.0], np.float32)
    assert detected(LABELS, probability, 0.8, edges(*tables)) == [[1]]


@pytest.mark.parametrize(
    ("error_ev", "note"),
    [
        (None, None),
        ([[0, 0], [0, 0]], None),
        ([[np.nan, np.nan], [0, 0]], None),
        (
            [[0, 0], [7.26, 3]],
            "too high by 7.3 eV at the first and 3.0 eV at the last channel in 1",
        ),
        (
            [[-6, 6], [-5, 6]],
            "too high by -5.5 eV at the first and 6.0 eV at the last channel in 2",
        ),
    ],
)
def test_a_changed_axis_is_told(error_ev, note):
    given = None if error_ev is None else np.array(error_ev, np.float32)
    told = Answer(np.zeros((2, 4), np.float32), None, axis_error_ev=given).axis_note
    assert told == note if note is None else note in told


def test_a_spectrum_in_one_line():
    spread = np.full((1, 4), 0.05, np.float32)
    doubts = {"unlike training": (np.array([0.7], np.float32), 0.5)}
    made = answer([0.99, 0.9, 0.3, 0.0], spread=spread, doubts=doubts)
    findings = findings_of_spectrum(LABELS, 0.8, made, edges(N_EDGES))
    assert findings.line == (
        "O 0.99 ± 0.05, Er 0.90 ± 0.05 or Tm 0.30 ± 0.05; unlike training 0.70"
    )
    assert [label for label, _ in findings.found] == ["O", "Er", "Tm"]
    nothing = findings_of_spectrum(LABELS, 0.8, answer([0.1] * 4), {})
    assert (nothing.line, nothing.found) == ("nothing", [])


def test_an_image_in_one_line():
    doubts = {"unlike training": (np.array([0.7, 0.1, 0.2, 0.1], np.float32), 0.5)}
    rows = [[0.99, 0, 0, 0], [0.9, 0, 0, 0.9], [0.9, 0, 0, 0], [0.1, 0, 0, 0]]
    findings = findings_of_image(LABELS, 0.8, answer(*rows, doubts=doubts), 0.25, {})
    assert findings.line == "O 0.93 in 75%, Yb 0.90 in 25%; unlike training in 25%"
    fewer = findings_of_image(LABELS, 0.8, answer(*rows, doubts=doubts), 0.3, {})
    assert fewer.line == "O 0.93 in 75%"


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([[0.9, 0.85, 0.3, 0]], "O 0.90 in 100%, Er 0.85 in 100% or Tm 0.30 in 0%"),
        ([[0, 0.9, 0.05, 0]], "Er 0.90 in 100%"),
        ([[0, 0.85, 0, 0], [0, 0.1, 0.9, 0]], "Tm 0.90 in 50% or Er 0.85 in 50%"),
        ([[0.9, 0, 0, 0.85]], "O 0.90 in 100%, Yb 0.85 in 100%"),
    ],
)
def test_neighbours_in_an_image_are_named_together(rows, line):
    findings = findings_of_image(LABELS, 0.8, answer(*rows), 0.01, edges(N_EDGES))
    assert findings.line == line
    apart = findings_of_image(LABELS, 0.8, answer(*rows), 0.01, edges(M_EDGES))
    assert " or " not in apart.line


def test_only_edges_of_what_was_found_are_shown():
    shown = Shown("one", [("O", 0.99)], edges(N_EDGES))
    assert evidence_table([shown]).row_count == 1
    assert len(evidence_table([shown]).columns) == 4
    assert len(evidence_table([shown, shown]).columns) == 5
