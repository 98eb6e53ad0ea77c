"""Writes the arrays of a store block by block: rows in order are appended, then holes are opened.

No array of rows is ever whole in memory: files are appended to, or mapped and walked in blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from forecastd.data.closing import Closing
from forecastd.data.grid import missing_stamps, stamps_between
from forecastd.series import FloatArray, Frequency, IntArray

BLOCK_ROWS = 1 << 18
"""Rows that are looked at together when holes are sought and opened."""


class ArrayFile(Closing):
    """A .npy file that grows by appending. `shape`: of one row."""

    def __init__(self, path: Path, kind: type[np.generic], shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.kind = np.dtype(kind)
        self.shape = shape
        self.rows = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, values: NDArray[Any]) -> None:
        """Add rows at the end."""
        self._file.write(np.ascontiguousarray(values, self.kind).data)
        self.rows += len(values)

    def close(self) -> None:
        """Say in the header how many rows there are."""
        if not self._file.closed:
            with self._file:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in the header for the length to grow, so it never changes its size.
        content = {
            "descr": npy.dtype_to_descr(self.kind),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        npy.write_array_header_1_0(self._file, content)


class SortedWriter(Closing):
    """Writes rows that come by (series, time) and leaves out repeats; the first stays.

    counts: rows kept of each series. repeats: rows left out.
    """

    def __init__(self, folder: Path, channels: int) -> None:
        self.times = ArrayFile(folder / "times.npy", np.int64)
        self.values = ArrayFile(folder / "values.npy", np.float32, (channels,))
        self.counts = np.zeros(0, np.int64)
        self.repeats = 0
        self._last: tuple[int, int] | None = None

    def follows(self, series: NDArray[np.integer], times: IntArray) -> bool:
        """Say whether rows may come next: not before the last one written."""
        return (
            self._last is None or len(times) == 0 or ((int(series[0]), int(times[0])) >= self._last)
        )

    def append(self, series: NDArray[np.integer], times: IntArray, values: FloatArray) -> None:
        """Write the next rows, by (series, time). Series are numbered in the order of the store."""
        if len(times) == 0:
            return
        repeat = np.zeros(len(times), bool)
        repeat[1:] = (times[1:] == times[:-1]) & (series[1:] == series[:-1])
        repeat[0] = self._last == (int(series[0]), int(times[0]))
        self._last = (int(series[-1]), int(times[-1]))
        if repeat.any():
            kept = ~repeat
            self.repeats += int(np.count_nonzero(repeat))
            series, times, values = series[kept], times[kept], values[kept]
        counts = np.bincount(series, minlength=len(self.counts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts
        self.times.append(times)
        self.values.append(values)

    def close(self) -> None:
        """Finish the files."""
        with self.times, self.values:
            pass


@dataclass
class Layout:
    """Where rows and holes lie. offsets: [S+1] of the store. segments: [K, 3] of the store.

    holes: how many were filled, with `filled` rows. resets: longer ones.
    """

    offsets: IntArray
    segments: IntArray
    holes: int
    filled: int
    resets: int
    blocks: list[tuple[int, int, int]] = field(default_factory=list)
    """First and end row as they lie now, and the rows to fill before them."""


@dataclass(frozen=True)
class Lines:
    """Rows as written: times [M], the first row of each series [S], and the rule for holes."""

    times: IntArray
    starts: IntArray
    frequency: Frequency
    max_gap: int

    def holes(self, first: int, end: int) -> tuple[IntArray | None, NDArray[np.bool_] | None]:
        """Return for rows first:end the steps to fill before each, and whether it is a reset.

        None where there is neither.
        """
        now = np.array(self.times[first:end])
        last = np.empty_like(now)
        last[1:] = now[:-1]
        last[0] = self.times[max(first - 1, 0)]
        begin, stop = np.searchsorted(self.starts, [first, end])
        leading = self.starts[begin:stop] - first
        last[leading] = now[leading]
        if self.frequency.kind != "month":
            distance = now - last
            distance[leading] = self.frequency.size
            if (distance == self.frequency.size).all():
                return None, None
        holes, reset = missing_stamps(last, now, self.frequency, self.max_gap)
        return (holes, reset) if holes.any() or reset.any() else (None, None)


def plan_layout(lines: Lines) -> Layout:
    """Find where every row will lie once the holes are open. Changes nothing."""
    rows = len(lines.times)
    places: list[IntArray] = []
    owners: list[IntArray] = []
    layout = Layout(np.empty(0, np.int64), np.empty((0, 3), np.int64), 0, 0, 0)
    for first in range(0, rows, BLOCK_ROWS):
        end = min(first + BLOCK_ROWS, rows)
        holes, reset = lines.holes(first, end)
        begin, stop = np.searchsorted(lines.starts, [first, end])
        marks = lines.starts[begin:stop]
        before = layout.filled
        if holes is None or reset is None:
            layout.blocks.append((first, end, before))
            places.append(marks + before)
            owners.append(np.arange(begin, stop))
            continue
        marks = np.union1d(marks, first + np.flatnonzero(reset))
        moved = before + np.cumsum(holes)
        places.append(marks + moved[marks - first])
        owners.append(np.searchsorted(lines.starts, marks, side="right") - 1)
        layout.holes += int(np.count_nonzero(holes))
        layout.resets += int(np.count_nonzero(reset))
        layout.filled += int(holes.sum())
        layout.blocks += _cut(first, before, holes)
    firsts, series = np.concatenate(places), np.concatenate(owners)
    total = rows + layout.filled
    layout.segments = np.stack([series, firsts, np.append(firsts[1:], total)], axis=1)
    begins = np.searchsorted(series, np.arange(len(lines.starts)))
    layout.offsets = np.append(firsts[begins], total)
    return layout


def open_holes(folder: Path, lines: Lines, layout: Layout, tell: Callable[[int], None]) -> None:
    """Move the rows of times.npy and values.npy to their places and write observed.npy.

    From the last block to the first: no row is ever moved onto one that has not been read. tell:
    takes the rows written of each block. Raises OSError when the disk is full.
    """
    total = int(layout.offsets[-1])
    observed = npy.open_memmap(folder / "observed.npy", mode="w+", dtype=bool, shape=(total,))
    _reserve(folder / "observed.npy")
    if layout.filled == 0:
        for first in range(0, total, BLOCK_ROWS):
            block = observed[first : first + BLOCK_ROWS]
            block[:] = True
            tell(len(block))
        return
    times = _grown(folder / "times.npy", total)
    values = _grown(folder / "values.npy", total)
    # The mapping under `lines` sees the rows move: it only reads those that have not moved yet.
    for first, end, before in reversed(layout.blocks):
        holes, _ = lines.holes(first, end)
        holes = np.zeros(end - first, np.int64) if holes is None else holes
        size = end - first + int(holes.sum())
        places = np.arange(end - first) + np.cumsum(holes)
        seen = np.zeros(size, bool)
        seen[places] = True
        new_times = np.empty(size, np.int64)
        new_times[places] = lines.times[first:end]
        last = np.concatenate([lines.times[max(first - 1, 0)][None], lines.times[first : end - 1]])
        new_times[~seen] = stamps_between(last, holes, lines.frequency)[0]
        new_values = np.full((size, values.shape[1]), np.nan, np.float32)
        new_values[places] = values[first:end]
        target = slice(first + before, first + before + size)
        times[target], values[target], observed[target] = new_times, new_values, seen
        tell(size)


def _cut(first: int, before: int, holes: IntArray) -> list[tuple[int, int, int]]:
    """Cut a block so that no part of it grows beyond twice a block, save by a single hole."""
    grown = np.cumsum(holes + 1)
    parts = []
    start = 0
    while start < len(holes):
        begun = int(grown[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(grown, begun + 2 * BLOCK_ROWS, side="right")))
        parts.append((first + start, first + end, before + begun - start))
        start = end
    return parts


def _grown(path: Path, rows: int) -> NDArray[Any]:
    """Map a .npy file after making it `rows` long. Raises OSError when the disk is full."""
    old = np.load(path, mmap_mode="r", allow_pickle=False)
    kind, shape, start = old.dtype, (rows, *old.shape[1:]), old.offset
    with path.open("r+b") as file:
        content = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, content)
        file.truncate(start + kind.itemsize * int(np.prod(shape)))
    _reserve(path)
    return np.memmap(path, kind, "r+", offset=start, shape=shape)


def _reserve(path: Path) -> None:
    """Take the room of a file now: a mapped page without any ends the process without a word."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
