"""Which rows train, which choose the best epoch, and which are held out.

Parts never overlap. By time (this file) they follow one another within each series, and shares and
spans cut all series at the same moment, so nothing of one series' future trains another; series,
ranges and files are in `split_by.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forecastd.config import DataSettings, SplitSettings
from forecastd.data.split_by import first_not_before, ranges, whole_series
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.series import Frequency, IntArray


@dataclass(frozen=True)
class Parts:
    """First and end row of the parts of each series, [S] absolute rows of the store.

    Series s trains on rows train_begin[s]:train_end[s], and so on; a part that it has no row in
    begins where it ends.
    """

    train_begin: IntArray
    train_end: IntArray
    valid_begin: IntArray
    valid_end: IntArray
    test_begin: IntArray
    test_end: IntArray

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Which series have a training row, [S]."""
        mask: NDArray[np.bool_] = self.train_end > self.train_begin
        return mask

    @property
    def untrained(self) -> int:
        """How many series have no training row."""
        return int(np.count_nonzero(~self.trained))


def split(store: Store, settings: SplitSettings, *, scoring: bool = False) -> Parts:
    """Cut the series of the store into train, valid and test.

    By time: with settings.train the parts follow one another from the start and later rows are
    unused; without, test is the end, valid lies before it and the rest trains. A series shorter
    than its parts gives what it has to the part that comes first in that order.
    scoring: the store is not the one that trained, so it may lack training rows and named series.
    Raises DataError when no training row is left, or for a part that does not fit the data.
    """
    if settings.by == "series":
        parts = Parts(*whole_series(store, settings, require_all=not scoring))
    elif settings.by == "ranges":
        parts = Parts(*ranges(store, settings))
    elif settings.by == "files":
        first, end = store.offsets[:-1], store.offsets[1:]
        parts = Parts(first, end, end, end, end, end)
    else:
        parts = _by_time(store, settings)
    if not scoring and not parts.trained.any():
        message = f"no row of {len(store.times):,} is left to train on"
        raise DataError(message, hint="make valid and test in [split] smaller")
    return parts


def settings_for_split(data: DataSettings, settings: SplitSettings) -> DataSettings:
    """Return the settings that also read the column by whose values series are split."""
    if settings.column is None or settings.column in data.static:
        return data
    return data.model_copy(update={"static": [*data.static, settings.column]})


def without_split_column(store: Store, data: DataSettings) -> Store:
    """Return the store with the static columns of `data` only: how it is split is no feature."""
    static = {name: store.static[name] for name in data.static}
    columns = replace(store.columns, static=tuple(data.static))
    return replace(store, columns=columns, static=static)


def _by_time(store: Store, settings: SplitSettings) -> Parts:
    for size in (settings.valid, settings.test, settings.train, settings.gap):
        if isinstance(size, str):
            _span(store, size)
    return _forward(store, settings) if settings.train is not None else _backward(store, settings)


def _forward(store: Store, settings: SplitSettings) -> Parts:
    starts = store.offsets[:-1].copy()
    anchors = np.full(store.series_count, _range(store)[0], np.int64)
    bounds: list[IntArray] = []
    for size in (_size(settings.train), _size(settings.valid), _size(settings.test)):
        if bounds and size:
            anchors = _skip(store, anchors, settings.gap, 1)
            starts = np.maximum(first_not_before(store, anchors), starts)
        stops, anchors = _after(store, starts, anchors, size)
        bounds += [starts, stops]
        starts = stops
    return Parts(*bounds)


def _backward(store: Store, settings: SplitSettings) -> Parts:
    stops = store.offsets[1:].copy()
    anchors = np.full(store.series_count, _range(store)[1], np.int64)
    bounds: list[IntArray] = []
    for size in (_size(settings.test), _size(settings.valid)):
        starts, anchors = _before(store, stops, anchors, size)
        bounds += [stops, starts]
        if size:
            anchors = _skip(store, anchors, settings.gap, -1)
            starts = np.minimum(first_not_before(store, anchors + 1), starts)
        stops = starts
    test_end, test_begin, valid_end, valid_begin = bounds
    return Parts(store.offsets[:-1], stops, valid_begin, valid_end, test_begin, test_end)


def _size(part: object) -> int | float | str:
    """Return the size of a part by time; the settings admit no other kind."""
    assert isinstance(part, int | float | str)
    return part


def _after(
    store: Store, starts: IntArray, anchors: IntArray, size: float | str
) -> tuple[IntArray, IntArray]:
    """Return the end of a stretch from `starts` on, and its moment."""
    if not isinstance(size, int):
        anchors = _move(store, anchors, size, 1)
        return np.maximum(first_not_before(store, anchors), starts), anchors
    stops = np.minimum(starts + size, store.offsets[1:])
    last = np.maximum(stops - 1, store.offsets[:-1])
    after = store.frequency.advance(store.times[last], 1)
    return stops, np.where(stops > starts, after, anchors)


def _before(
    store: Store, stops: IntArray, anchors: IntArray, size: float | str
) -> tuple[IntArray, IntArray]:
    """Return the first row of a stretch that ends at `stops`, and the moment before it."""
    if not isinstance(size, int):
        anchors = _move(store, anchors, size, -1)
        return np.minimum(first_not_before(store, anchors + 1), stops), anchors
    starts = np.maximum(stops - size, store.offsets[:-1])
    first = np.minimum(starts, store.offsets[1:] - 1)
    before = store.frequency.advance(store.times[first], -1)
    return starts, np.where(starts < stops, before, anchors)


def _skip(store: Store, anchors: IntArray, gap: int | str, direction: int) -> IntArray:
    """Move the moments of a cut by the gap, whose steps are those of the grid."""
    if isinstance(gap, str):
        return _span(store, gap).advance(anchors, direction)
    return store.frequency.advance(anchors, direction * gap)


def _move(store: Store, anchors: IntArray, size: float | str, direction: int) -> IntArray:
    """Move the moments of a cut by a span of time, or by a share of the whole range."""
    if isinstance(size, str):
        return _span(store, size).advance(anchors, direction)
    first, last = _range(store)
    end = int(store.frequency.advance(np.array([last]), 1)[0])
    return anchors + direction * round(size * (end - first))


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
