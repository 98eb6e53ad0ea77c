"""One way through rows, chunk by chunk: an epoch of the training part, or a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from forecastd.config import TrainConfig
from forecastd.data.lanes import Chunk, Pieces, Shape, extent_of, sweep_plan, walk
from forecastd.data.prefetch import Prefetch
from forecastd.data.sequences import Batching, sequence_plan, sequence_walk
from forecastd.data.store import Store
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.walker import Clocks, needs_whole_series
from forecastd.series import IntArray
from forecastd.training.plan import HeldOut, Material, Pace

VALIDATION_CONTEXT = 512
VALIDATION_SEQUENCE = 256
WINDOWS_OVERLAP = 4
"""So many windows of the validation part see a step, where each says one thing."""


@dataclass(frozen=True)
class Task:
    """What to train: settings, data, and the shapes that follow from both."""

    config: TrainConfig
    material: Material
    vocabulary: Vocabulary
    spec: NetworkSpec
    pace: Pace
    clocks: Clocks


class Marks(NamedTuple):
    """at [T']: the steps of a chunk to forecast from. counts [B, T']: which of them carry loss."""

    at: IntArray
    counts: NDArray[np.bool_]


class Pass(NamedTuple):
    """chunks: how many there are; padding: the share of their steps that is padding.

    walk: reads them, from the chunk of a number on. marks: the steps of a chunk that count, for its
    number.
    """

    chunks: int
    padding: float
    walk: Callable[[int], Iterator[Chunk]]
    marks: Callable[[Chunk, int], Marks]


def training_pass(task: Task, epoch: int) -> Pass:
    """Return the way through the training part in an epoch, from 0: it follows from the seed."""
    if task.pace.batching is not None:
        return _sequences(task, task.material.store, task.material.training_pieces(), epoch)
    pace, material, once = task.pace, task.material, once_of(task.spec)
    dice = np.random.default_rng([task.config.train.seed, epoch])
    shape, stride = pace.shape, pace.loss_stride
    plan = pace.planner(material.training_pieces(), pace.lanes, dice, shape.sequence)
    extent = extent_of(plan, shape)
    answered = once and task.config.task.supervised
    ended = answered or needs_whole_series(task.spec) or _padding_counts(task.spec)

    def marks(chunk: Chunk, number: int) -> Marks:
        steps = chunk.values.shape[1]
        if once and chunk.ends is not None:
            return _ends(chunk)
        at = np.arange(min((number + epoch) % stride, steps - 1), steps, stride)
        return _from(pace.warmup - chunk.age, chunk, np.array([steps - 1]) if once else at)

    def walked(done: int) -> Iterator[Chunk]:
        chunks = walk(material.store, plan, shape, done)
        return map(_ended, chunks) if ended else chunks

    return Pass(extent.chunks, extent.padding, walked, marks)


def sweep_pass(task: Task) -> Pass:
    """Return a way through all rows of the training part, each once, padding masked as given."""
    pace, material = task.pace, task.material
    how = pace.batching or Batching(pace.lanes, pace.shape.sequence)
    if pace.batching is None and needs_whole_series(task.spec):
        how = Batching(pace.lanes)
    how = replace(how, shuffle="never", drop_last=False)
    return _sequences(task, material.store, material.training_pieces(), 0, how)


def validation_pass(task: Task) -> Pass:
    """Return the way through the validation part, the network carried into it.

    A network that needs what follows a step has windows of it, as it has in training, or whole
    series where mini-batches of these train.
    """
    pace, material, seed = task.pace, task.material, task.config.train.seed
    held = material.validation
    if pace.batching is not None:
        how = replace(pace.batching, shuffle="never", drop_last=False)
        pieces = material.validation_pieces(0, seed)
        return _sequences(task, held.store, pieces, 0, how)
    if needs_whole_series(task.spec):
        return _windows(task, held)
    pieces = material.validation_pieces(VALIDATION_CONTEXT, seed)
    steps = 1 if once_of(task.spec) else VALIDATION_SEQUENCE
    shape = Shape(steps, pace.shape.horizon, pace.shape.lead)
    plan = sweep_plan(pieces, pace.lanes)
    at = np.arange(0, steps, min(pace.loss_stride, steps))

    def marks(chunk: Chunk, number: int) -> Marks:
        return _from(_first_origin(task, held, chunk), chunk, at)

    return Pass(0, 0.0, lambda done: walk(held.store, plan, shape, done), marks)


def _sequences(
    task: Task, store: Store, pieces: Pieces, epoch: int, how: Batching | None = None
) -> Pass:
    """Return the way through mini-batches of whole pieces. how: if not that of the training."""
    pace, once = task.pace, once_of(task.spec)
    batching = how or pace.batching
    assert batching is not None
    plan = sequence_plan(pieces, batching, task.config.train.seed, epoch)

    def marks(chunk: Chunk, number: int) -> Marks:
        if once:
            return _ends(chunk)
        steps = chunk.values.shape[1]
        at = np.arange(min(number % pace.loss_stride, steps - 1), steps, pace.loss_stride)
        return _from(pace.warmup - chunk.age, chunk, at)

    def walked(done: int) -> Iterator[Chunk]:
        return sequence_walk(store, plan, pace.shape, done)

    return Pass(plan.chunks, plan.padding, walked, marks)


def _windows(task: Task, held: HeldOut) -> Pass:
    """Return the way through windows of the validation part, each from a cold state."""
    shape, once = replace(task.pace.shape, trim=True), once_of(task.spec)
    pieces = task.material.validation_pieces(shape.sequence - 1, task.config.train.seed)
    stride = max(1, shape.sequence // WINDOWS_OVERLAP) if once else shape.sequence
    plan = sweep_plan(cut(pieces, shape.sequence, stride), task.pace.lanes)

    def marks(chunk: Chunk, number: int) -> Marks:
        first = _first_origin(task, held, chunk)
        if once:
            last = chunk.length - 1 >= first
            return Marks(_ends(chunk).at, (last & (chunk.length > 0))[:, None])
        return _from(first, chunk, np.arange(chunk.values.shape[1]))

    return Pass(0, 0.0, lambda done: map(_ended, walk(held.store, plan, shape, done)), marks)


def cut(pieces: Pieces, length: int, stride: int) -> Pieces:
    """Cut pieces into windows of at most `length` rows, each `stride` rows after the last."""
    counts = np.maximum(0, -(-(pieces.lengths - length) // stride)) + 1
    owner = np.repeat(np.arange(len(pieces)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = pieces.table[owner]
    table[:, 1] += (place * stride).astype(table.dtype)
    table[:, 2] = np.minimum(table[:, 1] + length, table[:, 2])
    return Pieces(table)


def once_of(spec: NetworkSpec) -> bool:
    """Return whether a network says one thing of a whole sequence."""
    return not wiring_of(spec).output.time


def _padding_counts(spec: NetworkSpec) -> bool:
    """Return whether what is learned of a mini-batch depends on which steps are padding."""
    return any(layer.kind == "batch_norm" for layer in spec.layers)


def ahead(chunks: Iterator[Chunk], device: torch.device) -> Prefetch[Chunk]:
    """Return chunks that are read ahead; for a GPU, in memory from where a copy is quick."""
    return Prefetch(chunks, pinned if device.type == "cuda" else None)


def pinned(chunk: Chunk) -> Chunk:
    """Return the chunk in page-locked memory, from where a copy to a GPU is quick."""

    def pin(array: Any) -> Any:
        return None if array is None else torch.from_numpy(array).pin_memory().numpy()

    return Chunk(*map(pin, chunk))


def _ended(chunk: Chunk) -> Chunk:
    """Return a chunk that says that its lanes end where their length does: the rest is masked."""
    return chunk._replace(ends=chunk.length > 0)


def _ends(chunk: Chunk) -> Marks:
    """Return the marks of what is said once of each sequence: where it ends."""
    assert chunk.ends is not None
    return Marks(np.array([chunk.values.shape[1] - 1]), chunk.ends[:, None])


def _first_origin(task: Task, held: HeldOut, chunk: Chunk) -> IntArray:
    """Return the first step of each lane that says something of the validation part, [B].

    A forecast is made one step before what it is of.
    """
    before = 0 if task.config.task.supervised else 1
    return held.begin[chunk.series] - before - chunk.rows


def _from(earliest: IntArray, chunk: Chunk, at: IntArray) -> Marks:
    """Return the steps `at` that count from `earliest` [B] on, within the real length."""
    return Marks(at, (at >= earliest[:, None]) & (at < chunk.length[:, None]))
