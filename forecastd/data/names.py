"""The keys of a data set, numbered as they first appear.

They are columns, not objects: a series costs some tens of bytes here, and there may be millions.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.texts import column_of
from forecastd.series import IntArray, Keys

CHUNKS_MAX = 8
HASH_BITS = 64

SeriesArray = NDArray[np.int32]


class Names:
    """Gives each new key the next number. Keys compare by their code points, as text does.

    Keys are found by their hashes, in order with the number of each: some 20 bytes a series, made
    only where keys do not come in order. hash_bits: with few, keys share a hash, which costs time.
    """

    def __init__(self, hash_bits: int = HASH_BITS) -> None:
        self._keys = pl.Series([], dtype=pl.String)
        self._highest: tuple[str, int] | None = None
        self._hashes = np.full(1, np.iinfo(np.uint64).max)  # the last one stands for the end
        self._numbers = np.zeros(1, np.int32)
        self._starts = np.zeros(2, np.int32)  # the first place for each value of the leading bits
        self._rest = np.uint64(HASH_BITS - 1)
        self._shift = np.uint64(HASH_BITS - hash_bits)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, chosen: slice) -> pl.Series:
        """Return the keys of some numbers on end."""
        return self._keys[chosen]

    def numbers_of(self, keys: pl.Series) -> SeriesArray:
        """Return the number of each key, [n]. keys: text, no null."""
        again = len(keys) > 0 and self._highest is not None and keys[0] == self._highest[0]
        new = keys.slice(1) if again else keys
        if self._follow(new):
            number = [self._highest[1]] if again and self._highest else []
            first = len(self)
            self._append(new)
            return np.array([*number, *range(first, len(self))], np.int32)
        found = self._look_up(keys)
        if (unknown := found < 0).any():
            asked = keys.filter(pl.Series(unknown))
            self._append(asked.unique(maintain_order=True))
            found[unknown] = self._look_up(asked)
        return found

    def in_order(self) -> IntArray:
        """Return the numbers in the order of their keys."""
        return self._keys.arg_sort().to_numpy().astype(np.int64)

    def of(self, numbers: IntArray) -> Keys:
        """Return the keys of some numbers."""
        return column_of(self._keys.gather(numbers))

    def ascend(self, first: int) -> bool:
        """Say whether the keys from number `first` on ascend, also from the one before."""
        return _ascend(self[max(first - 1, 0) :])

    def _follow(self, keys: pl.Series) -> bool:
        """Say whether keys are new ones in order, as those of sorted rows are: no need to look."""
        past = len(keys) == 0 or self._highest is None or keys[0] > self._highest[0]
        return past and _ascend(keys)

    def _append(self, keys: pl.Series) -> None:
        if len(keys) == 0:
            return
        # Chosen rows share the text of the whole batch: a copy lets go of it.
        own = pl.Series(keys.to_arrow(compat_level=pl.CompatLevel.oldest()), dtype=pl.String)
        place = int(own.arg_max() or 0)
        if self._highest is None or own[place] > self._highest[0]:
            self._highest = own[place], len(self) + place
        self._keys.append(own)
        if self._keys.n_chunks() > CHUNKS_MAX:
            self._keys = self._keys.rechunk()

    def _look_up(self, keys: pl.Series) -> SeriesArray:
        """Return the number of each key, -1 where it is new."""
        if not len(self):
            return np.full(len(keys), -1, np.int32)
        self._hash_new()
        asked = self._hashed(keys)
        places = self._starts[(asked >> self._rest).astype(np.int64)]
        while (early := self._hashes[places] < asked).any():
            places += early
        numbers = self._numbers[places]
        same = (self._keys.gather(numbers) == keys).to_numpy()
        found: SeriesArray = np.where(same, numbers, -1)
        rows = np.flatnonzero(~same)
        while len(rows):  # of several keys with one hash the next ones, as long as there are more
            places[rows] += 1
            rows = rows[places[rows] < len(self)]
            rows = rows[self._hashes[places[rows]] == asked[rows]]
            numbers = self._numbers[places[rows]]
            same = (self._keys.gather(numbers) == keys.gather(rows)).to_numpy()
            found[rows[same]] = numbers[same]
            rows = rows[~same]
        return found

    def _hash_new(self) -> None:
        """Add the keys since the last call to the hashes."""
        first = len(self._hashes) - 1
        if first == len(self):
            return
        hashes = self._hashed(self._keys[first:])
        order = np.argsort(hashes)
        places = np.searchsorted(self._hashes[:-1], hashes[order])
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._numbers = np.insert(self._numbers, places, (first + order).astype(np.int32))
        bits = len(self).bit_length()
        self._rest = np.uint64(HASH_BITS - bits)
        leads = (self._hashes[:-1] >> self._rest).astype(np.int64)
        counts = np.bincount(leads, minlength=1 << bits)
        self._starts = (np.cumsum(counts) - counts).astype(np.int32)

    def _hashed(self, keys: pl.Series) -> NDArray[np.uint64]:
        hashes: NDArray[np.uint64] = keys.hash().to_numpy() >> self._shift
        return hashes


def _ascend(keys: pl.Series) -> bool:
    return bool((keys.slice(1) > keys.head(max(len(keys) - 1, 0))).all())
