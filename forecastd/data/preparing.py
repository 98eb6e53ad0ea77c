"""Makes the arrays of a store from batches of rows in any order, in bounded memory.

Rows that come in order are written as they come. From the first row that does not on, all go
through buckets on disk (`buckets.py`). Then the grid is found and its holes are opened in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from forecastd.config import DataSettings
from forecastd.data.buckets import Buckets, Seen
from forecastd.data.frequency import (
    DIFFERENCES_MAX,
    ROWS_MAX,
    SERIES_MAX,
    infer_frequency,
    infer_season,
)
from forecastd.data.giving_back import GivingBack
from forecastd.data.inputs import Inputs
from forecastd.data.intake import Intake, Rows
from forecastd.data.names import Names
from forecastd.data.sorting import in_order
from forecastd.data.spans import Spans
from forecastd.data.table import LongBatches
from forecastd.data.writing import BLOCK_ROWS, SortedWriter
from forecastd.errors import DataError
from forecastd.series import FloatArray, Frequency, IntArray

MEMORY_BYTES = 1 << 30
MEMORY_BYTES_MIN = 1 << 26
BATCH_ROWS_MAX = 1 << 18
BUCKET_ROWS_MAX = 1 << 20
"""Larger batches and buckets are no quicker: what a budget allows beyond them is left free."""
MONTHS_SERIES = 10_000
"""Series that `infer_frequency` looks at when it counts in months."""
_BATCH_SHARE, _BUCKET_SHARE = 1 / 8, 1 / 3


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` found and did, in counts.

    holes: runs of missing stamps that were filled with `rows_filled` rows. resets: longer runs,
    after which a series starts afresh. nulls, non_finite: per channel, before repeats are dropped;
    sentinels: how many of the nulls were numbers that mean a missing value.
    """

    rows_read: int
    series: int
    rows_without_key: int
    rows_without_time: int
    repeats_dropped: int
    rows_sorted_back: int
    holes: int = 0
    rows_filled: int = 0
    resets: int = 0
    nulls: dict[str, int] = field(default_factory=dict)
    non_finite: dict[str, int] = field(default_factory=dict)
    sentinels: dict[str, int] = field(default_factory=dict)
    frequency_reason: str = "set"
    season_reason: str = "set"


class PrepareProgress(NamedTuple):
    """How far `prepare` is: rows and bytes done in a stage.

    stage: "read", "sort" (only where rows are out of order), "merge" (only where a store grows) or
    "fill". rows_total: None where
    the input does not say. bytes: written so far. seconds_left: of the stage; None if unknown.
    """

    stage: str
    rows: int
    rows_total: int | None
    bytes: int
    seconds: float
    seconds_left: float | None


Report = Callable[[PrepareProgress], None]


class Preparing(NamedTuple):
    """How to make a store: the budget for rows in memory (None: MEMORY_BYTES), and who is told."""

    memory_bytes: int | None = None
    report: Report = lambda _: None


PREPARING = Preparing()


@dataclass
class Clock:
    """Tells how far a stage is: of `total` rows, where known, at `row_bytes` on disk each."""

    tell: Report
    stage: str
    total: int | None
    row_bytes: int
    rows: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, rows: int) -> None:
        """Count rows that are done."""
        self.rows += rows
        seconds = time.monotonic() - self.began
        left = None
        if self.total is not None and self.rows:
            left = seconds * max(0, self.total - self.rows) / self.rows
        done = self.rows * self.row_bytes
        self.tell(PrepareProgress(self.stage, self.rows, self.total, done, seconds, left))


class Memory(NamedTuple):
    """How many rows are handled at once within a budget: read, and sorted."""

    batch_rows: int
    bucket_rows: int


def memory_for(budget: int | None, channels: int) -> Memory:
    """Share a budget in bytes (None: MEMORY_BYTES). Less than MEMORY_BYTES_MIN counts as that."""
    whole = max(MEMORY_BYTES_MIN, MEMORY_BYTES if budget is None else budget)
    batch = int(whole * _BATCH_SHARE) // (96 + 16 * channels)
    bucket = int(whole * _BUCKET_SHARE) // (80 + 12 * channels)
    return Memory(max(1024, min(batch, BATCH_ROWS_MAX)), max(1024, min(bucket, BUCKET_ROWS_MAX)))


def rows_in(inputs: Inputs, across: int) -> int | None:
    """Return how many rows Parquet files say they have, times `across`; None for other formats."""
    if inputs.suffix != ".parquet" or not inputs.local:
        return None
    from pyarrow import ArrowException, parquet

    try:
        rows = [int(parquet.read_metadata(file.path).num_rows) for file in inputs.files]
    except (OSError, ArrowException):
        return None  # the reader says what is wrong
    return across * sum(rows)


@dataclass(frozen=True)
class Sorting:
    """What the sorting of rows needs."""

    batches: LongBatches
    intake: Intake
    folder: Path
    memory: Memory
    rows: int | None
    tell: Report
    spans: Spans | None = None
    now_and_then: GivingBack = field(default_factory=GivingBack)

    def take(self, frame: pl.DataFrame) -> Rows:
        """Take in a frame, and where it lies."""
        self.now_and_then()
        rows = self.intake.take(frame)
        if self.spans is not None:
            count = len(self.intake.names)
            self.spans.add(rows.series, rows.times, self.batches.file(), count)
        return rows

    @property
    def channels(self) -> int:
        """C, the numeric columns."""
        return len(self.batches.columns.channels)

    @property
    def row_bytes(self) -> int:
        """What a row takes on disk."""
        return 8 + 4 * self.channels


class Written(NamedTuple):
    """Rows kept of each series, by key; rows left out as repeats; rows that came out of order."""

    counts: IntArray
    repeats: int
    steps_back: int


def sort_rows(job: Sorting) -> Written:
    """Write times.npy and values.npy by (key, time), without repeats."""
    clock = Clock(job.tell, "read", job.rows, job.row_bytes)
    frames = job.batches.frames
    with SortedWriter(job.folder, job.channels) as writer:
        for frame in frames:
            known = len(job.intake.names)
            rows = job.take(frame)
            clock.add(frame.height)
            if not _follows(writer, rows, job.intake.names, known):
                break
            writer.append(*rows)
        else:
            return Written(writer.counts, writer.repeats, 0)
    seen = Seen(job.intake.names, job.intake.counts, job.rows)
    buckets = Buckets(job.folder / "buckets", job.channels, seen)
    try:
        for early in written_rows(job.folder, writer.counts, job.memory.batch_rows):
            buckets.add(early, job.intake.names)
        buckets.add(rows, job.intake.names)
        del rows, frame
        for frame in frames:
            buckets.add(job.take(frame), job.intake.names)
            clock.add(frame.height)
        return _from_buckets(job, buckets, writer.repeats)
    finally:
        buckets.remove()


def _from_buckets(job: Sorting, buckets: Buckets, repeats: int) -> Written:
    """Write the rows of the buckets in order."""
    by_key, counts = job.intake.by_key(), buckets.counts
    clock = Clock(job.tell, "sort", int(counts.sum()), job.row_bytes)
    with SortedWriter(job.folder, job.channels) as writer:
        for rows in buckets.blocks(by_key, job.memory.bucket_rows):
            writer.append(*rows)
            clock.add(len(rows.times))
            job.now_and_then()
    return Written(writer.counts, repeats + writer.repeats, buckets.steps_back)


def _follows(writer: SortedWriter, rows: Rows, names: Names, known: int) -> bool:
    """Say whether rows are in order and follow those written; series from `known` on are new."""
    return (
        names.ascend(known)
        and in_order(rows.series, rows.times)
        and writer.follows(rows.series, rows.times)
    )


def written_rows(folder: Path, counts: IntArray, rows: int) -> Iterator[Rows]:
    """Yield the rows that a `SortedWriter` wrote into a folder, `rows` at most at once."""
    times = np.load(folder / "times.npy", mmap_mode="r", allow_pickle=False)
    values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
    ends = np.cumsum(counts)
    for first in range(0, len(times), rows):
        places = np.arange(first, min(first + rows, len(times)))
        series = np.searchsorted(ends, places, side="right").astype(np.int32)
        end = first + len(places)
        yield Rows(series, np.array(times[first:end]), np.array(values[first:end]))


class SortedRows(NamedTuple):
    """times [M], values [M, C], mapped; starts [S+1]: first row of each series, then M."""

    times: IntArray
    values: FloatArray
    starts: IntArray


def frequency_of(
    data: DataSettings, times: IntArray, starts: IntArray, counted: bool
) -> tuple[Frequency, str]:
    """Return the frequency the settings name, or the one the stamps show, and why."""
    if data.freq is not None:
        return set_frequency(data, counted), "set in [data]"
    # As many series as the judgement looks at: it stops at so many differences, or months.
    differences = starts - np.arange(len(starts))
    enough = max(MONTHS_SERIES, int(np.searchsorted(differences, DIFFERENCES_MAX)))
    series = [times[first:end] for first, end in pairwise(starts[: enough + 1].tolist())]
    return infer_frequency(series, counted=counted)


def set_frequency(data: DataSettings, counted: bool) -> Frequency:
    """Return the frequency in the settings. Raises DataError where it does not fit the times."""
    frequency = Frequency.parse(str(data.freq))
    if counted != (frequency.kind == "count"):
        kind = "integer counts" if counted else "timestamps"
        message = f"freq = {data.freq!r} does not fit the time column {data.time!r} of {kind}"
        hint = "write freq = 1 for counts" if counted else 'write for example freq = "1h"'
        raise DataError(message, hint=hint)
    return frequency


def season_of(data: DataSettings, rows: SortedRows, frequency: Frequency) -> tuple[int, str]:
    """Return the season the settings name, or the one the target shows, and why.

    Some evenly spread series, the newest rows of each, are all that the judgement uses.
    """
    if data.season is not None:
        return data.season, "set in [data]"
    if data.task.supervised:
        return 1, "the target is no input"
    count = len(rows.starts) - 1
    chosen = range(0, count, max(1, -(-count // SERIES_MAX)))
    return infer_season([_line(rows, series, frequency) for series in chosen], frequency)


def _line(rows: SortedRows, series: int, frequency: Frequency) -> FloatArray:
    """Lay the newest values of a series on its grid, NaN in the holes."""
    first, end = int(rows.starts[series]), int(rows.starts[series + 1])
    length = 1
    for begin in range(first, end - 1, BLOCK_ROWS):
        length += int(_moves(rows.times[begin : min(begin + BLOCK_ROWS + 1, end)], frequency).sum())
    newest = max(first, end - ROWS_MAX)
    values = np.array(rows.values[newest:end, 0])
    # A series that is mostly hole keeps its order but not its grid: bounded memory.
    if length - 1 > 4 * (end - first) + 1000:
        return values
    places = np.append(0, np.cumsum(_moves(rows.times[newest:end], frequency)))
    line = np.full(int(places[-1]) + 1, np.nan, np.float32)
    line[places] = values
    return line


def _moves(times: IntArray, frequency: Frequency) -> IntArray:
    """Return the steps between neighbours, at least 1."""
    return np.maximum(frequency.steps_between(times[:-1], times[1:]), 1)
