"""NDJSON one line at a time: any line to its observation or its reason, any forecast to its line.

This is what NDJSON means here; codec_scan.py and codec_print.py give the same for plain lines, in
a fraction of the time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd.connectors.codec_scan import KEY_BYTES_MAX
from forecastd.connectors.codec_time import TimeUnit, time_parser
from forecastd.series import FloatArray, ForecastBatch, IntArray, Keys, Signature, format_time

SIGNIFICANT_DIGITS = 7

_REQUEST = "forecast"
_REQUEST_WORD = b'"forecast"'

UnknownColumns = Literal["reject", "ignore"]
Reason = Literal[
    "bad_json",
    "not_an_object",
    "bad_utf8",
    "wrong_type",
    "missing_field",
    "unknown_column",
    "not_finite",
    "bad_time",
    "key_too_long",
]
REASONS: tuple[str, ...] = (*get_args(Reason), "line_too_long")
"""Why a line never becomes an observation; the last one is found by the line splitter.

An Arrow stream has "bad_frame" instead of what is wrong with text.
"""


class Problem(NamedTuple):
    """Why a line is no observation."""

    reason: Reason
    detail: str


class Found(NamedTuple):
    """Observations as columns, each from the line numbers[i], rising; (number, problem) of others.

    static: as in ObservationBatch. requests: (number, key) of lines that ask for a forecast.
    """

    numbers: IntArray
    keys: Keys
    times: IntArray
    values: FloatArray
    static: dict[str, list[str | None]]
    problems: list[tuple[int, Problem]]
    requests: Sequence[tuple[int, str]] = ()


class TextDecoder:
    """Reads observations that fit a signature.

    A typed structure is made from the signature once, so that a line costs no Python dictionary.
    """

    def __init__(
        self,
        signature: Signature,
        unknown_columns: UnknownColumns = "reject",
        time_unit: TimeUnit | None = None,
    ) -> None:
        self._signature = signature
        self._record = _line_decoder(signature, forbid_unknown=unknown_columns == "reject")
        self._request = _request_decoder(signature)
        self._time, self._time_format = time_parser(signature.frequency, time_unit)

    def decode(self, lines: Sequence[bytes]) -> Found:
        """Return observations, requests and problems; blank lines are none of them."""
        requests: list[tuple[int, str]] = []
        numbers, records, problems = self._records(lines, requests)
        columns: list[Sequence[Any]] = (
            list(zip(*records, strict=True)) if records else [()] * self._column_count
        )
        keys, times, values = self._keys(columns), self._times(columns), self._values(columns)
        good = np.ones(len(records), np.bool_)
        for row, problem in self._row_problems(keys, times, values):
            if good[row]:
                problems.append((numbers[row], problem))
            good[row] = False
        rows = np.flatnonzero(good).tolist()
        static = {
            name: [_text_or_none(columns[-len(self._signature.static) + i][row]) for row in rows]
            for i, name in enumerate(self._signature.static)
        }
        return Found(
            np.array(numbers, np.int64)[rows],
            Keys.of([keys[row] for row in rows]),
            np.array([times[row] for row in rows], np.int64),
            values[rows],
            static,
            sorted(problems),
            requests,
        )

    @property
    def _column_count(self) -> int:
        signature = self._signature
        return (signature.id is not None) + 1 + len(signature.channels) + len(signature.static)

    def _records(
        self, lines: Sequence[bytes], requests: list[tuple[int, str]]
    ) -> tuple[list[int], list[tuple[Any, ...]], list[tuple[int, Problem]]]:
        """Return number and content of the lines that fit, number and problem of the others.

        Requests are appended to `requests`.
        """
        decode, as_tuple = self._record, msgspec.structs.astuple
        try:
            return list(range(len(lines))), [as_tuple(decode(line)) for line in lines], []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # at least one is bad: look at each
        numbers, records, problems = [], [], []
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            if (key := self._key_asked(line)) is not None:
                requests.append((number, key))
                continue
            try:
                records.append(as_tuple(decode(line)))
                numbers.append(number)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                problems.append((number, _explain(line, error)))
        return numbers, records, problems

    def _key_asked(self, line: bytes) -> str | None:
        """Return the series whose forecast a line asks for; None if it asks for none."""
        if _REQUEST_WORD not in line or self._request is None:
            return None
        try:
            request = self._request(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if not request.forecast:
            return None
        return self._signature.target if self._signature.id is None else str(request.key)

    def _keys(self, columns: list[Sequence[Any]]) -> list[str]:
        if self._signature.id is None:
            return [self._signature.target] * len(columns[0])
        return [key if type(key) is str else str(key) for key in columns[0]]

    def _times(self, columns: list[Sequence[Any]]) -> list[int | None]:
        column = columns[0 if self._signature.id is None else 1]
        return [self._time(stamp) for stamp in column]

    def _values(self, columns: list[Sequence[Any]]) -> FloatArray:
        first = 1 if self._signature.id is None else 2
        channels = columns[first : first + len(self._signature.channels)]
        with np.errstate(over="ignore"):
            return np.array(channels, np.float64).T.astype(np.float32, order="C")

    def _row_problems(
        self, keys: list[str], times: list[int | None], values: FloatArray
    ) -> list[tuple[int, Problem]]:
        found = []
        for row, key in enumerate(keys):
            if not key:
                found.append((row, Problem("missing_field", f"{self._signature.id} is empty")))
            elif len(key) > KEY_BYTES_MAX // 4 and len(key.encode()) > KEY_BYTES_MAX:
                detail = f"{self._signature.id} is longer than {KEY_BYTES_MAX} bytes"
                found.append((row, Problem("key_too_long", detail)))
        detail = f"{self._signature.time} is not a time of this model ({self._time_format})"
        found += [(row, Problem("bad_time", detail)) for row, t in enumerate(times) if t is None]
        for row, channel in zip(*np.nonzero(np.isinf(values)), strict=True):
            detail = f"{self._signature.channels[channel]} is beyond the range of float32"
            found.append((int(row), Problem("not_finite", detail)))
        return found


class TextEncoder:
    """Writes forecasts of a signature, one line per (series, origin).

    Entry k (from 1) of each list is the forecast for the cutoff plus k steps of the frequency. An
    answer of a regression or a classification is of the cutoff itself: a number by its name, or the
    label and the scores of all. Numbers have 7 significant digits; one that is not finite is null.
    fields: the name and the index of each quantile or number.
    """

    def __init__(self, signature: Signature) -> None:
        self.id = signature.id or "unique_id"
        self.supervised, self.classes = signature.supervised, signature.classes
        self.fields = [("yhat", signature.median)]
        if signature.supervised:
            self.fields = [(name, place) for place, name in enumerate(signature.answers)]
        for level in signature.levels:
            lower, upper = signature.interval(level)
            self.fields += [(f"yhat_lo_{level}", lower), (f"yhat_hi_{level}", upper)]
        self._cutoff = lru_cache(maxsize=1 << 16)(
            lambda time: format_time(time, signature.frequency, zone=signature.time_zone)
        )

    def encode(self, batch: ForecastBatch) -> list[bytes]:
        """Return one line with its line end for each forecast, in order."""
        encode = msgspec.json.Encoder().encode
        values = round_significant(batch.values)
        said: Iterable[dict[str, Any]]
        if self.supervised:
            said = map(self._answer, values[:, 0].tolist())
        else:
            columns = [values[:, :, quantile].tolist() for _, quantile in self.fields]
            names = [name for name, _ in self.fields]
            said = (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
        lines = []
        for key, origin, numbers in zip(batch.keys, batch.origins.tolist(), said, strict=True):
            record = {self.id: key, "cutoff": self._cutoff(origin)}
            lines.append(encode(record | numbers) + b"\n")
        return lines

    def _answer(self, numbers: list[float]) -> dict[str, Any]:
        """Return what is said of one row, by name."""
        if not self.classes:
            return {name: numbers[place] for name, place in self.fields}
        label = self.classes[max(range(len(numbers)), key=numbers.__getitem__)]
        return {"label": label, "scores": dict(zip(self.classes, numbers, strict=True))}


def round_significant(values: FloatArray) -> NDArray[np.float64]:
    """Return values rounded to 7 significant digits, so that they print short and alike."""
    exact = values.astype(np.float64)
    size = np.where(np.isfinite(exact) & (exact != 0), np.abs(exact), 1.0)
    shift = SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(size)).astype(np.int64)
    # Dividing by a power of ten is exact where multiplying by 1e-k is not.
    up = 10.0 ** np.clip(shift, 0, None)
    down = 10.0 ** np.clip(-shift, 0, None)
    rounded: NDArray[np.float64] = np.rint(exact * up / down) / up * down
    return rounded


def _line_decoder(signature: Signature, *, forbid_unknown: bool) -> Callable[[bytes], Any]:
    """Return a typed decoder whose fields are id, time, channels, static columns, in order."""
    columns: list[tuple[str, Any, bool]] = []  # column, type, required
    if signature.id is not None:
        columns.append((signature.id, str | int, True))
    columns.append((signature.time, str | int, True))
    columns.append((signature.target, float | None, True))
    columns += [(name, float | None, False) for name in signature.past]
    columns += [(name, str | int | None, False) for name in signature.static]
    # Column names need not be Python names, so fields are numbered and renamed.
    fields: list[Any] = [
        (f"field_{number}", kind) if required else (f"field_{number}", kind, None)
        for number, (_, kind, required) in enumerate(columns)
    ]
    names = {f"field_{number}": name for number, (name, _, _) in enumerate(columns)}
    record = msgspec.defstruct(
        "Line", fields, rename=names, forbid_unknown_fields=forbid_unknown, gc=False
    )
    return msgspec.json.Decoder(record).decode


def _request_decoder(signature: Signature) -> Callable[[bytes], Any] | None:
    """Return a typed decoder of requests; None where the id's column has the name they need."""
    if signature.id == _REQUEST:
        return None
    fields: list[Any] = [(_REQUEST, bool)]
    names = {}
    if signature.id is not None:
        fields.append(("key", str | int))
        names["key"] = signature.id
    request = msgspec.defstruct(
        "Request", fields, rename=names, forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(request).decode


class _NotFiniteError(ValueError):
    """The line contains NaN or Infinity as a bare word."""


def _refuse_constant(word: str) -> float:
    raise _NotFiniteError(word)


def _explain(line: bytes, error: Exception) -> Problem:
    """Find out why the typed decoder refused a line; slow, for bad lines only."""
    try:
        # Integers become floats here, for Python limits the digits of an int.
        content = json.loads(line.decode(), parse_constant=_refuse_constant, parse_int=float)
    except UnicodeDecodeError as broken:
        return Problem("bad_utf8", f"not UTF-8 at byte {broken.start}")
    except _NotFiniteError as found:
        return Problem("not_finite", f"{found} is not a number in JSON; missing values are null")
    except RecursionError:
        return Problem("bad_json", "nested too deeply")
    except ValueError as broken:
        return Problem("bad_json", str(broken))
    if not isinstance(content, dict):
        return Problem("not_an_object", "a line is one JSON object")
    reason: Reason = "bad_json"
    if isinstance(error, msgspec.ValidationError):
        reason = next(reason for part, reason in _REASON_BY_PHRASE.items() if part in str(error))
    return Problem(reason, str(error))


_REASON_BY_PHRASE: dict[str, Reason] = {
    "missing required field": "missing_field",
    "contains unknown field": "unknown_column",
    "out of range": "not_finite",
    "": "wrong_type",
}


def _text_or_none(value: str | int | None) -> str | None:
    return value if value is None else str(value)
