"""Where in the files each series begins and ends: what new files need to know of the old ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecastd.series import IntArray

FIRST_FILE, FIRST_TIME, LAST_FILE, LAST_TIME = range(4)
GROWTH = 8
"""Room for an eighth more series than there are: seldom copied, little wasted."""


class Spans:
    """For S series: the file and the time of the first and of the last row, in file order.

    table: [S, 4], a file of -1 where a series has no row yet.
    """

    def __init__(self) -> None:
        self.table = self._room = np.empty((0, 4), np.int64)

    def add(self, series: NDArray[np.integer], times: IntArray, file: int, count: int) -> None:
        """Take the next rows, all of one file, as they came. count: S by now."""
        if count > len(self._room):
            more = np.full((count - len(self.table) + count // GROWTH, 4), -1, np.int64)
            self._room = np.concatenate([self.table, more])
        table = self.table = self._room[:count]
        unseen = np.flatnonzero(table[series, FIRST_FILE] < 0)[::-1]
        # Of several rows of a series the last assignment stays: backwards, that of the first row.
        table[series[unseen], FIRST_TIME] = times[unseen]
        table[series[unseen], FIRST_FILE] = file
        table[series, LAST_TIME] = times
        table[series, LAST_FILE] = file


def joined(old: IntArray, new: IntArray) -> tuple[IntArray, NDArray[np.bool_], int] | None:
    """Join spans [S, 4] of the same series from old and from new files, which are numbered alike.

    Returns the spans of both, where the new rows come before the old ones [S], and how many series
    step back between them. None where new rows lie between old ones of their series.
    """
    have_old, have_new = old[:, FIRST_FILE] >= 0, new[:, FIRST_FILE] >= 0
    before = have_new & (~have_old | (new[:, LAST_FILE] < old[:, FIRST_FILE]))
    after = have_new & have_old & (new[:, FIRST_FILE] > old[:, LAST_FILE])
    if (have_new & ~before & ~after).any():
        return None
    both = np.array(old)
    lone = have_new & ~have_old
    both[lone] = new[lone]
    leads = before & have_old
    both[leads, :LAST_FILE] = new[leads, :LAST_FILE]
    both[after, LAST_FILE:] = new[after, LAST_FILE:]
    back = np.count_nonzero(old[leads, FIRST_TIME] < new[leads, LAST_TIME])
    back += np.count_nonzero(new[after, FIRST_TIME] < old[after, LAST_TIME])
    return both, before, int(back)
