"""ISO 8601 text to microseconds and back inside compiled loops: what codec_time.py does, by bytes.

Only the usual shapes are read; whatever else is declined and left to codec_time.py.
"""

from __future__ import annotations

import numpy as np

from forecastd.connectors.codec_compiled import Bytes, inlined

DAY_US = 86_400_000_000
STAMP_BYTES_MAX = 27
_TEN, _DASH, _COLON, _POINT, _PLUS, _LETTER_T, _LETTER_Z, _SPACE = 10, 45, 58, 46, 43, 84, 90, 32
_UNSIGNED_ZERO, _UNSIGNED_TEN = np.uint64(48), np.uint64(10)
_FIRST_YEAR_US = -62_135_596_800_000_000  # 0001-01-01
_LAST_YEAR_US = 253_402_300_799_999_999  # the last microsecond of 9999


@inlined
def read_stamp(text: Bytes, at: int, end: int) -> tuple[bool, int]:
    """Read text[at:end]: YYYY-MM-DD[T ]HH:MM[:SS[.ffffff]][Z|+hh:mm] or YYYY-MM-DD.

    Returns whether that is what it is, and microseconds since 1970, in UTC where a zone is given.
    """
    days = _read_days(text, at, end)
    if days == _NO_DAY:
        return False, 0
    if end - at == 10:
        return True, days * DAY_US
    if end - at < 16 or (text[at + 10] != _LETTER_T and text[at + 10] != _SPACE):
        return False, 0
    hours, minutes = _two_digits(text, at + 11), _two_digits(text, at + 14)
    if text[at + 13] != _COLON or not (0 <= hours <= 23) or not (0 <= minutes <= 59):
        return False, 0
    at, rest_us = _read_seconds(text, at + 16, end)
    if rest_us < 0:
        return False, 0
    ok, zone_us = _read_zone(text, at, end)
    return ok, days * DAY_US + (hours * 60 + minutes) * 60_000_000 + rest_us - zone_us


@inlined
def write_stamp(out: Bytes, at: int, time_us: int, zone: bool) -> int:
    """Write a time as format_time does, at most STAMP_BYTES_MAX bytes; return the place after it.

    -1 where the year is not one of four digits.
    """
    if not (_FIRST_YEAR_US <= time_us <= _LAST_YEAR_US):
        return -1
    days = time_us // DAY_US
    rest_us = time_us - days * DAY_US
    year, month, day = _civil_of_days(days)
    seconds = rest_us // 1_000_000
    micros = rest_us - seconds * 1_000_000
    at = _write_digits(out, at, year, 4, 0)
    at = _write_digits(out, at, month, 2, _DASH)
    at = _write_digits(out, at, day, 2, _DASH)
    at = _write_digits(out, at, seconds // 3600, 2, _LETTER_T)
    at = _write_digits(out, at, seconds // 60 % 60, 2, _COLON)
    at = _write_digits(out, at, seconds % 60, 2, _COLON)
    if micros:
        at = _write_digits(out, at, micros, 6, _POINT)
    if zone:
        out[at] = _LETTER_Z
        at += 1
    return at


_NO_DAY = -(1 << 40)


@inlined
def _read_days(text: Bytes, at: int, end: int) -> int:
    """Return days since 1970 of YYYY-MM-DD, or _NO_DAY."""
    if end - at < 10 or text[at + 4] != _DASH or text[at + 7] != _DASH:
        return _NO_DAY
    century, of_century = _two_digits(text, at), _two_digits(text, at + 2)
    month, day = _two_digits(text, at + 5), _two_digits(text, at + 8)
    if century < 0 or of_century < 0 or not (1 <= month <= 12) or day < 1:
        return _NO_DAY
    year = century * 100 + of_century
    if year < 1 or day > _days_in_month(year, month):
        return _NO_DAY
    return _days_of_civil(year, month, day)


@inlined
def _read_seconds(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read [:SS[.f]], one to six digits of f; return the place after it and microseconds or -1."""
    if at >= end or text[at] != _COLON:
        return at, 0
    seconds = _two_digits(text, at + 1) if end - at >= 3 else -1
    if not (0 <= seconds <= 59):
        return at, -1
    at += 3
    if at >= end or text[at] != _POINT:
        return at, seconds * 1_000_000
    first = at + 1
    at, micros = first, 0
    while at < end and at - first < 6 and 48 <= text[at] <= 57:
        micros = micros * _TEN + (text[at] - 48)
        at += 1
    for _ in range(6 - (at - first)):
        micros *= _TEN
    return at, seconds * 1_000_000 + micros if at > first else -1


@inlined
def _read_zone(text: Bytes, at: int, end: int) -> tuple[bool, int]:
    """Read the zone that must end the text: nothing, Z, or +hh:mm; return its microseconds."""
    if at == end or (at + 1 == end and text[at] == _LETTER_Z):
        return True, 0
    if end - at != 6 or text[at + 3] != _COLON or (text[at] != _PLUS and text[at] != _DASH):
        return False, 0
    hours, minutes = _two_digits(text, at + 1), _two_digits(text, at + 4)
    if not (0 <= hours <= 23) or not (0 <= minutes <= 59):
        return False, 0
    offset = (hours * 60 + minutes) * 60_000_000
    return True, offset if text[at] == _PLUS else -offset


@inlined
def _two_digits(text: Bytes, at: int) -> int:
    """Return the number of two digits, or -1."""
    tens, ones = text[at] - 48, text[at + 1] - 48
    if not (0 <= tens <= 9) or not (0 <= ones <= 9):
        return -1
    return int(tens) * _TEN + int(ones)


@inlined
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@inlined
def _days_of_civil(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01; years begin in March, so that a leap day ends one."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@inlined
def _civil_of_days(days: int) -> tuple[int, int, int]:
    days += 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year + (month <= 2), month, day


@inlined
def _write_digits(out: Bytes, at: int, number: int, count: int, before: int) -> int:
    """Write `count` digits of a number, after the byte `before` unless it is 0."""
    if before:
        out[at] = before
        at += 1
    digits = np.uint64(number)
    for place in range(at + count - 1, at - 1, -1):
        rest = digits // _UNSIGNED_TEN
        out[place] = _UNSIGNED_ZERO + digits - rest * _UNSIGNED_TEN
        digits = rest
    return at + count
