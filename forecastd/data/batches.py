"""Reads the files of a data set batch by batch, in file order, with one schema for all of them.

At most a batch and what its format decodes at once is in memory: a page of each column of a
Parquet row group, a record batch of an Arrow file, some lines of a text file.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from polars.exceptions import PanicException, PolarsError
from pyarrow import dataset, ipc, parquet

from forecastd.data.inputs import InputFile, Inputs
from forecastd.data.where import Predicate, as_arrow, as_polars, columns_in, conjuncts
from forecastd.errors import DataError

MISSING_WORDS = ["NA", "N/A", "null", "NULL", "nan"]
"""Words that mean a missing value in CSV, beside the empty field."""
SCHEMA_ROWS = 10_000
COPY_BYTES = 1 << 22
READ_BYTES = 1 << 20
_FAILURES = (PolarsError, PanicException, OSError, UnicodeDecodeError, pa.ArrowException)


def schema_of_inputs(inputs: Inputs) -> pl.Schema:
    """Return names and types of the columns that all files share, partition columns last.

    Widths are unified: to the wider integer, to a float where one file has floats. Raises
    DataError naming file and column where a type changes or a column is missing.
    """
    first = inputs.files[0]
    schema = dict(schema_of_file(inputs, first))
    for file in inputs.files[1:]:
        found = schema_of_file(inputs, file)
        for name, kind in schema.items():
            if name not in found:
                message = f"{file.name} has no column {name!r}, which {first.name} has"
                raise DataError(message, hint="all files of a data set need the same columns")
            common = _common_type(kind, found[name])
            if common is None:
                message = (
                    f"column {name!r} changes its type: {kind} in {first.name}, "
                    f"{found[name]} in {file.name}"
                )
                raise DataError(message, hint="convert the column to one type in all files")
            schema[name] = common
    for name, kind in _partition_types(inputs).items():
        schema.setdefault(name, kind)
    return pl.Schema(schema)


@dataclass(frozen=True)
class Selection:
    """What to read: columns with their types, rows at most in a batch, and which rows.

    heads: only the first batch of at most so many row groups of a Parquet file, evenly spread.
    """

    schema: pl.Schema
    rows: int
    where: Predicate | None = None
    heads: int | None = None


def read_batches(inputs: Inputs, wanted: Selection) -> Iterator[pl.DataFrame]:
    """Yield batches of the columns of `wanted`, which include those that its `where` looks at.

    Files and row groups whose partition or statistics rule out every row are not read. Raises
    DataError naming the file that cannot be read.
    """
    for file in inputs.files:
        if _may_hold(file, wanted):
            yield from _file_batches(inputs, file, wanted)


def _may_hold(file: InputFile, wanted: Selection) -> bool:
    """Tell whether the partition of a file leaves any row for the predicate."""
    for part in conjuncts(wanted.where) if wanted.where is not None else []:
        names = columns_in(part)
        if all(name in file.parts for name in names):
            row = pl.DataFrame({name: [file.parts[name]] for name in names})
            row = row.select(pl.col(name).cast(wanted.schema[name]) for name in names)
            if row.filter(as_polars(part, wanted.schema)).is_empty():
                return False
    return True


def schema_of_file(inputs: Inputs, file: InputFile) -> pl.Schema:
    """Return names and types of the columns in one file. Raises DataError."""
    with one_sentence(file.name):
        return _OPENERS[inputs.suffix](inputs, file).schema()


def _file_batches(inputs: Inputs, file: InputFile, wanted: Selection) -> Iterator[pl.DataFrame]:
    schema = wanted.schema
    keep = None if wanted.where is None else as_polars(wanted.where, schema)
    opened = _OPENERS[inputs.suffix](inputs, file)
    with one_sentence(file.name):
        found = list(opened.schema())
    inside = [name for name in schema if name in found]
    outside = [name for name in schema if name not in found]
    for name in outside:
        if name not in file.parts:
            message = f"{file.name} has no column {name!r}"
            raise DataError(message, hint="the file changed while it was read, or lacks a column")
    # A file whose columns are all partitions still tells how many rows there are.
    frames = opened.frames(inside or found[:1], wanted)
    while True:
        with one_sentence(file.name):
            frame = next(frames, None)
        if frame is None:
            return
        literals = [pl.lit(file.parts[name]).alias(name) for name in outside]
        with one_sentence(file.name):
            shaped = frame.with_columns(literals).select(list(schema))
            shaped = shaped.cast({n: k for n, k in schema.items() if shaped[n].dtype != k})
            shaped = shaped if keep is None else shaped.filter(keep)
        if shaped.height:
            yield from shaped.iter_slices(wanted.rows)


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn what the readers raise into a DataError of one sentence."""
    try:
        yield
    except DataError:
        raise
    except _FAILURES as error:
        words = " ".join((str(error).strip() or type(error).__name__).split())
        reason = words if len(words) <= 160 else f"{words[:157]}..."
        message = f"cannot read {name}: {reason}"
        hint = "the file is damaged, cut short, or not of the format its name says"
        if isinstance(error, FileNotFoundError):
            message, hint = f"the file {name} is gone", "it was there when the reading began"
        raise DataError(message, hint=hint) from error


@dataclass(frozen=True)
class _ParquetFile:
    inputs: Inputs
    file: InputFile

    def schema(self) -> pl.Schema:
        with self._open() as opened:
            return _polars_schema(opened.schema_arrow)

    def frames(self, columns: list[str], wanted: Selection) -> Iterator[pl.DataFrame]:
        with self._open() as opened:
            groups = self._row_groups(opened, wanted)
            if wanted.heads is None:
                batches = opened.iter_batches(wanted.rows, groups, columns)
            else:
                spread = groups[:: max(1, -(-len(groups) // wanted.heads))]
                parts = (opened.iter_batches(wanted.rows, [group], columns) for group in spread)
                batches = (batch for part in parts for batch in itertools.islice(part, 1))
            for batch in batches:
                yield _frame(batch)

    def _row_groups(self, opened: parquet.ParquetFile, wanted: Selection) -> list[int]:
        """Return the row groups that the statistics do not rule out."""
        groups = list(range(opened.metadata.num_row_groups))
        for part in conjuncts(wanted.where) if wanted.where is not None else []:
            schema = opened.schema_arrow
            if not set(columns_in(part)) <= set(schema.names):
                continue
            try:
                condition = as_arrow(part, schema, wanted.schema)
                fragment = dataset.ParquetFileFormat().make_fragment(
                    self.file.path, self.inputs.filesystem, row_groups=groups
                )
                groups = [group.id for group in fragment.subset(condition, schema).row_groups]
            except pa.ArrowException:
                continue  # a type without statistics: each row is looked at
        return groups

    def _open(self) -> parquet.ParquetFile:
        # Reading ahead keeps every column chunk that was read: memory would grow with the file.
        raw = self.inputs.filesystem.open_input_file(self.file.path)
        return parquet.ParquetFile(raw, pre_buffer=False, buffer_size=READ_BYTES)


@dataclass(frozen=True)
class _IpcFile:
    inputs: Inputs
    file: InputFile

    def schema(self) -> pl.Schema:
        with self._open() as raw, self._reader(raw) as reader:
            return _polars_schema(reader.schema)

    def frames(self, columns: list[str], wanted: Selection) -> Iterator[pl.DataFrame]:
        with self._open() as raw, self._reader(raw) as reader:
            counted = isinstance(reader, ipc.RecordBatchFileReader)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if counted else reader
            for batch in batches:
                chosen = batch.select(columns)
                for start in range(0, chosen.num_rows, wanted.rows):
                    yield _frame(chosen.slice(start, wanted.rows))

    def _open(self) -> pa.NativeFile:
        if self.inputs.local:
            return pa.memory_map(self.file.path)
        return self.inputs.filesystem.open_input_file(self.file.path)

    def _reader(
        self, raw: pa.NativeFile
    ) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
        magic = raw.read(6)
        raw.seek(0)
        return ipc.open_file(raw) if magic == b"ARROW1" else ipc.open_stream(raw)


@dataclass(frozen=True)
class _TextFile:
    inputs: Inputs
    file: InputFile

    def schema(self) -> pl.Schema:
        with self._on_disk() as path:
            return self._scan(path).collect_schema()

    def frames(self, columns: list[str], wanted: Selection) -> Iterator[pl.DataFrame]:
        with self._on_disk() as path:
            stamps: list[str] = []
            if self.inputs.suffix == ".csv":
                found = self._scan(path).select(columns).collect_schema()
                stamps = [name for name, kind in found.items() if kind == pl.Datetime("us")]
            scan = self._scan(path, stamps).select(columns)
            # Times are parsed here: the CSV reader itself takes ten times as long for the same.
            parse = [pl.col(name).str.to_datetime(time_unit="us") for name in stamps]
            for frame in scan.collect_batches(chunk_size=wanted.rows, maintain_order=True):
                yield frame.with_columns(parse)

    def _scan(self, path: str, as_text: Sequence[str] = ()) -> pl.LazyFrame:
        if self.inputs.suffix == ".csv":
            return pl.scan_csv(
                path,
                try_parse_dates=True,
                schema_overrides=dict.fromkeys(as_text, pl.String()),
                null_values=MISSING_WORDS,
                infer_schema_length=SCHEMA_ROWS,
                glob=False,
            )
        return pl.scan_ndjson(path, infer_schema_length=SCHEMA_ROWS)

    @contextmanager
    def _on_disk(self) -> Iterator[str]:
        """Give the path of the file, or of a copy of one that lies elsewhere."""
        if self.inputs.local:
            with Path(self.file.path).open("rb"):  # the error for a missing file is the system's
                pass
            yield self.file.path
            return
        with tempfile.NamedTemporaryFile(suffix=self.inputs.suffix) as copy:
            with self.inputs.filesystem.open_input_stream(self.file.path) as stream:
                while block := stream.read(COPY_BYTES):
                    copy.write(block)
            copy.flush()
            yield copy.name


_Opened = _ParquetFile | _IpcFile | _TextFile
_OPENERS: dict[str, Callable[[Inputs, InputFile], _Opened]] = {
    ".parquet": _ParquetFile,
    ".arrow": _IpcFile,
    ".feather": _IpcFile,
    ".ipc": _IpcFile,
    ".csv": _TextFile,
    ".ndjson": _TextFile,
    ".jsonl": _TextFile,
}


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """Return a record batch as a frame; decimals beyond 38 digits become floats."""
    table = pa.Table.from_batches([batch])
    plain = _plain(table.schema)
    frame = pl.from_arrow(table if plain is table.schema else table.cast(plain))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _polars_schema(schema: pa.Schema) -> pl.Schema:
    frame = pl.from_arrow(pa.Table.from_batches([], schema=_plain(schema)))
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema of types that polars knows; the same object where nothing changes."""
    wide = [place for place, kind in enumerate(schema.types) if pa.types.is_decimal256(kind)]
    for place in wide:
        schema = schema.set(place, schema.field(place).with_type(pa.float64()))
    return schema


def _partition_types(inputs: Inputs) -> dict[str, pl.DataType]:
    """Return the partition columns: whole numbers where all values are, text otherwise."""
    names = list(dict.fromkeys(name for file in inputs.files for name in file.parts))
    types: dict[str, pl.DataType] = {}
    for name in names:
        values = [file.parts.get(name) for file in inputs.files]
        known = [value for value in values if value is not None]
        whole = known and all(str(_whole(value)) == value for value in known)
        types[name] = pl.Int64() if whole else pl.String()
    return types


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def _common_type(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type that holds the values of both, or None where they differ in kind."""
    pair = [kind for kind in (one, other) if kind != pl.Null]
    found: pl.DataType | None = None
    if len(pair) < 2 or one == other:
        found = pair[0] if pair else pl.Null()
    elif all(kind.is_integer() for kind in pair):
        found = pl.Int64()
    elif all(kind.is_numeric() for kind in pair):
        found = pl.Float64()
    elif all(_is_text(kind) for kind in pair):
        found = pl.String()
    elif isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = _common_type(_inner(one), _inner(other))
        found = None if inner is None else pl.List(inner)
    elif all(kind == pl.Date or isinstance(kind, pl.Datetime) for kind in pair):
        zones = {kind.time_zone if isinstance(kind, pl.Datetime) else None for kind in pair}
        if None not in zones or len(zones) == 1:
            found = pl.Datetime("us", zones.pop() if len(zones) == 1 else "UTC")
    return found


def _inner(kind: pl.List) -> pl.DataType:
    return kind.inner if isinstance(kind.inner, pl.DataType) else kind.inner()


def _is_text(kind: pl.DataType) -> bool:
    return kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
