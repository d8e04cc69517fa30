from __future__ import annotations

from pathlib import Path

import pytest

from zeroloss_export.physics.edges import edge_groups, main, shells_of, subshell, subshells
from zeroloss_export.physics.elements import (
    ELEMENTS,
    SYMBOLS,
    atomic_number,
    element_index,
    symbol,
)


def test_elements_are_the_eighty_from_beryllium_to_bismuth() -> None:
    assert len(SYMBOLS) == 83
    assert len(ELEMENTS) == 80
    assert (ELEMENTS[0], ELEMENTS[-1]) == ("Be", "Bi")
    assert [atomic_number(element) for element in ELEMENTS] == list(range(4, 84))
    assert [element_index(element) for element in ELEMENTS] == list(range(80))
    assert [symbol(z) for z in range(1, 84)] == list(SYMBOLS)


@pytest.mark.parametrize("call", [lambda: symbol(0), lambda: symbol(84)])
def test_atomic_number_outside_the_table_is_refused(call) -> None:
    with pytest.raises(ValueError, match=r"1\.\.83"):
        call()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'Xx'"):
        atomic_number("Xx")
    with pytest.raises(ValueError, match=r"Be\.\.Bi"):
        element_index("H")
    with pytest.raises(ValueError, match="Ti_L3"):
        subshell("Ti_L4")
    with pytest.raises(ValueError, match=r"4\.\.83"):
        shells_of(3)


def test_every_element_has_its_groups() -> None:
    groups = edge_groups()
    assert len(groups) == 107
    assert len(subshells()) == 417
    assert [group.element for group in groups if group.shell in "KL"][:3] == ["Be", "B", "C"]
    for z, element in enumerate(ELEMENTS, start=4):
        shells = tuple(group.shell for group in groups if group.element == element)
        assert shells == shells_of(z)


def test_majors_come_first_and_set_the_onset() -> None:
    for group in edge_groups():
        flags = [member.major for member in group.subshells]
        assert flags == sorted(flags, reverse=True)
        assert group.onset_ev == min(s.onset_ev for s in group.subshells)
        assert 98 < group.onset_ev < 2840


def test_subshell_names_match_their_orbitals() -> None:
    titanium = subshell("Ti_L3")
    assert (titanium.orbital, titanium.shell, titanium.major) == ((2, 1, 3), "L", True)
    assert titanium.atomic_number == 22
    assert subshell("C_K").orbital == (1, 0, 1)
    assert subshell("La_N5").orbital == (4, 2, 5)
    assert subshell("Au_M1").orbital == (3, 0, 1)
    assert not subshell("Au_M1").major


def test_edge_list_is_what_the_command_writes_from_xraylib(xraylib, tmp_path: Path) -> None:
    main(["--out", str(tmp_path / "edges.csv")])
    written = (tmp_path / "edges.csv").read_text(encoding="utf-8").splitlines()
    assert len(written) == 418
    for row, member in zip(written[1:], subshells(), strict=True):
        assert row == f"{member.element},{member.name},{member.onset_ev:.1f}"
    assert subshell("O_K").onset_ev == pytest.approx(
        1e3 * xraylib.EdgeEnergy(8, xraylib.K_SHELL), abs=0.06
    )
