"""Keys and static values of many series as columns: no object for each series.

A store keeps them as arrays, which are mapped: what a series is called costs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.series import IntArray, Keys

Codes = NDArray[np.int32]
_KEYS, _ENDS, _CODES = "keys.npy", "key_offsets.npy", "static.npy"


class Texts(Sequence[str | None]):
    """A text or None for each of S series, of which few differ.

    texts: the different ones. codes: int32 [S], the place of the text of each series, -1 for None.
    Neither is to be modified.
    """

    __slots__ = ("codes", "texts")

    def __init__(self, texts: Sequence[str], codes: Codes) -> None:
        self.texts = tuple(texts)
        self.codes = codes

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Texts:
        """Return the column of some texts; a column is returned as it is."""
        if isinstance(values, Texts):
            return values
        different = dict.fromkeys(text for text in values if text is not None)
        places = {text: place for place, text in enumerate(different)}
        codes = (-1 if text is None else places[text] for text in values)
        return cls(tuple(places), np.fromiter(codes, np.int32, len(values)))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, place: int) -> str | None: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts | None:
        if isinstance(place, slice):
            return Texts(self.texts, self.codes[place])
        code = int(self.codes[place])
        return None if code < 0 else self.texts[code]

    def __iter__(self) -> Iterator[str | None]:
        texts = [*self.texts, None]
        return (texts[code] for code in self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        """Whether `other` has the same texts in the same order, as a column or as texts."""
        if isinstance(other, Texts | list | tuple):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts.of({list(self)!r})"

    def take(self, rows: IntArray) -> Texts:
        """Return the texts of some series."""
        return Texts(self.texts, self.codes[rows])

    def tidied(self) -> Texts:
        """Return the same texts, the different ones sorted and each of them in use."""
        used = np.bincount(self.codes + 1, minlength=len(self.texts) + 1)[1:] > 0
        texts = sorted(text for text, one in zip(self.texts, used.tolist(), strict=True) if one)
        return Texts(texts, self.codes_in(texts, -1))

    def codes_in(self, texts: Sequence[str], unknown: int) -> Codes:
        """Return for each series the place of its text in `texts`; `unknown` where it has none."""
        places = {text: place for place, text in enumerate(texts)}
        table = [places.get(text, unknown) for text in self.texts]
        found: Codes = np.array([*table, unknown], np.int32)[self.codes]
        return found


Static = dict[str, Texts]


def column_of(keys: pl.Series) -> Keys:
    """Return keys without null as a column of bytes."""
    if not len(keys):
        return Keys.empty()
    array = keys.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
    return Keys(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8), offsets)


def series_of(keys: Keys) -> pl.Series:
    """Return a column of bytes as keys."""
    import pyarrow as pa

    offsets = np.ascontiguousarray(keys.offsets, np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(keys.data))]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), len(keys), buffers), dtype=pl.String)


def write_names(folder: Path, keys: Keys, static: Static) -> None:
    """Write keys and static values as arrays of a store."""
    codes = np.empty((len(static), len(keys)), np.int32)
    for place, texts in enumerate(static.values()):
        codes[place] = texts.codes
    arrays: dict[str, NDArray[Any]] = {
        _KEYS: keys.data[keys.offsets[0] : keys.offsets[-1]],
        _ENDS: keys.offsets - keys.offsets[0],
        _CODES: codes,
    }
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=False)


def read_names(folder: Path, texts: dict[str, list[str]]) -> tuple[Keys, Static]:
    """Map what `write_names` wrote. texts: the different ones of each static column, in order.

    Raises OSError or ValueError where the arrays do not fit each other.
    """
    data, offsets, codes = (_mapped(folder / name) for name in (_KEYS, _ENDS, _CODES))
    series = len(offsets) - 1
    good = series >= 0 and offsets[0] == 0 and offsets[-1] == len(data)
    if not good or codes.shape != (len(texts), series):
        message = "keys and static values do not fit each other"
        raise ValueError(message)
    static = {name: Texts(found, codes[place]) for place, (name, found) in enumerate(texts.items())}
    return Keys(data, offsets), static


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return array
