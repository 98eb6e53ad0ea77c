"""What in sorted rows looks like a mistake that no single row shows: clocks, copies, leaks."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.data.survey import Survey
from forecastd.series import Frequency, IntArray

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
CLOCK_MONTHS = (3, 4, 9, 10, 11)
"""Months in which clocks are put forward or back somewhere."""
CLOCK_HOURS = 4
SHIFTS = (0, 1, 2, 3)
SHARE_EQUAL = 0.99
COMPARED_MIN = 20
SERIES_AT_ONCE = 1 << 14

Flags = NDArray[np.bool_]


def clocks_change(times: IntArray) -> Flags:
    """Tell which stamps lie in the first hours of a Sunday of a month when clocks change."""
    changes = times % DAY_US < CLOCK_HOURS * HOUR_US
    early = np.flatnonzero(changes)
    days = times[early] // DAY_US
    sunday = (days + 4) % 7 == 0  # 1970-01-01 was a Thursday
    months = days[sunday].astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    changes[early[~sunday]] = False
    changes[early[sunday]] = np.isin(months, CLOCK_MONTHS)
    return changes


def padded(survey: Survey) -> Flags:
    """Tell which series, [S], begin or end in two rows or more whose inputs are all 0."""
    values, starts = survey.rows.values, survey.rows.starts
    answers = len(survey.intake.columns.channels) - len(survey.intake.columns.inputs)
    found = np.zeros(len(starts) - 1, bool)
    for begin in range(0, len(found), SERIES_AT_ONCE):
        chosen = slice(begin, begin + SERIES_AT_ONCE)
        first, end = starts[:-1][chosen], starts[1:][chosen]
        for row in (first, end - 2):
            pair = np.stack([row, row + 1], axis=1).clip(0, len(values) - 1)
            nothing = (values[pair][..., answers:] == 0).all(axis=(1, 2))
            found[chosen] |= nothing & (end - first > 2)
    return found


class ClockJumps:
    """Looks for the hour that daylight saving takes out of a local clock, and puts in twice.

    count: hours left out. owners: [S] the series they are missing from.
    """

    def __init__(self, series_count: int, frequency: Frequency, *, time_zone: bool) -> None:
        short = frequency.kind == "duration" and frequency.size <= HOUR_US
        self._distance = frequency.size + HOUR_US if short and not time_zone else None
        self._days: set[int] = set()
        self.count = 0
        self.owners = np.zeros(series_count, bool)

    def add(self, owners: IntArray, last: IntArray, now: IntArray) -> None:
        """Look at neighbouring stamps that are not one step apart."""
        if self._distance is None:
            return
        wide = np.flatnonzero(now - last == self._distance)
        jumps = wide[clocks_change(now[wide] - HOUR_US)]
        self.count += len(jumps)
        self.owners[owners[jumps]] = True
        self._days.update(np.unique(now[jumps] // DAY_US).tolist())

    def twice(self, survey: Survey, rows_before: IntArray) -> IntArray | None:
        """Return how many rows of each series repeat a stamp in such an hour, [S].

        rows_before: [S] rows in such hours before repeats were left out. None: no clock jumps.
        Both kinds of jump have to be there, or two of the first: a lone hole is just a hole.
        """
        if not self._days:
            return None
        twice = rows_before.copy() if survey.repeats else np.zeros_like(rows_before)
        for block in survey.blocks() if survey.repeats else ():
            times = survey.rows.times[block.first : block.end]
            marks = clocks_change(times).astype(np.int64)
            twice[block.low : block.high] -= np.add.reduceat(marks, block.cuts)
        return twice if len(self._days) > 1 or twice.any() else None


class _Compared(NamedTuple):
    """How a covariate compares with the target some steps ahead."""

    place: int
    shift: int


class Leaks:
    """Looks for covariates that hold the target of the same step, or of a later one."""

    def __init__(self, channels: int, rows: int) -> None:
        self._open = {_Compared(p, shift) for p in range(1, channels) for shift in SHIFTS}
        self._rows = rows
        self._both = dict.fromkeys(self._open, 0)
        self._equal = dict.fromkeys(self._open, 0)
        self._range = dict.fromkeys(self._open, (np.inf, -np.inf))

    def add(self, survey: Survey, first: int, end: int) -> None:
        """Compare rows first:end with the target of the rows up to three steps later."""
        if not self._open:
            return
        rows, reach = survey.rows, max(SHIFTS)
        values = np.array(rows.values[first : end + reach])
        bounds = rows.starts[np.searchsorted(rows.starts, first, side="right") :]
        inside = bounds[: np.searchsorted(bounds, end)]
        counts = np.diff(np.concatenate([[first], inside, [end]]))
        left = np.repeat(bounds[: len(counts)], counts) - np.arange(first, end)
        known = np.isfinite(values)
        for case in sorted(self._open):
            place, shift = case
            size = min(end - first, len(values) - shift)
            one, other = values[:size, place], values[shift : shift + size, 0]
            both = (left[:size] > shift) & known[:size, place] & known[shift : shift + size, 0]
            count = int(np.count_nonzero(both))
            if count == 0:
                continue
            self._both[case] += count
            self._equal[case] += int(np.count_nonzero((one == other) & both))
            low, high = self._range[case]
            self._range[case] = (
                min(low, float(other.min(where=both, initial=np.inf))),
                max(high, float(other.max(where=both, initial=-np.inf))),
            )
            # So many differ that the rest of the rows cannot make up for them.
            if self._both[case] - self._equal[case] > (1 - SHARE_EQUAL) * self._rows + 1:
                self._open.discard(case)

    def found(self) -> list[tuple[int, int]]:
        """Return channels and shifts at which nearly all numbers are the same, and not all one."""
        leaks: dict[int, int] = {}
        for case in sorted(self._open):
            low, high = self._range[case]
            same = self._equal[case] >= SHARE_EQUAL * self._both[case]
            if self._both[case] >= COMPARED_MIN and same and low < high:
                leaks.setdefault(case.place, case.shift)
        return list(leaks.items())


class SameSeries:
    """Looks for series that hold the same values from first to last, and are not one number."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._digest = blake2b(digest_size=16)
        self._spread = (np.inf, -np.inf)
        self.copies: list[tuple[int, int]] = []
        self._series = 0

    def add(self, survey: Survey, first: int, end: int) -> None:
        """Read rows first:end of the target."""
        starts = survey.rows.starts
        place = first
        while place < end:
            stop = min(int(starts[self._series + 1]), end)
            part = np.ascontiguousarray(survey.rows.values[place:stop, 0])
            self._digest.update(part.data)
            known = part[np.isfinite(part)]
            if len(known):
                low, high = self._spread
                self._spread = min(low, float(known.min())), max(high, float(known.max()))
            if stop == starts[self._series + 1]:
                self._finish()
            place = stop

    def _finish(self) -> None:
        first = self._first.setdefault(self._digest.digest(), self._series)
        if first != self._series and self._spread[0] < self._spread[1]:
            self.copies.append((self._series, first))
        self._series += 1
        self._digest, self._spread = blake2b(digest_size=16), (np.inf, -np.inf)
