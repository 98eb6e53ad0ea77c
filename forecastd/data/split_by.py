"""Parts that are whole series, or given ranges of rows or of time."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from forecastd.config import SplitSettings
from forecastd.data.store import Store
from forecastd.errors import DataError
from forecastd.series import IntArray
from forecastd.split_settings import PartValue, moment_us, names_in

NAMES = ("train", "valid", "test")
_HASH_BYTES = 8


def whole_series(store: Store, settings: SplitSettings, *, require_all: bool) -> list[IntArray]:
    """Give each series as a whole to one part, or to none.

    Lists name keys, or values of settings.column; a share is drawn among the series that no list
    names, by a hash of seed and key, so a series stays where it is when others come or go. Where
    nothing says what trains, all that is left does. require_all: raise DataError for a key, value
    or share that stands for no series. Returns first and end row of train, valid and test.
    """
    given = {name: getattr(settings, name) for name in NAMES}
    part_of = np.full(store.series_count, -1, np.int8)
    labels: Sequence[str | None] = store.keys
    if settings.column is not None:
        labels = store.static[settings.column]
    for place, (name, value) in enumerate(given.items()):
        listed = names_in(value)
        if listed and require_all:
            _require_known(f"split.{name}", listed, labels, settings.column)
        wanted = set(listed)
        part_of[np.array([label in wanted for label in labels], bool)] = place
    _draw(store, settings, given, part_of)
    found: list[IntArray] = []
    for place, (name, value) in enumerate(given.items()):
        inside = part_of == place
        if require_all and isinstance(value, float) and value > 0 and not inside.any():
            message = f"split.{name} = {value} draws none of {store.series_count} series"
            raise DataError(message, hint="give a larger share, another seed, or a list of keys")
        found += _bounds(store, inside)
    return found


def _draw(
    store: Store, settings: SplitSettings, given: dict[str, PartValue], part_of: NDArray[np.int8]
) -> None:
    """Give the series that no list names to the shares, test first; `part_of` is changed."""
    shares = {name: value for name, value in given.items() if isinstance(value, float)}
    for series in np.flatnonzero(part_of < 0).tolist():
        dice = _dice(settings.seed, store.keys[series]) if shares else 0.0
        for name in ("test", "valid", "train"):
            if name in shares and dice < shares[name]:
                part_of[series] = NAMES.index(name)
                break
            dice -= shares.get(name, 0.0)
        else:
            part_of[series] = 0 if given["train"] is None else -1


def _dice(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the seed and the key."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / (1 << 8 * _HASH_BYTES)


def _require_known(
    setting: str, listed: list[str], labels: Sequence[str | None], column: str | None
) -> None:
    known = {label for label in labels if label is not None}
    for name in listed:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            what = "is no series" if column is None else f"is no value of column {column!r}"
            message = f"{name!r} in {setting} {what}"
            first = ", ".join(sorted(known)[:5])
            hint = f"did you mean {near[0]!r}?" if near else f"there are for example {first}"
            raise DataError(message, hint=hint)


def _bounds(store: Store, inside: NDArray[np.bool_]) -> list[IntArray]:
    first, end = store.offsets[:-1], store.offsets[1:]
    return [np.where(inside, first, end), end.copy()]


def ranges(store: Store, settings: SplitSettings) -> list[IntArray]:
    """Give each part its range of rows or of time, cut to what a series has.

    Without a range that trains, the rows before the first other part do. Returns first and end
    row of train, valid and test. Raises DataError where parts of a series overlap.
    """
    given = {name: getattr(settings, name) for name in NAMES}
    found = {n: _range_of(store, n, value) for n, value in given.items() if isinstance(value, list)}
    if settings.train is None:
        found = {"train": (store.offsets[:-1], next(iter(found.values()))[0]), **found}
    for (name, (first, end)), (other, (begin, stop)) in pairwise(found.items()):
        wrong = np.flatnonzero((end > begin) & (first < end) & (begin < stop))
        if len(wrong):
            series = int(wrong[0])
            rows = int(store.offsets[series + 1] - store.offsets[series])
            message = f"{name} and {other} overlap in {store.keys[series]!r}, of {rows:,} rows"
            raise DataError(message, hint=f"in [split], let {name} end before {other} begins")
    bounds: list[IntArray] = []
    for name in NAMES:
        first, end = found.get(name, (bounds[-1],) * 2 if bounds else (store.offsets[:-1],) * 2)
        bounds += [first, np.maximum(first, end)]
    return bounds


def _range_of(store: Store, name: str, bounds: list[int | str]) -> tuple[IntArray, IntArray]:
    first = _place(store, name, bounds[0])
    end = _place(store, name, bounds[1]) if len(bounds) > 1 else store.offsets[1:]
    return first, np.maximum(first, end)


def _place(store: Store, name: str, bound: int | str) -> IntArray:
    """Return the row of each series that a bound stands for: a position, or a moment."""
    first, end = store.offsets[:-1], store.offsets[1:]
    if isinstance(bound, int):
        return np.clip((first if bound >= 0 else end) + bound, first, end)
    counted, count = bound.lstrip("-").isdigit(), store.frequency.kind == "count"
    if counted != count:
        message = f"split.{name} holds {bound!r}, but the data " + (
            "counts steps" if count else "has stamps"
        )
        hint = "write the count in quotes" if count else "write a stamp as in 2013-01-31T06:00:00"
        raise DataError(message, hint=hint)
    moment = int(bound) if counted else moment_us(bound)
    return first_not_before(store, np.full(store.series_count, moment, np.int64))


def first_not_before(store: Store, moments: IntArray) -> IntArray:
    """Return for each series its first row whose time is not before its moment."""
    low, high = store.offsets[:-1].copy(), store.offsets[1:].copy()
    # All series halve their range at once; each round reads one stamp of each.
    while (open_ := low < high).any():
        middle = (low[open_] + high[open_]) // 2
        early = store.times[middle] < moments[open_]
        low[open_] = np.where(early, middle + 1, low[open_])
        high[open_] = np.where(early, high[open_], middle)
    return low
