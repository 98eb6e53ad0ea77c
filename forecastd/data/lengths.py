"""How long the series of a data set are, and what padding each way of batching them would cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forecastd.config import TrainSettings
from forecastd.data.lanes import Pieces, Shape, extent_of, lane_plan
from forecastd.series import IntArray

BARS_MAX = 8
SKEW = 20
"""How many times the shortest the longest must be for bars to widen by factors."""
LONGEST_SHARE = 0.9
"""The share of stretches that a chunk is at most as long as, as in training."""


class Bar(NamedTuple):
    """How many series have shortest to longest steps, both included."""

    shortest: int
    longest: int
    series: int


class Padding(NamedTuple):
    """The share of steps that are padding, by the way of batching.

    unsorted: `batch` series side by side as they come, each as long as the longest of them.
    by_length: the same of sorted series. lanes: `batch` walks in chunks of `sequence` steps, as
    training has them.
    """

    batch: int
    sequence: int
    unsorted: float
    by_length: float
    lanes: float


def bars_of(lengths: IntArray) -> list[Bar]:
    """Return the lengths of S series in few bars, the shortest first; some may be empty."""
    low, high = int(lengths.min()), int(lengths.max())
    count = min(BARS_MAX, high - low + 1)
    spaced = np.geomspace if low > 0 and high > SKEW * low else np.linspace
    edges = np.unique(np.ceil(spaced(low, high + 1, count + 1) - 1e-9).astype(np.int64))
    series = np.diff(np.searchsorted(np.sort(lengths), edges))
    bounds = zip(edges[:-1].tolist(), edges[1:].tolist(), series.tolist(), strict=True)
    return [Bar(first, end - 1, number) for first, end, number in bounds]


def padding_of(segments: IntArray) -> Padding:
    """Return what padding costs the stretches of a store, [K, 3] series, first and end row."""
    train = TrainSettings()
    lengths = segments[:, 2] - segments[:, 1]
    longest = int(np.quantile(lengths, LONGEST_SHARE))
    sequence = max(2, min(train.sequence, longest))
    series, first, end = segments.T
    pieces = Pieces(np.stack([series, first, end, first, end], axis=1))
    lanes = min(train.batch, max(1, int(lengths.sum()) // sequence))
    plan = lane_plan(pieces, lanes, np.random.default_rng(train.seed), sequence)
    return Padding(
        batch=train.batch,
        sequence=sequence,
        unsorted=_share(lengths, train.batch),
        by_length=_share(np.sort(lengths), train.batch),
        lanes=extent_of(plan, Shape(sequence, 1, 0)).padding,
    )


def _share(lengths: IntArray, batch: int) -> float:
    """Return 1 - steps / steps with padding, each batch as long as its longest."""
    firsts = np.arange(0, len(lengths), batch)
    longest = np.maximum.reduceat(lengths, firsts)
    sizes = np.diff(np.append(firsts, len(lengths)))
    return 1 - float(lengths.sum()) / float((longest * sizes).sum())
