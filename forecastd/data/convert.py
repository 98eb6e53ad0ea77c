"""Writes data sets: batches of frames into one file, of the format its name says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import polars as pl
import pyarrow as pa
from pyarrow import ipc, parquet

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.frames import is_frame
from forecastd.data.inputs import FORMATS, inputs_of
from forecastd.data.layouts import is_rolled
from forecastd.data.piles import sorted_frames
from forecastd.data.pivot import series_for_wide, wide_frames
from forecastd.data.reader import BATCH_ROWS
from forecastd.data.table import WIDE_ID, WIDE_TARGET, long_batches
from forecastd.errors import DataError, UserError
from forecastd.files import publish_file

Form = Literal["as found", "long", "wide"]


def convert(
    data: DataSettings, target: Path, form: Form = "as found", *, sort: bool = False
) -> int:
    """Write the data set of `data` to the file `target`, and return its rows.

    "as found": all columns. "long": the columns of `data`, a row for each value. "wide": a column
    for each series, by time. sort: by series and time. All of it piece by piece; what is sorted
    lies beside the target meanwhile. Raises DataError, also where a frame has that form already
    or has too many series to be wide.
    """
    if form == "wide":
        series = series_for_wide(data)
        with _room_beside(target) as folder:
            schema, frames = wide_frames(data, series, folder)
            return write_frames(schema, frames, target)
    if form == "as found":
        inputs = inputs_of(data.path)
        schema = schema_of_inputs(inputs)
        frames = read_batches(inputs, Selection(schema, BATCH_ROWS))
    else:
        if not data.wide and not is_rolled(schema_of_inputs(inputs_of(data.path)), data):
            message = f"{data.path} is long already: one row for each series and time"
            raise DataError(message, hint="leave --long away to change the format only")
        batches = long_batches(data, Path(), BATCH_ROWS)
        schema, frames = batches.schema, batches.frames
    if not sort:
        return write_frames(schema, frames, target)
    with _room_beside(target) as folder:
        return write_frames(
            schema, sorted_frames(frames, _order(data, form, schema), folder), target
        )


def write_frames(schema: pl.Schema, frames: Iterator[pl.DataFrame], target: Path) -> int:
    """Write batches of one schema as a file that appears whole or not at all; return its rows.

    Raises UserError for an unknown format and a place that cannot be written.
    """
    if target.suffix.lower() not in _WRITERS:
        message = f"{target} ends in {target.suffix or 'no suffix'}, which is no known format"
        raise UserError(message, hint=f"known: {', '.join(FORMATS)}")
    framed = [name for name, kind in schema.items() if is_frame(kind)]
    if framed and target.suffix.lower() not in _KEEPS_FRAMES:
        message = f"column {framed[0]!r} holds frames, which a {target.suffix} file cannot"
        raise UserError(message, hint="write a Parquet or an Arrow file")
    rows = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            written = Path(folder) / target.name
            kind = _WRITERS[target.suffix.lower()]
            with written.open("wb") as file, closing(kind(file, schema)) as writer:
                for frame in frames:
                    writer.write(frame)
                    rows += frame.height
            publish_file(written, target)
    except OSError as error:
        message = f"cannot write {target}: {error.strerror or error}"
        raise UserError(message, hint="choose another output file") from error
    return rows


@contextmanager
def _room_beside(target: Path) -> Iterator[Path]:
    """Give a folder beside a file, which is gone when the block ends."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        message = f"cannot write beside {target}: {error.strerror or error}"
        raise UserError(message, hint="choose another output file") from error


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


_KEEPS_FRAMES = {".parquet", ".arrow", ".feather", ".ipc"}


def _arrow_schema(schema: pl.Schema) -> pa.Schema:
    """Return the types to write; categories are text, so that batches need share no dictionary."""
    texts = {n: pl.String() for n, k in schema.items() if isinstance(k, pl.Categorical | pl.Enum)}
    found: pa.Schema = pl.DataFrame(schema={**schema, **texts}).to_arrow().schema
    return found
