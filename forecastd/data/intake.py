"""Turns frames as found into rows of numbers, and remembers what each series is called."""

from __future__ import annotations

import sys
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.reader import keys_of, times_of, values_of
from forecastd.data.table import Columns
from forecastd.series import FloatArray, IntArray

SeriesArray = NDArray[np.int32]
RUN_ROWS = 8
"""Keys that repeat for so many rows on end are looked up once a run."""


class Rows(NamedTuple):
    """n rows. series: [n] numbers of series. times: [n]. values: [n, C] NaN where missing."""

    series: SeriesArray
    times: IntArray
    values: FloatArray


class Intake:
    """Takes the frames of a data set one by one. Series are numbered as they first appear.

    keys: their names by number. counts: their rows by number. The other counts are those of the
    report. Nothing grows with the rows, only with the series.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.keys: list[str] = []
        self.counts = np.zeros(0, np.int64)
        self.rows_read = 0
        self.rows_without_key = 0
        self.rows_without_time = 0
        self.nulls = dict.fromkeys(columns.channels, 0)
        self.non_finite = dict.fromkeys(columns.channels, 0)
        self.time_zone = columns.time_zone
        self._numbers: dict[str, int] = {}
        self._table = pl.DataFrame(schema={"key": pl.String, "number": pl.Int32})
        self._static: dict[str, list[str | None]] = {name: [] for name in columns.static}

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
        return np.array(sorted(range(len(self.keys)), key=self.keys.__getitem__), np.int64)

    def static_of(self, order: IntArray) -> dict[str, list[str | None]]:
        """Return the static values of the series in `order`."""
        return {name: [texts[s] for s in order] for name, texts in self._static.items()}

    def _series(self, frame: pl.DataFrame) -> SeriesArray:
        if self.columns.id is None:
            found = np.zeros(frame.height, np.int32)
            self._learn([self.columns.target] if frame.height else [])
        else:
            found = self._numbered(frame[self.columns.id])
        counts = np.bincount(found, minlength=len(self.keys))
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
                return np.repeat(self._learn(few.to_list()), np.diff(firsts, append=len(names)))
            return self._looked_up(names)
        firsts = _first_rows(marks)
        numbers = self._learn(keys_of(column.gather(firsts)).to_list())
        table = np.zeros(int(marks.max(initial=0)) + 1, np.int32)
        table[marks[firsts]] = numbers
        found: SeriesArray = table[marks]
        return found

    def _looked_up(self, names: pl.Series) -> SeriesArray:
        """Return the numbers of keys in any order; a table of them is kept between frames."""
        asked = pl.DataFrame({"key": names})
        found = asked.join(self._table, on="key", how="left", maintain_order="left")["number"]
        if found.null_count():
            unknown = asked["key"].filter(found.is_null())
            self._learn(unknown.unique(maintain_order=True).to_list())
            numbers = pl.int_range(len(self.keys), dtype=pl.Int32, eager=True)
            keys = pl.Series("key", self.keys, dtype=pl.String)
            self._table = pl.DataFrame({"key": keys, "number": numbers})
            found = asked.join(self._table, on="key", how="left", maintain_order="left")["number"]
        series: SeriesArray = found.to_numpy()
        return series

    def _learn(self, names: list[str]) -> SeriesArray:
        """Return the numbers of keys; new ones are given the next."""
        numbers = self._numbers
        found = [numbers.setdefault(name, len(numbers)) for name in names]
        new = list(islice(numbers, len(self.keys), None))
        self.keys += new
        for texts in self._static.values():
            texts += [None] * len(new)
        return np.array(found, np.int32)

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
        unknown = np.array([text is None for text in texts], bool)
        rows = np.flatnonzero(unknown[series])
        rows = rows[column.is_not_null().to_numpy()[rows]]
        firsts = rows[_first_rows(series[rows])]
        for owner, text in zip(
            series[firsts], column.gather(firsts).cast(pl.String).to_list(), strict=True
        ):
            texts[owner] = sys.intern(text)  # few texts, many series


def _first_rows(marks: NDArray[np.integer]) -> IntArray:
    """Return, in order, the first row of each distinct mark (small numbers, 0 or more)."""
    first = np.full(int(marks.max(initial=0)) + 1, len(marks), np.int64)
    backwards = np.arange(len(marks))[::-1]
    first[marks[::-1]] = backwards  # of several the last assignment stays: the first row
    return np.sort(first[first < len(marks)])
