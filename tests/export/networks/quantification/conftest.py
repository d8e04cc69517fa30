from __future__ import annotations

import pytest

from zeroloss_export.networks.quantification.cross_sections import Compressed, compress
from zeroloss_export.networks.quantification.graph import QuantifyGraph
from zeroloss_export.physics.table import GosTable


@pytest.fixture(scope="session")
def shipped() -> GosTable:
    return GosTable.load()


@pytest.fixture(scope="session")
def table(shipped: GosTable) -> Compressed:
    return compress(shipped)


@pytest.fixture(scope="session")
def graph(table: Compressed) -> QuantifyGraph:
    return QuantifyGraph(table).eval()
