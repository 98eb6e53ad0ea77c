"""Level, spread and difficulty of each series, from its training rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecastd.data.split import Parts
from forecastd.data.store import Store

DoubleArray = NDArray[np.float64]
BLOCK_ROWS = 1 << 19


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


def train_statistics(store: Store, parts: Parts, block_rows: int = BLOCK_ROWS) -> Statistics:
    """Compute the statistics of the training rows. Holes filled with NaN count as missing.

    The store is read once, `block_rows` at a time; what is remembered grows with the series only.
    """
    level, rows = _Moments(store.series_count), 0
    seasonal, neighbour = _Moments(store.series_count), _Moments(store.series_count)
    missing = np.zeros(store.values.shape[1])
    for first in range(0, len(store.times), block_rows):
        end = min(first + block_rows, len(store.times))
        values = np.array(store.values[first:end])
        owner = owners(store.offsets[:-1], first, end)
        places = np.arange(first, end)
        train = (places >= parts.train_begin[owner]) & (places < parts.train_end[owner])
        rows += int(np.count_nonzero(train))
        missing += np.count_nonzero(np.isnan(values[train]), axis=0)
        target = np.where(train, values[:, 0], np.nan).astype(np.float64)
        level.add(owner, target)
        segment = owners(store.segments[:, 1], first, end)
        for found, lag in ((seasonal, store.season), (neighbour, 1)):
            before = places - lag
            inside = before >= np.maximum(store.segments[segment, 1], parts.train_begin[owner])
            earlier = np.asarray(store.values[np.maximum(before, 0), 0], np.float64)
            found.add(owner, np.where(inside, np.abs(target - earlier), np.nan))
    mean, std = level.mean(), level.std()
    std[std <= 1e-7 * np.abs(mean)] = np.nan  # float32 noise around a constant
    mean, std = _fill(mean, float("nan")), _fill(std, 1.0)
    scale = seasonal.mean()
    for other in (neighbour.mean(), std):
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, other)
    return Statistics(np.nan_to_num(mean), std, scale, missing / max(1, rows))


class _Moments:
    """Count, mean and squared deviations of each series, merged block by block (Chan et al.)."""

    def __init__(self, series: int) -> None:
        self.counts, self.means, self.squares = np.zeros((3, series))

    def add(self, owner: NDArray[np.int64], values: DoubleArray) -> None:
        """Merge values that lie side by side by series; those not finite are left out."""
        if len(owner) == 0:
            return
        low, high = int(owner[0]), int(owner[-1]) + 1
        good = np.isfinite(values)
        places, values = owner[good] - low, values[good]
        counts = np.bincount(places, minlength=high - low).astype(np.float64)
        means = np.bincount(places, values, high - low) / np.maximum(counts, 1)
        squares = np.bincount(places, (values - means[places]) ** 2, high - low)
        here = slice(low, high)
        total = np.maximum(self.counts[here] + counts, 1)
        distance = means - self.means[here]
        self.squares[here] += squares + distance**2 * self.counts[here] * counts / total
        self.means[here] += distance * counts / total
        self.counts[here] += counts

    def mean(self) -> DoubleArray:
        """Return the means, NaN where there was no value."""
        return np.where(self.counts > 0, self.means, np.nan)

    def std(self) -> DoubleArray:
        """Return the population deviations, NaN where there was no value."""
        variance = self.squares / np.maximum(self.counts, 1)
        return np.where(self.counts > 0, np.sqrt(variance), np.nan)


def owners(starts: NDArray[np.int64], first: int, end: int) -> NDArray[np.int64]:
    """Return for rows first:end which of the stretches that begin at `starts` each lies in."""
    low, high = np.searchsorted(starts, [first, end - 1], side="right") - 1
    bounds = np.append(np.maximum(starts[low : high + 1], first), end)
    return np.repeat(np.arange(low, high + 1), np.diff(bounds))


def _fill(values: DoubleArray, fallback: float) -> DoubleArray:
    """Replace NaN by the median of the rest."""
    good = np.isfinite(values)
    other = float(np.median(values[good])) if good.any() else fallback
    return np.where(good, values, other)
