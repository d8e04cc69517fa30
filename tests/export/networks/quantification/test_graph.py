from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from zeroloss_export.networks.quantification.cross_sections import Compressed
from zeroloss_export.networks.quantification.design import Prepared
from zeroloss_export.networks.quantification.graph import (
    DENSITY_CODES,
    FRACTION_CODES,
    QuantifyGraph,
)
from zeroloss_export.physics.cross_section import cross_section
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.physics.table import GosTable

Floats = NDArray[np.float64]

SCOPE = (200.0, 15.0, 30.0)
ATOMS = {"O": 3000.0, "Ti": 1000.0}
OFFSET, SCALE, CHANNELS = 380.0, 0.5, 1000
ENERGY = OFFSET + SCALE * np.arange(CHANNELS)
LOW_OFFSET, LOW_SCALE = -20.0, 0.5
RATIO = 50.0


def edges(gos: GosTable, element: str, energy: Floats) -> Floats:
    """All subshells of an element, barn/eV."""
    total = np.zeros_like(energy)
    for item in (s for g in edge_groups() if g.element == element for s in g.subshells):
        known = cross_section(
            item.onset_ev + gos.energy_ev, gos.gos[gos.entry(item.label)], gos.momentum_au, *SCOPE
        )
        above = energy - item.onset_ev
        log = np.interp(np.log(np.maximum(above, 0.3)), np.log(gos.energy_ev), np.log(known))
        total += np.where(above >= 0, np.exp(log), 0.0)
    return total


@pytest.fixture(scope="session")
def low_loss() -> Floats:
    """Expected low-loss counts: a zero-loss peak and a plasmon, t/lambda about 0.5."""
    axis = LOW_OFFSET + LOW_SCALE * np.arange(400)
    return np.asarray(
        1e6 * np.exp(-0.5 * (axis / 0.5) ** 2) + 7e4 * np.exp(-0.5 * ((axis - 22) / 4) ** 2)
    )


@pytest.fixture(scope="session")
def means(shipped: GosTable, low_loss: Floats) -> tuple[Floats, dict[str, Floats]]:
    """Expected background counts and those of the atoms, convolved with the low loss."""
    fine = np.arange(250.0, 900.0, LOW_SCALE)
    found = {}
    for element in (*ATOMS, "N"):
        whole = np.convolve(edges(shipped, element, fine), low_loss)[40 : 40 + len(fine)]
        found[element] = np.interp(ENERGY, fine, whole) * 1e-10 * RATIO * SCALE
    return 4e4 * (ENERGY / 400) ** -3.2 + 1e4 * (ENERGY / 400) ** -2.0, found


def answers(
    graph: QuantifyGraph,
    counts: Floats,
    elements: tuple[str, ...],
    low: Floats | None = None,
    scope: tuple[float, float, float] = SCOPE,
    ratio: float = RATIO,
    offset: float = OFFSET,
    scale: float = SCALE,
) -> dict[str, Floats]:
    n = len(counts)
    chosen = sorted(ELEMENTS.index(item) for item in elements)
    selection = torch.tensor([*chosen, *[-1] * (8 - len(chosen))]).float()

    def every(value: float) -> torch.Tensor:
        return torch.full((n,), value)

    beside = np.full((n, 2), np.nan) if low is None else np.broadcast_to(low, (n, len(low)))
    with torch.no_grad():
        values = graph(
            torch.tensor(counts).float(),
            every(offset),
            every(scale),
            *(every(value) for value in scope),
            every(ratio),
            selection,
            torch.tensor(np.ascontiguousarray(beside)).float(),
            every(LOW_OFFSET),
            every(LOW_SCALE),
        )
    named = zip(graph.outputs, values, strict=False)
    return {item.name: value.double().numpy() for item, value in named}


@pytest.fixture(scope="session")
def plain(table: Compressed) -> QuantifyGraph:
    """The graph for edges that are exactly the cross sections: errors of counting alone."""
    return QuantifyGraph(table, structure=(0.0, 0.0), misfit=0.0, spill=0.0).eval()


def test_unbiased_and_the_intervals_hold_the_truth(
    plain: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    counts = np.random.default_rng(1).poisson(mean, (600, CHANNELS)).astype(float)
    found = answers(plain, counts, tuple(ATOMS), low_loss)
    assert (found["why"] == 0).all()
    assert (found["areal_density_why"] == 0).all()
    truth = np.array([ATOMS["O"], ATOMS["Ti"]])
    density, error = found["areal_density"][:, :2], found["areal_density_error"][:, :2]
    # The sum of two power laws is not quite in the reach of the laws of the background.
    np.testing.assert_allclose(density.mean(0), truth, rtol=0.03)
    np.testing.assert_allclose(error.mean(0), density.std(0), rtol=0.12)
    fraction, doubt = found["atomic_fraction"][:, :2], found["atomic_fraction_error"][:, :2]
    np.testing.assert_allclose(fraction.mean(0), [75.0, 25.0], atol=0.5)
    inside = (np.abs(fraction - [75.0, 25.0]) < 1.96 * doubt).mean()
    assert 0.93 < inside < 0.97
    assert found["fit_chi2"].mean() == pytest.approx(1.0, abs=0.02)
    assert np.isnan(found["areal_density"][:, 2:]).all()


def test_the_gain_of_the_detector_scales_errors_not_answers(
    plain: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    counts = np.random.default_rng(2).poisson(mean, (100, CHANNELS)).astype(float)
    found = answers(plain, 7.0 * counts, tuple(ATOMS), low_loss, ratio=7.0 * RATIO)
    once = answers(plain, counts, tuple(ATOMS), low_loss)
    assert found["fit_chi2"].mean() == pytest.approx(7.0, rel=0.02)
    for name in ("areal_density", "areal_density_error", "atomic_fraction_error"):
        np.testing.assert_allclose(found[name][:, :2], once[name][:, :2], rtol=1e-3)


def test_an_absent_element_is_nothing_within_its_error(
    plain: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    counts = np.random.default_rng(3).poisson(background + 3000 * atoms["O"], (300, CHANNELS))
    found = answers(plain, counts.astype(float), ("O", "Ti"), low_loss)
    absent, error = found["areal_density"][:, 1], found["areal_density_error"][:, 1]
    told = [FRACTION_CODES[int(code)] for code in found["element_why"][:, 1]]
    assert told == ["held at 0" if value == 0 else "given" for value in absent]
    assert (found["element_why"][:, 0] == 0).all()
    assert (absent >= 0).all()
    assert 0.3 < (absent == 0).mean() < 0.7
    assert (absent < 3.5 * error).all()
    assert (
        np.abs(found["atomic_fraction"][:, 1]) < 3.5 * found["atomic_fraction_error"][:, 1]
    ).all()


def test_without_the_low_loss_only_fractions(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]]
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    found = answers(graph, mean[None], tuple(ATOMS))
    assert FRACTION_CODES[int(found["why"][0])] == "given"
    assert "low loss" in DENSITY_CODES[int(found["areal_density_why"][0])]
    assert np.isnan(found["areal_density"]).all()
    assert found["atomic_fraction"][0, 0] == pytest.approx(75.0, abs=4.0)


def test_what_all_densities_lack_is_told_before_what_one_element_lacks(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    mean = (means[0] + 3000 * means[1]["O"])[None]
    alone = answers(graph, mean, ("O", "Be"))
    assert DENSITY_CODES[int(alone["areal_density_why"][0])] == "no low loss with a zero-loss peak"
    beside = answers(graph, mean, ("O", "Be"), low_loss, ratio=np.nan)
    assert DENSITY_CODES[int(beside["areal_density_why"][0])] == "exposure ratio not known"
    for found in (alone, beside):
        assert FRACTION_CODES[int(found["why"][0])] == "no edge in the range"


def test_structure_of_the_edges_widens_the_errors(
    graph: QuantifyGraph,
    plain: QuantifyGraph,
    means: tuple[Floats, dict[str, Floats]],
    low_loss: Floats,
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    wide, narrow = (answers(item, mean[None], tuple(ATOMS), low_loss) for item in (graph, plain))
    for name in ("areal_density", "atomic_fraction"):
        np.testing.assert_allclose(wide[name][:, :2], narrow[name][:, :2], rtol=1e-6)
        assert (wide[f"{name}_error"][:, :2] > narrow[f"{name}_error"][:, :2]).all()


@pytest.mark.parametrize("exponent", [2.0, 3.0, 3.3, 4.0, 4.5])
@pytest.mark.parametrize(
    ("elements", "range_ev", "level"),
    [
        (("C", "Al"), (200.0, 2200.0), 1e4),
        (("C", "Fe"), (200.0, 1200.0), 1e5),
        (("O", "Fe"), (400.0, 1200.0), 1e6),
        (("B", "N"), (120.0, 620.0), 1e6),
    ],
)
def test_a_background_alone_holds_no_element(
    graph: QuantifyGraph,
    exponent: float,
    elements: tuple[str, ...],
    range_ev: tuple[float, float],
    level: float,
) -> None:
    energy = np.linspace(*range_ev, CHANNELS)
    scale = float(energy[1] - energy[0])
    mean = level * scale * (energy / 500) ** -exponent
    counts = np.random.default_rng(5).poisson(mean, (32, CHANNELS)).astype(float)
    found = answers(graph, counts, elements, offset=range_ev[0], scale=scale)
    told = [FRACTION_CODES[int(code)] for code in found["why"]]
    assert told.count("none of the elements found") >= 31


def test_two_elements_share_one_error(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    counts = np.random.default_rng(6).poisson(background + 3000 * atoms["O"], (20, CHANNELS))
    found = answers(graph, counts.astype(float), ("O", "Ti"), low_loss)
    error = found["atomic_fraction_error"][:, :2]
    assert (found["atomic_fraction"][:, 1] == 0).any()
    assert (error > 0).all()
    np.testing.assert_allclose(error[:, 0], error[:, 1], rtol=1e-3)


def test_scattered_missing_channels_leave_a_long_spectrum_an_answer(
    plain: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    times = 8
    fine = np.interp(np.arange(times * CHANNELS) / times, np.arange(CHANNELS), mean) / times
    gaps = fine.copy()
    gaps[np.random.default_rng(7).random(fine.shape) < 0.05] = np.nan
    found = answers(
        plain, np.stack([fine, gaps]), tuple(ATOMS), low_loss, scale=SCALE / times, ratio=RATIO
    )
    assert (found["why"] == 0).all()
    np.testing.assert_allclose(
        found["areal_density"][1, :2], found["areal_density"][0, :2], rtol=0.01
    )


def test_missing_channels_are_no_counts_of_zero(
    plain: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    gaps = mean.copy()
    gaps[100:160] = np.nan
    gaps[700:720] = np.nan
    found = answers(plain, np.stack([mean, gaps]), tuple(ATOMS), low_loss)
    np.testing.assert_allclose(
        found["areal_density"][1, :2], found["areal_density"][0, :2], rtol=0.01
    )


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("beam energy or angles not known", {"scope": (np.nan, 15.0, 30.0)}),
        ("no edge in the range", {"elements": ("O", "Be")}),
        ("edge cut by an end of the range", {"elements": ("O", "Ni")}),
        ("no counts", {"factor": 0.0}),
        ("too few channels", {"factor": np.nan}),
    ],
)
def test_reasons(
    graph: QuantifyGraph,
    means: tuple[Floats, dict[str, Floats]],
    low_loss: Floats,
    reason: str,
    changes: dict[str, object],
) -> None:
    given = {"elements": tuple(ATOMS), "scope": SCOPE} | changes
    mean = (means[0] + 3000 * means[1]["O"]) * given.get("factor", 1.0)
    found = answers(graph, mean[None], given["elements"], low_loss, given["scope"])
    assert FRACTION_CODES[int(found["why"][0])] == reason
    assert DENSITY_CODES[int(found["areal_density_why"][0])] == reason
    each = [FRACTION_CODES[int(code)] for code in found["element_why"][0, :2]]
    if "edge" not in reason:
        assert np.isnan(found["atomic_fraction"]).all()
        assert np.isnan(found["areal_density"]).all()
        assert each == [reason, reason]
    else:
        lacking = int(given["elements"][1] == "Ni")
        assert found["atomic_fraction"][0, 1 - lacking] == pytest.approx(100.0)
        assert np.isnan(found["atomic_fraction"][0, lacking])
        assert np.isnan(found["areal_density"][0, lacking])
        assert (each[lacking], each[1 - lacking]) == (reason, "given")


def test_elements_whose_columns_are_one_anothers_copies_have_no_values(
    graph: QuantifyGraph, shipped: GosTable
) -> None:
    energy = np.linspace(740.0, 960.0, CHANNELS)
    scale = float(energy[1] - energy[0])
    edge = edges(shipped, "Ni", energy)
    mean = 1e6 * (energy / 700) ** -3 + 5e5 * edge / edge.max()
    # Behind La M5 to 889 eV and Ni L3 to 912 eV, all that is left of both is two slopes.
    found = answers(graph, mean[None], ("La", "Ni"), offset=740.0, scale=scale)
    told = {FRACTION_CODES[int(code)] for code in found["element_why"][0, :2]}
    assert told == {"not separable from another element"}
    assert np.isnan(found["atomic_fraction"]).all()
    assert FRACTION_CODES[int(found["why"][0])] == "not separable from another element"
    alone = answers(graph, mean[None], ("Ni",), offset=740.0, scale=scale)
    assert alone["atomic_fraction"][0, 0] == 100.0


def test_an_edge_that_was_not_measured_is_nothing_that_is_known(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    gap = mean.copy()
    gap[(ENERGY > 690) & (ENERGY < 860)] = np.nan
    found = answers(graph, np.stack([mean, gap]), ("N", "O", "Fe"), low_loss)
    told = [FRACTION_CODES[int(code)] for code in found["element_why"][1, :3]]
    assert told[2] == "edge not measured"
    assert told[1] == "given"
    assert np.isnan(found["areal_density"][1, 2])
    assert np.isnan(found["atomic_fraction"][1, 2])
    assert DENSITY_CODES[int(found["areal_density_why"][1])] == "edge not measured"
    assert found["atomic_fraction"][1, :2].sum() == pytest.approx(100.0)


@pytest.mark.parametrize("end_ev", [100.0, 60.0])
def test_a_short_low_loss_goes_on_as_a_power_law_and_its_doubt_is_told(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]], end_ev: float
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    axis = LOW_OFFSET + LOW_SCALE * np.arange(500)
    tail = 7e4 * np.where(axis > 22, (axis.clip(22) / 22) ** -3, 0.0)
    low = 1e6 * np.exp(-0.5 * (axis / 0.5) ** 2) + tail
    whole = answers(graph, mean[None], tuple(ATOMS), low)
    short = answers(graph, mean[None], tuple(ATOMS), low[axis < end_ev])
    density, error = whole["areal_density"][:, :2], whole["areal_density_error"][:, :2]
    np.testing.assert_allclose(short["areal_density"][:, :2], density, rtol=0.01)
    assert (short["areal_density_error"][:, :2] > error).all()


def test_what_plural_scattering_makes_of_the_near_edge_is_in_the_errors(
    table: Compressed, means: tuple[Floats, dict[str, Floats]], low_loss: Floats
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    structure = (0.05, 0.05)
    some, none = (
        QuantifyGraph(table, structure=structure, spill=spill).eval() for spill in (0.5, 0.0)
    )
    for low, wider in ((low_loss, True), (None, False)):
        name = "atomic_fraction_error"
        one, other = (answers(item, mean[None], tuple(ATOMS), low)[name] for item in (some, none))
        assert (one[:, :2] > 1.05 * other[:, :2]).all() == wider
        if not wider:
            np.testing.assert_allclose(one[:, :2], other[:, :2], rtol=1e-5)


def test_a_prepared_row_serves_every_spectrum(
    graph: QuantifyGraph, means: tuple[Floats, dict[str, Floats]]
) -> None:
    background, atoms = means
    mean = background + sum(number * atoms[element] for element, number in ATOMS.items())
    counts = torch.tensor(np.random.default_rng(4).poisson(mean, (5, CHANNELS))).float()
    chosen = torch.tensor([ELEMENTS.index("O"), ELEMENTS.index("Ti"), *[-1] * 6]).float()

    def inputs(n: int) -> tuple[torch.Tensor, ...]:
        numbers = (OFFSET, SCALE, *SCOPE, RATIO)
        beside = (torch.full((n, 2), torch.nan), torch.zeros(n), torch.ones(n))
        return (*(torch.full((n,), value) for value in numbers), chosen, *beside)

    with torch.no_grad():
        one = graph.prepare(torch.zeros(1, CHANNELS), *inputs(1))
        assert all(isinstance(item, torch.Tensor) and len(item) == 1 for item in one)
        served = graph.answer(counts, Prepared(*one))
        whole = graph(counts, *inputs(5))
    for expected, found in zip(whole, served, strict=False):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
