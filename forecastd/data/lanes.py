"""Lanes: contiguous walks through the store, side by side, as the trainer and the scorer read it.

A *plan* gives each lane its pieces; `walk` turns a plan into chunks of T steps. Lanes with carried
state, random windows and whole-series sweeps differ in nothing but their plan. A plan is a table of
row numbers, 20 bytes a piece (40 beyond 2^31 rows); rows are read only when their chunk is due,
all lanes at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.series import FloatArray, IntArray


class Piece(NamedTuple):
    """Rows begin:end of one series, walked with one carried state.

    floor: the earliest row that may be read to warm the features (the start of the segment).
    limit: rows from here on are never handed out, not even as targets.
    """

    series: int
    begin: int
    end: int
    floor: int
    limit: int


_BEGIN, _END = 1, 2


@dataclass(frozen=True, eq=False)
class Pieces:
    """K pieces as one table [K, 5] of the fields of `Piece`; 32 bits each where they suffice."""

    table: NDArray[np.integer]

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Pieces:
        """Return the table of pieces given one by one."""
        return cls(np.array(list(pieces), np.int64).reshape(-1, len(Piece._fields)))

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Piece]:
        return (Piece(*row) for row in self.table.tolist())

    def __getitem__(self, place: int) -> Piece:
        return Piece(*self.table[place].tolist())

    @property
    def series(self) -> NDArray[np.integer]:
        """The series of each piece, [K]."""
        return self.table[:, 0]

    @property
    def begin(self) -> NDArray[np.integer]:
        """The first row of each piece, [K]."""
        return self.table[:, _BEGIN]

    @property
    def end(self) -> NDArray[np.integer]:
        """The row after the last of each piece, [K]."""
        return self.table[:, _END]

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Rows of each piece, [K]."""
        return self.end - self.begin

    def take(self, chosen: IntArray | NDArray[np.bool_]) -> Pieces:
        """Return the pieces at some places, or where a mask is true."""
        return Pieces(self.table[chosen])

    def where(self, mask: NDArray[np.bool_]) -> Pieces:
        """Return the pieces where a mask is true: these, not a copy, where all are."""
        return self if mask.all() else self.take(mask)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which pieces each lane walks, in which order: lane b has pieces first[b]:first[b + 1]."""

    pieces: Pieces
    first: IntArray

    @classmethod
    def of(cls, lanes: list[list[Piece]]) -> Plan:
        """Return the plan of lanes given piece by piece."""
        counts = [len(lane) for lane in lanes]
        return cls(Pieces.of(piece for lane in lanes for piece in lane), _firsts(counts))

    def __len__(self) -> int:
        return len(self.first) - 1

    def __iter__(self) -> Iterator[list[Piece]]:
        for start, stop in zip(self.first[:-1].tolist(), self.first[1:].tolist(), strict=True):
            yield list(Pieces(self.pieces.table[start:stop]))


class Chunk(NamedTuple):
    """T steps of B lanes.

    rows [B] first row of each lane; length [B] steps that are real (0: the lane is idle); the rest
    is padding at the end. fresh [B]: the lane starts a piece, its state must be reset. age [B]:
    steps of the piece before this chunk. values [B, T, C] NaN where missing or padded.
    times [B, T]. future [B, T + horizon - 1]: targets; those of step t start at index t.
    lead [B]: rows before a fresh lane, given at the end of lead_values [B, P, C] and
    lead_times [B, P]; NaN before them. P is the longest lead of this chunk; lanes that are not
    fresh hold nothing of meaning there.

    Of mini-batches of sequences only (data.sequences): ends [B]: the last step of the sequence is
    in this chunk. filled [B, T]: NaN at real steps, else the number that stands for all inputs of a
    padded step, which then is an ordinary one and may come first; None where padding is masked.
    """

    series: IntArray
    rows: IntArray
    length: IntArray
    fresh: NDArray[np.bool_]
    age: IntArray
    values: FloatArray
    times: IntArray
    future: FloatArray
    lead: IntArray
    lead_values: FloatArray
    lead_times: IntArray
    ends: NDArray[np.bool_] | None = None
    filled: FloatArray | None = None


@dataclass(frozen=True)
class Shape:
    """sequence: T steps of a chunk. horizon: targets ahead. lead: P rows before a fresh lane.

    trim: a chunk is only as long as its longest lane.
    """

    sequence: int
    horizon: int
    lead: int
    trim: bool = False


class Extent(NamedTuple):
    """How much a walk hands out: chunks, rows of the store, and steps with their padding."""

    chunks: int
    rows: int
    steps: int

    @property
    def padding(self) -> float:
        """The share of steps that are padding."""
        return 1 - self.rows / self.steps if self.steps else 0.0


def walk(store: Store, plan: Plan, shape: Shape, done: int = 0) -> Iterator[Chunk]:
    """Read the plan chunk by chunk. The arrays of a chunk are the caller's.

    done: chunks at the start to pass over, unread; a walk goes on where another stopped.
    """
    for number, (place, row) in enumerate(_places(plan, shape.sequence)):
        if number >= done:
            yield _read(store, _lanes(plan, place, row, shape), shape)


def extent_of(plan: Plan, shape: Shape) -> Extent:
    """Return how much a walk of the plan hands out, without reading a row."""
    chunks = rows = steps = 0
    for place, row in _places(plan, shape.sequence):
        length = np.minimum(plan.pieces.end[place] - row, shape.sequence)[place >= 0]
        chunks, rows = chunks + 1, rows + int(length.sum())
        steps += len(place) * (int(length.max()) if shape.trim else shape.sequence)
    return Extent(chunks, rows, steps)


def lane_plan(pieces: Pieces, lanes: int, rng: np.random.Generator, sequence: int) -> Plan:
    """Cut the shuffled pieces, laid end to end, into `lanes` walks of equal length.

    The tape is turned by a random offset, so the cuts fall elsewhere in each epoch. Each row is in
    exactly one walk.
    """
    order = rng.permutation(len(pieces))
    lengths = pieces.lengths[order]
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    lanes = min(lanes, max(1, total // sequence))
    turn = int(rng.integers(max(1, total // lanes)))
    cuts = turn + total * np.arange(lanes) // lanes
    starts = np.union1d(ends - lengths, cuts)
    stops = np.append(starts[1:], total)
    lane = np.searchsorted(cuts, starts, side="right") - 1
    lane[lane < 0] = lanes - 1  # before the first cut: the last walk goes on at the tape's start
    place = np.searchsorted(ends, starts, side="right")
    table = pieces.table[order[place]]
    table[:, _BEGIN] = table[:, _END] - (ends[place] - starts)
    table[:, _END] = table[:, _BEGIN] + stops - starts
    turned = np.roll(np.arange(len(starts)), -int(np.searchsorted(starts, turn)))
    return Plan(Pieces(table[turned]), _firsts(np.bincount(lane, minlength=lanes)))


def window_plan(pieces: Pieces, windows: int, rng: np.random.Generator, sequence: int) -> Plan:
    """Draw random stretches of `sequence` steps, as many as one pass over the rows has.

    Where series are shorter than that, windows of like length go side by side, the lengths in
    random order, so that little of a trimmed chunk is padding.
    """
    lengths = pieces.lengths
    count = max(1, round(int(lengths.sum()) / sequence))
    windows = min(windows, count)
    chosen = rng.choice(len(pieces), size=windows * -(-count // windows), p=lengths / lengths.sum())
    table = pieces.table[chosen]
    room = lengths[chosen].astype(np.int64) - sequence
    roomy = np.flatnonzero(room > 0)
    table[roomy, _BEGIN] += rng.integers(room[roomy] + 1)
    table[:, _END] = np.minimum(table[:, _BEGIN] + sequence, table[:, _END])
    drawn = Pieces(table)
    if len(np.unique(drawn.lengths)) > 1:
        alike = np.argsort(drawn.lengths, kind="stable").reshape(-1, windows)
        drawn = drawn.take(rng.permutation(alike).T.ravel())
    return Plan(drawn, np.arange(windows + 1) * (len(table) // windows))


def sweep_plan(pieces: Pieces, lanes: int) -> Plan:
    """Share whole pieces among lanes, the longest first, each to the shortest lane so far."""
    lanes = max(1, min(lanes, len(pieces)))
    order = pieces.take(np.argsort(-pieces.lengths, kind="stable"))
    shortest = [(0, lane) for lane in range(lanes)]
    owner = np.empty(len(order), np.int64)
    for place, length in enumerate(order.lengths.tolist()):
        rows, lane = shortest[0]
        owner[place] = lane
        heapq.heapreplace(shortest, (rows + length, lane))
    by_lane = order.take(np.argsort(owner, kind="stable"))
    return Plan(by_lane, _firsts(np.bincount(owner, minlength=lanes)))


def partition(plan: Plan, count: int, index: int) -> Plan:
    """Return every count-th lane from `index` on: one of `count` disjoint parts of the plan.

    All parts together are the whole. Raises DataError where there is no such part.
    """
    if not 0 <= index < count:
        message = f"there is no part {index} of {count}"
        raise DataError(message, hint=f"number the parts from 0 to {max(count, 1) - 1}")
    counts = np.diff(plan.first)
    owner = np.repeat(np.arange(len(plan)), counts)
    return Plan(plan.pieces.take(owner % count == index), _firsts(counts[index::count]))


def pieces_of(store: Store, begin: IntArray, end: IntArray, limit: IntArray) -> Pieces:
    """Return the parts of segments within begin:end of each series ([S] row indexes).

    limit: [S], see Piece; targets never reach over a hole that resets the state.
    """
    series, first, last = np.asarray(store.segments).T
    small = len(store.times) < np.iinfo(np.int32).max
    table = np.empty((len(series), len(Piece._fields)), np.int32 if small else np.int64)
    table[:, 0], table[:, 3] = series, first
    table[:, _BEGIN] = np.maximum(first, begin[series])
    table[:, _END] = np.minimum(last, end[series])
    table[:, 4] = np.minimum(last, limit[series])
    return Pieces(table).where(table[:, _BEGIN] < table[:, _END])


def _firsts(counts: list[int] | IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _places(plan: Plan, steps: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the piece of each lane (-1: none is left) and its row, chunk by chunk."""
    begin, end = plan.pieces.begin, plan.pieces.end
    place, after = plan.first[:-1].copy(), plan.first[1:]
    busy = place < after
    row = np.zeros(len(place), np.int64)
    row[busy] = begin[place[busy]]
    while busy.any():
        yield np.where(busy, place, -1), row.copy()
        row[busy] += steps
        over = np.flatnonzero(busy)[row[busy] >= end[place[busy]]]
        place[over] += 1
        busy = place < after
        over = over[busy[over]]
        row[over] = begin[place[over]]


class _Lanes(NamedTuple):
    """Where each lane is, [B] each: the parts of a chunk that cost no reading, and the limit."""

    series: IntArray
    row: IntArray
    length: IntArray
    fresh: NDArray[np.bool_]
    age: IntArray
    lead: IntArray
    known: IntArray


def _lanes(plan: Plan, place: IntArray, row: IntArray, shape: Shape) -> _Lanes:
    busy = place >= 0
    series, begin, end, floor, limit = plan.pieces.table[place].astype(np.int64).T
    row = np.where(busy, row, 0)
    fresh = busy & (row == begin)
    return _Lanes(
        series=np.where(busy, series, -1),
        row=row,
        length=np.where(busy, np.minimum(end - row, shape.sequence), 0),
        fresh=fresh,
        age=np.where(busy, row - begin, 0),
        lead=np.where(fresh, np.minimum(shape.lead, row - floor), 0),
        known=np.where(busy, np.maximum(limit - row - 1, 0), 0),
    )


def _read(store: Store, lanes: _Lanes, shape: Shape) -> Chunk:
    values, times = np.asarray(store.values), np.asarray(store.times)  # plain views of the maps
    steps = int(lanes.length.max()) if shape.trim else shape.sequence
    longest = int(lanes.lead.max())
    fresh, before = np.flatnonzero(lanes.lead), longest - lanes.lead
    lead_values = np.empty((len(lanes.row), longest, values.shape[1]), np.float32)
    lead_times = np.empty((len(lanes.row), longest), np.int64)
    for lane in np.flatnonzero(lanes.fresh & (lanes.lead == 0)).tolist():
        lead_values[lane], lead_times[lane] = np.nan, 0
    if longest:
        start = lanes.row[fresh] - longest
        lead_values[fresh] = from_place(windows_of(values, start, longest), before[fresh])
        lead_times[fresh] = from_place(windows_of(times, start, longest), before[fresh])
    ahead = steps + shape.horizon - 1
    return Chunk(
        series=lanes.series,
        rows=lanes.row,
        length=lanes.length,
        fresh=lanes.fresh,
        age=lanes.age,
        values=until_place(windows_of(values, lanes.row, steps), lanes.length),
        times=until_place(windows_of(times, lanes.row, steps), lanes.length),
        future=until_place(windows_of(values[:, 0], lanes.row + 1, ahead), lanes.known),
        lead=lanes.lead,
        lead_values=lead_values,
        lead_times=lead_times,
    )


def windows_of(column: NDArray[Any], starts: IntArray, length: int) -> NDArray[Any]:
    """Return column[start : start + length] of each start, [B, length, ...], as a copy.

    What lies outside of the column is zero. One gather over overlapping views reads all lanes.
    """
    rows, step = len(column), column.strides[0]
    shape = (max(0, rows - length + 1), length, *column.shape[1:])
    views = as_strided(column, shape, (step, *column.strides), writeable=False)
    inside = (starts >= 0) & (starts + length <= rows)
    if inside.all():
        return views[starts]
    found = np.zeros((len(starts), *shape[1:]), column.dtype)
    found[inside] = views[starts[inside]]
    for lane in np.flatnonzero(~inside).tolist():
        start = int(starts[lane])
        part = column[max(0, start) : max(0, start + length)]
        found[lane, max(0, -start) : max(0, -start) + len(part)] = part
    return found


def until_place(found: NDArray[Any], count: IntArray) -> NDArray[Any]:
    """Blank all but the first `count` places of each lane, in place."""
    short = np.flatnonzero(count < found.shape[1])
    blank = np.nan if found.dtype.kind == "f" else 0
    for lane, stop in zip(short.tolist(), count[short].tolist(), strict=True):
        found[lane, stop:] = blank
    return found


def from_place(found: NDArray[Any], count: IntArray) -> NDArray[Any]:
    """Blank the first `count` places of each lane, in place."""
    blank = np.nan if found.dtype.kind == "f" else 0
    for lane in np.flatnonzero(count).tolist():
        found[lane, : count[lane]] = blank
    return found
