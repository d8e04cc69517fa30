from __future__ import annotations

from pathlib import Path

import pytest

from support.packages import make_package
from support.streams import ELEMENTS


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny package, whose right answers tests can work out."""
    return make_package(tmp_path_factory.mktemp("models"), labels=ELEMENTS).parent
