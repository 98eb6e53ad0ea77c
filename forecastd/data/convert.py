"""Writes data sets: batches of frames into one file, of the format its name says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import polars as pl
import pyarrow as pa
from pyarrow import ipc, parquet

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.inputs import FORMATS, inputs_of
from forecastd.data.layouts import is_rolled
from forecastd.data.reader import BATCH_ROWS, concat
from forecastd.data.table import WIDE_ID, WIDE_TARGET, long_batches, read_long
from forecastd.errors import DataError, UserError
from forecastd.files import publish_file

Form = Literal["as found", "long", "wide"]


def convert(
    data: DataSettings, target: Path, form: Form = "as found", *, sort: bool = False
) -> int:
    """Write the data set of `data` to the file `target`, and return its rows.

    "as found": all columns, batch by batch. "long": the columns of `data`, a row for each value,
    batch by batch. "wide": a column for each series, in memory. sort: by series and time, in
    memory. Raises DataError, also where a frame has that form already.
    """
    if form == "as found":
        inputs = inputs_of(data.path)
        schema = schema_of_inputs(inputs)
        frames = read_batches(inputs, Selection(schema, BATCH_ROWS))
    elif form == "long":
        inputs = inputs_of(data.path)
        if not data.wide and not is_rolled(schema_of_inputs(inputs), data.target[0]):
            message = f"{data.path} is long already: one row for each series and time"
            raise DataError(message, hint="leave --long away to change the format only")
        batches = long_batches(data, Path(), BATCH_ROWS)
        schema, frames = batches.schema, batches.frames
    else:
        wide = _pivoted(data)
        schema, frames = wide.schema, wide.iter_slices(BATCH_ROWS)
    if sort:
        by = _order(data, form, schema)
        whole = concat(schema, frames).sort(by, maintain_order=True)
        frames = whole.iter_slices(BATCH_ROWS)
    return write_frames(schema, frames, target)


def write_frames(schema: pl.Schema, frames: Iterator[pl.DataFrame], target: Path) -> int:
    """Write batches of one schema as a file that appears whole or not at all; return its rows.

    Raises UserError for an unknown format and a place that cannot be written.
    """
    if target.suffix.lower() not in _WRITERS:
        message = f"{target} ends in {target.suffix or 'no suffix'}, which is no known format"
        raise UserError(message, hint=f"known: {', '.join(FORMATS)}")
    rows = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            with written.open("wb") as file:
                writer = _WRITERS[target.suffix.lower()](file, schema)
                for frame in frames:
                    writer.write(frame)
                    rows += frame.height
                writer.close()
            publish_file(written, target)
    except OSError as error:
        message = f"cannot write {target}: {error.strerror or error}"
        raise UserError(message, hint="choose another output file") from error
    return rows


def _pivoted(data: DataSettings) -> pl.DataFrame:
    """Return a column for each series of a long data set."""
    if data.wide or data.id is None:
        message = f"{data.path} has no column of series that could become columns"
        raise DataError(message, hint="leave --wide away to change the format only")
    frame, columns = read_long(data, Path())
    found = frame.select(pl.col(data.id).cast(pl.String), columns.time, columns.target)
    repeated = found.select(data.id, columns.time).is_duplicated()
    if repeated.any():
        which = found.filter(repeated).row(0)
        message = f"the series {which[0]!r} has several rows at {which[1]}"
        raise DataError(message, hint="a wide frame has one value for each; remove the repeats")
    wide = found.pivot(data.id, index=columns.time, values=columns.target, maintain_order=True)
    return wide.sort(columns.time)


def _order(data: DataSettings, form: Form, schema: pl.Schema) -> list[str]:
    if form == "long" and data.wide:
        return [WIDE_ID, data.time]
    keys = [data.id, data.time] if data.id is not None else [data.time]
    return [name for name in keys if name in schema and name != WIDE_TARGET]


class _Writer(Protocol):
    def __init__(self, file: BinaryIO, schema: pl.Schema) -> None: ...

    def write(self, frame: pl.DataFrame) -> None: ...

    def close(self) -> None: ...


class _ParquetWriter:
    def __init__(self, file: BinaryIO, schema: pl.Schema) -> None:
        self._schema = _arrow_schema(schema)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, frame: pl.DataFrame) -> None:
        self._writer.write_table(frame.to_arrow().cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class _IpcWriter:
    def __init__(self, file: BinaryIO, schema: pl.Schema) -> None:
        self._schema = _arrow_schema(schema)
        self._writer = ipc.new_file(file, self._schema)

    def write(self, frame: pl.DataFrame) -> None:
        self._writer.write_table(frame.to_arrow().cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class _CsvWriter:
    def __init__(self, file: BinaryIO, schema: pl.Schema) -> None:
        nested = [name for name, kind in schema.items() if kind.is_nested()]
        if nested:
            message = f"column {nested[0]!r} holds lists, which CSV cannot"
            raise DataError(
                message, hint="write Parquet, Arrow or NDJSON, or unroll it with --long"
            )
        self._file = file
        pl.DataFrame(schema=schema).write_csv(file)

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_csv(self._file, include_header=False)

    def close(self) -> None:
        self._file.flush()


class _NdjsonWriter:
    def __init__(self, file: BinaryIO, schema: pl.Schema) -> None:
        self._file = file

    def write(self, frame: pl.DataFrame) -> None:
        frame.write_ndjson(self._file)

    def close(self) -> None:
        self._file.flush()


_WRITERS: dict[str, type[_Writer]] = {
    ".parquet": _ParquetWriter,
    ".csv": _CsvWriter,
    ".ndjson": _NdjsonWriter,
    ".jsonl": _NdjsonWriter,
    ".arrow": _IpcWriter,
    ".feather": _IpcWriter,
    ".ipc": _IpcWriter,
}


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    """Return the types to write; categories are text, so that batches need share no dictionary."""
    texts = {n: pl.String() for n, k in schema.items() if isinstance(k, pl.Categorical | pl.Enum)}
    found: pa.Schema = pl.DataFrame(schema={**schema, **texts}).to_arrow().schema
    return found
