from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.training.schedule import SCHEDULES, constant, one_cycle


def test_one_cycle_rises_to_the_peak_and_falls_to_almost_nothing() -> None:
    assert one_cycle(1.0, 0.0) == pytest.approx((0.04, 0.95))
    assert one_cycle(1.0, 0.15) == pytest.approx((0.52, 0.90))
    assert one_cycle(1.0, 0.3) == pytest.approx((1.0, 0.85))
    assert one_cycle(1.0, 0.65) == pytest.approx((0.5, 0.90), abs=1e-5)
    assert one_cycle(1.0, 1.0) == pytest.approx((4e-6, 0.95))


@pytest.mark.parametrize("name", SCHEDULES)
@given(done=st.floats(-0.5, 1.5), lr=st.floats(1e-9, 10))
def test_rates_stay_in_range(name: str, done: float, lr: float) -> None:
    rates = SCHEDULES[name](lr, done)
    assert 0 < rates.lr <= lr * (1 + 1e-9)
    assert 0.85 - 1e-9 <= rates.beta1 <= 0.95 + 1e-9


def test_a_constant_is_constant() -> None:
    assert constant(0.1, 0.0) == constant(0.1, 0.9) == (0.1, 0.9)
