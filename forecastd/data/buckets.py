"""Sorts more rows than fit in memory: buckets on disk by ranges of keys, each sorted by itself.

Rows keep the order they came in within a bucket, so that of rows with one stamp the first stays
first. A bucket that turns out too large is cut again by keys, one large series by time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.intake import Rows
from forecastd.data.names import Names
from forecastd.data.sorting import order_of
from forecastd.series import IntArray

PARTS_MAX = 256
"""So many files are open at once; the number of a part fits into a byte."""
CUTS_MAX = 64
"""So many parts are aimed at where a part is cut again; as many more may come of it."""
GROWTH = 64
"""How much more than was seen so far is expected where nobody knows."""
ROWS_PER_PART = 1 << 16
SAMPLE_ROWS = 1 << 15

Records = NDArray[np.void]


@dataclass
class _Part:
    """A file of rows. low, high: the places of its first series and of the one after its last.

    single: all rows have one stamp. counted: steps back within it are counted already.
    """

    path: Path
    low: int = 0
    high: int = 0
    rows: int = 0
    single: bool = False
    counted: bool = False


class Seen(NamedTuple):
    """The series seen so far, how many rows each had, and the rows to come in all, where known."""

    names: Names
    counts: IntArray
    rows: int | None


class Buckets:
    """Takes rows in any order and gives them back by (series, time).

    Made with the names and rows of the series seen so far, by which the buckets are cut, and the
    rows that are to come in all, where known.
    counts: rows put in, by number of the series. steps_back: rows earlier than the one before of
    their series, known after `blocks`.
    """

    def __init__(self, folder: Path, channels: int, seen: Seen) -> None:
        folder.mkdir()
        self.folder = folder
        self.kind = np.dtype([("series", "<i4"), ("time", "<i8"), ("values", "<f4", (channels,))])
        self.steps_back = 0
        self.counts = np.zeros(0, np.int64)
        self._made = 0
        self._cuts = _cuts(seen)
        self._parts = [self._new_part() for _ in range(len(self._cuts) + 1)]
        self._files = [part.path.open("wb") for part in self._parts]
        self._part_of = np.empty(0, np.uint8)

    def add(self, rows: Rows, names: Names) -> None:
        """Put rows into their buckets. names: those of all series so far."""
        new = self._cuts.search_sorted(names[len(self._part_of) :], side="right")
        self._part_of = np.append(self._part_of, new.to_numpy().astype(np.uint8))
        self.counts = np.bincount(rows.series, minlength=len(names)) + np.pad(
            self.counts, (0, len(names) - len(self.counts))
        )
        records = np.empty(len(rows.times), self.kind)
        records["series"], records["time"], records["values"] = rows
        self._scatter(records, self._part_of[rows.series], self._parts, self._files)

    def remove(self) -> None:
        """Close and remove whatever is left of the files."""
        for file in self._files:
            file.close()
        shutil.rmtree(self.folder)

    def blocks(self, by_key: IntArray, rows_max: int) -> Iterator[Rows]:
        """Yield all rows by (place of the series in by_key, time), at most rows_max at once.

        by_key: numbers of the series in order. The buckets are used up.
        """
        for file in self._files:
            file.close()
        self._place = np.empty(len(by_key), np.int32)
        self._place[by_key] = np.arange(len(by_key), dtype=np.int32)
        self._ends = np.append(0, np.cumsum(self.counts[by_key]))
        self._rows_max = rows_max
        sizes = np.bincount(self._part_of, minlength=len(self._parts))
        bounds = np.append(0, np.cumsum(sizes)).tolist()
        for part, (low, high) in zip(self._parts, pairwise(bounds), strict=True):
            part.low, part.high = low, high
            yield from self._sorted(part)

    def _sorted(self, part: _Part) -> Iterator[Rows]:
        if part.single and part.rows:
            first = np.fromfile(part.path, self.kind, 1)
            # All but the first are dropped as repeats, so what their values are does not matter.
            for start in range(0, part.rows, self._rows_max):
                same = np.repeat(first, min(self._rows_max, part.rows - start))
                yield Rows(self._place[same["series"]], same["time"], same["values"])
        elif part.rows > self._rows_max:
            for smaller in self._cut(part):
                yield from self._sorted(smaller)
            return
        elif part.rows:
            records = np.fromfile(part.path, self.kind)
            series, times = self._place[records["series"]], records["time"].copy()
            order, steps_back = order_of(series - part.low, times)
            self.steps_back += 0 if part.counted else steps_back
            series, times, values = series[order], times[order], records["values"][order]
            del records, order
            yield Rows(series, times, values)
        part.path.unlink()

    def _cut(self, part: _Part) -> list[_Part]:
        """Share the rows of a bucket among smaller ones."""
        by_time = part.high - part.low == 1
        smaller, cuts = self._time_parts(part) if by_time else self._series_parts(part)
        files = [one.path.open("wb") for one in smaller]
        last = None
        for records in self._read(part):
            if by_time:
                self.steps_back += 0 if part.counted else _steps_back(last, records["time"])
                last = records["time"][-1]
            found = records["time"] if by_time else self._place[records["series"]]
            places = np.searchsorted(cuts, found, side="right").astype(np.uint8)
            self._scatter(records, places, smaller, files)
        for file in files:
            file.close()
        part.path.unlink()
        return smaller

    def _series_parts(self, part: _Part) -> tuple[list[_Part], IntArray]:
        """Cut by series, as many together as fit; one that does not fit alone stays whole."""
        ends = self._ends
        room = max(self._rows_max, -(-part.rows // CUTS_MAX))
        smaller: list[_Part] = []
        low = part.low
        while low < part.high:
            fitting = int(np.searchsorted(ends, ends[low] + room, side="right")) - 1
            high = min(max(fitting, low + 1), part.high)
            if len(smaller) == 2 * CUTS_MAX:
                high = part.high
            smaller.append(self._new_part(low, high))
            low = high
        return smaller, np.array([one.low for one in smaller[1:]], np.int64)

    def _time_parts(self, part: _Part) -> tuple[list[_Part], IntArray]:
        """Cut one series by time, at stamps of a sample; a stamp of many rows has its own part."""
        stride = max(1, part.rows // SAMPLE_ROWS)
        sample = np.sort(np.concatenate([r["time"][::stride] for r in self._read(part)]))
        wanted = min(CUTS_MAX, 2 * -(-part.rows // self._rows_max))
        chosen = sample[np.linspace(0, len(sample) - 1, wanted).astype(np.int64)]
        cuts = np.unique(np.concatenate([chosen, chosen + 1]))
        smaller = [self._new_part(part.low, part.high) for _ in range(len(cuts) + 1)]
        for one in smaller:
            one.counted = True
        for place in np.flatnonzero(np.diff(cuts) == 1):
            smaller[place + 1].single = True
        return smaller, cuts

    def _new_part(self, low: int = 0, high: int = 0) -> _Part:
        self._made += 1
        path = self.folder / f"{self._made}.rows"
        path.touch()
        return _Part(path, low, high)

    def _read(self, part: _Part) -> Iterator[Records]:
        """Read a bucket in blocks, as its rows came."""
        with part.path.open("rb") as file:
            while len(records := np.fromfile(file, self.kind, max(1, self._rows_max // 2))):
                yield records

    def _scatter(
        self, records: Records, places: NDArray[np.uint8], parts: list[_Part], files: list[Any]
    ) -> None:
        """Append each row to the part of its place."""
        order = np.argsort(places, kind="stable")
        size = self.kind.itemsize
        # As plain bytes a record is moved at once, not field by field.
        content = records.view(f"V{size}").take(order).data.cast("B")
        ends = np.cumsum(np.bincount(places, minlength=len(parts)))
        for part, file, (start, end) in zip(
            parts, files, pairwise([0, *ends.tolist()]), strict=True
        ):
            if end > start:
                file.write(content[start * size : end * size])
                part.rows += end - start


def _cuts(seen: Seen) -> pl.Series:
    """Choose keys between which the rows seen so far fall into like shares."""
    names, counts = seen.names, seen.counts
    total = int(counts.sum())
    expected = GROWTH * total if seen.rows is None else seen.rows
    parts = min(PARTS_MAX, len(names), max(1, expected // ROWS_PER_PART))
    order = names.in_order()
    ends = np.cumsum(counts[order])
    wanted = np.searchsorted(ends, total * np.arange(1, parts) // parts, side="right")
    chosen = [int(order[place]) for place in np.unique(wanted) if place > 0]
    return pl.Series(names.of(np.array(chosen, np.int64)), dtype=pl.String)


def _steps_back(last: np.int64 | None, times: IntArray) -> int:
    before = 0 if last is None else int(times[0] < last)
    return before + int(np.count_nonzero(times[1:] < times[:-1]))
