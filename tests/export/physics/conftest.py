from __future__ import annotations

import warnings
from types import ModuleType

import pytest

from zeroloss_export.physics.table import GosTable


@pytest.fixture(scope="session")
def xraylib() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its SWIG wrapper
        return pytest.importorskip(
            "xraylib", reason="xraylib, the independent reference, is absent"
        )


@pytest.fixture(scope="session")
def shipped() -> GosTable:
    return GosTable.load()
