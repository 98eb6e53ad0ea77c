"""What in a data set looks like a mistake that no single row shows: clocks, copies, leaks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.data.table import Table
from forecastd.series import Frequency, IntArray

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
CLOCK_MONTHS = (3, 4, 9, 10, 11)
"""Months in which clocks are put forward or back somewhere."""
CLOCK_HOURS = 4
SHIFTS = (0, 1, 2, 3)
SHARE_EQUAL = 0.99
COMPARED_MIN = 20


class Suspect(NamedTuple):
    """A kind of trouble, how often, in words, what is done, and the series it is in."""

    kind: str
    number: int
    what: str
    action: str
    owners: IntArray


def clock_jumps(
    table: Table, rows: IntArray, dropped: IntArray, frequency: Frequency
) -> list[Suspect]:
    """Look for the hour that daylight saving takes out of a local clock, and puts in twice.

    rows: of the table, sorted by series and time; dropped: the rows that repeat a stamp. Both
    kinds of jump have to be there, or two of the first: a lone hole is just a hole.
    """
    if frequency.kind != "duration" or frequency.size > HOUR_US or table.columns.time_zone:
        return []
    times, series = table.times[rows], table.series[rows]
    hour_missing = (
        (series[1:] == series[:-1])
        & (times[1:] - times[:-1] == frequency.size + HOUR_US)
        & _clocks_change(times[1:] - HOUR_US)
    )
    twice = dropped[_clocks_change(table.times[dropped])]
    days = np.unique(times[1:][hour_missing] // DAY_US)
    if len(days) == 0 or (len(days) < 2 and len(twice) == 0):
        return []
    owners = np.concatenate([series[1:][hour_missing], table.series[twice]])
    what = f"hours that a clock with daylight saving leaves out, {len(twice):,} rows it gives twice"
    action = "left as they are: holes filled, repeats left out; better write the times in UTC"
    return [Suspect("clock_jumps", int(np.count_nonzero(hour_missing)), what, action, owners)]


def copies(table: Table, rows: IntArray) -> list[Suspect]:
    """Look for columns that hold the same numbers: covariates, or the series of a wide frame."""
    found: list[Suspect] = []
    names = table.columns.past
    for place, name in enumerate(names, 1):
        for earlier in range(1, place):
            if np.array_equal(table.values[:, earlier], table.values[:, place], equal_nan=True):
                what = f"column {name} holds the same as {names[earlier - 1]}"
                found.append(_copy(what, np.empty(0, np.int64)))
                break
    if table.folded:
        ends = np.searchsorted(table.series[rows], np.arange(1, len(table.keys)))
        seen: dict[bytes, int] = {}
        for number, part in enumerate(np.split(table.values[rows, 0], ends)):
            first = seen.setdefault(part.tobytes(), number)
            if first != number and np.isfinite(part).any() and np.nanmin(part) < np.nanmax(part):
                what = f"column {table.keys[number]} holds the same as {table.keys[first]}"
                found.append(_copy(what, np.array([number])))
    return found


def leaks(table: Table, rows: IntArray) -> list[Suspect]:
    """Look for covariates that hold the target of the same step, or of a later one.

    rows: of the table, sorted by series and time.
    """
    found: list[Suspect] = []
    series, target = table.series[rows], table.values[rows, 0]
    for place, name in enumerate(table.columns.past, 1):
        column = table.values[rows, place]
        for shift in SHIFTS:
            end = len(rows) - shift
            if end > 0 and _equal(column[:end], target[shift:], series[:end] == series[shift:]):
                when = f"{shift} steps ahead" if shift else "of the same step"
                what = f"values of {name} are the target {when}"
                action = "kept: remove it from past, the forecasts would be too good"
                found.append(Suspect("leak", end, what, action, np.empty(0, np.int64)))
                break
    return found


def _copy(what: str, owners: IntArray) -> Suspect:
    return Suspect("duplicate", 1, what, "kept: it adds work and tells nothing new", owners)


def _equal(
    one: NDArray[np.float32], other: NDArray[np.float32], compared: NDArray[np.bool_]
) -> bool:
    """Tell whether nearly all numbers are the same, and are not all one number."""
    both = compared & np.isfinite(one) & np.isfinite(other)
    count = int(np.count_nonzero(both))
    if count < COMPARED_MIN or float(np.ptp(other[both])) == 0:
        return False
    return int(np.count_nonzero(one[both] == other[both])) >= SHARE_EQUAL * count


def _clocks_change(times: IntArray) -> NDArray[np.bool_]:
    """Tell which stamps lie in the first hours of a Sunday of a month when clocks change."""
    stamps = times.astype("datetime64[us]")
    months = stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1
    sunday = (times // DAY_US + 4) % 7 == 0  # 1970-01-01 was a Thursday
    changes: NDArray[np.bool_] = (
        np.isin(months, CLOCK_MONTHS) & sunday & (times % DAY_US < CLOCK_HOURS * HOUR_US)
    )
    return changes
