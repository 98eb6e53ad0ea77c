"""Level, spread and difficulty of each series, from its training rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecastd.data.split import Parts
from forecastd.data.store import Store

DoubleArray = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of the target, float64, [S] each; missing: [C] share of training values that are NaN.

    mean, std (population) skip NaN. mase_scale: mean |y[t] - y[t - season]|, of lag 1 where a
    series has no such pair or never changes, std where that fails too. A series without a
    training value, or a constant one, has the median std and scale of the others (1 if none).
    """

    mean: DoubleArray
    std: DoubleArray
    mase_scale: DoubleArray
    missing: DoubleArray


def train_statistics(store: Store, parts: Parts) -> Statistics:
    """Compute the statistics of the training rows. Holes filled with NaN count as missing."""
    count = store.series_count
    owner = np.repeat(np.arange(count), np.diff(store.offsets))
    train = np.arange(len(store.times)) < parts.train_end[owner]
    target = np.where(train, store.values[:, 0], np.nan).astype(np.float64)
    mean = _means(target, owner, count)
    std = np.sqrt(_means((target - mean[owner]) ** 2, owner, count))
    std[std <= 1e-7 * np.abs(mean)] = np.nan  # float32 noise around a constant
    mean, std = _fill(mean, float("nan")), _fill(std, 1.0)
    mean = np.nan_to_num(mean)
    segment = np.repeat(np.arange(len(store.segments)), store.segments[:, 2] - store.segments[:, 1])
    scale = _lagged(target, owner, segment, store.season, count)
    for other in (_lagged(target, owner, segment, 1, count), std):
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, other)
    rows = max(1, int(np.count_nonzero(train)))
    missing = np.array(
        [np.count_nonzero(np.isnan(store.values[train, c])) / rows for c in _channels(store)]
    )
    return Statistics(mean, std, scale, missing)


def _channels(store: Store) -> range:
    return range(store.values.shape[1])


def _means(values: DoubleArray, owner: NDArray[np.int64], count: int) -> DoubleArray:
    """Return the mean per series of what is not NaN, NaN where nothing is left."""
    good = np.isfinite(values)
    sums = np.bincount(owner[good], values[good], count)
    counts = np.bincount(owner[good], minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _lagged(
    target: DoubleArray,
    owner: NDArray[np.int64],
    segment: NDArray[np.int64],
    lag: int,
    count: int,
) -> DoubleArray:
    """Return the mean absolute difference at `lag`, within segments only."""
    if lag >= len(target):
        return np.full(count, np.nan)
    difference = np.abs(target[lag:] - target[:-lag])
    difference[segment[lag:] != segment[:-lag]] = np.nan
    return _means(difference, owner[lag:], count)


def _fill(values: DoubleArray, fallback: float) -> DoubleArray:
    """Replace NaN by the median of the rest."""
    good = np.isfinite(values)
    other = float(np.median(values[good])) if good.any() else fallback
    return np.where(good, values, other)
