"""Categories as codes: series keys and static columns. Code 0 is everything unknown."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forecastd.series import IntArray, Keys

SERIES_AT_ONCE = 4096


@dataclass(frozen=True)
class Vocabulary:
    """The keys and categories seen in training.

    series: keys; the code is the index + 1. static: per column its categories, coded alike.
    known: per static column the category of each series, in the order of `series` (None: none).
    A column of keys (`Keys`) is in order, as those of a store are: it is searched as it is.
    """

    series: Sequence[str]
    static: Mapping[str, tuple[str, ...]]
    known: Mapping[str, Sequence[str | None]]

    @classmethod
    def learn(cls, keys: Sequence[str], static: Mapping[str, Sequence[str | None]]) -> Vocabulary:
        """Collect the categories of a training set."""
        categories = {
            name: tuple(sorted({v for v in values if v is not None}))
            for name, values in static.items()
        }
        return cls(keys if isinstance(keys, Keys) else tuple(keys), categories, dict(static))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of codes per column, unknown included: series, then static columns."""
        return (len(self.series) + 1, *(len(v) + 1 for v in self.static.values()))

    def encode(
        self, keys: Sequence[str], static: Mapping[str, Sequence[str | None]] | None = None
    ) -> IntArray:
        """Return [n, 1 + static columns] codes.

        A static value that is not given is the one the series had in training.
        """
        codes = np.zeros((len(keys), len(self.sizes)), np.int64)
        codes[:, 0] = self._of_keys(keys)
        for place, (name, table) in enumerate(self._static_codes.items(), 1):
            given = (static or {}).get(name) or [None] * len(keys)
            for row, value in enumerate(given):
                category = value if value is not None else self._of_series(name, codes[row, 0])
                codes[row, place] = table.get(category, 0) if category is not None else 0
        return codes

    def json_parts(self) -> Iterator[str]:
        """Yield series and categories as the text of one JSON object, some series at a time."""
        yield '{"series": '
        yield from _list_parts(self.series)
        yield f', "static": {json.dumps(dict(self.static))}, "known": {{'
        for place, (name, values) in enumerate(self.known.items()):
            yield f"{', ' if place else ''}{json.dumps(name)}: "
            yield from _list_parts(values)
        yield "}}\n"

    def _of_keys(self, keys: Sequence[str]) -> IntArray:
        few = len(keys) < len(self.series)
        if few and isinstance(self.series, Keys):
            places = [bisect_left(self.series, key) for key in keys]
            found = [self.series[p : p + 1] == [k] for p, k in zip(places, keys, strict=True)]
            return np.where(found, np.array(places, np.int64) + 1, 0)
        # Whoever asks for all of them asks once: the table is not kept.
        table = self._series_codes if few else self._numbered()
        return np.fromiter((table.get(key, 0) for key in keys), np.int64, len(keys))

    def _of_series(self, name: str, code: int) -> str | None:
        return self.known[name][code - 1] if code else None

    @cached_property
    def _series_codes(self) -> dict[str, int]:
        return self._numbered()

    def _numbered(self) -> dict[str, int]:
        return {key: code for code, key in enumerate(self.series, 1)}

    @cached_property
    def _static_codes(self) -> dict[str, dict[str, int]]:
        return {n: {v: c for c, v in enumerate(vs, 1)} for n, vs in self.static.items()}


def _list_parts(values: Sequence[str | None]) -> Iterator[str]:
    yield "["
    for first in range(0, len(values), SERIES_AT_ONCE):
        part = json.dumps(list(values[first : first + SERIES_AT_ONCE]))
        yield (", " if first else "") + part[1:-1]
    yield "]"
