"""The vocabulary all parts share: frequency, signature, and batches of columns.

Batches are columns (numpy), never a Python object per observation. Times are int64: microseconds
since 1970 UTC for timestamps, or a plain count where the data has no calendar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import DataError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

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
    """What a model reads and what it forecasts: names, roles, frequency, horizon.

    `channels` are the numeric columns in the order of the value arrays; the target comes first.
    `id` is None where the data is one series; it is then called by the target's name.
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

    @property
    def channels(self) -> tuple[str, ...]:
        """The numeric columns: target, then past covariates."""
        return (self.target, *self.past)

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


@dataclass(slots=True)
class ObservationBatch:
    """Observations in order of arrival.

    keys: n series keys. times: [n] int64. values: [n, C] float32, NaN where missing.
    static: {column: n texts or None}, only read when a series is new.
    tags: [n] int32, where a reply goes (a connection number; -1: nowhere).
    """

    keys: list[str]
    times: IntArray
    values: FloatArray
    static: dict[str, list[str | None]] = field(default_factory=dict)
    tags: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def empty(cls, channels: int) -> ObservationBatch:
        """Return a batch of no observations."""
        return cls([], np.empty(0, np.int64), np.empty((0, channels), np.float32))


@dataclass(slots=True)
class ForecastBatch:
    """Forecasts, one row per (series, origin).

    keys: n series keys. origins: [n] int64, the time of the newest observation used.
    values: [n, horizon, Q] float32 in the order of the signature's quantiles (Q = 1 for a point
    head). tags: as in ObservationBatch.
    """

    keys: list[str]
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
