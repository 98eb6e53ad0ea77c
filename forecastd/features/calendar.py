"""Clocks: cyclic calendar columns computed from the time alone, so they cost no state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from forecastd.series import FloatArray, Frequency, IntArray

_DAY_US = 86_400_000_000
_WEEK_US = 7 * _DAY_US
_MONDAY_US = 4 * _DAY_US  # 1970-01-01 was a Thursday; the first Monday is four days on

Phase = NDArray[np.float64]


def _hour(times: IntArray, _frequency: Frequency, _season: int) -> Phase:
    return (times % _DAY_US) / _DAY_US


def _weekday(times: IntArray, _frequency: Frequency, _season: int) -> Phase:
    return ((times - _MONDAY_US) % _WEEK_US) / _WEEK_US


def _yearday(times: IntArray, _frequency: Frequency, _season: int) -> Phase:
    at = times.astype("datetime64[us]")
    year = at.astype("datetime64[Y]")
    start = year.astype("datetime64[us]")
    length = (year + 1).astype("datetime64[us]") - start
    phase: Phase = (at - start).astype(np.float64) / length.astype(np.float64)
    return phase


def _season(times: IntArray, frequency: Frequency, season: int) -> Phase:
    if frequency.kind == "month":
        months = times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        return (months // frequency.size) % season / season
    return (times // frequency.size) % season / season


CLOCKS: dict[str, Callable[[IntArray, Frequency, int], Phase]] = {
    "hour": _hour,
    "weekday": _weekday,
    "yearday": _yearday,
    "season": _season,
}
"""Name of a clock: its phase in [0, 1) at a time."""


def clock_columns(
    times: IntArray, clocks: Sequence[str], frequency: Frequency, season: int
) -> FloatArray:
    """Return sine and cosine of each clock: [..., 2 * clocks] float32 for `times` [...]."""
    columns = np.empty((*times.shape, 2 * len(clocks)), np.float32)
    for place, name in enumerate(clocks):
        angle = 2 * np.pi * CLOCKS[name](times, frequency, season)
        columns[..., 2 * place] = np.sin(angle)
        columns[..., 2 * place + 1] = np.cos(angle)
    return columns
