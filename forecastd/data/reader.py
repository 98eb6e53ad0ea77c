"""Reading files into frames and columns: every format, one kind of error.

Whatever is wrong with a file or a column ends as a DataError that says what to change; errors of
the libraries beneath never reach the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.frames import is_frame
from forecastd.data.inputs import inputs_of
from forecastd.errors import DataError
from forecastd.series import FloatArray, IntArray

BATCH_ROWS = 131_072
"""Rows read at once where a frame is put together in memory."""


class Times(NamedTuple):
    """A time column as int64. known: False where the stamp is null (the value there is 0)."""

    values: IntArray
    known: np.ndarray[tuple[int], np.dtype[np.bool_]]
    counted: bool
    time_zone: bool


class Values(NamedTuple):
    """A numeric column as float32 with NaN where it is missing or not finite."""

    values: FloatArray
    nulls: int
    non_finite: int


def schema_of(path_text: str) -> pl.Schema:
    """Return names and types of the columns. Raises DataError as `read_frame` does."""
    return schema_of_inputs(inputs_of(path_text))


def read_frame(path_text: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Read the named columns (None: all) of a file, folder, glob or URI into memory.

    Raises DataError when there is no such file, when it is damaged or of an unknown format, or
    when a column is missing.
    """
    inputs = inputs_of(path_text)
    schema = schema_of_inputs(inputs)
    if columns is not None:
        require_columns(path_text, list(schema), columns)
        schema = pl.Schema({name: schema[name] for name in columns})
    return concat(schema, read_batches(inputs, Selection(schema, BATCH_ROWS)))


def concat(schema: pl.Schema, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Join batches of one schema into a frame; no batch at all gives a frame without rows."""
    return pl.concat([pl.DataFrame(schema=schema), *frames])


def require_columns(path_text: str, found: list[str], wanted: list[str]) -> None:
    """Raise DataError for the first wanted column that is not found, with the nearest name."""
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
            message = f"{path_text} has no column {name!r}"
            hint = f"did you mean {near[0]!r}?" if near else f"it has {_listed(found)}"
            raise DataError(message, hint=hint)


def times_of(column: pl.Series) -> Times:
    """Convert a time column to int64: microseconds UTC, or counts where it holds integers.

    Stamps without zone are kept as they are, dates become midnight, ISO 8601 text is parsed.
    Raises DataError for any other type and for text that is no stamp.
    """
    kind = column.dtype
    if kind == pl.String:
        column = stamps_of(column)
        kind = column.dtype
    zone = isinstance(kind, pl.Datetime) and kind.time_zone is not None
    counted = kind.is_integer()
    if not (counted or isinstance(kind, pl.Datetime) or kind == pl.Date):
        message = f"the time column {column.name!r} holds {_type_words(kind)}"
        raise DataError(message, hint="it must hold timestamps, dates or whole numbers")
    if not counted:
        column = column.cast(pl.Datetime("us", kind.time_zone if zone else None))  # type: ignore[attr-defined]
    known = column.is_not_null().to_numpy()
    numbers = column.cast(pl.Int64, strict=False).fill_null(0).to_numpy()
    return Times(np.ascontiguousarray(numbers), known, counted, zone)


def values_of(column: pl.Series) -> Values:
    """Convert a numeric or boolean column to float32.

    Null counts as missing; NaN and infinities, also those beyond float32, count as non-finite.
    Both become NaN. Raises DataError for text and any other type.
    """
    kind = column.dtype
    if column.null_count() == len(column):
        column, kind = column.cast(pl.Null), pl.Null()
    if not (kind.is_numeric() or kind in {pl.Boolean, pl.Null}):
        message = f"column {column.name!r} holds {_type_words(kind)}"
        if kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum):
            example = next((repr(item) for item in column.head(1000).drop_nulls()), "nothing")
            message += f", such as {example}"
        raise DataError(message, hint="a target or covariate must hold numbers; convert it first")
    nulls = column.null_count()
    with np.errstate(over="ignore"):
        numbers = column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float32)
    bad = ~np.isfinite(numbers)
    numbers[bad] = np.nan
    return Values(numbers, nulls, int(np.count_nonzero(bad)) - nulls)


def keys_of(column: pl.Series) -> pl.Series:
    """Convert an id column to text, null where it is null. Raises DataError for other types."""
    kind = column.dtype
    textual = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
    if not (textual or kind.is_integer() or kind == pl.Boolean):
        message = f"the id column {column.name!r} holds {_type_words(kind)}"
        raise DataError(message, hint="an id must be text or whole numbers; convert it first")
    return column.cast(pl.String)


def stamps_of(column: pl.Series) -> pl.Series:
    """Parse ISO 8601 text; a zone in the text makes the stamps UTC. Raises DataError."""
    zoned = column.str.contains(r"(Z|[+-]\d{2}:?\d{2})$").any()
    try:
        return column.str.to_datetime(time_unit="us", time_zone="UTC" if zoned else None)
    except PolarsError:
        example = next((repr(item) for item in column.head(1000).drop_nulls()), "nothing")
        message = f"the time column {column.name!r} holds text such as {example}"
        hint = "write stamps as in 2013-01-31T06:00:00, or whole numbers"
        raise DataError(message, hint=hint) from None


def _type_words(kind: pl.DataType) -> str:
    if kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum):
        return "text"
    if is_frame(kind):
        return "frames, which may only be past covariates"
    if isinstance(kind, pl.List):
        return "lists"
    return "true and false" if kind == pl.Boolean else f"values of type {kind}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"
