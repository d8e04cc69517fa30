"""One scan of vacuum and one of a flake, trained once for all tests."""

from __future__ import annotations

import pytest

from support.low_loss_spectra import INSTRUMENT, spectra_of
from zeroloss_export.simulate.low_loss import LowLossScan, specimen_scan, vacuum_scan
from zeroloss_export.training.zlp.spectra import Prepared, prepare
from zeroloss_export.training.zlp.training import TrainedZeroLoss, train_zero_loss

REPLICAS = 10


@pytest.fixture(scope="session")
def vacuum() -> LowLossScan:
    return vacuum_scan(1, (4, 6), INSTRUMENT)


@pytest.fixture(scope="session")
def flake() -> LowLossScan:
    return specimen_scan(2, (12, 12), INSTRUMENT)


@pytest.fixture(scope="session")
def prepared_vacuum(vacuum: LowLossScan) -> Prepared:
    return prepare(spectra_of(vacuum))


@pytest.fixture(scope="session")
def prepared_flake(flake: LowLossScan) -> Prepared:
    return prepare(spectra_of(flake))


@pytest.fixture(scope="session")
def trained_vacuum(prepared_vacuum: Prepared, prepared_flake: Prepared) -> TrainedZeroLoss:
    return train_zero_loss(
        prepared_vacuum, "vacuum", specimen=prepared_flake, replicas=REPLICAS, seed=3
    )


@pytest.fixture(scope="session")
def trained_flake(prepared_flake: Prepared) -> TrainedZeroLoss:
    return train_zero_loss(prepared_flake, "sample", replicas=REPLICAS, seed=3)
