"""Turns frames as found into rows of numbers, and remembers what each series is called."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.names import Names
from forecastd.data.names import SeriesArray as SeriesArray
from forecastd.data.reader import keys_of, times_of, values_of
from forecastd.data.table import Columns
from forecastd.data.texts import Static, Texts
from forecastd.series import FloatArray, IntArray

RUN_ROWS = 8
"""Keys that repeat for so many rows on end are looked up once a run."""


class Rows(NamedTuple):
    """n rows. series: [n] numbers of series. times: [n]. values: [n, C] NaN where missing."""

    series: SeriesArray
    times: IntArray
    values: FloatArray


class Intake:
    """Takes the frames of a data set one by one. Series are numbered as they first appear.

    names: their keys by number. counts: their rows by number. The other counts are those of the
    report. Nothing grows with the rows, only with the series.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.names = Names()
        self.counts = np.zeros(0, np.int64)
        self.rows_read = 0
        self.rows_without_key = 0
        self.rows_without_time = 0
        self.nulls = dict.fromkeys(columns.channels, 0)
        self.non_finite = dict.fromkeys(columns.channels, 0)
        self.time_zone = columns.time_zone
        self._static = {name: _Growing() for name in columns.static}

    def take(self, frame: pl.DataFrame) -> Rows:
        """Convert a frame, less the rows without key or time. Raises DataError for a bad column."""
        self.rows_read += frame.height
        times = times_of(frame[self.columns.time])
        self.time_zone |= times.time_zone
        keep = times.known
        self.rows_without_time += int(np.count_nonzero(~keep))
        if self.columns.id is not None:
            keyed = frame[self.columns.id].is_not_null().to_numpy()
            self.rows_without_key += int(np.count_nonzero(keep & ~keyed))
            keep = keep & keyed
        stamps = times.values
        if not keep.all():
            frame, stamps = frame.filter(pl.Series(keep)), stamps[keep]
        series = self._series(frame)
        values = self._values(frame)
        for name in self.columns.static:
            self._take_static(name, frame[name], series)
        return Rows(series, stamps, values)

    def by_key(self) -> IntArray:
        """Return the numbers of the series in the order of their keys."""
        return self.names.in_order()

    def static_of(self, order: IntArray) -> Static:
        """Return the static values of the series in `order`."""
        return {name: texts.of(order) for name, texts in self._static.items()}

    def _series(self, frame: pl.DataFrame) -> SeriesArray:
        if self.columns.id is None:
            found = np.zeros(frame.height, np.int32)
            self.names.numbers_of(pl.Series([self.columns.target]).head(frame.height))
        else:
            found = self._numbered(frame[self.columns.id])
        counts = np.bincount(found, minlength=len(self.names))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        return found

    def _numbered(self, column: pl.Series) -> SeriesArray:
        """Return the number of the series of each row."""
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            marks = column.to_physical().to_numpy()
        else:
            names = keys_of(column)
            starts = np.ones(len(names), bool)
            starts[1:] = (names != names.shift(1))[1:].to_numpy()
            firsts = np.flatnonzero(starts)
            if len(firsts) * RUN_ROWS <= len(names):
                few = names.gather(firsts)
                return np.repeat(self.names.numbers_of(few), np.diff(firsts, append=len(names)))
            return self.names.numbers_of(names)
        firsts = _first_rows(marks)
        numbers = self.names.numbers_of(keys_of(column.gather(firsts)))
        table = np.zeros(int(marks.max(initial=0)) + 1, np.int32)
        table[marks[firsts]] = numbers
        found: SeriesArray = table[marks]
        return found

    def _values(self, frame: pl.DataFrame) -> FloatArray:
        channels = self.columns.channels
        together = np.empty((frame.height, len(channels)), np.float32)
        for place, name in enumerate(channels):
            values, nulls, non_finite = values_of(frame[name])
            together[:, place] = values
            self.nulls[name] += nulls
            self.non_finite[name] += non_finite
        return together

    def _take_static(self, name: str, column: pl.Series, series: SeriesArray) -> None:
        """Keep the first value of each series that is not null, as text."""
        texts = self._static[name]
        texts.grow(len(self.names))
        rows = np.flatnonzero(texts.codes[series] < 0)
        rows = rows[column.is_not_null().to_numpy()[rows]]
        firsts = rows[_first_rows(series[rows])]
        texts.put(series[firsts], column.gather(firsts).cast(pl.String).to_list())


class _Growing:
    """A text for each series: few texts, many series. codes: [S] which text it is, -1: none."""

    def __init__(self) -> None:
        self.codes = np.empty(0, np.int32)
        self._code_of: dict[str, int] = {}

    def grow(self, count: int) -> None:
        """Make room for so many series."""
        self.codes = np.pad(self.codes, (0, count - len(self.codes)), constant_values=-1)

    def put(self, series: SeriesArray, texts: list[str]) -> None:
        """Give some series their texts."""
        codes = [self._code_of.setdefault(text, len(self._code_of)) for text in texts]
        self.codes[series] = codes

    def of(self, series: IntArray) -> Texts:
        """Return the texts of some series."""
        return Texts(tuple(self._code_of), self.codes[series])


def _first_rows(marks: NDArray[np.integer]) -> IntArray:
    """Return, in order, the first row of each distinct mark (small numbers, 0 or more)."""
    first = np.full(int(marks.max(initial=0)) + 1, len(marks), np.int64)
    backwards = np.arange(len(marks))[::-1]
    first[marks[::-1]] = backwards  # of several the last assignment stays: the first row
    return np.sort(first[first < len(marks)])
