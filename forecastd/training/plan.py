"""From the settings and the data to everything a training needs: names, shapes, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.config import TrainConfig
from forecastd.data.lanes import Pieces, Plan, Shape, lane_plan, pieces_of, window_plan
from forecastd.data.sequences import Batching, sequence_plan
from forecastd.data.split import Parts
from forecastd.data.statistics import DoubleArray, Statistics
from forecastd.data.store import Store
from forecastd.errors import ConfigError, DataError
from forecastd.features.defaults import default_clocks, default_half_life, default_lags
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.expand import Known, features_of, layers_of, least_steps, wiring_with
from forecastd.network.outputs import head_of_forecast, head_of_task
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.walker import needs_whole_series
from forecastd.series import IntArray, Signature, quantiles_of
from forecastd.train_settings import TrainSettings

STEPS_WANTED = 600
"""Optimiser steps that the default number of epochs aims at."""
VALIDATION_ROWS_MAX = 200_000
WARMUP, LOSS_STRIDE = 24, 4
"""Where the settings say nothing, and steps are forecast from in lanes or windows."""

Planner = Callable[[Pieces, int, np.random.Generator, int], Plan]


class HeldOut(NamedTuple):
    """A part that does not train: rows begin:end of each series ([S]) of a store."""

    store: Store
    begin: IntArray
    end: IntArray


@dataclass(frozen=True)
class Material:
    """The data of a training: the store, its parts and the statistics of the training part.

    valid_store: the store to validate on where that is not a part of the one that trains.
    """

    store: Store
    parts: Parts
    statistics: Statistics
    valid_store: Store | None = None

    @property
    def validation(self) -> HeldOut:
        """The rows that choose the best epoch."""
        if self.valid_store is not None:
            offsets = self.valid_store.offsets
            return HeldOut(self.valid_store, offsets[:-1], offsets[1:])
        return HeldOut(self.store, self.parts.valid_begin, self.parts.valid_end)

    def words(self) -> list[str]:
        """Say how many rows of how many series each part has."""
        parts, valid = self.parts, self.validation
        bounds = {"train": (parts.train_begin, parts.train_end), "valid": (valid.begin, valid.end)}
        bounds["test"] = (parts.test_begin, parts.test_end)
        return [
            f"{name} {int((end - begin).sum()):,} rows of {np.count_nonzero(begin < end):,} series"
            for name, (begin, end) in bounds.items()
            if (begin < end).any()
        ]

    def vocabulary(self) -> Vocabulary:
        """Return the keys and categories of the series that train; all others are unknown."""
        trained, store = np.flatnonzero(self.parts.trained), self.store
        if len(trained) == store.series_count:
            return Vocabulary.learn(store.keys, store.static)
        static = {name: texts.take(trained) for name, texts in store.static.items()}
        return Vocabulary.learn(store.keys.take(trained), static)

    def codes(self, vocabulary: Vocabulary) -> NDArray[np.int32]:
        """Return [S, columns] what its `encode` would for all series of the store, with less."""
        trained = self.parts.trained
        codes = np.zeros((len(trained), len(vocabulary.sizes)), np.int32)
        codes[trained, 0] = np.arange(1, np.count_nonzero(trained) + 1)
        for place, (name, categories) in enumerate(vocabulary.static.items(), 1):
            codes[:, place] = self.store.static[name].codes_in(categories, -1) + 1
        return codes

    def validation_deviation(self) -> DoubleArray:
        """Return the deviation of each series of the validation's store; unknown: the median."""
        if self.valid_store is None:
            return self.statistics.std
        trained = self.parts.trained
        known = dict(zip(self.store.keys, self.statistics.std.tolist(), strict=True))
        middle = float(np.median(self.statistics.std[trained]))
        return np.array([known.get(key, middle) for key in self.valid_store.keys])

    def training_pieces(self) -> Pieces:
        """Return the segments of the training part."""
        begin, end = self.parts.train_begin, self.parts.train_end
        pieces = pieces_of(self.store, begin, end, end)
        return pieces.where(pieces.lengths > 1)

    def validation_pieces(self, context: int, seed: int) -> Pieces:
        """Return the validation part, each piece led in by `context` earlier rows, as live.

        Where there is much of it, a random choice of series stands for all.
        """
        store, first, end = self.validation
        begin = np.maximum(store.offsets[:-1], first - context)
        found = pieces_of(store, begin, end, end)
        pieces = found.where(found.end > first[found.series])
        order = np.random.default_rng(seed).permutation(len(pieces))
        rows = np.cumsum(pieces.lengths[order])
        return pieces.take(order[: np.searchsorted(rows, VALIDATION_ROWS_MAX) + 1])


@dataclass(frozen=True)
class Pace:
    """How a training goes through its data.

    sequence, lanes: T and B of a chunk. warmup: steps without loss. epochs: passes. validate_every:
    epochs. loss_stride: every n-th step carries loss. batching: where whole sequences train.
    """

    shape: Shape
    lanes: int
    warmup: int
    epochs: int
    validate_every: int
    planner: Planner
    loss_stride: int = LOSS_STRIDE
    batching: Batching | None = None


def require_trainable(material: Material) -> None:
    """Raise DataError when the training part holds nothing to learn from."""
    if len(material.training_pieces()) == 0:
        message = "the training part has no series of two rows or more"
        raise DataError(message, hint="give [split] a longer train part")
    if material.statistics.missing[0] == 1:
        message = f"the target {material.store.columns.target!r} has no value in the training part"
        raise DataError(message, hint="name another target in [data], or change [split]")


def require_memory(config: TrainConfig, material: Material, memory_bytes: int) -> None:
    """Raise ConfigError where lbfgs would go through more than fits in memory, again and again."""
    rows = int(material.training_pieces().lengths.sum())
    size = rows * material.store.values.shape[1] * material.store.values.itemsize
    if config.train.solver == "lbfgs" and size > memory_bytes:
        problem = "train.solver: lbfgs reads the whole training part for every step, and it has "
        problem += f"{size:,} bytes, more than the {memory_bytes:,} of memory that may be used"
        raise ConfigError([problem], hint="take another solver, or give more with --memory")


def signature_of(config: TrainConfig, store: Store) -> Signature:
    """Return what the model will read, and what it will say."""
    head = config.network.head
    if config.task.supervised:
        return store.signature(1, ())
    quantiles = () if head.kind == "point" else quantiles_of(tuple(head.levels))
    return store.signature(config.network.horizon, quantiles)


def network_spec(
    config: TrainConfig, signature: Signature, vocabulary: Vocabulary, material: Material
) -> NetworkSpec:
    """Return the shape of the network, defaults filled in from the data.

    Raises SpecError when the network does not fit the data, DataError when a series is too short.
    """
    lengths, times = material.training_pieces().lengths, material.store.times
    season, span = signature.season, int(times.max()) - int(times.min())
    known = Known(
        channels=len(signature.channels),
        frames=signature.frames,
        clocks=default_clocks(signature.frequency, season, span),
        half_life=default_half_life(season),
        lags=default_lags(season, int(np.median(lengths))),
        vocabulary=vocabulary.sizes,
    )
    features, layers = features_of(config, known), layers_of(config.network)
    wiring = wiring_with(layers, features)
    least, layer = least_steps(config, wiring)
    if (shortest := int(lengths.min())) < least:
        message = f"a series has {shortest} steps to train on, and layer {layer!r} needs {least}"
        raise DataError(message, hint="leave short series out, with [data] where or another file")
    if config.task.supervised and 0 < features.max_length < lengths.max():
        message = f"a series has {lengths.max()} steps, and layer {layer!r} takes {least}"
        raise DataError(message, hint="leave length out of the table, or cut the series")
    if signature.supervised:
        head = head_of_task(signature, layers, wiring.output)
    else:
        kind = config.network.head.kind
        head = head_of_forecast(kind, signature, features.lags, layers, wiring.output)
    return NetworkSpec(replace(features, min_length=least), layers, head)


def pace_of(config: TrainConfig, spec: NetworkSpec, material: Material) -> Pace:
    """Return sizes that fit the data: nothing longer than the series, enough steps in all."""
    train, horizon = config.train, spec.head.horizon
    lengths = material.training_pieces().lengths
    if train.mode == "sequences":
        how = _batching(train)
        epochs = _epochs(train, sequence_plan(material.training_pieces(), how, train.seed).chunks)
        return Pace(
            shape=Shape(int(lengths.max()), horizon, 0),
            lanes=min(train.batch, len(lengths)),
            warmup=_settling(spec, lengths) if train.warmup is None else train.warmup,
            epochs=epochs,
            validate_every=train.validate_every or max(1, epochs // 10),
            planner=window_plan,
            loss_stride=train.loss_stride or 1,
            batching=how,
        )
    last_only = not wiring_of(spec).output.time
    longest = int(np.quantile(lengths, 0.5 if last_only else 0.9))
    sequence = max(2, spec.features.min_length, min(train.sequence, longest))
    rows = int(lengths.sum())
    lanes = min(train.batch, max(1, rows // sequence))
    windows = train.mode == "windows" or last_only or needs_whole_series(spec)
    warmup = WARMUP if train.warmup is None else train.warmup
    epochs = _epochs(train, rows // (lanes * sequence))
    all_steps = config.task.supervised or train.solver == "lbfgs"
    return Pace(
        shape=Shape(sequence, horizon, spec.features.lead, trim=windows),
        lanes=lanes,
        warmup=min(warmup, int(np.median(lengths)) // 4, sequence - 1),
        epochs=epochs,
        validate_every=train.validate_every or max(1, epochs // 10),
        planner=window_plan if windows else lane_plan,
        loss_stride=train.loss_stride or (1 if all_steps else LOSS_STRIDE),
    )


def _epochs(train: TrainSettings, steps: int) -> int:
    """Return how many passes there are at most, each of so many steps of the solver."""
    if train.epochs is not None:
        return train.epochs
    most = train.iterations_max
    if train.solver == "lbfgs":  # an iteration sees all rows
        return most or 1
    return max(1 if most else 2, -(-(most or STEPS_WANTED) // max(1, steps)))


def _settling(spec: NetworkSpec, lengths: NDArray[np.integer]) -> int:
    """Return after how many steps a whole sequence has a scale, if that runs along with it."""
    running = spec.features.scaling == "running"
    return min(WARMUP, int(np.median(lengths)) // 4) if running else 0


def _batching(train: TrainSettings) -> Batching:
    """Return how sequences become mini-batches."""
    return Batching(
        batch=train.batch,
        length=train.sequence_length,
        padding_value=train.padding_value,
        direction=train.padding_direction,
        shuffle=train.shuffle,
        sort=train.sort,
        masked=train.mask_padding,
        drop_last=train.drop_last,
    )
