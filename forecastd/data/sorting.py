"""Orders rows by (series, time) with a few counting sorts: stable, and linear in the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecastd.series import IntArray

DIGIT_BITS = 16
_DIGIT = np.uint64((1 << DIGIT_BITS) - 1)
_UNITS = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000)
"""Coarse units that make most stamps small numbers, and small numbers few digits."""


def order_of(series: NDArray[np.integer], times: IntArray) -> tuple[IntArray, int]:
    """Return the rows by (series, time), equal ones in the order given, and the steps back.

    A step back is a row that is earlier than the row before it of its series, as given.
    """
    rows = np.arange(len(times)) if _ascends(series) else _sorted_by(series, None)
    owners, stamps = series[rows], times[rows]
    back = (stamps[1:] < stamps[:-1]) & (owners[1:] == owners[:-1])
    steps_back = int(np.count_nonzero(back))
    if steps_back:
        rows = _sorted_by(series, _sorted_by(times, None))
    return rows, steps_back


def in_order(series: NDArray[np.integer], times: IntArray) -> bool:
    """Say whether rows are already by (series, time)."""
    back = (series[1:] == series[:-1]) & (times[1:] < times[:-1])
    return _ascends(series) and not bool(back.any())


def _ascends(numbers: NDArray[np.integer]) -> bool:
    return bool((numbers[1:] >= numbers[:-1]).all())


def _sorted_by(numbers: NDArray[np.integer], rows: IntArray | None) -> IntArray:
    """Return `rows` (None: all as they are) stably sorted by their numbers."""
    if len(numbers) == 0:
        return np.arange(0)
    rest = (numbers.astype(np.int64) - numbers.min()).view(np.uint64)
    for unit in _UNITS:
        if rest.max() >= unit and not (rest % np.uint64(unit)).any():
            rest //= np.uint64(unit)
            break
    while True:
        digit = rest if rows is None else rest[rows]
        order = np.argsort((digit & _DIGIT).astype(np.uint16), kind="stable")
        rows = order if rows is None else rows[order]
        rest >>= np.uint64(DIGIT_BITS)
        if not rest.any():
            return rows
