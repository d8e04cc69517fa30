"""What `zeroloss quantify` tells of elements that have no value, or 0, with the shipped package."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.packages import read_manifest, write_manifest
from zeroloss.cli import main
from zeroloss.commands._quantification import find_package
from zeroloss.models import ModelStore, PackageError
from zeroloss.models.store import builtin_folder

Floats = NDArray[np.float64]

ENERGY = np.arange(700.0, 980.0, 0.25)
NARROW = slice(320, 1040)
SCOPE = ("--beam-kev", 200, "--convergence-mrad", 22, "--collection-mrad", 36)


@pytest.fixture
def mean() -> Floats:
    """Expected counts of a background and of nickel, but in the first two pixels [12, channels]."""
    counts = np.tile(1e5 * (ENERGY / 800) ** -3.0, (12, 1))
    counts[2:] += 5e4 * (ENERGY >= 855) * (ENERGY / 855) ** -3.0
    return counts


def quantified(
    folder: Path,
    mean: Floats,
    elements: str,
    capsys: pytest.CaptureFixture[str],
    *flags: str,
    offset_ev: float = 700.0,
) -> tuple[int, str, dict[str, list[str]]]:
    """Exit code, what was said, and the columns of the CSV."""
    scan, out = folder / "scan.txt", folder / "out.csv"
    np.savetxt(scan, np.random.default_rng(1).poisson(mean), fmt="%d")
    axis = ("--offset-ev", offset_ev, "--scale-ev", 0.25, "--axis", "as-is")
    arguments = ("quantify", scan, "--elements", elements, *axis, *SCOPE, "--csv", out, *flags)
    code = main([*map(str, arguments)])
    said = capsys.readouterr()
    columns: dict[str, list[str]] = {}
    if out.exists():
        with out.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        columns = {name: [line[name] for line in lines] for name in lines[0]}
    return code, said.out + said.err, columns


def row(said: str, element: str) -> str:
    """The line of an element in the table."""
    (line,) = [item for item in said.splitlines() if item.split()[:1] == [element]]
    return line


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "240")


def test_every_element_has_its_own_reason(
    tmp_path: Path, mean: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, columns = quantified(tmp_path, mean, "O,Ni,Cu", capsys, "--ratio", "O/Cu")
    assert code == 0, said
    # One below the range, one cut by its end, one that is not everywhere.
    assert "12 no edge in the range" in row(said, "O")
    assert "12 edge cut by an end of the range" in row(said, "Cu")
    assert "2 none of the elements found" in row(said, "Ni")
    assert columns["element_why O"] == ["no edge in the range"] * 12
    assert columns["element_why Cu"] == ["edge cut by an end of the range"] * 12
    assert columns["element_why Ni"] == ["none of the elements found"] * 2 + ["given"] * 10
    why = "no edge in the range and edge cut by an end of the range"
    assert f"O/Cu of the sum: not given: O and Cu: {why}" in said
    assert "note: percentages are of Ni alone: O, Cu have none" in said


def test_elements_that_cannot_be_told_apart_are_said_to_be(
    tmp_path: Path, mean: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = quantified(tmp_path, mean[:, NARROW], "La,Ni", capsys, offset_ev=780.0)
    assert code == 2
    why = "Ni, La: not separable from another element"
    assert f"quantified: {why}; choose elements whose edges stand out from 780 to 959.75 eV" in said


def test_elements_of_which_there_is_nothing_are_named_with_their_reasons(
    tmp_path: Path, mean: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = quantified(tmp_path, mean[:2], "O,N,Ni,Cu", capsys)
    assert code == 2
    why = "N, O: no edge in the range; Ni: none of the elements found; Cu: edge cut by an end of"
    assert f"scan.txt: no pixel was quantified: {why} the range; choose" in said


def foreign(folder: Path, **outputs: object) -> Path:
    """The shipped package with other values of outputs, by name__key."""
    package = Path(shutil.copytree(builtin_folder() / "quantify", folder / "foreign"))
    manifest = read_manifest(package)
    names = [item["name"] for item in manifest["outputs"]]
    for key, value in outputs.items():
        name, _, rest = key.partition("__")
        manifest["outputs"][names.index(name)][rest] = value
    write_manifest(package, manifest)
    return package


def test_a_code_without_a_label_is_told(
    tmp_path: Path, mean: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    # One that the label itself never has: held at 0.
    package = foreign(tmp_path, why__labels=[f"reason {i}" for i in range(10)])
    mean[:] = mean[2] - 2e4 * (ENERGY >= 779)
    code, said, _ = quantified(tmp_path, mean, "Co,Ni", capsys, "--package", str(package))
    assert code == 2
    assert "element_why is 10, expected a code of why, 0 to 9: mend the package" in said


@pytest.mark.parametrize(
    ("outputs", "wrong"),
    [
        ({"areal_density__uncertainty": None}, "areal_density or its uncertainty is not selected"),
        ({"areal_density_error__selected": False}, "areal_density or its uncertainty"),
        ({"fit_chi2__shape": [2]}, "fit_chi2 is not one number"),
        ({"element_why__selected": False}, "element_why is not selected"),
        ({"atomic_fraction__reason": None}, "atomic_fraction has no reason whose codes"),
    ],
)
def test_outputs_are_what_their_names_promise(
    tmp_path: Path, outputs: dict[str, object], wrong: str
) -> None:
    package = foreign(tmp_path, **outputs)
    with pytest.raises(PackageError, match=f"foreign: {wrong}"):
        find_package(str(package), ModelStore())


def test_what_is_held_at_0_has_a_limit(
    tmp_path: Path, mean: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    # A step down where cobalt's edge would be one up.
    mean[:] = mean[2] - 2e4 * (ENERGY >= 779)
    code, said, columns = quantified(tmp_path, mean, "Co,Ni", capsys)
    assert code == 0, said
    assert columns["element_why Co"] == ["held at 0"] * 12
    assert set(columns["atomic_fraction Co"]) == {"0"}
    assert "12 held at 0" in row(said, "Co")
    assert row(said, "Co").count("0, below") == 2
    assert set(columns["element_why Ni"]) == {"given"}
