"""Data sets of one row per series: a start, and lists of values (the form of GluonTS), or a text.

A row holds a key, the time of its first value, and lists of equal length; it becomes a row for
each value. The distance between two values is `freq` in [data], or a column `freq`; counts are 1
apart. For other tasks than a forecast a covariate may be text, whose characters then are the steps,
by their code points, and a target may be a single value, which holds for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
import pyarrow as pa

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


def is_rolled(schema: Mapping[str, pl.DataType], data: DataSettings) -> bool:
    """Tell whether each row of a data set is a whole series."""
    if not data.task.supervised:
        return isinstance(schema.get(data.target[0]), pl.List)
    return any(_is_sequence(schema[name]) for name in data.past if name in schema)


def columns_rolled(data: DataSettings, schema: Mapping[str, pl.DataType]) -> list[str]:
    """Return the columns needed besides those of [data]. Raises DataError without a frequency."""
    if data.freq is not None:
        return []
    if FREQ_COLUMN in schema:
        return [FREQ_COLUMN]
    counted = data.time in schema and schema[data.time].is_integer()
    if not (counted and data.task.supervised):
        message = f"each row of {data.path} is a series, but nothing says how far its values lie"
        raise DataError(message, hint='set freq in [data], for example freq = "1h"')
    return []


def _is_sequence(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.List) or _is_text(kind)


def _is_text(kind: pl.DataType) -> bool:
    return kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)


def unrolled(
    frames: Iterator[pl.DataFrame], data: DataSettings, rows: int
) -> Iterator[pl.DataFrame]:
    """Yield a row for each value, at most `rows` at once. Raises DataError.

    Covariates may be longer than the target, as those known ahead are; they are cut to it.
    """
    read = 0
    for frame in frames:
        read += frame.height
        if data.id is None and read > 1:
            message = f"{data.path} has several series, one a row, but no column names them"
            raise DataError(message, hint="set id in [data]")
        leading = _leading(frame, data)
        parts = frame.with_columns(
            characters_of(frame[name]) for name in data.past if _is_text(frame.schema[name])
        )
        parts = parts.filter(pl.col(leading).list.len() > 0)
        for name in data.past:
            if name != leading:
                parts = parts.with_columns(_covariate(parts, data, name, leading))
        _require_answers(parts, data, leading)
        if parts.height:
            yield from _stepped(parts, data, leading).iter_slices(rows)


def characters_of(column: pl.Series) -> pl.Series:
    """Return the code points of each text as a list of int32; an empty one where it is null."""
    texts = column.cast(pl.String).fill_null("")
    points = np.frombuffer("".join(texts.to_list()).encode("utf-32-le"), np.int32)
    ends = np.append(0, np.cumsum(texts.str.len_chars().to_numpy().astype(np.int64)))
    lists = pa.LargeListArray.from_arrays(pa.array(ends), pa.array(points))
    return pl.Series(column.name, lists, pl.List(pl.Int32))


def _leading(frame: pl.DataFrame, data: DataSettings) -> str:
    """Return the column whose lists say how long each series is."""
    if not data.task.supervised:
        return data.target[0]
    return next(name for name in data.past if _is_sequence(frame.schema[name]))


def _require_answers(frame: pl.DataFrame, data: DataSettings, leading: str) -> None:
    """Raise DataError where a target that is a list is not as long as the inputs."""
    for name in data.target if data.task.supervised else []:
        if isinstance(frame.schema[name], pl.List):
            both = frame.select(pl.col(name).list.len() == pl.col(leading).list.len())
            if not both.to_series().fill_null(value=False).all():
                message = f"a list in {name!r} is not as long as that in {leading!r}"
                raise DataError(message, hint="a target needs a value for each step, or is single")


def frequency_text(text: str) -> str:
    """Return a frequency as pandas writes it ("H", "30T", "W-SUN", "MS") in our form.

    Raises DataError for what has no such form.
    """
    letters = text.strip().split("-")[0].lstrip("0123456789").lower()
    count = text.strip()[: len(text.strip().split("-")[0]) - len(letters)] or "1"
    found = f"{count}{_PANDAS.get(letters, letters)}"
    return str(Frequency.parse(found))


def _covariate(frame: pl.DataFrame, data: DataSettings, name: str, target: str) -> pl.Series:
    """Return the lists of a covariate, as long as those of the column `target`."""
    column = frame[name]
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


def _stepped(frame: pl.DataFrame, data: DataSettings, leading: str) -> pl.DataFrame:
    """Explode the lists and count the times on from each start."""
    step = "\0step"
    starts = times_of(frame[data.time])
    lengths = frame[leading].list.len()
    lists = [n for n in (*data.target, *data.past) if isinstance(frame.schema[n], pl.List)]
    long = frame.with_columns(
        pl.Series(data.time, starts.values),
        pl.Series(starts.known).alias("\0known"),
        pl.int_ranges(lengths.cast(pl.Int64)).alias(step),
    ).explode([*lists, step])
    times = long[data.time].to_numpy().copy()
    named = long.get_column(FREQ_COLUMN, default=None) if data.freq is None else None
    for text in [data.freq or 1] if named is None else named.unique().to_list():
        rows = np.arange(long.height) if named is None else (named == text).arg_true().to_numpy()
        frequency = Frequency.parse(frequency_text(str(text)))
        times[rows] = frequency.advance(times[rows], long[step].to_numpy()[rows])
    stamps = pl.Series(data.time, times)
    if not starts.counted:
        stamps = stamps.cast(pl.Datetime("us", "UTC" if starts.time_zone else None))
    known = pl.when(long["\0known"]).then(stamps).alias(data.time)
    return long.with_columns(known).drop(step, "\0known")
