from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from forecastd.features.scaling import RunningScale
from forecastd.features.spec import SLOW_FACTOR, SLOW_SHARE

CPU = torch.device("cpu")

lines = npst.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.one_of(st.just(np.float32(np.nan)), st.floats(-1e6, 1e6, width=32)),
)


def scaled(values: np.ndarray, half_life: float) -> tuple[np.ndarray, np.ndarray]:
    """Location and spread after each value of one series of one channel."""
    scaler = RunningScale(1, half_life)
    xs = torch.from_numpy(np.asarray(values, np.float32))[None, :, None]
    scale, _ = scaler.unroll(xs, scaler.initial_state(1, CPU))
    return scale.location[0, :, 0].numpy(), scale.spread[0, :, 0].numpy()


def plain(values: np.ndarray, half_life: float) -> tuple[list[float], list[float]]:
    """The definition, a float at a time."""
    rates = [1 - 0.5 ** (1 / life) for life in (half_life, half_life * SLOW_FACTOR)]
    seen, mean, variance = 0, [0.0, 0.0], [0.0, 0.0]
    locations, spreads = [], []
    for value in values.tolist():
        if math.isfinite(value):
            seen += 1
            for tracker, rate in enumerate(rates):
                weight = max(rate, 1 / seen)
                difference = value - mean[tracker]
                mean[tracker] += weight * difference
                variance[tracker] = (1 - weight) * (
                    variance[tracker] + weight * difference * difference
                )
        locations.append(mean[0])
        spread = math.sqrt(variance[0]) + SLOW_SHARE * math.sqrt(variance[1])
        spreads.append(spread + abs(mean[0]) * 1e-6 + 1e-30 if seen else 1.0)
    return locations, spreads


@given(values=lines, half_life=st.floats(0.5, 50))
def test_the_scale_is_its_definition(values: np.ndarray, half_life: float) -> None:
    location, spread = scaled(values, half_life)
    expected_location, expected_spread = plain(values, half_life)
    np.testing.assert_allclose(location, expected_location, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(spread, expected_spread, rtol=1e-6, atol=1e-9)


def test_a_young_series_has_its_plain_mean_and_deviation() -> None:
    values = np.random.default_rng(0).normal(50, 7, 30).astype(np.float32)
    location, spread = scaled(values, 100.0)  # 1/n is above both rates for 30 steps
    for n in range(1, 31):
        seen = values[:n].astype(np.float64)
        floor = abs(seen.mean()) * 1e-6
        assert location[n - 1] == pytest.approx(seen.mean(), rel=1e-12)
        assert spread[n - 1] == pytest.approx(
            (1 + SLOW_SHARE) * seen.std() + floor, rel=1e-9, abs=1e-12
        )


def test_after_a_half_life_half_of_a_jump_is_forgotten() -> None:
    half_life = 20
    values = np.concatenate([np.zeros(400), np.ones(half_life)])
    location, _ = scaled(values, half_life)
    assert location[399] == 0
    assert location[-1] == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-30, 3e38])
def test_a_constant_series_has_a_spread_above_zero(value: float) -> None:
    location, spread = scaled(np.full(200, value), 10.0)
    np.testing.assert_allclose(location, np.float32(value), rtol=1e-12)
    assert (spread > 0).all()
    assert np.isfinite(spread).all()


def test_huge_values_stay_finite() -> None:
    values = np.array([3e38, -3e38] * 50)
    location, spread = scaled(values, 5.0)
    assert np.isfinite(location).all()
    assert np.isfinite(spread).all()


@pytest.mark.trap(26)
def test_a_missing_value_changes_nothing() -> None:
    values = np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.inf, 2.0])
    location, spread = scaled(values, 5.0)
    assert (location[0], spread[0]) == (0.0, 1.0)
    without, spread_without = scaled(np.array([1.0, 4.0, 2.0]), 5.0)
    assert location[[1, 4, 6]].tolist() == without.tolist()
    assert spread[[1, 4, 6]].tolist() == spread_without.tolist()
    assert location[[2, 3, 5]].tolist() == location[[1, 1, 4]].tolist()


def test_a_quiet_stretch_does_not_blow_up_small_noise() -> None:
    dice = np.random.default_rng(0)
    values = np.concatenate([dice.normal(0, 10, 500), dice.normal(0, 0.001, 100)])
    _, spread = scaled(values, 5.0)
    assert spread[-1] > 0.2  # the slow tracker remembers; the fast one alone says 0.001


def test_channels_and_series_do_not_touch_each_other() -> None:
    dice = np.random.default_rng(1)
    values = dice.normal(size=(3, 25, 2)).astype(np.float32)
    values[dice.random(values.shape) < 0.3] = np.nan
    scaler = RunningScale(2, 6.0)
    scale, _ = scaler.unroll(torch.from_numpy(values), scaler.initial_state(3, CPU))
    for series in range(3):
        for channel in range(2):
            location, spread = scaled(values[series, :, channel], 6.0)
            np.testing.assert_array_equal(scale.location[series, :, channel], location)
            np.testing.assert_array_equal(scale.spread[series, :, channel], spread)
