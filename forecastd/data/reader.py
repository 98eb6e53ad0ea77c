"""Reading files into frames and columns: every format, one kind of error.

Whatever is wrong with a file or a column ends as a DataError that says what to change; errors of
the libraries beneath never reach the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.exceptions import PanicException, PolarsError

from forecastd.errors import DataError
from forecastd.series import FloatArray, IntArray

FORMATS = (".parquet", ".csv", ".ndjson", ".jsonl", ".arrow", ".feather", ".ipc")
MISSING_WORDS = ["NA", "N/A", "null", "NULL", "nan"]
"""Words that mean a missing value in CSV, beside the empty field."""
SCHEMA_ROWS = 10_000


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
    with _one_sentence(path_text):
        return _scan(path_text).collect_schema()


def read_frame(path_text: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Read the named columns (None: all) of a file, a folder or glob of Parquet.

    Raises DataError when there is no such file, when it is damaged or of an unknown format, or
    when a column is missing.
    """
    with _one_sentence(path_text):
        scan = _scan(path_text)
        schema = scan.collect_schema()
    if columns is not None:
        require_columns(path_text, list(schema), columns)
        scan = scan.select(columns)
    with _one_sentence(path_text):
        return scan.collect()


def require_columns(path_text: str, found: list[str], wanted: list[str]) -> None:
    """Raise DataError for the first wanted column that is not found, with the nearest name."""
    for name in wanted:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
            message = f"{path_text} has no column {name!r}"
            hint = f"did you mean {near[0]!r}?" if near else f"it has {_listed(found)}"
            raise DataError(message, hint=hint)


def input_files(path_text: str) -> list[Path]:
    """Return the files that a path, folder or glob stands for, sorted; never empty."""
    path = Path(path_text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        if not files:
            message = f"the folder {path_text} has no .parquet file"
            raise DataError(message, hint="name a file, or a folder or glob of Parquet files")
        return files
    if any(mark in path_text for mark in "*?["):
        parts = path.parts
        first = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))
        matches = Path(*parts[:first]).glob(str(Path(*parts[first:])))
        files = sorted(match for match in matches if match.is_file())
        if files:
            return files
    message = f"there is no file {path_text}"
    raise DataError(message, hint="check the path; in a config it starts at the config's folder")


def times_of(column: pl.Series) -> Times:
    """Convert a time column to int64: microseconds UTC, or counts where it holds integers.

    Stamps without zone are kept as they are, dates become midnight, ISO 8601 text is parsed.
    Raises DataError for any other type and for text that is no stamp.
    """
    kind = column.dtype
    if kind == pl.String:
        column = _parse_text(column)
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
        example = next((repr(item) for item in column.head(1000).drop_nulls()), "nothing")
        message = f"column {column.name!r} holds {_type_words(kind)}, such as {example}"
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


@contextmanager
def _one_sentence(path_text: str) -> Iterator[None]:
    """Turn what the readers raise into a DataError of one sentence."""
    try:
        yield
    except DataError:
        raise
    except (PolarsError, PanicException, OSError, UnicodeDecodeError) as error:
        words = " ".join((str(error).strip() or type(error).__name__).split())
        reason = words if len(words) <= 160 else f"{words[:157]}..."
        message = f"cannot read {path_text}: {reason}"
        hint = "the file is damaged, cut short, or not of the format its name says"
        raise DataError(message, hint=hint) from error


def _scan(path_text: str) -> pl.LazyFrame:
    files = input_files(path_text)
    suffixes = {file.suffix.lower() for file in files}
    if len(suffixes) > 1:
        message = f"{path_text} names files of several formats: {_listed(sorted(suffixes))}"
        raise DataError(message, hint="narrow the glob to one format")
    suffix = suffixes.pop()
    if suffix not in FORMATS:
        message = f"{path_text} ends in {suffix or 'no suffix'}, which is no known format"
        raise DataError(message, hint=f"known: {_listed(list(FORMATS))}")
    for file in files:
        if file.stat().st_size == 0:
            message = f"the file {file} is empty"
            raise DataError(message, hint="write the data again, or name another file")
    return _scan_files(files, suffix)


def _scan_files(files: list[Path], suffix: str) -> pl.LazyFrame:
    if suffix == ".parquet":
        hive = any("=" in part for file in files for part in file.parent.parts)
        return pl.scan_parquet(files, hive_partitioning=hive, glob=False)
    if suffix == ".csv":
        return pl.scan_csv(
            files,
            try_parse_dates=True,
            null_values=MISSING_WORDS,
            infer_schema_length=SCHEMA_ROWS,
            glob=False,
        )
    if suffix in {".ndjson", ".jsonl"}:
        return pl.scan_ndjson(files, infer_schema_length=SCHEMA_ROWS)
    return pl.scan_ipc(files, glob=False)


def _parse_text(column: pl.Series) -> pl.Series:
    """Parse ISO 8601 text; a zone in the text makes the stamps UTC."""
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
    return "true and false" if kind == pl.Boolean else f"values of type {kind}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"
