"""Brings the rows of a data set into order on disk: of all files, or of new ones beside a store.

A store that was made of the same files, less the new ones, is not made again: its rows and those of
the new files are merged. The result is the same to the last bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.config import DataSettings
from forecastd.data.inputs import Inputs
from forecastd.data.intake import Intake, Rows
from forecastd.data.preparing import (
    Clock,
    Memory,
    PrepareReport,
    Report,
    Sorting,
    rows_in,
    sort_rows,
    written_rows,
)
from forecastd.data.sorting import order_of
from forecastd.data.spans import FIRST_FILE, LAST_FILE, Spans, joined
from forecastd.data.table import Columns, LongBatches, batches_of
from forecastd.data.texts import Static, Texts, column_of, series_of
from forecastd.data.writing import SortedWriter
from forecastd.series import FloatArray, IntArray, Keys

ASIDE = "new"
"""The folder where the rows of new files lie before they are merged."""


class Source(NamedTuple):
    """What to prepare, and where: settings, files, a new folder for the arrays, a budget."""

    data: DataSettings
    inputs: Inputs
    folder: Path
    memory: Memory
    tell: Report


class Old(NamedTuple):
    """What a store was made of. Its files are files of the source too, and numbered alike.

    keys: [S]. times [N], values [N, C], observed [N], offsets [S + 1]: its arrays. found: the types
    of the columns in its files.
    """

    columns: Columns
    keys: Keys
    static: Static
    report: PrepareReport
    spans: IntArray
    times: IntArray
    values: FloatArray
    observed: NDArray[np.bool_]
    offsets: IntArray
    files: frozenset[int]
    found: dict[str, str]


@dataclass(frozen=True)
class Gathered:
    """Rows in order: times.npy and values.npy in the folder, without repeats, holes not yet filled.

    counts: [S] rows of each series. spans: [S, 4] see `Spans`. report: holes are not yet counted.
    found: the types of the columns in the files.
    """

    columns: Columns
    counted: bool
    keys: Keys
    static: Static
    counts: IntArray
    spans: IntArray
    report: PrepareReport
    found: dict[str, str]


def gather(source: Source, old: Old | None) -> Gathered:
    """Bring all rows into order; where `old` serves, only the files that it has not are read."""
    files = range(len(source.inputs.files))
    grown = None if old is None else _grown(source, old, [n for n in files if n not in old.files])
    return grown or _read(source, files)


def _read(source: Source, files: Sequence[int]) -> Gathered:
    chosen = [source.inputs.files[number] for number in files]
    batches = batches_of(source.data, source.inputs, source.memory.batch_rows, files)
    across = len(source.data.target) if source.data.wide else 1
    rows = rows_in(replace(source.inputs, files=tuple(chosen)), across)
    intake, spans = Intake(batches.columns), Spans()
    job = Sorting(batches, intake, source.folder, source.memory, rows, source.tell, spans)
    written = sort_rows(job)
    if source.data.wide:
        # A folded frame may hold rows of several files; but each series is in all of them.
        spans.table[:, [FIRST_FILE, LAST_FILE]] = files[0], files[-1]
    by_key = intake.by_key()
    report = PrepareReport(
        rows_read=intake.rows_read,
        series=len(by_key),
        rows_without_key=intake.rows_without_key,
        rows_without_time=intake.rows_without_time,
        repeats_dropped=written.repeats,
        rows_sorted_back=written.steps_back,
        nulls=intake.nulls,
        non_finite=intake.non_finite,
        sentinels=dict(batches.sentinels),
    )
    return Gathered(
        columns=replace(batches.columns, time_zone=intake.time_zone),
        counted=batches.counted,
        keys=intake.names.of(by_key),
        static=intake.static_of(by_key),
        counts=written.counts,
        spans=spans.table[by_key],
        report=report,
        found=_types(batches),
    )


def _types(batches: LongBatches) -> dict[str, str]:
    return {name: str(kind) for name, kind in batches.found.items()}


class _Places(NamedTuple):
    """Where the old and the new series are among all, [S] keys in order."""

    keys: Keys
    old: IntArray
    new: IntArray

    def spread(self, spans: IntArray, places: IntArray) -> IntArray:
        """Return spans of all series, -1 where there are none."""
        table = np.full((len(self.keys), spans.shape[1]), -1, np.int64)
        table[places] = spans
        return table


def _grown(source: Source, old: Old, files: list[int]) -> Gathered | None:
    """Merge the rows of an older store and of new files; None where that cannot be the same."""
    aside = source.folder / ASIDE
    aside.mkdir()
    try:
        return _beside(source, old, _read(source._replace(folder=aside), files))
    finally:
        shutil.rmtree(aside)


def _beside(source: Source, old: Old, new: Gathered) -> Gathered | None:
    """Merge the rows of an older store and those gathered in the folder `new`."""
    if (new.found, new.columns) != (old.found, old.columns):
        return None
    places = _places(old.keys, new.keys)
    both = joined(places.spread(old.spans, places.old), places.spread(new.spans, places.new))
    if both is None:
        return None
    spans, before, steps_back = both
    rows = source.memory.batch_rows
    early = _placed(_old_rows(old, rows), places.old)
    late = _placed(written_rows(source.folder / ASIDE, new.counts, rows), places.new)
    total = int(old.observed.sum()) + int(new.counts.sum())
    clock = Clock(source.tell, "merge", total, 8 + 4 * old.values.shape[1])
    with SortedWriter(source.folder, old.values.shape[1]) as writer:
        for block in _merged(early, late, before):
            writer.append(*block)
            clock.add(len(block.times))
    report = _sum(old.report, new.report, len(places.keys))
    return replace(
        new,
        keys=places.keys,
        static=_static(old.static, new.static, places, before),
        counts=writer.counts,
        spans=spans,
        report=replace(
            report,
            repeats_dropped=report.repeats_dropped + writer.repeats,
            rows_sorted_back=report.rows_sorted_back + steps_back,
        ),
    )


def _places(old: Keys, new: Keys) -> _Places:
    mine, theirs = series_of(old), series_of(new)
    every = pl.concat([mine, theirs]).unique().sort()
    found = [every.search_sorted(keys).to_numpy().astype(np.int64) for keys in (mine, theirs)]
    return _Places(column_of(every), *found)


def _old_rows(old: Old, rows: int) -> Iterator[Rows]:
    """Yield the rows of a store less those that fill holes."""
    for first in range(0, len(old.times), rows):
        seen = first + np.flatnonzero(old.observed[first : first + rows])
        series = np.searchsorted(old.offsets, seen, side="right") - 1
        yield Rows(series.astype(np.int32), old.times[seen], old.values[seen])


def _placed(blocks: Iterator[Rows], places: IntArray) -> Iterator[Rows]:
    for block in blocks:
        yield block._replace(series=places[block.series].astype(np.int32))


def _merged(
    early: Iterator[Rows], late: Iterator[Rows], before: NDArray[np.bool_]
) -> Iterator[Rows]:
    """Merge two streams of blocks, each by (series, time).

    Of equal rows that of `early` comes first, save in series that are marked in `before`.
    """
    one, other = next(early, None), next(late, None)
    while one is not None and other is not None:
        if not len(one.times):
            one = next(early, None)
        elif not len(other.times):
            other = next(late, None)
        else:
            last = min((int(rows.series[-1]), int(rows.times[-1])) for rows in (one, other))
            cut, place = _up_to(one, last), _up_to(other, last)
            yield _woven(_part(one, 0, cut), _part(other, 0, place), before)
            one, other = _part(one, cut, None), _part(other, place, None)
    yield from (rows for rows in (one, other) if rows is not None)
    yield from early
    yield from late


def _up_to(rows: Rows, last: tuple[int, int]) -> int:
    """Return how many rows are not after (series, time)."""
    start, end = np.searchsorted(rows.series, [last[0], last[0] + 1])
    return int(start + np.searchsorted(rows.times[start:end], last[1], side="right"))


def _part(rows: Rows, start: int, end: int | None) -> Rows:
    return _at(rows, slice(start, end))


def _woven(one: Rows, other: Rows, before: NDArray[np.bool_]) -> Rows:
    if not len(other.times):
        return one
    first = before[other.series]
    parts = [_at(other, first), one, _at(other, ~first)]
    series = np.concatenate([part.series for part in parts])
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    order, _ = order_of(series, times)
    return _at(Rows(series, times, values), order)


def _at(rows: Rows, chosen: slice | IntArray | NDArray[np.bool_]) -> Rows:
    return Rows(rows.series[chosen], rows.times[chosen], rows.values[chosen])


def _sum(one: PrepareReport, other: PrepareReport, series: int) -> PrepareReport:
    """Add up what was counted row by row; what is judged of the whole is left open."""
    return PrepareReport(
        rows_read=one.rows_read + other.rows_read,
        series=series,
        rows_without_key=one.rows_without_key + other.rows_without_key,
        rows_without_time=one.rows_without_time + other.rows_without_time,
        repeats_dropped=one.repeats_dropped + other.repeats_dropped,
        rows_sorted_back=one.rows_sorted_back + other.rows_sorted_back,
        nulls=_added(one.nulls, other.nulls),
        non_finite=_added(one.non_finite, other.non_finite),
        sentinels=_added(one.sentinels, other.sentinels),
    )


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: count + other[name] for name, count in one.items()}


def _static(old: Static, new: Static, places: _Places, before: NDArray[np.bool_]) -> Static:
    """Return of each series the first text in the order of the files."""
    joined_texts: Static = {}
    for name in old:
        texts = tuple(dict.fromkeys([*old[name].texts, *new[name].texts]))
        codes = np.full(len(places.keys), -1, np.int32)
        codes[places.old] = old[name].codes_in(texts, -1)
        found = new[name].codes_in(texts, -1)
        first = (found >= 0) & (before[places.new] | (codes[places.new] < 0))
        codes[places.new[first]] = found[first]
        joined_texts[name] = Texts(texts, codes)
    return joined_texts
