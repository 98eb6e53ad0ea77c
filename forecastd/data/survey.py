"""A data set sorted on disk while it is looked at: what `prepare` would find, in bounded memory.

Checking, describing and guessing ask the very rows that a store would hold, less its holes, so
what they say is what training will see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from forecastd.config import DataSettings
from forecastd.data.frequency import SERIES_MAX
from forecastd.data.grid import default_max_gap
from forecastd.data.inputs import inputs_of
from forecastd.data.intake import Intake
from forecastd.data.preparing import (
    Report,
    SortedRows,
    Sorting,
    frequency_of,
    memory_for,
    rows_in,
    season_of,
    sort_rows,
)
from forecastd.data.table import Columns, columns_of, long_batches, resolve
from forecastd.data.writing import BLOCK_ROWS
from forecastd.errors import DataError, UserError
from forecastd.series import Frequency, IntArray

MEMORY_BYTES = 1 << 28
"""The budget for rows in memory: a look needs no more, and is no slower for it."""


@dataclass(frozen=True)
class Survey:
    """The rows of a data set by (series, time), without repeats, and its grid.

    by_key: [S] the numbers that `intake` gave the series, in the order of their keys. repeats:
    rows left out. steps_back: rows earlier than the one before them of their series, as found.
    sentinels: per column, values that were taken as missing.
    """

    intake: Intake
    by_key: IntArray
    rows: SortedRows
    repeats: int
    steps_back: int
    sentinels: dict[str, int]
    frequency: Frequency
    frequency_reason: str
    season: int
    season_reason: str
    max_gap: int

    @property
    def series_count(self) -> int:
        """S, the number of series."""
        return len(self.by_key)

    @property
    def counts(self) -> IntArray:
        """Rows of each series, [S]."""
        return np.diff(self.rows.starts)

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest time."""
        times, starts = self.rows.times, self.rows.starts
        return int(times[starts[:-1]].min()), int(times[starts[1:] - 1].max())

    def keys(self, chosen: IntArray) -> list[str]:
        """Return the keys at some places in the order of keys."""
        return self.intake.names.of(self.by_key[chosen]).tolist()

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, stretch by stretch."""
        starts, total = self.rows.starts, len(self.rows.times)
        for first in range(0, total, BLOCK_ROWS):
            end = min(first + BLOCK_ROWS, total)
            low = int(np.searchsorted(starts, first, side="right")) - 1
            high = int(np.searchsorted(starts, end))
            cuts = np.maximum(starts[low:high], first) - first
            yield Block(first, end, low, high, cuts)


class Block(NamedTuple):
    """Rows first:end, of the series low:high; cuts: where in the block each of these begins."""

    first: int
    end: int
    low: int
    high: int
    cuts: IntArray


@contextmanager
def surveyed(
    data: DataSettings,
    base: Path,
    intake_of: Callable[[Columns], Intake] = Intake,
    report: Report = lambda _: None,
) -> Iterator[Survey]:
    """Sort a data set in a temporary folder, which is gone when the block ends.

    intake_of: makes what takes the frames in, where more is to be seen of them as they come.
    report: told how far it is. Raises DataError for unusable data and UserError for a full disk.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="forecast-") as name:
            yield _sorted_in(Path(name), data, base, intake_of, report)
    except OSError as error:
        message = f"cannot sort {data.path} in {tempfile.gettempdir()}: {error.strerror or error}"
        raise UserError(message, hint="make room there, or set TMPDIR to another folder") from error


def narrowed(data: DataSettings) -> DataSettings:
    """Return settings that read only the columns which tell the grid and the season.

    Each column of a wide frame has the same times: some, evenly spread, stand for all.
    """
    if data.task.supervised:  # an input tells how long a series is where a row is one
        few = {"target": data.target[:1], "past": data.past[:1], "static": []}
        return data.model_copy(update=few)
    names = sorted(data.target) if data.wide else data.target
    chosen = names[:: max(1, -(-len(names) // SERIES_MAX))]
    return data.model_copy(update={"target": chosen, "past": [], "static": []})


def _sorted_in(
    folder: Path,
    data: DataSettings,
    base: Path,
    intake_of: Callable[[Columns], Intake],
    report: Report,
) -> Survey:
    path = resolve(data, base)
    memory = memory_for(MEMORY_BYTES, len(columns_of(data).channels))
    rows = rows_in(inputs_of(path), len(data.target) if data.wide else 1)
    batches = long_batches(data, base, memory.batch_rows)
    intake = intake_of(batches.columns)
    written = sort_rows(Sorting(batches, intake, folder, memory, rows, report))
    if not len(intake.names):
        message = f"{path} has no row with a time and a series"
        raise DataError(message, hint="check the id and time columns in [data]")
    times, values = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
        for name in ("times", "values")
    )
    found = SortedRows(times, values, np.append(0, np.cumsum(written.counts)))
    frequency, frequency_reason = frequency_of(data, times, found.starts, batches.counted)
    season, season_reason = season_of(data, found, frequency)
    return Survey(
        intake=intake,
        by_key=intake.by_key(),
        rows=found,
        repeats=written.repeats,
        steps_back=written.steps_back,
        sentinels=dict(batches.sentinels),
        frequency=frequency,
        frequency_reason=frequency_reason,
        season=season,
        season_reason=season_reason,
        max_gap=default_max_gap(season) if data.max_gap is None else data.max_gap,
    )
