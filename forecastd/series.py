"""The vocabulary all parts share: frequency, signature, and batches of columns.

Batches are columns (numpy), never a Python object per observation. Times are int64: microseconds
since 1970 UTC for timestamps, or a plain count where the data has no calendar.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args, overload

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import DataError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

Task = Literal["forecast", "regression", "classification"]
"""What a model says of its targets: what they will be, or what they are (a number, a class)."""

NEVER = np.iinfo(np.int64).min
"""The last time of a series that has no observation yet."""

_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_UNIT_MONTHS = {"mo": 1, "q": 3, "y": 12}


@dataclass(frozen=True)
class Frequency:
    """The distance between two neighbouring observations of a series.

    `kind` "duration": `size` microseconds; "month": `size` calendar months; "count": the time is
    an integer count and `size` its stride.
    """

    kind: Literal["duration", "month", "count"]
    size: int

    @classmethod
    def parse(cls, text: str) -> Frequency:
        """Read "15min", "1h", "1d", "1mo", "1y", or a plain integer for counted time."""
        match = re.fullmatch(r"\s*(\d+)\s*([a-z]*)\s*", text)
        size, unit = (int(match[1]), match[2]) if match else (0, "?")
        if size > 0 and unit == "":
            return cls("count", size)
        if size > 0 and unit in _UNIT_US:
            return cls("duration", size * _UNIT_US[unit])
        if size > 0 and unit in _UNIT_MONTHS:
            return cls("month", size * _UNIT_MONTHS[unit])
        known = ", ".join([*_UNIT_US, *_UNIT_MONTHS])
        message = f"{text!r} is not a frequency"
        raise DataError(message, hint=f"write a number and one of {known}, or a plain count")

    def __str__(self) -> str:
        if self.kind == "count":
            return str(self.size)
        units = _UNIT_MONTHS if self.kind == "month" else _UNIT_US
        unit, scale = max(
            ((u, s) for u, s in units.items() if self.size % s == 0), key=lambda pair: pair[1]
        )
        return f"{self.size // scale}{unit}"

    def advance(self, times: IntArray, steps: IntArray | int) -> IntArray:
        """Return `times` moved by `steps` (broadcast). Months keep the day, cut to the month."""
        if self.kind != "month":
            moved_times: IntArray = times + np.int64(self.size) * np.asarray(steps, np.int64)
            return moved_times
        stamps, moves = np.broadcast_arrays(times, np.asarray(steps, np.int64) * self.size)
        at = stamps.astype("datetime64[us]")
        month = at.astype("datetime64[M]")
        rest = at - month.astype("datetime64[us]")
        day = rest.astype("timedelta64[D]")
        moved = month + moves
        last_day = ((moved + 1).astype("datetime64[D]") - moved.astype("datetime64[D]")) - 1
        moved_day = moved.astype("datetime64[D]") + np.minimum(day, last_day)
        moved_us = moved_day.astype("datetime64[us]") + (rest - day.astype("timedelta64[us]"))
        months_later: IntArray = moved_us.astype(np.int64)
        return months_later

    def steps_between(self, earlier: IntArray, later: IntArray) -> IntArray:
        """Return how many steps lead from `earlier` to `later`, rounded, at least 1 if later.

        Stamps may jitter by less than half a step. 0 or negative: `later` is not later.
        """
        if self.kind == "month":
            months = later.astype("datetime64[us]").astype("datetime64[M]") - earlier.astype(
                "datetime64[us]"
            ).astype("datetime64[M]")
            steps = np.rint(months.astype(np.int64) / self.size).astype(np.int64)
        else:
            difference = later - earlier
            half = self.size // 2
            steps = (difference + half) // self.size
        signed: IntArray = np.where(later > earlier, np.maximum(steps, 1), np.minimum(steps, 0))
        return signed


@dataclass(frozen=True)
class Signature:
    """What a model reads and what it says: names, roles, frequency, horizon.

    `channels` are the numeric columns of an observation in the order of the value arrays; a target
    that is forecast comes first. `id` is None where the data is one series; it is then called by
    the target's name. `frames`: shapes of the columns whose elements, in row-major order, are
    channels `name[0]`, `name[1]`, ... `task`: "forecast", or "regression" and "classification",
    whose targets (`target`, then `more_targets`) are no channels: the model says what they are now.
    `classes`: labels by code. `cap`: what larger targets count as.
    """

    id: str | None
    time: str
    target: str
    past: tuple[str, ...]
    static: tuple[str, ...]
    frequency: Frequency
    season: int
    horizon: int
    quantiles: tuple[float, ...]
    time_zone: bool = False
    frames: Mapping[str, Sequence[int]] = field(default_factory=dict)
    task: Task = "forecast"
    classes: tuple[str, ...] = ()
    more_targets: tuple[str, ...] = ()
    cap: float | None = None

    def __post_init__(self) -> None:
        """Raise DataError for a task that there is none of: a file may say anything."""
        if self.task not in get_args(Task):
            message = f"{self.task!r} is no task"
            raise DataError(message, hint=f"known: {', '.join(get_args(Task))}")

    @property
    def supervised(self) -> bool:
        """Whether the targets are answers to learn, not the future of an input."""
        return self.task != "forecast"

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that the model says something of."""
        return (self.target, *self.more_targets)

    @property
    def channels(self) -> tuple[str, ...]:
        """The numeric columns that enter: a target that is forecast, then past covariates."""
        return self.past if self.supervised else (self.target, *self.past)

    @property
    def entering(self) -> Signature:
        """What an observation of a stream is read by: answers are no part of it."""
        if not self.supervised:
            return self
        first, *others = self.past
        return replace(self, target=first, past=tuple(others), task="forecast")

    @property
    def answers(self) -> tuple[str, ...]:
        """The names of the numbers that a regression or a classification says."""
        if self.task == "classification":
            return tuple(f"score_{label}" for label in self.classes)
        several = len(self.targets) > 1
        return tuple(f"yhat_{name}" if several else "yhat" for name in self.targets)

    @property
    def median(self) -> int:
        """The index of the central forecast among `quantiles`; 0 for a point head."""
        return self.quantiles.index(0.5) if self.quantiles else 0

    @property
    def levels(self) -> tuple[int, ...]:
        """The central intervals in per cent that `quantiles` contains, widest last."""
        pairs = [(q, round(1 - q, 6)) for q in self.quantiles if q < 0.5]
        return tuple(round(100 * (hi - lo)) for lo, hi in reversed(pairs) if hi in self.quantiles)

    def interval(self, level: int) -> tuple[int, int]:
        """Return the indices of the lower and upper quantile of a central interval."""
        lower, upper = round(0.5 - level / 200, 6), round(0.5 + level / 200, 6)
        return self.quantiles.index(lower), self.quantiles.index(upper)


def quantiles_of(levels: tuple[int, ...]) -> tuple[float, ...]:
    """Return the sorted quantiles, median included, that central intervals in per cent need."""
    tails = [round(0.5 - level / 200, 6) for level in levels]
    return tuple(sorted({*tails, 0.5, *(round(1 - q, 6) for q in tails)}))


TAKEN_AT_ONCE = 1 << 15
"""Keys that are copied together: 16 bytes go for each letter meanwhile."""


class Keys(Sequence[str]):
    """Keys of n series as one column of UTF-8: a sequence of str that holds no str.

    data: uint8 [bytes]. offsets: int64 [n + 1], rising; key i is data[offsets[i] : offsets[i + 1]].
    A slice shares `data`, so the first offset may be greater than 0. Neither is to be modified.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: IntArray) -> None:
        self.data = data
        self.offsets = offsets

    @classmethod
    def of(cls, keys: Iterable[str]) -> Keys:
        """Return the column of some texts; a column is returned as it is."""
        if isinstance(keys, Keys):
            return keys
        parts = [key.encode() for key in keys]
        return cls(np.frombuffer(b"".join(parts), np.uint8), _ends([len(part) for part in parts]))

    @classmethod
    def empty(cls) -> Keys:
        """Return no keys."""
        return cls(np.empty(0, np.uint8), np.zeros(1, np.int64))

    @classmethod
    def repeated(cls, key: str, count: int) -> Keys:
        """Return one key `count` times."""
        part = key.encode()
        data = np.frombuffer(part * count, np.uint8)
        return cls(data, np.arange(count + 1, dtype=np.int64) * len(part))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Keys: ...
    def __getitem__(self, place: int | slice) -> str | Keys:
        if isinstance(place, slice):
            start, stop, stride = place.indices(len(self))
            if stride == 1:
                return Keys(self.data, self.offsets[start : max(start, stop) + 1])
            return self.take(np.arange(start, stop, stride))
        row = range(len(self))[place]
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        """Whether `other` has the same keys in the same order, as a column or as texts."""
        if isinstance(other, Keys):
            same_lengths = np.array_equal(self.lengths, other.lengths)
            return same_lengths and np.array_equal(self._live(), other._live())
        if isinstance(other, list | tuple):
            return self.tolist() == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Keys.of({self.tolist()!r})"

    @property
    def lengths(self) -> IntArray:
        """The length of each key in bytes: [n]."""
        return np.diff(self.offsets)

    def tolist(self) -> list[str]:
        """Return the keys as texts."""
        text = self._live().tobytes()
        ends = (self.offsets - self.offsets[0]).tolist()
        pairs = itertools.pairwise(ends)
        if text.isascii():
            letters = text.decode("ascii")
            return [letters[start:end] for start, end in pairs]
        return [text[start:end].decode() for start, end in pairs]

    def take(self, rows: IntArray) -> Keys:
        """Return the keys at `rows`, in that order."""
        lengths = self.lengths[rows]
        offsets = _ends(lengths)
        if len(rows) > TAKEN_AT_ONCE:
            blocks = [rows[at : at + TAKEN_AT_ONCE] for at in range(0, len(rows), TAKEN_AT_ONCE)]
            return Keys(np.concatenate([self.take(block).data for block in blocks]), offsets)
        shifts = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Keys(self.data[np.arange(offsets[-1]) + shifts], offsets)

    def _live(self) -> NDArray[np.uint8]:
        return self.data[self.offsets[0] : self.offsets[-1]]


def _ends(lengths: Sequence[int] | IntArray) -> IntArray:
    """Return offsets that begin at 0: [n + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(slots=True)
class ObservationBatch:
    """Observations in order of arrival.

    keys: n series keys. times: [n] int64. values: [n, C] float32, NaN where missing.
    static: {column: n texts or None}, only read when a series is new.
    tags: [n] int32, where a reply goes (a connection number; -1: nowhere).
    """

    keys: Keys
    times: IntArray
    values: FloatArray
    static: dict[str, list[str | None]] = field(default_factory=dict)
    tags: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def empty(cls, channels: int) -> ObservationBatch:
        """Return a batch of no observations."""
        return cls(Keys.empty(), np.empty(0, np.int64), np.empty((0, channels), np.float32))


@dataclass(slots=True)
class ForecastBatch:
    """Forecasts, one row per (series, origin).

    keys: n series keys. origins: [n] int64, the time of the newest observation used.
    values: [n, horizon, Q] float32 in the order of the signature's quantiles (Q = 1 for a point
    head). tags: as in ObservationBatch.
    """

    keys: Keys
    origins: IntArray
    values: FloatArray
    tags: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)


class Reject(NamedTuple):
    """One piece of input that was not used, kept with the reason.

    reason: a short fixed word, used as a metric label. line: the input as found, cut to a limit.
    """

    reason: str
    source: str
    line: bytes
    detail: str


def format_time(time: int, frequency: Frequency, *, zone: bool = False) -> str | int:
    """Return a time as people read it: ISO 8601 (with Z where `zone`), or the count itself."""
    if frequency.kind == "count":
        return int(time)
    text = str(np.datetime64(int(time), "us"))
    text = text.removesuffix(".000000")
    return f"{text}Z" if zone else text
