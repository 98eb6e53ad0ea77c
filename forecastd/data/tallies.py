"""What a check counts in sorted rows, stretch by stretch: distances in time, and ranges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.data.grid import missing_stamps
from forecastd.data.survey import Block, Survey
from forecastd.series import IntArray

MONTH_SLACK_US = 4 * 86_400_000_000
PAIRS_MIN = 3
"""Neighbouring stamps that a series needs to have a distance of its own."""


class Pairs(NamedTuple):
    """Neighbouring stamps of one series that are not one step apart. owners [n]: the series."""

    owners: IntArray
    last: IntArray
    now: IntArray


def pairs_in(survey: Survey, block: Block) -> Pairs:
    """Return the neighbours in a block and across its start; of months all, whatever apart."""
    times, starts = survey.rows.times, survey.rows.starts
    first = max(block.first, 1)
    now, last = times[first : block.end], times[first - 1 : block.end - 1]
    if survey.frequency.kind == "month":
        odd = np.ones(len(now), bool)
    else:
        odd = now - last != survey.frequency.size
    heads = starts[np.searchsorted(starts, first) : np.searchsorted(starts, block.end)]
    odd[heads - first] = False
    rows = np.flatnonzero(odd)
    owners = np.searchsorted(starts, rows + first, side="right") - 1
    return Pairs(owners, last[rows], now[rows])


class Distances:
    """Holes, and stamps off the grid. filled, reset: [S] whether a series has such holes.

    holes: how many are filled, with `steps` rows, `longest` at most; resets: longer ones.
    """

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        series = survey.series_count
        self.filled, self.reset = np.zeros((2, series), bool)
        self.holes = self.steps = self.longest = self.resets = 0
        self._longer, self._off = np.zeros((2, series), np.int64)

    def add(self, pairs: Pairs) -> None:
        """Count neighbours that are not one step apart."""
        if len(pairs.owners) == 0:
            return
        survey, frequency = self._survey, self._survey.frequency
        owners, last, now = pairs
        holes, reset = missing_stamps(last, now, frequency, survey.max_gap)
        self.filled[owners[holes > 0]] = True
        self.reset[owners[reset]] = True
        self.holes += int(np.count_nonzero(holes))
        self.resets += int(np.count_nonzero(reset))
        self.steps += int(holes.sum())
        self.longest = max(self.longest, int(holes.max()))
        steps = frequency.steps_between(last, now)
        expected = frequency.advance(last, steps)
        off = expected != now
        if frequency.kind == "month":
            off &= np.abs(expected - now) > MONTH_SLACK_US
        self._longer += np.bincount(owners[steps > 1], minlength=survey.series_count)
        self._off += np.bincount(owners[off], minlength=survey.series_count)

    def other_frequency(self) -> NDArray[np.bool_]:
        """Tell which series have mostly another distance than the common one, [S]."""
        pairs = self._survey.counts - 1
        longer, off = self._longer > 0.5 * pairs, self._off > 0.9 * pairs
        other: NDArray[np.bool_] = (pairs >= PAIRS_MIN) & (longer | off)
        return other

    def irregular(self) -> IntArray:
        """Return how many stamps lie off the grid in the series of the common distance, [S]."""
        return np.where(self.other_frequency(), 0, self._off)


class Ranges:
    """Lowest and highest target of each series, [S]; NaN where there is none."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self.lowest, self.highest = np.full((2, survey.series_count), np.nan, np.float32)

    def add(self, block: Block) -> None:
        """Take the target of a block in."""
        target = self._survey.rows.values[block.first : block.end, 0]
        here = slice(block.low, block.high)
        low, high = (one.reduceat(target, block.cuts) for one in (np.fmin, np.fmax))
        self.lowest[here] = np.fmin(self.lowest[here], low)
        self.highest[here] = np.fmax(self.highest[here], high)
