"""Data sets of one row per series: a start, and lists of values (the form of GluonTS).

A row holds a key, the time of its first value, and lists of equal length; it becomes a row for
each value. The distance between two values is `freq` in [data], or a column `freq`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from forecastd.config import DataSettings
from forecastd.data.reader import times_of
from forecastd.errors import DataError
from forecastd.series import Frequency

SERIES_AT_ONCE = 64
FREQ_COLUMN = "freq"
_PANDAS = {
    "s": "s", "t": "min", "min": "min", "h": "h", "d": "d", "b": "d", "w": "w",
    "m": "mo", "ms": "mo", "me": "mo", "q": "q", "qs": "q", "qe": "q",
    "y": "y", "ys": "y", "ye": "y", "a": "y", "as": "y",
}  # fmt: skip
"""What the letters of pandas mean here; anchors such as W-SUN are in the stamps themselves."""


def is_rolled(schema: pl.Schema, target: str) -> bool:
    """Tell whether each row of a data set is a whole series."""
    return isinstance(schema.get(target), pl.List)


def columns_rolled(data: DataSettings, schema: pl.Schema) -> list[str]:
    """Return the columns needed besides those of [data]. Raises DataError without a frequency."""
    if data.freq is not None:
        return []
    if FREQ_COLUMN not in schema:
        message = f"each row of {data.path} is a series, but nothing says how far its values lie"
        raise DataError(message, hint='set freq in [data], for example freq = "1h"')
    return [FREQ_COLUMN]


def unrolled(
    frames: Iterator[pl.DataFrame], data: DataSettings, rows: int
) -> Iterator[pl.DataFrame]:
    """Yield a row for each value, at most `rows` at once. Raises DataError.

    Covariates may be longer than the target, as those known ahead are; they are cut to it.
    """
    target, read = data.target[0], 0
    for frame in frames:
        read += frame.height
        if data.id is None and read > 1:
            message = f"{data.path} has several series, one a row, but no column names them"
            raise DataError(message, hint="set id in [data]")
        parts = frame.filter(pl.col(target).list.len() > 0)
        for name in data.past:
            parts = parts.with_columns(_covariate(parts, data, name))
        if parts.height:
            yield from _stepped(parts, data).iter_slices(rows)


def frequency_text(text: str) -> str:
    """Return a frequency as pandas writes it ("H", "30T", "W-SUN", "MS") in our form.

    Raises DataError for what has no such form.
    """
    letters = text.strip().split("-")[0].lstrip("0123456789").lower()
    count = text.strip()[: len(text.strip().split("-")[0]) - len(letters)] or "1"
    found = f"{count}{_PANDAS.get(letters, letters)}"
    return str(Frequency.parse(found))


def _covariate(frame: pl.DataFrame, data: DataSettings, name: str) -> pl.Series:
    """Return the lists of a covariate, as long as the target's."""
    column, target = frame[name], data.target[0]
    kind = column.dtype
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.List):
        if (column.list.len() != 1).any():
            message = f"column {name!r} holds several lists in a row"
            raise DataError(message, hint="write each covariate as a column of lists of its own")
        column = column.list.first().alias(name)
    if not isinstance(column.dtype, pl.List):
        message = f"column {name!r} holds single values, but each row is a whole series"
        raise DataError(message, hint="a covariate needs a list as long as the target's")
    lengths = frame[target].list.len()
    short = (column.list.len().fill_null(0) < lengths).arg_true()
    if len(short):
        which = f" of {frame[data.id][int(short[0])]!r}" if data.id else ""
        message = f"the list in {name!r}{which} is shorter than that in {target!r}"
        raise DataError(message, hint="a covariate needs a value for each value of the target")
    both = pl.DataFrame([column, lengths.alias("\0length")])
    return both.select(pl.col(name).list.head(pl.col("\0length"))).to_series()


def _stepped(frame: pl.DataFrame, data: DataSettings) -> pl.DataFrame:
    """Explode the lists and count the times on from each start."""
    step = "\0step"
    starts = times_of(frame[data.time])
    lengths = frame[data.target[0]].list.len()
    long = frame.with_columns(
        pl.Series(data.time, starts.values),
        pl.Series(starts.known).alias("\0known"),
        pl.int_ranges(lengths.cast(pl.Int64)).alias(step),
    ).explode([data.target[0], *data.past, step])
    times = long[data.time].to_numpy().copy()
    named = long.get_column(FREQ_COLUMN, default=None) if data.freq is None else None
    for text in [data.freq] if named is None else named.unique().to_list():
        rows = np.arange(long.height) if named is None else (named == text).arg_true().to_numpy()
        frequency = Frequency.parse(frequency_text(str(text)))
        times[rows] = frequency.advance(times[rows], long[step].to_numpy()[rows])
    stamps = pl.Series(data.time, times)
    if not starts.counted:
        stamps = stamps.cast(pl.Datetime("us", "UTC" if starts.time_zone else None))
    known = pl.when(long["\0known"]).then(stamps).alias(data.time)
    return long.with_columns(known).drop(step, "\0known")
