"""A data set as columns of numbers in file order, whatever its layout.

Long and wide frames, one series or many, become the same table; the store, the check and the
replay all start from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from forecastd.config import DataSettings
from forecastd.data.reader import keys_of, read_frame, times_of, values_of
from forecastd.errors import DataError
from forecastd.series import FloatArray, IntArray

WIDE_ID, WIDE_TARGET = "unique_id", "y"
"""What the series and their values are called when each column of a frame is a series."""


@dataclass(frozen=True)
class Columns:
    """Names and roles of the columns. id: None where the data is one series."""

    id: str | None
    time: str
    target: str
    past: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    time_zone: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """The numeric columns: target, then past covariates."""
        return (self.target, *self.past)


@dataclass
class Table:
    """Rows as found, less those without key or time.

    keys: S series, sorted. series: [N] index in `keys`. times: [N]. values: [N, C], NaN missing.
    static: one value per series and column, the first that is not null.
    """

    columns: Columns
    counted: bool
    keys: list[str]
    series: IntArray
    times: IntArray
    values: FloatArray
    static: dict[str, list[str | None]]
    rows_read: int
    rows_without_key: int = 0
    rows_without_time: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    non_finite: dict[str, int] = field(default_factory=dict)

    def order(self) -> IntArray:
        """Return the rows by (series, time); rows of one stamp stay in file order."""
        rows: IntArray = np.lexsort((self.times, self.series))
        return rows


def columns_of(data: DataSettings) -> Columns:
    """Return the roles after a wide frame is folded into a long one."""
    if data.wide:
        return Columns(WIDE_ID, data.time, WIDE_TARGET)
    return Columns(data.id, data.time, data.target[0], tuple(data.past), tuple(data.static))


def resolve(data: DataSettings, base: Path) -> str:
    """Return where the data lies; a relative path starts at `base`."""
    return str(base / Path(data.path).expanduser())


def read_long(data: DataSettings, base: Path) -> tuple[pl.DataFrame, Columns]:
    """Read the columns of `data` as a long frame in file order, types as found.

    Raises DataError for whatever is wrong with the file or its columns.
    """
    columns = columns_of(data)
    wanted = [data.time, *data.target, *data.past, *data.static]
    frame = read_frame(resolve(data, base), [*([data.id] if data.id else []), *wanted])
    if not data.wide:
        return frame, columns
    for name in data.target:
        values_of(frame[name].head(1000))  # a text column is named before all are folded into one
    long = frame.unpivot(
        data.target, index=data.time, variable_name=WIDE_ID, value_name=WIDE_TARGET
    )
    return long, columns


def read_table(data: DataSettings, base: Path) -> Table:
    """Read a data set into columns of numbers. Raises DataError when no row can be used."""
    frame, columns = read_long(data, base)
    rows_read = frame.height
    times = times_of(frame[columns.time])
    keep = times.known
    without_time = int(np.count_nonzero(~keep))
    without_key = 0
    if columns.id is not None:
        names = keys_of(frame[columns.id])
        keyed = names.is_not_null().to_numpy()
        without_key = int(np.count_nonzero(keep & ~keyed))
        keep = keep & keyed
    if not keep.any():
        message = f"{resolve(data, base)} has no row with a time and a series"
        raise DataError(message, hint="check the id and time columns in [data]")
    if not keep.all():
        frame = frame.filter(pl.Series(keep))
    keys, series = _index(frame, columns)
    converted = {name: values_of(frame[name]) for name in columns.channels}
    return Table(
        columns=Columns(
            columns.id,
            columns.time,
            columns.target,
            columns.past,
            columns.static,
            times.time_zone,
        ),
        counted=times.counted,
        keys=keys,
        series=series,
        times=times.values[keep],
        values=np.stack([one.values for one in converted.values()], axis=1),
        static={name: _static(frame[name], series, len(keys)) for name in columns.static},
        rows_read=rows_read,
        rows_without_key=without_key,
        rows_without_time=without_time,
        nulls={name: one.nulls for name, one in converted.items()},
        non_finite={name: one.non_finite for name, one in converted.items()},
    )


def _index(frame: pl.DataFrame, columns: Columns) -> tuple[list[str], IntArray]:
    """Return the sorted keys and the index of each row's key."""
    if columns.id is None:
        return [columns.target], np.zeros(frame.height, np.int64)
    names = keys_of(frame[columns.id])
    keys = names.unique().sort()
    found = names.cast(pl.Enum(keys)).to_physical().cast(pl.Int64).to_numpy()
    return keys.to_list(), np.ascontiguousarray(found)


def _static(column: pl.Series, series: IntArray, count: int) -> list[str | None]:
    """Return the first value of each series that is not null, as text."""
    texts = column.cast(pl.String)
    known = np.flatnonzero(texts.is_not_null().to_numpy())
    owners, firsts = np.unique(series[known], return_index=True)
    found: list[str | None] = [None] * count
    for owner, text in zip(owners, texts.gather(known[firsts]).to_list(), strict=True):
        found[owner] = text
    return found
