from __future__ import annotations

import pytest

from zeroloss_export.training.schedule import LOWEST, PATIENCE, Schedule


def test_the_cosine_warms_up_and_ends_low() -> None:
    schedule = Schedule("cosine", 100)
    assert schedule.at(49, 0.0) == pytest.approx(0.5)
    assert schedule.at(200, 0.0) == pytest.approx(1.0)
    assert schedule.at(200, 1.0) == pytest.approx(LOWEST)


def test_a_plateau_halves_the_rate() -> None:
    schedule = Schedule("plateau", 1)
    schedule.checked(0.5)
    for _ in range(PATIENCE):
        assert schedule.at(200, 0.9) == 1.0
        schedule.checked(0.5)
    assert schedule.at(200, 0.9) == 0.5
    schedule.checked(0.4)
    assert schedule.at(200, 0.9) == 0.5


def test_a_restored_schedule_goes_on() -> None:
    first, second = Schedule("plateau", 1), Schedule("plateau", 1)
    for error in (0.3, 0.4, 0.4):
        first.checked(error)
    second.restore(first.state())
    second.checked(0.4)
    assert second.at(200, 0.0) == 0.5
