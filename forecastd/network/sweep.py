"""Goes through a whole store with a network, in bounded memory, and hands out what it says.

What a network says of a row does not depend on what is read beside it: states are carried from the
start of each stretch, or whole stretches are masked. There are three ways to read: in lanes, a
chunk of steps at a time, where no step needs the future; stretch by stretch, where one does or
where one thing is said of a whole series; and window by window, each ending at an origin, where
a forecast is made by a network that needs what follows a step, so that it never sees what it is of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.data.lanes import Chunk, Pieces, Shape, sweep_plan, walk
from forecastd.data.sequences import sequence_walk, whole_plan
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.network.model import ForecastNetwork
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.walker import Walker, needs_whole_series, steps_at_once
from forecastd.series import FloatArray, IntArray

LANES = 64
NUMBERS_MAX = 4_000_000
"""About how many numbers the widest layer gives at once where whole stretches are read."""
BLOCK_ROWS = 4096
WINDOW = 96
"""Rows before an origin that a window has, where training does not tell."""


Wanted = Callable[[IntArray, IntArray], NDArray[np.bool_]]
"""Takes series and rows of the store, in shapes that broadcast; says which of the rows count."""


class Swept(NamedTuple):
    """What was said of n rows.

    chunk: where they are. lanes, rows [n]: which lane of it, and the row in the store. values [n,
    horizon, Q]: what is said, in the units of the data. steps: rows of the store that were read.
    """

    chunk: Chunk
    lanes: IntArray
    rows: IntArray
    values: FloatArray
    steps: int


def sweep(
    walker: Walker, store: Store, pieces: Pieces, wanted: Wanted, window: int = WINDOW
) -> Iterator[Swept]:
    """Walk pieces and yield what the network says of the rows that are wanted.

    A network that says one thing of a whole series says it at the last row of each piece, whatever
    is wanted. window: rows of a window, where windows are read. Raises DataError for a piece
    that is shorter than what a regression or a classification takes.
    """
    network = walker.network
    _require_lengths(network, store, pieces)
    if network.head.supervised and (says_once(network.spec) or needs_whole_series(network.spec)):
        plan = whole_plan(pieces, LANES, _steps_max(network))
        chunks = sequence_walk(store, plan, Shape(1, network.spec.head.horizon, 0))
        yield from _whole(walker, store, chunks, None if says_once(network.spec) else wanted)
    elif needs_whole_series(network.spec):
        windows = windows_before(pieces, wanted, window)
        yield from _whole(walker, store, _windows(network.spec, store, windows, window))
    else:
        yield from _lanes(walker, store, pieces, wanted)


def _require_lengths(network: ForecastNetwork, store: Store, pieces: Pieces) -> None:
    features, lengths = network.spec.features, pieces.lengths
    least, most = features.min_length, features.max_length or np.inf
    if not network.head.supervised or not ((lengths < least) | (lengths > most)).any():
        return
    wrong = int(np.argmax((lengths < least) | (lengths > most)))
    takes = f"{least} or more" if most == np.inf else str(features.max_length)
    key, steps = store.keys[int(pieces.series[wrong])], int(lengths[wrong])
    message = f"series {key!r} has {steps} steps, and the model takes {takes}"
    raise DataError(message, hint="leave such series out")


def observed_between(store: Store, begin: IntArray, end: IntArray) -> Wanted:
    """Want the observed rows within begin:end of each series ([S])."""

    def wanted(series: IntArray, rows: IntArray) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (rows >= begin[series]) & (rows < end[series])
        return inside & np.asarray(store.observed)[rows]

    return wanted


def newest(store: Store, begin: IntArray, end: IntArray) -> Wanted:
    """Want the last observed row within begin:end of each series ([S])."""
    last = np.full(store.series_count, -1)
    for series, (first, stop) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        while stop > first and last[series] < 0:  # in blocks from the end: the rest is not read
            block = max(first, stop - BLOCK_ROWS)
            found = np.flatnonzero(store.observed[block:stop])
            last[series] = block + found[-1] if len(found) else -1
            stop = block
    return lambda series, rows: rows == last[series]


def last_pieces(pieces: Pieces) -> Pieces:
    """Return the last stretch of each series: a hole that is too long ends the one before."""
    if not len(pieces):
        return pieces
    after = np.append(pieces.series[1:], -1)
    return pieces.where(pieces.series != after)


def windows_before(pieces: Pieces, wanted: Wanted, window: int) -> Pieces:
    """Return a piece for each wanted row of the pieces: it, and at most window - 1 rows before."""
    tables = [pieces.table[:0]]
    for line in pieces.table:
        begin, end = int(line[1]), int(line[2])
        rows = np.arange(begin, end)
        last = rows[wanted(line[:1].astype(np.int64), rows)]
        table = np.repeat(line[None], len(last), 0)
        table[:, 1], table[:, 2] = np.maximum(last + 1 - window, begin), last + 1
        tables.append(table)
    return Pieces(np.concatenate(tables))


def says_once(spec: NetworkSpec) -> bool:
    """Tell whether a network says one thing of all the steps that it is given."""
    return not wiring_of(spec).output.time


def window_of(provenance: Mapping[str, Any]) -> int:
    """Return how many rows a window had in the training of a model."""
    try:
        return max(1, int(provenance["config"]["train"]["sequence"]))
    except (LookupError, TypeError, ValueError):
        return WINDOW


def _lanes(walker: Walker, store: Store, pieces: Pieces, wanted: Wanted) -> Iterator[Swept]:
    spec = walker.network.spec
    shape = Shape(steps_at_once(spec, LANES), spec.head.horizon, 0)
    for chunk in walk(store, sweep_plan(pieces, LANES), shape):
        here = _wanted_at(chunk, store, wanted)
        at = np.flatnonzero(here.any(0)) if shape.sequence > 1 else np.zeros(1, np.int64)
        with torch.inference_mode():
            forecast = walker.unroll(chunk, at)
            lanes, places = np.nonzero(here[:, at])
            values = forecast.chosen(lanes, places).float().numpy(force=True)
        read = int(chunk.length.sum())
        yield Swept(chunk, lanes, chunk.rows[lanes] + at[places], values, read)


def _windows(spec: NetworkSpec, store: Store, windows: Pieces, window: int) -> Iterator[Chunk]:
    """Read windows as they are read in training: the rows before warm the features."""
    shape = Shape(window, spec.head.horizon, spec.features.lead, trim=True)
    for chunk in walk(store, sweep_plan(windows, LANES), shape):
        yield chunk._replace(ends=chunk.length > 0)


def _whole(
    walker: Walker, store: Store, chunks: Iterator[Chunk], wanted: Wanted | None = None
) -> Iterator[Swept]:
    """Take what is said of stretches read at once: where it is wanted, or at their ends."""
    once = says_once(walker.network.spec)
    for chunk in chunks:
        ends = np.arange(chunk.values.shape[1]) == chunk.length[:, None] - 1
        here = ends if wanted is None else _wanted_at(chunk, store, wanted)
        with torch.inference_mode():
            forecast = walker.unroll(chunk)
            lanes, places = np.nonzero(here)
            at = np.zeros_like(places) if once else places
            values = forecast.chosen(lanes, at).float().numpy(force=True)
        yield Swept(chunk, lanes, chunk.rows[lanes] + places, values, int(chunk.length.sum()))


def _wanted_at(chunk: Chunk, store: Store, wanted: Wanted) -> NDArray[np.bool_]:
    """Say which steps of a chunk are wanted, [B, T]; none of padding or of an idle lane."""
    steps = np.arange(chunk.values.shape[1])
    rows = np.minimum(chunk.rows[:, None] + steps, len(store.times) - 1)
    real: NDArray[np.bool_] = steps < chunk.length[:, None]
    return real & wanted(chunk.series[:, None], rows)


def _steps_max(network: ForecastNetwork) -> int:
    """Return how many steps may lie side by side so that what each layer gives is bounded."""
    nodes = wiring_of(network.spec).nodes
    widths = [shape.width for node in nodes for shape in node.facts.outputs.values()]
    return max(1, NUMBERS_MAX // max([network.spec.features.width, *widths]))
