from __future__ import annotations

import pytest

from zeroloss.outputs import Metrics
from zeroloss.wire import LedgerTotals, PackageInfo

FIRST, SECOND = b"a" * 16, b"b" * 16


def value(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"zeroloss_{metric}", labels)


def test_counters_grow_by_what_a_ledger_gained() -> None:
    metrics = Metrics()
    metrics.ledger(FIRST, LedgerTotals(announced=10, processed=4, pending=2, missed=4))
    metrics.ledger(
        FIRST,
        LedgerTotals(
            announced=10, processed=6, pending=1, missed=1, rejected={"nan": 2}, duplicates=3
        ),
    )
    assert value(metrics, "spectra_received_total") == 9
    assert value(metrics, "spectra_processed_total") == 6
    assert value(metrics, "spectra_rejected_total", reason="nan") == 2
    assert value(metrics, "spectra_duplicate_total") == 3
    assert value(metrics, "spectra_announced") == 10
    assert value(metrics, "spectra_pending") == 1
    assert value(metrics, "spectra_missed") == 1
    assert value(metrics, "spectra_lost_total") == 0


def test_gauges_are_sums_over_the_open_runs() -> None:
    metrics = Metrics()
    metrics.ledger(FIRST, LedgerTotals(announced=10, processed=5, missed=5))
    metrics.ledger(SECOND, LedgerTotals(announced=20, processed=8, pending=12))
    assert value(metrics, "runs_open") == 2
    assert value(metrics, "spectra_announced") == 30
    metrics.close_ledger(FIRST, LedgerTotals(announced=10, processed=7, missed=3))
    assert value(metrics, "runs_open") == 1
    assert value(metrics, "spectra_missed") == 0
    assert value(metrics, "spectra_lost_total") == 3
    assert value(metrics, "spectra_processed_total") == 15
    assert value(metrics, "spectra_received_total") == 7 + 20


def test_a_run_that_goes_on_after_its_close_is_not_counted_twice() -> None:
    metrics = Metrics()
    metrics.close_ledger(
        FIRST,
        LedgerTotals(
            announced=10,
            processed=6,
            missed=3,
            rejected={"nan": 1},
            duplicates=2,
            masked_channels=5,
        ),
    )
    metrics.ledger(FIRST, LedgerTotals(announced=10, pending=8, missed=2, masked_channels=5))
    assert value(metrics, "runs_open") == 1
    assert value(metrics, "spectra_received_total") == 8
    assert value(metrics, "spectra_processed_total") == 6
    assert value(metrics, "spectra_lost_total") == 3
    last = LedgerTotals(
        announced=10, processed=8, missed=1, rejected={"nan": 1}, duplicates=3, masked_channels=7
    )
    metrics.close_ledger(FIRST, last)
    assert value(metrics, "spectra_received_total") == 9
    assert value(metrics, "spectra_processed_total") == 8
    assert value(metrics, "spectra_rejected_total", reason="nan") == 1
    assert value(metrics, "spectra_duplicate_total") == 3
    assert value(metrics, "channels_masked_total") == 7
    assert value(metrics, "spectra_lost_total") == 3


def test_two_daemons_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.recording_bytes.inc(5)
    assert value(other, "recording_bytes_total") == 0


def test_an_unknown_recording_state_is_an_error() -> None:
    with pytest.raises(ValueError, match="paused"):
        Metrics().recording("paused")


def test_what_a_model_did_not_answer_is_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.unanswered("low_loss", "no valid channel", 3)
    metrics.unanswered("low_loss", "no valid channel", 2)
    metrics.unanswered("low_loss", "the model gave no finite answer", 1)
    reasons = {"no valid channel": 5, "the model gave no finite answer": 1}
    for reason, count in reasons.items():
        assert value(metrics, "unanswered_total", package="low_loss", reason=reason) == count


def test_packages_in_use_are_shown() -> None:
    metrics = Metrics()
    about = {"name": "n", "version": "1", "sha256": "f", "provider": "CPU", "precision": "float32"}
    metrics.package(PackageInfo(**about, range_name="core", outputs=()))
    assert value(metrics, "package", **about, range="core") == 1
