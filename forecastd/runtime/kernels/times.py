"""Time in whole numbers: clocks, missing stamps and months, as features.calendar and series.

Each function follows its namesake in numpy there; a property test holds them together. Days are
turned into dates by the era-based arithmetic of Hinnant, "chrono-compatible low-level date
algorithms" (2013).
"""

from __future__ import annotations

import math

from forecastd.runtime.kernels.compiling import part, section
from forecastd.runtime.kernels.table import HOUR, MONTH, WEEKDAY, YEARDAY

_DAY_US = 86_400_000_000
_WEEK_US = 7 * _DAY_US
_MONDAY_US = 4 * _DAY_US
_ERA_DAYS, _ERA_YEARS = 146_097, 400
_EPOCH_SHIFT = 719_468  # days from 0000-03-01 to 1970-01-01
_MARCH = 2
_YEAR_MONTHS = 12


@section
def _date(days: int) -> tuple[int, int, int]:
    """Return year, month (0 to 11) and day (from 0) of a day since 1970."""
    shifted = days + _EPOCH_SHIFT
    era = shifted // _ERA_DAYS
    day_of_era = shifted - era * _ERA_DAYS
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5
    month = (month_from_march + _MARCH) % _YEAR_MONTHS
    year = year_of_era + era * _ERA_YEARS + (1 if month < _MARCH else 0)
    return year, month, day


@section
def _first_day(year: int, month: int) -> int:
    """Return the day since 1970 on which a month (0 to 11) begins."""
    shifted = year - (1 if month < _MARCH else 0)
    era = shifted // _ERA_YEARS
    year_of_era = shifted - era * _ERA_YEARS
    month_from_march = (month - _MARCH) % _YEAR_MONTHS
    day_of_year = (153 * month_from_march + 2) // 5
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _ERA_DAYS + day_of_era - _EPOCH_SHIFT


@section
def _months(time: int) -> int:
    """Return the whole months since 1970-01."""
    year, month, _ = _date(time // _DAY_US)
    return (year - 1970) * _YEAR_MONTHS + month


@section
def clock_phase(clock: int, time: int, kind: int, size: int, season: int) -> float:
    """Return where a clock stands at a time, in [0, 1)."""
    if clock == HOUR:
        return (time % _DAY_US) / _DAY_US
    if clock == WEEKDAY:
        return ((time - _MONDAY_US) % _WEEK_US) / _WEEK_US
    if clock == YEARDAY:
        year, _, _ = _date(time // _DAY_US)
        start, end = _first_day(year, 0) * _DAY_US, _first_day(year + 1, 0) * _DAY_US
        return (time - start) / (end - start)
    steps = (_months(time) if kind == MONTH else time) // size
    return (steps % season) / season


@part
def clock_angle(clock: int, time: int, kind: int, size: int, season: int) -> float:
    """Return the angle of a clock's hand in radians."""
    return 2 * math.pi * clock_phase(clock, time, kind, size, season)


@section
def advance(time: int, steps: int, kind: int, size: int) -> int:
    """Return a time moved by steps. Months keep the day, cut to the month."""
    if kind != MONTH:
        return time + size * steps
    year, month, day = _date(time // _DAY_US)
    moved = year * _YEAR_MONTHS + month + steps * size
    first = _first_day(moved // _YEAR_MONTHS, moved % _YEAR_MONTHS)
    following = moved + 1
    length = _first_day(following // _YEAR_MONTHS, following % _YEAR_MONTHS) - first
    day = day if day < length else length - 1
    return (first + day) * _DAY_US + time % _DAY_US


@section
def steps_between(earlier: int, later: int, kind: int, size: int) -> int:
    """Return how many steps lead to a later time, rounded, at least 1."""
    if kind == MONTH:
        months = _months(later) - _months(earlier)
        whole, rest = months // size, months % size
        up = 2 * rest > size or (2 * rest == size and whole % 2 == 1)
        steps = whole + (1 if up else 0)
    else:
        steps = (later - earlier + size // 2) // size
    return steps if steps > 1 else 1
