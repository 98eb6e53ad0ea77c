"""Mean, deviation and range of channels over the rows that train, for scales that stay.

Read block by block and merged as Chan, Golub and LeVeque (1979) do, so no sum of squares grows
beyond what float64 holds and memory does not grow with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecastd.data.split import Parts
from forecastd.data.statistics import DoubleArray, owners
from forecastd.data.store import Store

BLOCK_CELLS = 1 << 22
"""Numbers that are read at once."""


@dataclass(frozen=True)
class Moments:
    """Of C channels, float64 [C]: how many values, their mean, squared deviations and range.

    Where there is no value, the mean is 0 and the range infinite.
    """

    count: DoubleArray
    mean: DoubleArray
    squares: DoubleArray
    low: DoubleArray
    high: DoubleArray

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Moments:
        """Return the moments of rows [N, C]; what is not finite is left out."""
        good = np.isfinite(values)
        exact = values.astype(np.float64)
        count = good.sum(0).astype(np.float64)
        mean = np.where(good, exact, 0).sum(0) / np.maximum(count, 1)
        squares = (np.where(good, exact - mean, 0) ** 2).sum(0)
        low = np.where(good, exact, np.inf).min(0, initial=np.inf)
        high = np.where(good, exact, -np.inf).max(0, initial=-np.inf)
        return cls(count, mean, squares, low, high)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both together."""
        count = self.count + other.count
        total = np.maximum(count, 1)
        distance = other.mean - self.mean
        return Moments(
            count,
            self.mean + distance * other.count / total,
            self.squares + other.squares + distance**2 * self.count * other.count / total,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def pooled(self, groups: int) -> Moments:
        """Return the moments of `groups` channels, of which the channels are taken in turn.

        Elements of a frame, channels last, are pooled by channel so; all are with one group.
        """
        parts = [
            Moments(*(array[first : first + groups] for array in self._arrays()))
            for first in range(0, len(self.count), groups)
        ]
        pooled = parts[0]
        for part in parts[1:]:
            pooled = pooled.merged(part)
        return pooled

    @property
    def deviation(self) -> DoubleArray:
        """The sample deviation, by N - 1; 0 where there are less than two values."""
        found: DoubleArray = np.sqrt(self.squares / np.maximum(self.count - 1, 1))
        return found

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which channels have no two different values, up to the rounding of float32."""
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        with np.errstate(invalid="ignore"):  # no value: -inf - inf
            different = self.high - self.low > 1e-7 * reach
        return ~(different & (self.count > 1))

    def _arrays(self) -> tuple[DoubleArray, ...]:
        return self.count, self.mean, self.squares, self.low, self.high


def train_moments(
    store: Store, parts: Parts, first_channel: int = 0, block_cells: int = BLOCK_CELLS
) -> Moments:
    """Return the moments of the channels from `first_channel` on over all rows that train.

    Missing values are skipped, rows that fill holes with them. The store is read once, about
    `block_cells` numbers at a time.
    """
    channels = store.values.shape[1] - first_channel
    found = Moments.of(np.empty((0, channels)))
    rows = max(1, block_cells // max(1, channels))
    for first in range(0, len(store.times), rows):
        end = min(first + rows, len(store.times))
        places, owner = np.arange(first, end), owners(store.offsets[:-1], first, end)
        train = (places >= parts.train_begin[owner]) & (places < parts.train_end[owner])
        if train.any():
            found = found.merged(Moments.of(store.values[first:end, first_channel:][train]))
    return found
