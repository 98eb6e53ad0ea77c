from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from forecastd.train_settings import TrainSettings
from forecastd.training.schedule import SCHEDULES, Rates, one_cycle, piecewise


def test_one_cycle_rises_to_the_peak_and_falls_to_almost_nothing() -> None:
    assert one_cycle(1.0, 0.0) == pytest.approx((0.04, 0.95))
    assert one_cycle(1.0, 0.15) == pytest.approx((0.52, 0.90))
    assert one_cycle(1.0, 0.3) == pytest.approx((1.0, 0.85))
    assert one_cycle(1.0, 0.65) == pytest.approx((0.5, 0.90), abs=1e-5)
    assert one_cycle(1.0, 1.0) == pytest.approx((4e-6, 0.95))


@pytest.mark.parametrize("name", SCHEDULES)
@given(done=st.floats(-0.5, 1.5), lr=st.floats(1e-9, 10), epoch=st.integers(1, 100))
def test_rates_stay_in_range(name: Any, done: float, lr: float, epoch: int) -> None:
    train = TrainSettings(schedule=name, lr=lr)
    rates = SCHEDULES[name](train, epoch, done)
    assert 0 < rates.lr <= lr * (1 + 1e-9)
    assert rates.momentum is None or 0.85 - 1e-9 <= rates.momentum <= 0.95 + 1e-9


@pytest.mark.parametrize("name", ["constant", "none"])
def test_a_constant_is_constant(name: Any) -> None:
    train = TrainSettings(schedule=name, lr=0.1)
    assert {SCHEDULES[name](train, epoch, epoch / 9) for epoch in range(1, 9)} == {Rates(0.1)}


@pytest.mark.shows("S41")
def test_a_piecewise_rate_drops_after_each_period() -> None:
    found = [piecewise(0.01, epoch, 0.1, 10).lr for epoch in (1, 10, 11, 20, 21)]
    assert found == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4])
    train = TrainSettings(schedule="piecewise", solver="sgdm", drop_factor=0.5, drop_period=1)
    found = [SCHEDULES["piecewise"](train, epoch, 0.0).lr for epoch in (1, 2, 3)]
    assert found == pytest.approx([0.01, 0.005, 0.0025])


@pytest.mark.shows("S41")
@pytest.mark.trap(30)
def test_defaults_follow_the_solver() -> None:
    found = {name: TrainSettings(solver=name) for name in ("adamw", "adam", "rmsprop", "sgdm")}
    assert [train.rate for train in found.values()] == [2e-3, 1e-3, 1e-3, 1e-2]
    assert [train.squares_decay for train in found.values()][:3] == [0.999, 0.999, 0.9]
    assert {train.decay for train in found.values()} == {1e-4}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l2": 0.1}, "adamw knows no l2"),
        ({"solver": "sgdm", "weight_decay": 0.1}, "weight_decay is for adamw"),
        ({"momentum": 0.9}, "momentum is for sgdm"),
        ({"solver": "rmsprop", "gradient_decay": 0.9}, "gradient_decay is for adam and adamw"),
        ({"solver": "sgdm", "squared_gradient_decay": 0.9}, "not for sgdm"),
        ({"solver": "lbfgs", "mode": "windows"}, "lbfgs needs the whole training part"),
        ({"sort": "ascending"}, "sort is for mode = \"sequences\", not 'lanes'"),
        ({"mode": "windows", "mask_padding": False}, "mask_padding is for mode"),
        ({"history": 5}, 'history is for solver = "lbfgs"'),
        ({"drop_period": 5}, 'drop_period is for schedule = "piecewise"'),
        ({"huber_delta": 2.0}, 'huber_delta is for loss = "huber"'),
        ({"validate_every": 1, "validation_frequency": 50}, "set one"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSettings.model_validate(values)
