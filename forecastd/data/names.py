"""The keys of a data set, numbered as they first appear.

They are columns, not objects: a series costs some tens of bytes here, and there may be millions.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.texts import column_of
from forecastd.series import IntArray, Keys

CHUNKS_MAX = 64

SeriesArray = NDArray[np.int32]


class Names:
    """Gives each new key the next number. Keys compare by their code points, as text does."""

    def __init__(self) -> None:
        self._table = pl.DataFrame(schema={"key": pl.String, "number": pl.Int32})
        self._highest: tuple[str, int] | None = None

    def __len__(self) -> int:
        return self._table.height

    def __getitem__(self, chosen: slice) -> pl.Series:
        """Return the keys of some numbers on end."""
        return self._table["key"][chosen]

    def numbers_of(self, keys: pl.Series) -> SeriesArray:
        """Return the number of each key, [n]. keys: text, no null."""
        again = len(keys) > 0 and self._highest is not None and keys[0] == self._highest[0]
        new = keys.slice(1) if again else keys
        if self._follow(new):
            number = [self._highest[1]] if again and self._highest else []
            first = len(self)
            self._append(new)
            return np.array([*number, *range(first, len(self))], np.int32)
        asked = pl.DataFrame({"key": keys})
        found = self._look_up(asked)
        if found.null_count():
            self._append(asked["key"].filter(found.is_null()).unique(maintain_order=True))
            found = self._look_up(asked)
        numbers: SeriesArray = found.to_numpy()
        return numbers

    def in_order(self) -> IntArray:
        """Return the numbers in the order of their keys."""
        return self._table["key"].arg_sort().to_numpy().astype(np.int64)

    def of(self, numbers: IntArray) -> Keys:
        """Return the keys of some numbers."""
        return column_of(self._table["key"].gather(numbers))

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
        numbers = pl.int_range(len(self), len(self) + len(own), dtype=pl.Int32, eager=True)
        place = int(own.arg_max() or 0)
        if self._highest is None or own[place] > self._highest[0]:
            self._highest = own[place], len(self) + place
        self._table = self._table.vstack(pl.DataFrame({"key": own, "number": numbers}))
        if self._table.n_chunks() > CHUNKS_MAX:
            self._table = self._table.rechunk()

    def _look_up(self, asked: pl.DataFrame) -> pl.Series:
        return asked.join(self._table, on="key", how="left", maintain_order="left")["number"]


def _ascend(keys: pl.Series) -> bool:
    return bool((keys.slice(1) > keys.head(max(len(keys) - 1, 0))).all())
