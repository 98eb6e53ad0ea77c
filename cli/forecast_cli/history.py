"""A data set as lines of a live stream: in time order across series, any line found again.

The rows lie sorted in a file without a name; lines are made a few thousand at a time, when they
are about to be sent.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import ipc

from forecast_cli.sender import Piece
from forecastd.config import DataSettings
from forecastd.data.piles import sorted_frames
from forecastd.data.reader import BATCH_ROWS, keys_of, times_of, values_of
from forecastd.data.table import Columns, LongBatches, long_batches
from forecastd.errors import DataError, UserError

ROWS_AT_ONCE = 4096
_TIME = "\1time"


class History:
    """Observations of a data set as NDJSON lines, sorted by time, then series.

    speed: data seconds (or counts) per second; None: all pieces are due at once. Rows that repeat
    a stamp stay: the receiver counts them. Memory does not grow with the rows.
    """

    def __init__(
        self, rows: _SortedRows, columns: Columns, speed: float | None, *, counted: bool
    ) -> None:
        self._rows = rows
        self.columns = columns
        self._counted = counted
        self._per_second = None if speed is None else speed * (1 if counted else 1_000_000)

    @classmethod
    def read(
        cls,
        data: DataSettings,
        base: Path,
        *,
        speed: float | None = None,
        start: str | None = None,
        until: str | None = None,
        limit: int | None = None,
    ) -> History:
        """Read a data set. start, until: stamps, `until` not included. limit: lines at most.

        Rows without time or series are left out. Raises DataError where no row is left, and
        UserError where there is no room to sort.
        """
        batches = long_batches(data, base, BATCH_ROWS)
        first = None if start is None else _moment(start, batches.counted, "--from")
        end = None if until is None else _moment(until, batches.counted, "--until")
        keys = [_TIME] if batches.columns.id is None else [_TIME, batches.columns.id]
        try:
            with tempfile.TemporaryDirectory(prefix="forecast-replay-") as folder:
                frames = sorted_frames(_timed(batches, first, end), keys, Path(folder))
                rows = _SortedRows(frames, Path(folder) / "rows.arrow", limit)
        except OSError as error:
            message = f"cannot sort {data.path}: {error.strerror or error}"
            raise UserError(message, hint="let TMPDIR name a folder with more room") from error
        if len(rows) == 0:
            message = f"no observation of {data.path} lies between --from and --until"
            raise DataError(message, hint="forecast data check shows what the data set holds")
        for name in batches.columns.inputs:  # text is found before anything is sent
            values_of(next(rows.frames_from(0))[name].drop_nulls().head(1))
        return cls(rows, batches.columns, speed, counted=batches.counted)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def digest(self) -> str:
        """Text that differs for another choice of rows or columns: part of a stream's name."""
        what = [self._names, len(self), *self._rows.ends]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]

    def pieces_from(self, line: int) -> Iterator[Piece]:
        """Yield the lines from number `line` on; where paced, a piece for each stamp."""
        began: int | None = None
        for frame in self._rows.frames_from(line):
            data = self._lines(frame)
            if self._per_second is None:
                yield Piece(0.0, data)
                continue
            stamps = frame[_TIME].to_numpy()
            began = int(stamps[0]) if began is None else began
            cuts = [0, *(np.flatnonzero(np.diff(stamps)) + 1).tolist(), len(stamps)]
            parts = data.splitlines(keepends=True)
            for first, end in itertools.pairwise(cuts):
                due_s = float(stamps[first] - began) / self._per_second
                yield Piece(due_s, b"".join(parts[first:end]))

    @property
    def _names(self) -> list[str]:
        columns = self.columns
        wanted = [columns.id, columns.time, *columns.inputs, *columns.static]
        return [name for name in wanted if name is not None]

    def _lines(self, frame: pl.DataFrame) -> bytes:
        """Return rows as NDJSON: times in ISO 8601, what is not a number null."""
        columns, part = self.columns, frame.select(self._names)
        shown = []
        for name in columns.inputs:
            column = pl.col(name)
            if part[name].dtype.is_float():
                column = pl.when(column.is_finite()).then(column).alias(name)
            elif part[name].dtype == pl.Boolean:
                column = column.cast(pl.Int8)
            elif part[name].dtype.is_decimal():
                column = column.cast(pl.Float64)
            shown.append(column)
        shown += [pl.col(name).cast(pl.String) for name in columns.static]
        if not self._counted:
            stamps = frame[_TIME].cast(pl.Datetime("us"))
            text = stamps.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").str.strip_suffix(".000000")
            zone = "Z" if columns.time_zone else ""
            shown.append((text + zone).alias(columns.time))  # type: ignore[arg-type]
        buffer = io.BytesIO()
        part.with_columns(shown).write_ndjson(buffer)
        return buffer.getvalue()


class _SortedRows:
    """Rows in order in a file that is mapped; from then on it needs no name.

    ends: the stamps of the first and of the last row; none where there is no row.
    """

    def __init__(self, frames: Iterator[pl.DataFrame], path: Path, rows_max: int | None) -> None:
        self.ends: list[int] = []
        self._starts = [0]
        with path.open("wb") as file:
            self._write(frames, file, rows_max)
        self._file = ipc.open_file(pa.memory_map(str(path))) if len(self) else None

    def __len__(self) -> int:
        return self._starts[-1]

    def frames_from(self, line: int) -> Iterator[pl.DataFrame]:
        """Yield the rows from number `line` on, at most ROWS_AT_ONCE at a time."""
        first = bisect.bisect_right(self._starts, line) - 1
        for number in range(first, len(self._starts) - 1):
            assert self._file is not None
            frame = pl.from_arrow(pa.Table.from_batches([self._file.get_batch(number)]))
            assert isinstance(frame, pl.DataFrame)
            yield frame.slice(max(0, line - self._starts[number]))

    def _write(self, frames: Iterator[pl.DataFrame], file: BinaryIO, rows_max: int | None) -> None:
        writer: ipc.RecordBatchFileWriter | None = None
        for frame in frames:
            chosen = frame if rows_max is None else frame.head(rows_max - len(self))
            if chosen.height == 0:
                break
            for part in chosen.iter_slices(ROWS_AT_ONCE):
                table = part.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or ipc.new_file(file, table.schema)
                writer.write_table(table)
                self._starts.append(len(self) + part.height)
                first, last = part[_TIME][0], part[_TIME][-1]
                self.ends = [self.ends[0] if self.ends else first, last]
        if writer is not None:
            writer.close()


def _timed(batches: LongBatches, first: int | None, end: int | None) -> Iterator[pl.DataFrame]:
    """Yield the rows that have a series and a stamp from `first` on and before `end`."""
    columns = batches.columns
    for frame in batches.frames:
        times = times_of(frame[columns.time])
        keep = times.known.copy()
        if first is not None:
            keep &= times.values >= first
        if end is not None:
            keep &= times.values < end
        marked = frame.with_columns(pl.Series(_TIME, times.values))
        if columns.id is not None:
            marked = marked.with_columns(keys_of(frame[columns.id]).alias(columns.id))
            keep &= marked[columns.id].is_not_null().to_numpy()
        if keep.any():
            yield marked.filter(pl.Series(keep))


def _moment(text: str, counted: bool, option: str) -> int:
    """Return a stamp given as text as int64. Raises DataError."""
    try:
        return int(text) if counted else int(times_of(pl.Series([text])).values[0])
    except (ValueError, DataError) as error:
        kind = "a whole number" if counted else "a stamp such as 2013-12-01 or 2013-12-01T06:00:00"
        message = f"{option} {text!r} does not fit the time column"
        raise DataError(message, hint=f"write {kind}") from error
