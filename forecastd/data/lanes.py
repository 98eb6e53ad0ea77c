"""Lanes: contiguous walks through the store, side by side, as the trainer and the scorer read it.

A *plan* gives each lane a list of pieces; `walk` turns a plan into chunks of T steps. Lanes with
carried state, random windows and whole-series sweeps differ in nothing but their plan. Windows of
the store are (row, length) numbers until the moment they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.data.store import Store
from forecastd.series import FloatArray, IntArray


class Piece(NamedTuple):
    """Rows begin:end of one series, walked with one carried state.

    floor: the earliest row that may be read to warm the features (the start of the segment).
    limit: rows from here on are never read, not even as targets.
    """

    series: int
    begin: int
    end: int
    floor: int
    limit: int


Plan = list[list[Piece]]


class Chunk(NamedTuple):
    """T steps of B lanes.

    rows [B] first row of each lane; length [B] steps that are real (0: the lane is idle); the rest
    is padding at the end. fresh [B]: the lane starts a piece, its state must be reset. age [B]:
    steps of the piece before this chunk. values [B, T, C] NaN where missing or padded.
    times [B, T]. future [B, T + horizon - 1]: targets; those of step t start at index t.
    lead [B]: rows before a fresh lane, given at the end of lead_values [B, P, C] and
    lead_times [B, P]; NaN before them.
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


@dataclass(frozen=True)
class Shape:
    """sequence: T steps of a chunk. horizon: targets ahead. lead: P rows before a fresh lane."""

    sequence: int
    horizon: int
    lead: int


def walk(store: Store, plan: Plan, shape: Shape) -> Iterator[Chunk]:
    """Read the plan chunk by chunk. The arrays of a chunk are the caller's."""
    waiting = [iter(pieces) for pieces in plan]
    current: list[tuple[Piece, int] | None] = [_start(pieces) for pieces in waiting]
    while any(lane is not None for lane in current):
        yield _read(store, current, shape)
        for lane, place in enumerate(current):
            if place is None:
                continue
            piece, row = place
            row += shape.sequence
            current[lane] = (piece, row) if row < piece.end else _start(waiting[lane])


def lane_plan(pieces: list[Piece], lanes: int, rng: np.random.Generator, sequence: int) -> Plan:
    """Cut the shuffled pieces, laid end to end, into `lanes` walks of equal length.

    The tape is turned by a random offset, so the cuts fall elsewhere in each epoch. Each row is in
    exactly one walk.
    """
    order = [pieces[place] for place in rng.permutation(len(pieces))]
    ends = np.cumsum([piece.end - piece.begin for piece in order])
    total = int(ends[-1])
    lanes = min(lanes, max(1, total // sequence))
    turn = int(rng.integers(max(1, total // lanes)))
    cuts = [turn + total * lane // lanes for lane in range(lanes)]
    plan: Plan = []
    for lane, cut in enumerate(cuts):
        stop = cuts[lane + 1] if lane + 1 < lanes else total
        plan.append(_between(order, ends, cut, stop))
    plan[-1] += _between(order, ends, 0, turn)
    return plan


def window_plan(pieces: list[Piece], windows: int, rng: np.random.Generator, sequence: int) -> Plan:
    """Draw random stretches of `sequence` steps, as many as one pass over the rows has."""
    lengths = np.array([piece.end - piece.begin for piece in pieces])
    count = max(1, round(int(lengths.sum()) / sequence))
    windows = min(windows, count)
    chosen = rng.choice(
        len(pieces), size=(windows, -(-count // windows)), p=lengths / lengths.sum()
    )
    return [[_stretch(pieces[place], rng, sequence) for place in lane] for lane in chosen]


def sweep_plan(pieces: list[Piece], lanes: int) -> Plan:
    """Share whole pieces among lanes, the longest first, each to the shortest lane so far."""
    plan: Plan = [[] for _ in range(max(1, min(lanes, len(pieces))))]
    length = np.zeros(len(plan), np.int64)
    for piece in sorted(pieces, key=lambda p: p.begin - p.end):
        lane = int(length.argmin())
        plan[lane].append(piece)
        length[lane] += piece.end - piece.begin
    return plan


def pieces_of(store: Store, begin: IntArray, end: IntArray, limit: IntArray) -> list[Piece]:
    """Return the parts of segments within begin:end of each series ([S] row indexes).

    limit: [S], see Piece; targets never reach over a hole that resets the state.
    """
    pieces = []
    for series, first, last in store.segments.tolist():
        start, stop = max(first, int(begin[series])), min(last, int(end[series]))
        if start < stop:
            pieces.append(Piece(series, start, stop, first, min(last, int(limit[series]))))
    return pieces


def _start(pieces: Iterator[Piece]) -> tuple[Piece, int] | None:
    piece = next(pieces, None)
    return None if piece is None else (piece, piece.begin)


def _between(order: list[Piece], ends: IntArray, start: int, stop: int) -> list[Piece]:
    """Return the pieces, or parts of them, at positions start:stop of the tape."""
    found = []
    place = int(np.searchsorted(ends, start, side="right"))
    while start < stop:
        piece = order[place]
        first = piece.end - (int(ends[place]) - start)
        length = min(piece.end - first, stop - start)
        found.append(piece._replace(begin=first, end=first + length))
        start += length
        place += 1
    return found


def _stretch(piece: Piece, rng: np.random.Generator, sequence: int) -> Piece:
    room = piece.end - piece.begin - sequence
    begin = piece.begin + (int(rng.integers(room + 1)) if room > 0 else 0)
    return piece._replace(begin=begin, end=min(begin + sequence, piece.end))


def _read(store: Store, current: list[tuple[Piece, int] | None], shape: Shape) -> Chunk:
    lanes, channels = len(current), store.values.shape[1]
    steps, ahead = shape.sequence, shape.sequence + shape.horizon - 1
    chunk = Chunk(
        series=np.full(lanes, -1, np.int64),
        rows=np.zeros(lanes, np.int64),
        length=np.zeros(lanes, np.int64),
        fresh=np.zeros(lanes, np.bool_),
        age=np.zeros(lanes, np.int64),
        values=np.full((lanes, steps, channels), np.nan, np.float32),
        times=np.zeros((lanes, steps), np.int64),
        future=np.full((lanes, ahead), np.nan, np.float32),
        lead=np.zeros(lanes, np.int64),
        lead_values=np.full((lanes, shape.lead, channels), np.nan, np.float32),
        lead_times=np.zeros((lanes, shape.lead), np.int64),
    )
    for lane, place in enumerate(current):
        if place is not None:
            _read_lane(store, chunk, lane, *place)
    return chunk


def _read_lane(store: Store, chunk: Chunk, lane: int, piece: Piece, row: int) -> None:
    stop = min(row + chunk.values.shape[1], piece.end)
    length = stop - row
    chunk.series[lane] = piece.series
    chunk.rows[lane] = row
    chunk.length[lane] = length
    chunk.fresh[lane] = row == piece.begin
    chunk.age[lane] = row - piece.begin
    chunk.values[lane, :length] = store.values[row:stop]
    chunk.times[lane, :length] = store.times[row:stop]
    last = min(row + 1 + chunk.future.shape[1], piece.limit)
    chunk.future[lane, : max(0, last - row - 1)] = store.values[row + 1 : last, 0]
    lead = min(chunk.lead_values.shape[1], row - piece.floor) if chunk.fresh[lane] else 0
    chunk.lead[lane] = lead
    if lead:
        chunk.lead_values[lane, -lead:] = store.values[row - lead : row]
        chunk.lead_times[lane, -lead:] = store.times[row - lead : row]
