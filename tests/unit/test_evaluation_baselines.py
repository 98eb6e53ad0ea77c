from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecastd.evaluation.baselines import fill_last, fill_season, last_value, seasonal_naive

NAN = np.nan


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_last_value_is_carried_over_holes() -> None:
    found = fill_last(floats(NAN, NAN, 3, NAN, 5, NAN))
    np.testing.assert_array_equal(found, floats(NAN, NAN, 3, 3, 5, 5))
    assert fill_last(floats()).shape == (0,)


def test_a_hole_takes_the_value_a_season_before() -> None:
    found = fill_season(floats(1, 2, NAN, NAN, 5, NAN, NAN, NAN), 3)
    np.testing.assert_array_equal(found, floats(1, 2, NAN, 1, 5, NAN, 1, 5))


def test_last_value_repeats_the_origin() -> None:
    found = last_value(floats(1, 2, 3), np.array([0, 2]), 2)
    np.testing.assert_array_equal(found, floats(1, 1, 3, 3).reshape(2, 2))


def test_the_season_repeats() -> None:
    line = floats(0, 1, 2, 3, 4, 5, 6)
    found = seasonal_naive(line, np.array([2, 6]), 7, 3)
    np.testing.assert_array_equal(found[0], floats(0, 1, 2, 0, 1, 2, 0))
    np.testing.assert_array_equal(found[1], floats(4, 5, 6, 4, 5, 6, 4))


def test_a_series_younger_than_a_season_has_no_seasonal_forecast() -> None:
    found = seasonal_naive(floats(0, 1, 2, 3), np.array([1]), 4, 3)
    np.testing.assert_array_equal(found[0], floats(NAN, 0, 1, NAN))


@given(seed=st.integers(0, 1000), season=st.integers(1, 9), horizon=st.integers(1, 20))
def test_the_season_is_that_of_the_definition(seed: int, season: int, horizon: int) -> None:
    line = np.random.default_rng(seed).normal(size=30).astype(np.float32)
    origins = np.arange(30)
    found = seasonal_naive(line, origins, horizon, season)
    for origin in origins:
        for ahead in range(1, horizon + 1):
            place = origin + ahead
            while place > origin:
                place -= season
            expected = line[place] if place >= 0 else NAN
            np.testing.assert_array_equal(found[origin, ahead - 1], expected)


def test_forecasts_never_see_what_comes_after_the_origin() -> None:
    dice = np.random.default_rng(0)
    line, other = dice.normal(size=(2, 40)).astype(np.float32)
    line[dice.random(40) < 0.3] = NAN
    other[:20] = line[:20]
    origins = np.array([5, 19])
    for one, two in (
        (last_value(fill_last(x), origins, 9), seasonal_naive(fill_season(x, 6), origins, 9, 6))
        for x in (line, other)
    ):
        np.testing.assert_array_equal(one, last_value(fill_last(line), origins, 9))
        np.testing.assert_array_equal(two, seasonal_naive(fill_season(line, 6), origins, 9, 6))
