"""Naive forecasts that every model has to beat."""

from __future__ import annotations

import numpy as np

from forecastd.series import FloatArray, IntArray


def fill_last(values: FloatArray) -> FloatArray:
    """Return a series with each missing value replaced by the one before it."""
    places = np.where(np.isfinite(values), np.arange(len(values)), -1)
    newest = np.maximum.accumulate(places)
    filled: FloatArray = np.where(newest >= 0, values[newest], np.nan).astype(np.float32)
    return filled


def fill_season(values: FloatArray, season: int) -> FloatArray:
    """Return a series with each missing value replaced by the one a season (or more) before."""
    filled = values.copy()
    for start in range(season, len(filled), season):
        block = filled[start : start + season]
        before = filled[start - season : start - season + len(block)]
        np.copyto(block, before, where=~np.isfinite(block))
    return filled


def last_value(filled: FloatArray, origins: IntArray, horizon: int) -> FloatArray:
    """Return [origins, horizon]: the newest value, repeated. filled: see fill_last."""
    return np.repeat(filled[origins][:, None], horizon, 1)


def seasonal_naive(filled: FloatArray, origins: IntArray, horizon: int, season: int) -> FloatArray:
    """Return [origins, horizon]: the value at the same place of the newest season.

    filled: see fill_season. NaN where the series is younger than a season.
    """
    ahead = np.arange(1, horizon + 1)
    places = origins[:, None] + ahead - season * -(-ahead // season)
    values: FloatArray = np.where(places >= 0, filled[np.maximum(places, 0)], np.nan)
    return values.astype(np.float32)
