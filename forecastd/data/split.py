"""Which rows train, which choose the best epoch, and which are held out.

Parts follow one another in time within each series and never overlap. Shares and spans cut all
series at the same moment, so nothing of one series' future trains another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecastd.config import SplitSettings
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.series import Frequency, IntArray


@dataclass(frozen=True)
class Parts:
    """Ends of the parts of each series, [S] absolute rows of the store.

    Series s trains on rows offsets[s]:train_end[s], validates on train_end[s]:valid_end[s] and is
    tested on valid_end[s]:test_end[s]. untrained: how many series have no training row.
    """

    train_end: IntArray
    valid_end: IntArray
    test_end: IntArray
    untrained: int


def split(store: Store, settings: SplitSettings) -> Parts:
    """Cut every series of the store into train, valid and test.

    With settings.train the parts follow one another from the start and later rows are unused;
    without, test is the end, valid lies before it and the rest trains. A series shorter than its
    parts gives what it has to the part that comes first in that order. Raises DataError when no
    training row is left, or for a part that does not fit the data.
    """
    sizes = [settings.valid, settings.test]
    for size in [*sizes, settings.train or 0]:
        if isinstance(size, str):
            _span(store, size)
    parts = _forward(store, settings) if settings.train is not None else _backward(store, settings)
    trained = parts.train_end > store.offsets[:-1]
    if not trained.any():
        message = f"no row of {len(store.times):,} is left to train on"
        raise DataError(message, hint="make valid and test in [split] smaller")
    untrained = int(np.count_nonzero(~trained))
    return Parts(parts.train_end, parts.valid_end, parts.test_end, untrained)


def _forward(store: Store, settings: SplitSettings) -> Parts:
    starts, ends = store.offsets[:-1].copy(), store.offsets[1:]
    anchors = np.full(store.series_count, _range(store)[0], np.int64)
    cuts: list[IntArray] = []
    for size in (settings.train or 0, settings.valid, settings.test):
        if isinstance(size, int):
            stops = np.minimum(starts + size, ends)
            last = np.maximum(stops - 1, store.offsets[:-1])
            anchors = np.where(
                stops > starts, store.frequency.advance(store.times[last], 1), anchors
            )
        else:
            anchors = _move(store, anchors, size, 1)
            stops = np.maximum(_first_not_before(store, anchors), starts)
        cuts.append(stops)
        starts = stops
    return Parts(cuts[0], cuts[1], cuts[2], 0)


def _backward(store: Store, settings: SplitSettings) -> Parts:
    firsts, stops = store.offsets[:-1], store.offsets[1:].copy()
    anchors = np.full(store.series_count, _range(store)[1], np.int64)
    cuts = [stops]
    for size in (settings.test, settings.valid):
        if isinstance(size, int):
            starts = np.maximum(stops - size, firsts)
            first = np.minimum(starts, store.offsets[1:] - 1)
            before = store.frequency.advance(store.times[first], -1)
            anchors = np.where(starts < stops, before, anchors)
        else:
            anchors = _move(store, anchors, size, -1)
            starts = np.minimum(_first_not_before(store, anchors + 1), stops)
        cuts.append(starts)
        stops = starts
    return Parts(cuts[2], cuts[1], cuts[0], 0)


def _move(store: Store, anchors: IntArray, size: float | str, direction: int) -> IntArray:
    """Move the moments of a cut by a span of time, or by a share of the whole range."""
    if isinstance(size, str):
        return _span(store, size).advance(anchors, direction)
    first, last = _range(store)
    end = int(store.frequency.advance(np.array([last]), 1)[0])
    return anchors + direction * round(size * (end - first))


def _first_not_before(store: Store, moments: IntArray) -> IntArray:
    """Return for each series its first row whose time is not before its moment."""
    low, high = store.offsets[:-1].copy(), store.offsets[1:].copy()
    # All series halve their range at once; each round reads one stamp of each.
    while (open_ := low < high).any():
        middle = (low[open_] + high[open_]) // 2
        early = store.times[middle] < moments[open_]
        low[open_] = np.where(early, middle + 1, low[open_])
        high[open_] = np.where(early, high[open_], middle)
    return low


def _range(store: Store) -> tuple[int, int]:
    """Return the first and the last stamp of all series; each is in order."""
    first, last = store.times[store.offsets[:-1]], store.times[store.offsets[1:] - 1]
    return int(first.min()), int(last.max())


def _span(store: Store, text: str) -> Frequency:
    """Read a span of time such as 30d. Raises DataError where the data has no calendar."""
    span = Frequency.parse(text)
    if span.kind == "count":
        message = f"the part {text!r} in [split] has no unit"
        raise DataError(message, hint="write rows as a number without quotes, or a span as 30d")
    if store.frequency.kind == "count":
        message = f"the part {text!r} in [split] is a span of time, but the data counts steps"
        raise DataError(message, hint="write a number of rows, or a share such as 0.1")
    return span
