from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from zeroloss_export.simulate.dielectric import SULFIDE
from zeroloss_export.simulate.low_loss import Instrument, simulate
from zeroloss_export.simulate.low_loss_file import write_scan

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "thickness_series.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("thickness_series", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks its own module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "thickness_series", module)
        spec.loader.exec_module(module)
    return module


def test_simulated_series(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A range that holds nearly all losses: what is extrapolated is little.
    instrument = Instrument(scale_ev=0.2, channels=1500, misalignment_ev=-1.3)
    one = np.zeros((1, 1), np.int64)
    for thickness in (0.3, 0.7):
        scan = simulate(1, instrument, np.full((1, 1), thickness), one, (SULFIDE,))
        write_scan(tmp_path / f"flake_{thickness:.2f}.hspy", scan)
    scan = simulate(1, instrument, np.full((1, 1), 0.5), one, (SULFIDE,))
    write_scan(tmp_path / "unknown.hspy", scan)
    script.main([str(tmp_path), "--plots", str(tmp_path / "plots")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("within 0.03 or 5%: 2 of 2")
    assert len(list((tmp_path / "plots").glob("*.png"))) == 3
    assert any(line.startswith("unknown") for line in lines)


def test_measured_series(
    script: ModuleType, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main([str(measured / "low_loss" / "thickness_series")])
    last = capsys.readouterr().out.splitlines()[-1]
    found = re.search(r"median deviation ([\d.]+).* (\d+) of (\d+)$", last)
    assert found is not None
    assert float(found.group(1)) < 0.01
    # The one that departs was noted on a sum of 0.3 of the counts in its file.
    assert (int(found.group(2)), int(found.group(3))) == (10, 11)


def test_a_folder_without_spectra(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no spectra"):
        script.main([str(tmp_path)])
