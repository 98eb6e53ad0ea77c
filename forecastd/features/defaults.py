"""Default features that follow from the data: the trainer uses them, `init` explains them."""

from __future__ import annotations

from forecastd.series import Frequency

LAGS_MAX = 336
_DAY_US = 86_400_000_000
_WEEK_US = 7 * _DAY_US
_MONTH_US = 2_629_800_000_000
_YEAR_US = 365 * _DAY_US
_YEAR_MONTHS = 12


def default_clocks(frequency: Frequency, season: int, span: int) -> tuple[str, ...]:
    """Return the clocks that usually help at this frequency.

    span: last time minus first. The time of year is told only when it was seen twice; from one
    year a network would learn the calendar by heart.
    """
    if frequency.kind == "count":
        return ("season",) if season > 1 else ()
    if frequency.kind == "month":
        return ("yearday",) if frequency.size < _YEAR_MONTHS else ()
    seasonal = ("yearday",) if span >= 2 * _YEAR_US else ()
    if frequency.size < _DAY_US:
        return ("hour", "weekday", *seasonal)
    if frequency.size < _WEEK_US:
        return ("weekday", *seasonal)
    return seasonal if frequency.size < _MONTH_US else ()


def default_half_life(season: int) -> float:
    """Return the half-life in steps of the running scale: one season, at least a dozen steps."""
    return float(max(season, 12))


def default_lags(season: int, length: int) -> int:
    """Return how many last values are mapped to the forecast: two weeks of days, if there are.

    length: rows of a typical training series; a third of it at most.
    """
    return min(LAGS_MAX, max(14 * season, 32), max(length // 3, 1))
