"""Makes a wide frame of a long data set, in bounded memory: rows by time, a column for each series.

A row of a wide frame needs all series of one moment, so rows are sorted by time first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from forecastd.config import DataSettings
from forecastd.data.piles import sorted_frames
from forecastd.data.reader import BATCH_ROWS
from forecastd.data.table import LongBatches, long_batches
from forecastd.errors import DataError

SERIES_MAX = 10_000
"""Columns beyond which neither a file nor a reader of it stays quick."""
CELLS_MAX = 1 << 22
"""Values of a wide frame that are in memory at once."""
_KEY = "\1key"


def series_for_wide(data: DataSettings) -> list[str]:
    """Return the series of a long data set as they first appear.

    Raises DataError where there is no column of series, or more series than fit a wide frame.
    """
    if data.wide or data.id is None:
        message = f"{data.path} has no column of series that could become columns"
        raise DataError(message, hint="leave --wide away to change the format only")
    seen: dict[str, None] = {}
    for frame in _keyed(_narrow(data), data):
        seen |= dict.fromkeys(frame[_KEY].unique(maintain_order=True).to_list())
    if len(seen) > SERIES_MAX:
        message = f"{data.path} has {len(seen):,} series, a wide frame at most {SERIES_MAX:,}"
        raise DataError(message, hint="keep it long, or choose fewer series")
    if data.time in seen:
        message = f"the series {data.time!r} is called what the column of times is called"
        raise DataError(message, hint="rename one of them")
    return list(seen)


def wide_frames(
    data: DataSettings, series: list[str], folder: Path
) -> tuple[pl.Schema, Iterator[pl.DataFrame]]:
    """Return schema and frames of the wide form, by time. folder: for what is sorted meanwhile.

    The frames raise DataError where a series has several rows at one time.
    """
    batches = _narrow(data)
    kind = batches.schema[data.target[0]]
    schema = pl.Schema({data.time: batches.schema[data.time], **dict.fromkeys(series, kind)})
    frames = sorted_frames(_keyed(batches, data), [data.time], folder)
    return schema, _pivoted(frames, schema, data)


def _narrow(data: DataSettings) -> LongBatches:
    return long_batches(data.model_copy(update={"past": [], "static": []}), Path(), BATCH_ROWS)


def _keyed(batches: LongBatches, data: DataSettings) -> Iterator[pl.DataFrame]:
    """Yield key, time and value of each row; a row without a series counts as one of "null"."""
    for frame in batches.frames:
        key = pl.col(str(data.id)).cast(pl.String).fill_null("null").alias(_KEY)
        yield frame.select(key, data.time, data.target[0])


def _pivoted(
    frames: Iterator[pl.DataFrame], schema: pl.Schema, data: DataSettings
) -> Iterator[pl.DataFrame]:
    """Yield frames of whole moments from rows by time."""
    at_once = max(1, CELLS_MAX // len(schema))
    rest: pl.DataFrame | None = None
    for frame in frames:
        together = frame if rest is None else pl.concat([rest, frame])
        marks = together[data.time].rle_id().to_numpy()
        starts = np.append(np.flatnonzero(np.diff(marks, prepend=-1)), together.height)
        # The last moment may go on in the next frame.
        whole = starts[:-1][::at_once].tolist()
        for first, end in zip(whole, [*whole[1:], int(starts[-2])], strict=True):
            if end > first:
                yield _spread(together.slice(first, end - first), schema, data)
        rest = together.slice(int(starts[-2]))
        _require_single(rest, data)
    if rest is not None:
        yield _spread(rest, schema, data)


def _spread(rows: pl.DataFrame, schema: pl.Schema, data: DataSettings) -> pl.DataFrame:
    _require_single(rows, data)
    found = rows.pivot(_KEY, index=data.time, values=data.target[0], maintain_order=True)
    missing = [pl.lit(None, kind).alias(n) for n, kind in schema.items() if n not in found.columns]
    return found.with_columns(missing).select(schema.names())


def _require_single(rows: pl.DataFrame, data: DataSettings) -> None:
    repeated = rows.select(_KEY, data.time).is_duplicated()
    if repeated.any():
        which = rows.filter(repeated).row(0)
        message = f"the series {which[0]!r} has several rows at {which[1]}"
        raise DataError(message, hint="a wide frame has one value for each; remove the repeats")
