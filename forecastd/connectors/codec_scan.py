"""NDJSON lines to columns in one compiled pass over the bytes, for plain lines only.

A line is plain when it is a flat object of the signature's columns, each once, in any order, with
ASCII texts without escapes, numbers of at most 18 digits and times as codec_stamps.py reads them.
Every other line is declined, so what is taken is exactly what the typed decoder would make of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from forecastd.connectors.codec_compiled import Bytes, bare, entry, inlined
from forecastd.connectors.codec_stamps import read_stamp
from forecastd.connectors.codec_time import COUNT_MAX, FIRST_US, LAST_US, UNIT_NS, TimeUnit
from forecastd.series import FloatArray, IntArray, Signature

KEY_BYTES_MAX = 256
DIGITS_MAX = 18
"""So many decimal digits always fit int64."""

_EXACT_MAX = 1 << 53
_EXPONENT_MAX = 22
_POWERS = np.array([float(f"1e{power}") for power in range(_EXPONENT_MAX + 1)])
"""The powers of ten that float64 has exactly."""

_FLOAT32_LARGEST = 3.4e38
_HALF_STEP = 1 << 28
_BELOW_FLOAT32 = (1 << 29) - 1
"""float64 has 29 bits more than float32; a tie is where only the first of them is set."""

_TIE_DISTANCE = 16
_QUOTE, _BACKSLASH, _COLON, _COMMA, _OPEN, _CLOSE = 34, 92, 58, 44, 123, 125
_MINUS, _PLUS, _POINT, _ZERO, _NINE, _LETTER_N = 45, 43, 46, 48, 57, 110
_COUNT, _TEXT_ONLY = 0, 1


class Plan(NamedTuple):
    """What a scan knows of a signature. Columns are id (unless `first` is 1), time, channels.

    Column c is called names[name_ends[c] : name_ends[c + 1]]; column 0 without an id has no name.
    An integer time is multiplied by `unit_us` and divided by `divisor`; unit_us 0: it is a count,
    -1: it is none.
    """

    names: Bytes
    name_ends: IntArray
    first: int
    columns: int
    unit_us: int
    divisor: int


class Columns(NamedTuple):
    """Room for the outcome of a scan, as long as the lines.

    Row r came from line numbers[r]; its key is key_data[key_ends[r] : key_ends[r + 1]].
    declined: numbers of the other lines. seen: per column, the last line that had it, plus one.
    """

    numbers: IntArray
    key_data: Bytes
    key_ends: IntArray
    times: IntArray
    values: FloatArray
    declined: IntArray
    seen: IntArray


class Row(NamedTuple):
    """The columns of Columns that a line is read into, as pointers; values: [n * C]."""

    key_data: Bytes
    key_ends: IntArray
    times: IntArray
    values: FloatArray
    seen: IntArray


def plan_of(signature: Signature, unit: TimeUnit | None) -> Plan | None:
    """Return the plan of a signature; None where a column's name needs escapes in JSON."""
    columns = [signature.id or "", signature.time, *signature.channels]
    names = [name.encode() for name in columns]
    if any(byte < 32 or byte in (_QUOTE, _BACKSLASH) for byte in b"".join(names)):
        return None
    unit_us, divisor = -1, 1
    if signature.frequency.kind == "count":
        unit_us = 0
    elif unit is not None:
        unit_us, divisor = max(1, UNIT_NS[unit] // 1000), 1000 if unit == "ns" else 1
    ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
    first = 1 if signature.id is None else 0
    return Plan(np.frombuffer(b"".join(names), np.uint8), ends, first, len(names), unit_us, divisor)


def scan(data: bytes, starts: IntArray, ends: IntArray, plan: Plan) -> tuple[Columns, int, int]:
    """Scan lines data[starts:ends]; return columns, how many lines were taken, how many not."""
    count = len(starts)
    room = min(count * KEY_BYTES_MAX, len(data)) + KEY_BYTES_MAX
    columns = Columns(
        np.empty(count, np.int64),
        np.empty(room, np.uint8),
        np.zeros(count + 1, np.int64),
        np.empty(count, np.int64),
        np.empty((count, plan.columns - 2), np.float32),
        np.empty(count, np.int64),
        np.zeros(plan.columns, np.int64),
    )
    taken, declined = _scan_lines(np.frombuffer(data, np.uint8), starts, ends, plan, columns)
    return columns, int(taken), int(declined)


def _make_scan_lines(version: int) -> Callable[..., tuple[int, int]]:
    def scan_lines(
        text: Bytes, starts: IntArray, ends: IntArray, plan: Plan, columns: Columns
    ) -> tuple[int, int]:
        if version < 0:  # never; mentions what the machine code was made of
            return 0, 0
        taken = declined = 0
        bare_text = bare(text)
        bare_plan = Plan(
            bare(plan.names),
            bare(plan.name_ends),
            plan.first,
            plan.columns,
            plan.unit_us,
            plan.divisor,
        )
        into = Row(
            bare(columns.key_data),
            bare(columns.key_ends),
            bare(columns.times),
            bare(columns.values),
            bare(columns.seen),
        )
        for line in range(len(starts)):
            if _scan_line(bare_text, (starts[line], ends[line], line + 1, taken), bare_plan, into):
                columns.numbers[taken] = line
                taken += 1
            else:
                columns.declined[declined] = line
                declined += 1
        return taken, declined

    return scan_lines


@inlined
def _scan_line(text: Bytes, line: tuple[int, int, int, int], plan: Plan, into: Row) -> bool:
    """Read the line (start, end, number from 1, row) into its row; False: declined."""
    at, end, number, row = line
    channels = plan.columns - 2
    first_value = row * channels
    for place in range(first_value, first_value + channels):
        into.values[place] = np.nan
    at = _past(text, at, end, _OPEN)
    column = plan.first - 1
    while at >= 0:
        at = _past(text, at, end, _QUOTE)
        column = _which_column(text, at, end, plan, column + 1)
        if column < 0 or into.seen[column] == number:
            return False
        into.seen[column] = number
        at += plan.name_ends[column + 1] - plan.name_ends[column] + 1
        at = _skip_space(text, _past(text, at, end, _COLON), end)
        if column == 0:
            at = _take_key(text, at, end, into, row)
        elif column == 1:
            at, into.times[row] = _take_time(text, at, end, plan)
        else:
            at, into.values[first_value + column - 2] = _take_value(text, at, end)
        at = _skip_space(text, at, end)
        if at < 0 or at >= end or text[at] != _COMMA:
            break
        at += 1
    at = _past(text, at, end, _CLOSE)
    if at < 0 or _skip_space(text, at, end) != end:
        return False
    for required in range(plan.first, 3):  # noqa: SIM110 - a generator is not compiled
        if into.seen[required] != number:
            return False
    return True


@inlined
def _skip_space(text: Bytes, at: int, end: int) -> int:
    """Return the first place from `at` on that is no space; -1 stays -1."""
    while 0 <= at < end and (text[at] == 32 or text[at] == 9 or text[at] == 13):
        at += 1
    return at


@inlined
def _past(text: Bytes, at: int, end: int, byte: int) -> int:
    """Return the place after `byte`, which may follow spaces; -1 where something else does."""
    at = _skip_space(text, at, end)
    return at + 1 if 0 <= at < end and text[at] == byte else -1


@inlined
def _which_column(text: Bytes, at: int, end: int, plan: Plan, guess: int) -> int:
    """Return the column whose name and closing quote stand at `at`, or -1; tries `guess` first."""
    if at < 0:
        return -1
    if guess < plan.columns and _is_column(text, at, end, plan, guess):
        return guess
    for column in range(plan.first, plan.columns):
        if _is_column(text, at, end, plan, column):
            return column
    return -1


@inlined
def _is_column(text: Bytes, at: int, end: int, plan: Plan, column: int) -> bool:
    first, last = plan.name_ends[column], plan.name_ends[column + 1]
    if at + (last - first) >= end or text[at + (last - first)] != _QUOTE:
        return False
    for offset in range(last - first):  # noqa: SIM110 - a generator is not compiled
        if text[at + offset] != plan.names[first + offset]:
            return False
    return True


@inlined
def _string_end(text: Bytes, at: int, end: int) -> int:
    """Return the place of the closing quote of a plain ASCII text, or -1."""
    while at < end:
        byte = text[at]
        if byte == _QUOTE:
            return at
        if byte < 32 or byte >= 128 or byte == _BACKSLASH:
            return -1
        at += 1
    return -1


@inlined
def _take_key(text: Bytes, at: int, end: int, into: Row, row: int) -> int:
    """Copy a key, text or integer; return the place after it, or -1."""
    if at < 0 or at >= end:
        return -1
    if text[at] == _QUOTE:
        first, last = at + 1, _string_end(text, at + 1, end)
        after = last + 1
    else:
        after, _ = _integer(text, at, end)
        first, last = at, after
    if last <= first or last - first > KEY_BYTES_MAX:
        return -1
    to = into.key_ends[row]
    for place in range(first, last):
        into.key_data[to + place - first] = text[place]
    into.key_ends[row + 1] = to + last - first
    return after


@inlined
def _take_time(text: Bytes, at: int, end: int, plan: Plan) -> tuple[int, int]:
    """Read a time, text or integer; return the place after it, or -1, and the time."""
    if at < 0 or at >= end:
        return -1, 0
    if text[at] == _QUOTE:
        last = _string_end(text, at + 1, end)
        if last < 0 or plan.unit_us == 0:
            return -1, 0
        ok, time = read_stamp(text, at + 1, last)
        return (last + 1 if ok else -1), time
    after, count = _integer(text, at, end)
    if after < 0 or plan.unit_us < 0:
        return -1, 0
    ok, time = _time_of(count, plan)
    return (after if ok else -1), time


@inlined
def _time_of(count: int, plan: Plan) -> tuple[bool, int]:
    """Return whether an integer is a time of the model, and the time."""
    if plan.unit_us == 0:
        return abs(count) <= COUNT_MAX, count
    if plan.divisor == 1 and abs(count) > LAST_US // plan.unit_us:
        return False, 0  # beyond the calendar, and the product might not fit int64
    time = count * plan.unit_us // plan.divisor
    return FIRST_US <= time <= LAST_US, time


@inlined
def _integer(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read an integer as JSON writes it; return the place after it, or -1, and its value."""
    negative = at < end and text[at] == _MINUS
    first = at + 1 if negative else at
    at, value = first, 0
    while at < end and at - first < DIGITS_MAX and _ZERO <= text[at] <= _NINE:
        value = value * 10 + (text[at] - _ZERO)
        at += 1
    if at == first or (text[first] == _ZERO and (at - first > 1 or negative)):
        return -1, 0
    return at, -value if negative else value


@inlined
def _take_value(text: Bytes, at: int, end: int) -> tuple[int, float]:
    """Read a number or null; return the place after it, or -1, and the number, NaN for null."""
    if at < 0 or at >= end:
        return -1, np.nan
    if text[at] == _LETTER_N:
        null = at + 4 <= end and text[at + 1] == 117 and text[at + 2] == 108 and text[at + 3] == 108
        return (at + 4 if null else -1), np.nan
    negative = text[at] == _MINUS
    first = at + 1 if negative else at
    at, digits = _digits(text, first, end, 0)
    count, scale = at - first, 0
    if count == 0 or (text[first] == _ZERO and count > 1):
        return -1, np.nan
    if at < end and text[at] == _POINT:
        point = at + 1
        at, digits = _digits(text, point, end, digits)
        scale = at - point
        if scale == 0:
            return -1, np.nan
    at, exponent = _exponent(text, at, end)
    exact, number = _scaled(digits, exponent - scale)
    if at < 0 or count + scale > DIGITS_MAX or not exact or (negative and digits == 0):
        return -1, np.nan
    return at, -number if negative else number


@inlined
def _digits(text: Bytes, at: int, end: int, before: int) -> tuple[int, int]:
    """Append digits to `before`; return the place after them and the number, which may overflow."""
    while at < end and _ZERO <= text[at] <= _NINE:
        before = before * 10 + (text[at] - _ZERO)
        at += 1
    return at, before


@inlined
def _exponent(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read an exponent of at most two digits, if there is one."""
    if at >= end or (text[at] != 101 and text[at] != 69):
        return at, 0
    at += 1
    negative = at < end and text[at] == _MINUS
    if at < end and (negative or text[at] == _PLUS):
        at += 1
    after, exponent = _digits(text, at, end, 0)
    if after == at or after - at > 2:
        return -1, 0
    return after, -exponent if negative else exponent


@inlined
def _scaled(digits: int, exponent: int) -> tuple[bool, float]:
    """Return digits * 10**exponent, and whether its float32 is surely the right one.

    Up to 2**53 the result is the float64 that a correct parser gives. Beyond, it is within a few
    units of it, and both have the same float32 unless a tie of float32 is between or near them.
    """
    if not (-_EXPONENT_MAX <= exponent <= _EXPONENT_MAX):
        return False, 0.0
    number = float(digits)
    number = number / _POWERS[-exponent] if exponent < 0 else number * _POWERS[exponent]
    if number > _FLOAT32_LARGEST:
        return False, 0.0
    if digits <= _EXACT_MAX:
        return True, number
    below = np.float64(number).view(np.int64) & _BELOW_FLOAT32
    return bool(abs(below - _HALF_STEP) > _TIE_DISTANCE), number


_scan_lines = entry(_make_scan_lines)
