"""Mini-batches of whole sequences: padded, truncated or split to one length, for training.

A mini-batch is B sequences side by side, in an order that sorting and shuffling decide. It is read
as one chunk, or split into pieces that follow one another with the same rows, so that a state can
be carried from each to the next. By default padding is masked: rows end where their sequence ends,
and what is side by side changes nothing. Unmasked, a padded step is an ordinary step whose inputs
are all one number, on the side that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.data.lanes import Chunk, Pieces, Shape, from_place, until_place, windows_of
from forecastd.data.store import Store
from forecastd.series import FloatArray, IntArray


@dataclass(frozen=True)
class Batching:
    """How sequences become mini-batches.

    batch: B, sequences side by side. length: "longest" of the batch, to which the others are
    padded; "shortest", to which they are truncated; or n: the batch is padded to its longest and
    split into pieces of n steps. The last piece is shorter where padding is masked; unmasked, the
    batch is padded to the next multiple of n. direction: the side that is padded (unmasked only) or
    truncated. padding_value: what stands for each input of a padded step, after scaling. shuffle:
    once before the first epoch, or before every one. sort: by length; with a shuffle, batches of
    like lengths in random order, and equal lengths in random order within. masked: padding changes
    nothing. drop_last: leave an incomplete last batch out, unless it is the only one.
    """

    batch: int
    length: Literal["longest", "shortest"] | int = "longest"
    padding_value: float = 0.0
    direction: Literal["right", "left"] = "right"
    shuffle: Literal["never", "once", "every-epoch"] = "never"
    sort: Literal["none", "ascending", "descending"] = "none"
    masked: bool = True
    drop_last: bool = False


@dataclass(frozen=True, eq=False)
class SequencePlan:
    """Mini-batch b is the pieces first[b]:first[b + 1], side by side in that order."""

    pieces: Pieces
    first: IntArray
    how: Batching

    def __len__(self) -> int:
        """How many mini-batches there are."""
        return len(self.first) - 1

    @cached_property
    def reaches(self) -> IntArray:
        """The steps of each mini-batch, padding included, [batches]."""
        lengths, starts, length = self.pieces.lengths, self.first[:-1], self.how.length
        if not len(self):
            return np.zeros(0, np.int64)
        if length == "shortest":
            return np.minimum.reduceat(lengths, starts).astype(np.int64)
        longest = np.maximum.reduceat(lengths, starts).astype(np.int64)
        if length == "longest" or self.how.masked:
            return longest
        return -(-longest // length) * length

    @property
    def chunks(self) -> int:
        """How many chunks a walk hands out: a step of the optimiser each."""
        length = self.how.length
        return len(self) if isinstance(length, str) else int((-(-self.reaches // length)).sum())

    @property
    def steps(self) -> int:
        """The steps that a walk hands out, padding included."""
        return int((np.diff(self.first) * self.reaches).sum())

    @property
    def rows(self) -> int:
        """The real ones of them: rows of the store."""
        reaches = np.repeat(self.reaches, np.diff(self.first))
        return int(np.minimum(self.pieces.lengths[: self.first[-1]], reaches).sum())

    @property
    def padding(self) -> float:
        """The share of steps that are padding."""
        return 1 - self.rows / self.steps if self.steps else 0.0


def sequence_plan(pieces: Pieces, how: Batching, seed: int = 0, epoch: int = 0) -> SequencePlan:
    """Put whole pieces into mini-batches. Of each piece only its place in a table is moved.

    The same seed and epoch give the same plan; without shuffling every epoch, so do all epochs.
    """
    words = [seed, epoch] if how.shuffle == "every-epoch" else [seed]
    rng = np.random.default_rng(words)
    shuffled = how.shuffle != "never"
    order = rng.permutation(len(pieces)) if shuffled else np.arange(len(pieces))
    if how.sort != "none":
        lengths = pieces.lengths[order].astype(np.int64)
        order = order[np.argsort(lengths if how.sort == "ascending" else -lengths, kind="stable")]
    first = np.append(np.arange(0, len(pieces), how.batch), len(pieces))
    if how.drop_last and len(pieces) % how.batch and len(first) > 2:
        first = first[:-1]
    if shuffled and how.sort != "none":
        batches = rng.permutation(len(first) - 1)
        order = np.concatenate([order[first[b] : first[b + 1]] for b in batches.tolist()])
        first = np.append(0, np.cumsum(np.diff(first)[batches]))
    return SequencePlan(pieces.take(order[: first[-1]]), first, how)


def whole_plan(pieces: Pieces, lanes: int, steps_max: int) -> SequencePlan:
    """Put whole pieces into mini-batches for scoring, those of like lengths together, masked.

    A mini-batch has at most `lanes` sequences and at most `steps_max` steps with its padding, save
    one sequence that is longer than that by itself.
    """
    order = np.argsort(-pieces.lengths.astype(np.int64), kind="stable")
    lengths, first = pieces.lengths[order].tolist(), [0]
    while first[-1] < len(lengths):
        side_by_side = max(1, min(lanes, steps_max // lengths[first[-1]]))
        first.append(min(first[-1] + side_by_side, len(lengths)))
    return SequencePlan(pieces.take(order), np.array(first, np.int64), Batching(lanes))


def sequence_walk(store: Store, plan: SequencePlan, shape: Shape, done: int = 0) -> Iterator[Chunk]:
    """Read the plan chunk by chunk. The arrays of a chunk are the caller's.

    `fresh` is true in the first piece of a mini-batch, for all of its rows; `ends` tells which
    sequences have their last step in a piece. shape: only its horizon counts. done: chunks at the
    start to pass over, unread.
    """
    number = 0
    for batch, reach in enumerate(plan.reaches.tolist()):
        width = reach if isinstance(plan.how.length, str) else plan.how.length
        pieces = -(-reach // width)
        if number + pieces > done:
            rows = _rows_of(plan, batch, reach)
            for offset in range(max(0, done - number) * width, reach, width):
                yield _read(store, rows, _Piece(offset, min(width, reach - offset), shape.horizon))
        number += pieces


class _Rows(NamedTuple):
    """The sequences of a mini-batch, [B] each: rows begin:end of a series, as far as they are used.

    limit: see lanes.Piece. shift: padded steps before the first. value: what fills padding; None
    where it is masked.
    """

    series: IntArray
    begin: IntArray
    end: IntArray
    limit: IntArray
    shift: IntArray
    value: float | None


class _Piece(NamedTuple):
    """Steps offset : offset + width of a mini-batch."""

    offset: int
    width: int
    horizon: int


def _rows_of(plan: SequencePlan, batch: int, reach: int) -> _Rows:
    table = plan.pieces.table[plan.first[batch] : plan.first[batch + 1]]
    series, begin, end, _, limit = table.astype(np.int64).T
    how = plan.how
    if how.length == "shortest" and how.direction == "left":
        begin = end - reach
    elif how.length == "shortest":
        end = begin + reach
    left = how.direction == "left" and not how.masked
    shift = reach - (end - begin) if left else np.zeros_like(begin)
    return _Rows(series, begin, end, limit, shift, None if how.masked else how.padding_value)


def _read(store: Store, rows: _Rows, piece: _Piece) -> Chunk:
    offset, width, horizon = piece
    values, times = np.asarray(store.values), np.asarray(store.times)  # plain views of the maps
    start = rows.begin + offset - rows.shift
    blank = np.clip(rows.begin - start, 0, width)
    stop = np.clip(rows.end - start, 0, width)
    ahead = width + horizon - 1
    known = np.where(stop > 0, np.clip(rows.limit - start - 1, 0, ahead), 0)
    filled = None if rows.value is None else _filled(blank, stop, width, rows.value)
    count = len(start)
    nothing = np.zeros(count, np.int64)
    return Chunk(
        series=rows.series,
        rows=np.clip(start, rows.begin, rows.end),
        length=stop if filled is None else nothing + width,
        fresh=np.full(count, offset == 0),
        age=nothing + offset,
        values=from_place(until_place(windows_of(values, start, width), stop), blank),
        times=from_place(until_place(windows_of(times, start, width), stop), blank),
        future=from_place(until_place(windows_of(values[:, 0], start + 1, ahead), known), blank),
        lead=nothing,
        lead_values=np.empty((count, 0, values.shape[1]), np.float32),
        lead_times=np.empty((count, 0), np.int64),
        ends=(start < rows.end) & (rows.end <= start + width),
        filled=filled,
    )


def _filled(blank: IntArray, stop: IntArray, width: int, value: float) -> FloatArray:
    """Return NaN for real steps and `value` for padded ones, [B, T]."""
    steps = np.arange(width)
    real: NDArray[np.bool_] = (steps >= blank[:, None]) & (steps < stop[:, None])
    return np.where(real, np.nan, value).astype(np.float32)
