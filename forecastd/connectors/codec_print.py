"""Forecasts to NDJSON in one compiled pass: the bytes of codec_text.py, without an object a row.

A row whose key needs escapes, whose year has not four digits, or whose numbers are beyond what is
printed here exactly is left empty, for codec_text.py to write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from forecastd.connectors.codec_compiled import Bytes, bare, entry, inlined
from forecastd.connectors.codec_stamps import STAMP_BYTES_MAX, write_stamp
from forecastd.series import FloatArray, ForecastBatch, IntArray

NUMBER_BYTES_MAX = 24
_SMALLEST, _LARGEST = 1e-16, 1e15
"""Within these, scaling by a power of ten that float64 has exactly gives the seven digits."""

_DIGITS = 7
_POWERS = np.array([float(f"1e{power}") for power in range(23)])
_LOG10_2 = 0.30102999566398
_FIRST_POSITIONAL = -5
"""Numbers from 10**-5 on are written without an exponent."""

_QUOTE, _BACKSLASH, _COMMA, _CLOSE, _NEWLINE = 34, 92, 44, 93, 10
_MINUS, _POINT, _LETTER_E = 45, 46, 101
_ZERO, _TEN = np.uint64(48), np.uint64(10)
_TOO_MANY = np.uint64(10**_DIGITS)


class Form(NamedTuple):
    """What stands between the values of a line.

    Piece p is pieces[piece_ends[p] : piece_ends[p + 1]]: before the key, before the cutoff, before
    each list, after the last. quantiles: the index of each list's values.
    kind: 0 where the cutoff is a count, 1 a stamp, 2 a stamp in UTC.
    """

    pieces: Bytes
    piece_ends: IntArray
    quantiles: IntArray
    kind: int


def form_of(pieces: list[bytes], quantiles: list[int], kind: int) -> Form:
    """Return the form of these pieces."""
    ends = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    text = np.frombuffer(b"".join(pieces), np.uint8)
    return Form(text, ends, np.array(quantiles, np.int64), kind)


def print_lines(batch: ForecastBatch, form: Form) -> tuple[bytes, IntArray]:
    """Return lines and where each ends; a line that was not written has no length."""
    count, horizon, _ = batch.values.shape
    row_bytes = len(form.pieces) + STAMP_BYTES_MAX
    row_bytes += len(form.quantiles) * horizon * NUMBER_BYTES_MAX
    keys = batch.keys
    out = np.empty(int(keys.offsets[-1] - keys.offsets[0]) + row_bytes * count, np.uint8)
    ends = np.empty(count, np.int64)
    values = np.ascontiguousarray(batch.values, np.float32)
    used = _print_lines(out, ends, (keys.data, keys.offsets, batch.origins, values), form)
    return out[:used].tobytes(), ends


def _make_print_lines(version: int) -> Callable[..., int]:
    def print_lines(
        out: Bytes,
        ends: IntArray,
        batch: tuple[Bytes, IntArray, IntArray, FloatArray],
        form: Form,
    ) -> int:
        if version < 0:  # never; mentions what the machine code was made of
            return 0
        keys, offsets, origins, values = batch
        _, horizon, quantiles = values.shape
        bare_out, bare_keys, numbers = bare(out), bare(keys), bare(values)
        pieces, piece_ends = bare(form.pieces), bare(form.piece_ends)
        used = 0
        for row in range(len(origins)):
            at = _copy(bare_out, used, pieces, piece_ends[0], piece_ends[1])
            at = _print_key(bare_out, at, bare_keys, offsets[row], offsets[row + 1])
            at = _copy(bare_out, at, pieces, piece_ends[1], piece_ends[2])
            at = _print_cutoff(bare_out, at, origins[row], form.kind)
            for column in range(len(form.quantiles)):
                at = _copy(bare_out, at, pieces, piece_ends[column + 2], piece_ends[column + 3])
                first = row * horizon * quantiles + form.quantiles[column]
                at = _print_list(bare_out, at, numbers, (first, horizon, quantiles))
            last = len(form.quantiles) + 2
            at = _copy(bare_out, at, pieces, piece_ends[last], piece_ends[last + 1])
            used = used if at < 0 else at
            ends[row] = used
        return used

    return print_lines


@inlined
def _copy(out: Bytes, at: int, text: Bytes, first: int, last: int) -> int:
    """Copy bytes; return the place after them, or -1 where `at` is already -1."""
    if at < 0:
        return -1
    for place in range(last - first):
        out[at + place] = text[first + place]
    return at + last - first


@inlined
def _print_key(out: Bytes, at: int, text: Bytes, first: int, last: int) -> int:
    """Copy a key; return the place after it, or -1 where a byte needs an escape."""
    for place in range(last - first):
        byte = text[first + place]
        if byte < 32 or byte in (_QUOTE, _BACKSLASH):
            return -1
        out[at + place] = byte
    return at + last - first


@inlined
def _print_cutoff(out: Bytes, at: int, time: int, kind: int) -> int:
    if at < 0:
        return -1
    if kind > 0:
        return write_stamp(out, at, time, kind == 2)
    if time < 0:
        out[at] = _MINUS
        at, time = at + 1, -time
    if time < 0:
        return -1  # the least int64, which has no opposite
    count = _count_digits(time)
    _print_digits(out, at, np.uint64(time), count)
    return at + count


@inlined
def _print_list(out: Bytes, at: int, values: FloatArray, places: tuple[int, int, int]) -> int:
    """Print `count` values with commas between, from place `first` on, `stride` apart."""
    first, count, stride = places
    for step in range(count):
        if at < 0:
            return -1
        if step:
            out[at] = _COMMA
            at += 1
        at = _print_number(out, at, np.float64(values[first + step * stride]))
    return at


@inlined
def _print_number(out: Bytes, at: int, value: float) -> int:
    """Print a float32 with seven significant digits; return the place after it, or -1."""
    if not np.isfinite(value):
        out[at], out[at + 1], out[at + 2], out[at + 3] = 110, 117, 108, 108  # null
        return at + 4
    if np.signbit(value):
        out[at] = _MINUS
        at += 1
    size = abs(value)
    if size == 0.0:
        return _print_decimal(out, at, (np.uint64(0), 1), 0)
    if not (_SMALLEST <= size < _LARGEST):
        return -1
    shift = _DIGITS - 1 - _decade(size)
    scaled = size * _POWERS[shift] if shift >= 0 else size / _POWERS[-shift]
    digits, count = np.uint64(np.rint(scaled)), _DIGITS
    if digits >= _TOO_MANY:  # rounded up to the next power of ten
        count += 1
    while digits % _TEN == 0:
        digits //= _TEN
        shift -= 1
        count -= 1
    return _print_decimal(out, at, (digits, count), shift)


@inlined
def _decade(size: float) -> int:
    """Return the decimal exponent of a number from _SMALLEST to _LARGEST."""
    binary = (np.float64(size).view(np.int64) >> 52) - 1023
    decade = int(np.floor(binary * _LOG10_2))  # of the power of two below: at most one less
    following = decade + 1
    reached = size >= _POWERS[following] if following >= 0 else size * _POWERS[-following] >= 1.0
    return following if reached else decade


@inlined
def _print_decimal(out: Bytes, at: int, number: tuple[np.uint64, int], shift: int) -> int:
    """Print digits * 10**-shift, where digits do not end in 0, as the shortest float.

    number: the digits and their count.
    """
    digits, count = number
    if count - 1 - shift < _FIRST_POSITIONAL:
        return _print_exponent(out, at, number, shift - count + 1)
    if shift <= 0:
        _print_digits(out, at, digits, count)
        at = _print_zeros(out, at + count, -shift)
        out[at], out[at + 1] = _POINT, _ZERO
        return at + 2
    if shift < count:
        return _print_pointed(out, at, number, shift)
    out[at], out[at + 1] = _ZERO, _POINT
    at = _print_zeros(out, at + 2, shift - count)
    _print_digits(out, at, digits, count)
    return at + count


@inlined
def _print_exponent(out: Bytes, at: int, number: tuple[np.uint64, int], exponent: int) -> int:
    """Print d.dddde-X of the digits and their count; `exponent` is X."""
    digits, count = number
    if count > 1:
        at = _print_pointed(out, at, number, count - 1)
    else:
        _print_digits(out, at, digits, 1)
        at += 1
    out[at], out[at + 1] = _LETTER_E, _MINUS
    places = 2 if exponent >= 10 else 1
    _print_digits(out, at + 2, np.uint64(exponent), places)
    return at + 2 + places


@inlined
def _print_pointed(out: Bytes, at: int, number: tuple[np.uint64, int], decimals: int) -> int:
    """Print digits with a point before the last `decimals` of them, fewer than there are."""
    digits, count = number
    point = at + count - decimals
    for place in range(at + count, point, -1):
        rest = digits // _TEN
        out[place] = _ZERO + digits - rest * _TEN
        digits = rest
    out[point] = _POINT
    _print_digits(out, at, digits, count - decimals)
    return at + count + 1


@inlined
def _print_zeros(out: Bytes, at: int, count: int) -> int:
    for _ in range(count):
        out[at] = _ZERO
        at += 1
    return at


@inlined
def _print_digits(out: Bytes, at: int, digits: np.uint64, count: int) -> None:
    """Print the last `count` digits of a number. Unsigned, for division is quicker so."""
    for place in range(at + count - 1, at - 1, -1):
        rest = digits // _TEN
        out[place] = _ZERO + digits - rest * _TEN
        digits = rest


@inlined
def _count_digits(number: int) -> int:
    count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


_print_lines = entry(_make_print_lines)
