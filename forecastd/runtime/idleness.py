"""Which series have been idle longest, known without a list that changes with every observation."""

from __future__ import annotations

import numpy as np

from forecastd.series import IntArray

_QUEUED_PART = 16
_SMALLEST_WINDOW = 64


class Idleness:
    """Remembers for each slot the batch that used it last.

    The longest idle are looked for among all slots once for many evictions: a sixteenth of them is
    queued, and whoever is used in the meantime is skipped when its turn comes.
    """

    def __init__(self, series_max: int) -> None:
        self._used = np.zeros(series_max, np.int64)
        self._now = 0
        self._queue = np.empty(0, np.int64)
        self._queued_at = np.empty(0, np.int64)

    def use(self, slots: IntArray) -> None:
        """Note that a batch uses these slots; `longest` does not return them in the same batch."""
        self._now += 1
        self._used[slots] = self._now

    def longest(self, count: int, end: int) -> IntArray:
        """Return `count` slots below `end`, the longest idle first; fewer if all others are used.

        Not the slots of the last `use`. What is returned is not returned again before it is used.
        """
        found = self._from_queue(count)
        if len(found) < count:
            self._fill_queue(count, end)
            found = np.concatenate([found, self._from_queue(count - len(found))])
        return found

    def _from_queue(self, count: int) -> IntArray:
        parts = [np.empty(0, np.int64)]
        while count > 0 and len(self._queue) > 0:
            window = min(len(self._queue), max(count, _SMALLEST_WINDOW))
            idle = self._used[self._queue[:window]] == self._queued_at[:window]
            places = np.flatnonzero(idle)[:count]
            if len(places) == count:
                window = int(places[-1]) + 1
            parts.append(self._queue[places])
            self._queue, self._queued_at = self._queue[window:], self._queued_at[window:]
            count -= len(places)
        found = np.concatenate(parts)
        self._used[found] = self._now
        return found

    def _fill_queue(self, count: int, end: int) -> None:
        idle = np.flatnonzero(self._used[:end] < self._now)
        wanted = max(count, end // _QUEUED_PART)
        if wanted < len(idle):
            idle = idle[np.argpartition(self._used[idle], wanted)[:wanted]]
        self._queue = idle[np.argsort(self._used[idle], kind="stable")]
        self._queued_at = self._used[self._queue]
