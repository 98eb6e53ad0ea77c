from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.features.calendar import CLOCKS, clock_columns
from forecastd.features.defaults import default_clocks
from forecastd.series import Frequency

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  all naive, as the times are UTC
HOURLY = Frequency.parse("1h")

moments = st.datetimes(datetime(1700, 1, 1), datetime(2260, 1, 1))  # noqa: DTZ001


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def phase(at: datetime, clock: str) -> float:
    """The share of a day, week or year that has passed, by the standard library."""
    midnight = datetime(at.year, at.month, at.day)  # noqa: DTZ001
    if clock == "hour":
        return (at - midnight) / timedelta(days=1)
    if clock == "weekday":
        return (at - midnight + timedelta(days=at.weekday())) / timedelta(days=7)
    year = datetime(at.year, 1, 1)  # noqa: DTZ001
    return (at - year) / (datetime(at.year + 1, 1, 1) - year)  # noqa: DTZ001


@pytest.mark.parametrize("clock", ["hour", "weekday", "yearday"])
@given(at=moments)
def test_clocks_agree_with_the_calendar(clock: str, at: datetime) -> None:
    found = clock_columns(np.array([microseconds(at)]), [clock], HOURLY, 24)[0]
    angle = 2 * math.pi * phase(at, clock)
    assert found == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)  # float32


@given(at=moments, season=st.integers(1, 200), minutes=st.sampled_from([1, 15, 60, 1440]))
def test_the_season_counts_steps_since_1970(at: datetime, season: int, minutes: int) -> None:
    frequency = Frequency.parse(f"{minutes}min")
    found = CLOCKS["season"](np.array([microseconds(at)]), frequency, season)
    step = (at - EPOCH) // timedelta(minutes=minutes)
    assert found[0] == step % season / season


@given(at=moments, season=st.integers(1, 24), months=st.sampled_from([1, 3, 12]))
def test_the_season_counts_calendar_months(at: datetime, season: int, months: int) -> None:
    found = CLOCKS["season"](np.array([microseconds(at)]), Frequency("month", months), season)
    step = ((at.year - 1970) * 12 + at.month - 1) // months
    assert found[0] == step % season / season


@given(count=st.integers(-(10**6), 10**6), season=st.integers(1, 50), stride=st.integers(1, 5))
def test_the_season_of_counted_time(count: int, season: int, stride: int) -> None:
    found = CLOCKS["season"](np.array([count]), Frequency("count", stride), season)
    assert found[0] == count // stride % season / season


def test_columns_keep_the_shape_of_the_times() -> None:
    times = np.arange(6).reshape(2, 3) * 3_600_000_000
    columns = clock_columns(times, ["hour", "weekday"], HOURLY, 24)
    assert columns.shape == (2, 3, 4)
    assert columns.dtype == np.float32
    assert clock_columns(times, [], HOURLY, 24).shape == (2, 3, 0)
    # The order is sine and cosine of each clock: 01:00 is a 24th of the day.
    assert columns[0, 1, :2] == pytest.approx(
        [math.sin(math.pi / 12), math.cos(math.pi / 12)], abs=1e-6
    )


@pytest.mark.parametrize(
    ("frequency", "season", "years", "expected"),
    [
        ("1h", 24, 0.5, ("hour", "weekday")),
        ("15min", 96, 2.5, ("hour", "weekday", "yearday")),
        ("1d", 7, 1.0, ("weekday",)),
        ("1w", 52, 5.0, ("yearday",)),
        ("1w", 52, 1.0, ()),
        ("1mo", 12, 1.0, ("yearday",)),
        ("1y", 1, 50.0, ()),
        ("1", 12, 0.0, ("season",)),
        ("1", 1, 0.0, ()),
    ],
)
def test_default_clocks(
    frequency: str, season: int, years: float, expected: tuple[str, ...]
) -> None:
    span = round(years * 365 * 86_400_000_000)
    assert default_clocks(Frequency.parse(frequency), season, span) == expected
