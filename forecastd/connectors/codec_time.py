"""Times as clients write them, to the int64 of series.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from forecastd.series import Frequency

TimeUnit = Literal["s", "ms", "us", "ns"]

COUNT_MAX = 1 << 53
"""The largest count that every JSON reader keeps exactly."""

UNIT_NS: dict[TimeUnit, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US = -62_135_596_800_000_000  # 0001-01-01
LAST_US = 253_402_300_799_999_999  # the last microsecond of 9999
_CACHE_TEXTS = 1 << 16


class TimeParser(NamedTuple):
    """`parse` returns microseconds since 1970 UTC or a count; None if that is not possible."""

    parse: Callable[[str | int], int | None]
    accepted: str


def time_parser(frequency: Frequency, unit: TimeUnit | None) -> TimeParser:
    """Return the parser for a model's kind of time, and what it accepts in words."""
    if frequency.kind == "count":
        return TimeParser(_parse_count, f"an integer of at most {COUNT_MAX}")
    if unit is None:
        return TimeParser(_parse_timestamp, "ISO 8601 text; integers need time_unit")
    unit_ns = UNIT_NS[unit]

    def parse(stamp: str | int) -> int | None:
        if type(stamp) is str:
            return _parse_text(stamp)
        time = int(stamp) * unit_ns // 1000
        return time if FIRST_US <= time <= LAST_US else None

    return TimeParser(parse, f"ISO 8601 text, or an integer in {unit} since 1970")


def _parse_count(stamp: str | int) -> int | None:
    return stamp if isinstance(stamp, int) and abs(stamp) <= COUNT_MAX else None


def _parse_timestamp(stamp: str | int) -> int | None:
    return _parse_text(stamp) if isinstance(stamp, str) else None


@lru_cache(maxsize=_CACHE_TEXTS)  # series share their stamps, so most texts were just seen
def _parse_text(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        # A stamp without a zone is taken as it is; one with a zone becomes UTC.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
