"""The rule for holes in time: how many stamps are missing, and when a series starts afresh.

The prepared store and the live stepper call the same function, so training and the daemon see
the same rows for the same history.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecastd.series import NEVER, Frequency, IntArray


def missing_stamps(
    last: IntArray, now: IntArray, frequency: Frequency, max_gap: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Say for each pair of neighbouring stamps what to insert between them.

    last, now: [n] times of the newest used and the arriving observation; NEVER: there is none.
    Returns holes [n], the number of steps to insert at `frequency.advance(last, 1..holes)`, and
    reset [n], True where more than `max_gap` steps are missing: nothing is inserted and the
    series starts afresh. Where `now` is not later than `last`: neither.
    """
    known = np.where(last == NEVER, now, last)
    holes = np.maximum(frequency.steps_between(known, now) - 1, 0)
    reset = holes > max_gap
    return np.where(reset, 0, holes), reset


def stamps_between(
    last: IntArray, holes: IntArray, frequency: Frequency
) -> tuple[IntArray, IntArray]:
    """Return the times of all inserted rows in order, and the index in `last` each follows."""
    after = np.repeat(np.arange(len(last)), holes)
    firsts = np.repeat(np.cumsum(holes) - holes, holes)
    steps = np.arange(len(after)) - firsts + 1
    return frequency.advance(last[after], steps), after


def default_max_gap(season: int) -> int:
    """Return the longest hole in steps that is filled where the settings name none: one season."""
    return max(season, 1)
