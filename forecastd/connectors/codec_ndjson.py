"""NDJSON: lines to columns of observations, columns of forecasts to lines.

docs/formats/ndjson.md describes the fields. Nothing a line contains raises out of the decoder.
Plain lines take the compiled way, all others codec_text.py, with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from forecastd.connectors.codec_print import form_of, print_lines
from forecastd.connectors.codec_scan import plan_of, scan
from forecastd.connectors.codec_text import (
    REASONS,
    Found,
    TextDecoder,
    TextEncoder,
    UnknownColumns,
)
from forecastd.connectors.codec_time import TimeUnit
from forecastd.connectors.contract import ForecastLines, LineBatch
from forecastd.connectors.lines import Lines
from forecastd.series import ForecastBatch, IntArray, Keys, ObservationBatch, Reject, Signature

__all__ = ["REASONS", "Decoded", "Decoder", "Encoder", "Requests", "UnknownColumns"]

LINE_BYTES_KEPT_MAX = 4096
"""How much of a bad line is kept."""


@dataclass(slots=True)
class Requests:
    """Series whose forecast is asked for, in order of arrival.

    keys: n series keys. before: [n] how many observations of the batch came before each, rising.
    lines: the n lines. tags: as in ObservationBatch.
    """

    keys: Keys
    before: IntArray
    lines: Lines
    tags: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: IntArray) -> Requests:
        """Return the requests at `rows`, in that order."""
        tags = None if self.tags is None else self.tags[rows]
        return Requests(self.keys.take(rows), self.before[rows], self.lines.take(rows), tags)


class Decoded(NamedTuple):
    """Observations in order of arrival, the lines that are none, and requests, if there are any.

    lines[i] is the line of observation i, for the record should the stepper refuse it.
    """

    batch: ObservationBatch
    lines: Sequence[bytes]
    rejects: list[Reject]
    requests: Requests | None = None


class Decoder:
    """Reads observations that fit a signature."""

    def __init__(
        self,
        signature: Signature,
        unknown_columns: UnknownColumns = "reject",
        time_unit: TimeUnit | None = None,
    ) -> None:
        self._static = signature.static
        self._text = TextDecoder(signature, unknown_columns, time_unit)
        self._plan = plan_of(signature, time_unit)
        self._key = signature.target if signature.id is None else None

    def decode(self, batch: LineBatch) -> Decoded:
        """Return observations, requests and rejects; blank lines are none of them."""
        lines = Lines.of(batch.lines)
        found = self._found(lines)
        observations = ObservationBatch(
            found.keys,
            found.times,
            found.values,
            found.static,
            None if batch.tags is None else batch.tags[found.numbers],
        )
        rejects = [
            Reject(
                problem.reason, batch.source, lines[number][:LINE_BYTES_KEPT_MAX], problem.detail
            )
            for number, problem in found.problems
        ]
        requests = _requests(found, lines, batch.tags) if found.requests else None
        return Decoded(observations, lines.take(found.numbers), rejects, requests)

    def _found(self, lines: Lines) -> Found:
        if self._plan is None:
            return self._text.decode(lines)
        columns, taken, declined = scan(lines.data, lines.starts, lines.ends, self._plan)
        if not taken:
            return self._text.decode(lines)
        ends = columns.key_ends[: taken + 1]
        keys = Keys(columns.key_data[: ends[-1]], ends)
        if self._key is not None:
            keys = Keys.repeated(self._key, taken)
        static: dict[str, list[str | None]] = {name: [None] * taken for name in self._static}
        times, values = columns.times[:taken], columns.values[:taken]
        plain = Found(columns.numbers[:taken], keys, times, values, static, [])
        if not declined:
            return plain
        others = columns.declined[:declined]
        return _merged(plain, self._text.decode(lines.take(others)), others)


def _merged(plain: Found, text: Found, others: IntArray) -> Found:
    """Return the rows of both in order of arrival; `text` was found in the lines `others`."""
    numbers = np.concatenate([plain.numbers, others[text.numbers]])
    order = np.argsort(numbers)
    static = {}
    for name, column in plain.static.items():
        both = column + text.static[name]
        static[name] = [both[row] for row in order.tolist()]
    return Found(
        numbers[order],
        _joined(plain.keys, text.keys).take(order),
        np.concatenate([plain.times, text.times])[order],
        np.concatenate([plain.values, text.values])[order],
        static,
        [(int(others[number]), problem) for number, problem in text.problems],
        [(int(others[number]), key) for number, key in text.requests],
    )


def _requests(found: Found, lines: Lines, tags: NDArray[np.int32] | None) -> Requests:
    numbers = np.array([number for number, _ in found.requests], np.int64)
    before = np.searchsorted(found.numbers, numbers)
    keys = Keys.of([key for _, key in found.requests])
    return Requests(keys, before, lines.take(numbers), None if tags is None else tags[numbers])


def _joined(first: Keys, second: Keys) -> Keys:
    """Return the keys of two columns that begin at offset 0."""
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    return Keys(np.concatenate([first.data, second.data]), offsets)


class Encoder:
    """Writes forecasts of a signature, one line per (series, origin), as TextEncoder does."""

    def __init__(self, signature: Signature) -> None:
        self._text = TextEncoder(signature)
        self._plain = not signature.supervised  # answers are no lists, and there are few of them
        names = [name for name, _ in self._text.fields]
        is_count = signature.frequency.kind == "count"
        quote = b"" if is_count else b'"'
        encode = msgspec.json.encode
        pieces = [b"{" + encode(self._text.id) + b':"', b'","cutoff":' + quote]
        pieces += [b"," + encode(name) + b":[" for name in names]
        pieces[2] = quote + pieces[2]
        pieces[3:] = [b"]" + piece for piece in pieces[3:]]
        kind = 0 if is_count else 2 if signature.time_zone else 1
        quantiles = [quantile for _, quantile in self._text.fields]
        self._form = form_of([*pieces, b"]}\n"], quantiles, kind)

    def encode(self, batch: ForecastBatch) -> ForecastLines:
        """Return one line with its line end for each forecast, in order."""
        if not self._plain:
            return ForecastLines.of(self._text.encode(batch), batch.tags)
        data, ends = print_lines(batch, self._form)
        if not len(ends) or (ends[0] > 0 and (ends[1:] > ends[:-1]).all()):
            return ForecastLines(data, ends, batch.tags)
        missing = np.flatnonzero(np.diff(ends, prepend=0) == 0)
        lines = list(ForecastLines(data, ends).lines)
        others = ForecastBatch(
            batch.keys.take(missing), batch.origins[missing], batch.values[missing]
        )
        for row, line in zip(missing.tolist(), self._text.encode(others), strict=True):
            lines[row] = line
        return ForecastLines.of(lines, batch.tags)
