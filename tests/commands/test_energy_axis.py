from __future__ import annotations

import pytest

from zeroloss.commands._energy_axis import mended
from zeroloss.commands._evidence import Edge
from zeroloss.wire import EnergyRange

RANGE = EnergyRange(name="core_loss", offset_ev=400.0, scale_ev=0.5, size=1000)


def edge(name: str, expected_ev: float, onset_ev: float, snr: float = 50.0) -> Edge:
    return Edge(
        label=name.split()[0], name=name, expected_ev=expected_ev, onset_ev=onset_ev, snr=snr
    )


def test_two_edges_give_a_line() -> None:
    found = mended(RANGE, [edge("O K", 532.0, 527.0), edge("Mn L3", 640.0, 632.0)])
    assert found is not None
    stretch = 108 / 105
    assert found.range.scale_ev == pytest.approx(0.5 * stretch)
    assert found.range.offset_ev == pytest.approx(532 - 127 * stretch)
    assert (found.range.name, found.range.size) == (RANGE.name, RANGE.size)
    told = found.told(RANGE, (2e5, 900.0))
    assert "Mn L3 at 632 instead of 640 eV" in told
    assert "chi2 of the fit 900 instead of 2e+05" in told


def test_near_edges_give_a_shift() -> None:
    found = mended(RANGE, [edge("Ti L3", 456.0, 450.0), edge("V L3", 480.0, 472.0)])
    assert found is not None
    assert found.range.scale_ev == RANGE.scale_ev
    assert found.range.offset_ev == pytest.approx(RANGE.offset_ev + 7.0)


@pytest.mark.parametrize(
    "edges",
    [
        pytest.param([], id="none"),
        pytest.param([edge("O K", 532.0, 529.0), edge("Fe L3", 708.0, 711.0)], id="where expected"),
        pytest.param([edge("O K", 532.0, 522.0, snr=4.0)], id="not clear"),
        pytest.param([edge("O K", 532.0, 543.0), edge("Mn L3", 640.0, 629.0)], id="too much"),
    ],
)
def test_otherwise_the_axis_stays(edges: list[Edge]) -> None:
    assert mended(RANGE, edges) is None
