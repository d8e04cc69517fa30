"""What the tests of the training share: a small cross-section table and the measured data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.table import GosTable

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def table() -> CrossSectionTable:
    """Real cross sections on a coarse grid of microscopes."""
    return CrossSectionTable.build(GosTable.load(), (60.0, 300.0), (1.0, 36.0), (1.0, 10.0, 110.0))


@pytest.fixture
def measured() -> Path:
    """Folder of measured spectra; a user's checkout has none."""
    if not DATA.is_dir():
        pytest.skip(f"measured spectra are not at {DATA}")
    return DATA
