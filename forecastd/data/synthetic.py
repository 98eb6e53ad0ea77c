"""Made-up series for trials and measurements. They say nothing about any real thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.errors import UserError

FIRST_US = 1_577_836_800_000_000
HOUR_US = 3_600_000_000
ROWS_AT_ONCE = 131_072
SCHEMA = pl.Schema({"unique_id": pl.String(), "ds": pl.Datetime("us"), "y": pl.Float32()})
Numbers = NDArray[np.float64]


def synthesize(name: str, series: int, steps: int, seed: int) -> Iterator[pl.DataFrame]:
    """Yield hourly series of a made-up kind as long frames, sorted, some series at a time.

    Each series has its own stream of random numbers: the same seed, kind and number give the same
    series, whatever their count. Raises UserError for an unknown kind.
    """
    require_kind(name)
    stamps = FIRST_US + HOUR_US * np.arange(steps)
    times = pl.Series("ds", stamps).cast(pl.Datetime("us"))
    digits = len(str(max(0, series - 1)))
    at_once = max(1, ROWS_AT_ONCE // max(1, steps))
    for first in range(0, series, at_once):
        numbers = range(first, min(first + at_once, series))
        parts = [
            pl.DataFrame(
                {
                    "ds": times,
                    "y": KINDS[name](np.random.default_rng([seed, number]), steps).astype("f4"),
                }
            ).select(pl.lit(f"{name}_{number:0{digits}}").alias("unique_id"), "ds", "y")
            for number in numbers
        ]
        yield pl.concat(parts)


def require_kind(name: str) -> None:
    """Raise UserError for an unknown kind."""
    if name not in KINDS:
        message = f"there is no made-up data set {name!r}"
        raise UserError(message, hint=f"known: {', '.join(KINDS)}")


def _waves(dice: np.random.Generator, steps: int) -> Numbers:
    """A day's wave and a slower one, with a little noise."""
    at = np.arange(steps)
    daily = np.sin(2 * np.pi * (at / 24 + dice.random()))
    slow = 0.5 * np.sin(2 * np.pi * (at / dice.uniform(100, 400) + dice.random()))
    return np.asarray(daily + slow + dice.normal(0, 0.1, steps), np.float64)


def _random_walk(dice: np.random.Generator, steps: int) -> Numbers:
    """Sums of independent steps: nothing beats the last value."""
    return np.cumsum(dice.normal(0, 1, steps))


def _intermittent(dice: np.random.Generator, steps: int) -> Numbers:
    """Counts that are mostly zero, as the sales of spare parts are."""
    sold = dice.random(steps) < dice.uniform(0.05, 0.3)
    return np.where(sold, 1.0 + dice.poisson(dice.uniform(0.5, 4), steps), 0.0)


def _trend_season(dice: np.random.Generator, steps: int) -> Numbers:
    """A line, a day's and a week's season, and noise."""
    at = np.arange(steps)
    daily = dice.uniform(1, 5) * np.sin(2 * np.pi * (at / 24 + dice.random()))
    weekly = dice.uniform(0.5, 2) * np.sin(2 * np.pi * (at / 168 + dice.random()))
    level = dice.uniform(20, 50) + dice.normal(0, 0.01) * at
    return np.asarray(level + daily + weekly + dice.normal(0, 0.5, steps), np.float64)


KINDS: dict[str, Callable[[np.random.Generator, int], Numbers]] = {
    "waves": _waves,
    "random-walk": _random_walk,
    "intermittent": _intermittent,
    "trend+season": _trend_season,
}
"""What can be made up, by name."""
