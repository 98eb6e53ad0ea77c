"""A data set as lines of a live stream: in time order across series, any line found again.

The frame is in memory; lines are made a few thousand at a time, when they are about to be sent.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from forecast_cli.sender import Piece
from forecastd.config import DataSettings
from forecastd.data.reader import keys_of, times_of, values_of
from forecastd.data.table import Columns, read_long
from forecastd.errors import DataError
from forecastd.series import IntArray

ROWS_AT_ONCE = 4096


class History:
    """Observations of a data set as NDJSON lines, sorted by time, then series.

    speed: data seconds (or counts) per second; None: all pieces are due at once. Rows that repeat
    a stamp stay: the receiver counts them.
    """

    def __init__(
        self, frame: pl.DataFrame, times: IntArray, columns: Columns, speed: float | None
    ) -> None:
        self._frame = frame
        self._times = times
        self.columns = columns
        self._per_second = None if speed is None else speed * (1 if self._counted else 1_000_000)

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

        Rows without time or series are left out. Raises DataError where no row is left.
        """
        frame, columns = read_long(data, base)
        times = times_of(frame[columns.time])
        keep = times.known.copy()
        ranks = np.zeros(len(keep), np.int64)
        if columns.id is not None:
            names = keys_of(frame[columns.id])
            keep &= names.is_not_null().to_numpy()
            ranks = names.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
            frame = frame.with_columns(names.alias(columns.id))
        if start is not None:
            keep &= times.values >= _moment(start, times.counted, "--from")
        if until is not None:
            keep &= times.values < _moment(until, times.counted, "--until")
        rows = np.flatnonzero(keep)
        rows = rows[np.lexsort((ranks[rows], times.values[rows]))][:limit]
        if len(rows) == 0:
            message = f"no observation of {data.path} lies between --from and --until"
            raise DataError(message, hint="forecast data check shows what the data set holds")
        columns = Columns(**{**asdict(columns), "time_zone": times.time_zone})
        wanted = [columns.id, columns.time, *columns.channels, *columns.static]
        shown = frame.select([name for name in wanted if name is not None])[rows]
        for name in columns.channels:
            values_of(shown[name].head(1))  # text where numbers belong is found before sending
        return cls(shown, times.values[rows], columns, speed)

    def __len__(self) -> int:
        return len(self._times)

    @property
    def digest(self) -> str:
        """Text that differs for another choice of rows or columns: part of a stream's name."""
        what = [list(self._frame.columns), len(self), int(self._times[0]), int(self._times[-1])]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]

    def pieces_from(self, line: int) -> Iterator[Piece]:
        """Yield the lines from number `line` on; where paced, a piece for each stamp."""
        for begin in range(line, len(self), ROWS_AT_ONCE):
            data = self._lines(begin, min(begin + ROWS_AT_ONCE, len(self)))
            if self._per_second is None:
                yield Piece(0.0, data)
                continue
            stamps = self._times[begin : begin + ROWS_AT_ONCE]
            cuts = [0, *(np.flatnonzero(np.diff(stamps)) + 1).tolist(), len(stamps)]
            parts = data.splitlines(keepends=True)
            for first, end in itertools.pairwise(cuts):
                due_s = float(stamps[first] - self._times[line]) / self._per_second
                yield Piece(due_s, b"".join(parts[first:end]))

    @property
    def _counted(self) -> bool:
        return self._frame[self.columns.time].dtype.is_integer()

    def _lines(self, begin: int, end: int) -> bytes:
        """Return rows as NDJSON: times in ISO 8601, what is not a number null."""
        columns, part = self.columns, self._frame[begin:end]
        shown = []
        for name in columns.channels:
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
            stamps = pl.Series(self._times[begin:end]).cast(pl.Datetime("us"))
            text = stamps.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").str.strip_suffix(".000000")
            zone = "Z" if columns.time_zone else ""
            shown.append((text + zone).alias(columns.time))  # type: ignore[arg-type]
        buffer = io.BytesIO()
        part.with_columns(shown).write_ndjson(buffer)
        return buffer.getvalue()


def _moment(text: str, counted: bool, option: str) -> int:
    """Return a stamp given as text as int64. Raises DataError."""
    try:
        return int(text) if counted else int(times_of(pl.Series([text])).values[0])
    except (ValueError, DataError) as error:
        kind = "a whole number" if counted else "a stamp such as 2013-12-01 or 2013-12-01T06:00:00"
        message = f"{option} {text!r} does not fit the time column"
        raise DataError(message, hint=f"write {kind}") from error
