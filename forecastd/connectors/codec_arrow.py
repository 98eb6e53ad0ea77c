"""Arrow IPC: record batches to columns of observations, columns of forecasts to record batches.

docs/formats/arrow.md describes the columns. pyarrow is imported only where a stream is Arrow's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forecastd.connectors.codec_ndjson import LINE_BYTES_KEPT_MAX, Decoded
from forecastd.connectors.codec_scan import KEY_BYTES_MAX
from forecastd.connectors.codec_text import Reason, TextEncoder, UnknownColumns
from forecastd.connectors.codec_time import COUNT_MAX, FIRST_US, LAST_US, UNIT_NS, TimeUnit
from forecastd.connectors.contract import ForecastLines, FrameBatch
from forecastd.connectors.frames import Frame
from forecastd.series import (
    FloatArray,
    ForecastBatch,
    IntArray,
    Keys,
    ObservationBatch,
    Reject,
    Signature,
)


class _UnusableError(Exception):
    """A record batch of which no row can be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


class _Part(NamedTuple):
    """Rows of a record batch as columns, and those that are no observations, with the reason."""

    records: pa.RecordBatch
    keys: Keys
    times: IntArray
    values: FloatArray
    static: dict[str, list[str | None]]
    problems: dict[int, tuple[Reason, str]]


class _Rows(Sequence[bytes]):
    """Rows as JSON for the record, written when one is asked for."""

    def __init__(self, places: list[tuple[pa.RecordBatch, IntArray]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._places)

    def __getitem__(self, place: int) -> bytes:  # type: ignore[override]
        for records, rows in self._places:
            if place < len(rows):
                return _row_text(records, int(rows[place]))
            place -= len(rows)
        raise IndexError(place)


class ArrowDecoder:
    """Reads observations that fit a signature."""

    def __init__(
        self,
        signature: Signature,
        unknown_columns: UnknownColumns = "reject",
        time_unit: TimeUnit | None = None,
    ) -> None:
        self._signature = signature
        self._forbid_unknown = unknown_columns == "reject"
        self._time_unit = time_unit
        self._opened: tuple[Frame, pa.RecordBatch] | None = None

    def decode(self, batch: FrameBatch) -> Decoded:
        """Return observations and rejects. A record batch that cannot be used is one reject."""
        parts: list[_Part] = []
        rejects: list[Reject] = []
        for frame, start, stop in batch.pieces:
            try:
                parts.append(self._part(self._open(frame).slice(start, stop - start)))
            except _UnusableError as problem:
                detail = f"{problem}; {stop - start} rows"
                rejects.append(Reject(problem.reason, batch.source, b"", detail))
            except (pa.ArrowException, OSError, ValueError) as error:
                detail = f"{str(error).splitlines()[0] if str(error) else error!r}"
                rejects.append(Reject("bad_frame", batch.source, b"", detail))
        places = []
        for part in parts:
            rows = np.arange(len(part.times))
            good = np.delete(rows, list(part.problems)) if part.problems else rows
            places.append((part.records, good))
            rejects += [
                Reject(reason, batch.source, _row_text(part.records, row), detail)
                for row, (reason, detail) in sorted(part.problems.items())
            ]
        return Decoded(self._joined(parts, places), _Rows(places), rejects)

    def _open(self, frame: Frame) -> pa.RecordBatch:
        """Read a record batch; the last one is kept, for large ones are taken in pieces."""
        if self._opened is None or self._opened[0] is not frame:
            with pa.ipc.open_stream(pa.py_buffer(frame.context + frame.message)) as reader:
                records = reader.read_next_batch()
            records.validate(full=True)
            if records.num_rows != frame.rows:
                message = f"a record batch of {records.num_rows} rows that says {frame.rows}"
                raise ValueError(message)
            self._opened = frame, records
        return self._opened[1]

    def _part(self, records: pa.RecordBatch) -> _Part:
        signature, names = self._signature, records.schema.names
        known = [signature.time, *signature.channels, *signature.static]
        required = [signature.time, signature.target]
        if signature.id is not None:
            known.append(signature.id)
            required.insert(0, signature.id)
        for name in required:
            if names.count(name) != 1:
                reason: Reason = "wrong_type" if name in names else "missing_field"
                detail = f"the Arrow stream has {names.count(name)} columns {name!r}, not one"
                raise _UnusableError(reason=reason, detail=detail)
        unknown = [name for name in names if name not in known]
        if unknown and self._forbid_unknown:
            detail = f"the Arrow stream has a column {unknown[0]!r} the model does not know"
            raise _UnusableError(reason="unknown_column", detail=detail)
        problems: dict[int, tuple[Reason, str]] = {}
        if signature.id is None:
            keys = Keys.repeated(signature.target, records.num_rows)
        else:
            keys = _keys(records.column(signature.id), signature.id, problems)
        times = self._times(records.column(signature.time), problems)
        static = {name: _texts(records, name) for name in signature.static}
        return _Part(records, keys, times, self._values(records, problems), static, problems)

    def _times(self, column: pa.Array, problems: dict[int, tuple[Reason, str]]) -> IntArray:
        counted = self._signature.frequency.kind == "count"
        name, kind = self._signature.time, column.type
        if pa.types.is_integer(kind) and (counted or self._time_unit is not None):
            times, is_time = _integer_times(column, None if counted else self._time_unit)
        elif not counted and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            # Only ns lose digits; seconds and ms beyond int64 must raise instead of turning over.
            unit = "day" if pa.types.is_date(kind) else kind.unit
            wanted = pa.timestamp("us", getattr(kind, "tz", None))
            stamps = column if unit == "us" else column.cast(wanted, safe=unit != "ns")
            times = _filled(stamps.view(pa.int64()))
            if not column.null_count and len(times) and _are_stamps(times):
                return times
            is_time = (times >= FIRST_US) & (times <= LAST_US)
        else:
            detail = f"column {name!r} is {kind}, not a time of this model"
            raise _UnusableError(reason="wrong_type", detail=detail)
        for row in np.flatnonzero(_missing(column) | ~is_time).tolist():
            problems.setdefault(row, ("bad_time", f"{name} is null or not a time of this model"))
        return times

    def _values(
        self, records: pa.RecordBatch, problems: dict[int, tuple[Reason, str]]
    ) -> FloatArray:
        channels = self._signature.channels
        values = np.full((records.num_rows, len(channels)), np.nan, np.float32)
        for place, name in enumerate(channels):
            if name not in records.schema.names:
                continue
            column = _only(records, name)
            kind = column.type
            numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
            if not (any(is_kind(kind) for is_kind in numeric) or pa.types.is_null(kind)):
                raise _UnusableError(
                    reason="wrong_type", detail=f"column {name!r} is {kind}, not a number"
                )
            is_float = kind in (pa.float32(), pa.float64())
            exact = column if is_float else column.cast(pa.float64(), safe=False)
            with np.errstate(over="ignore"):
                values[:, place] = exact.to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        for row, place in zip(*np.nonzero(infinite), strict=True) if infinite.any() else ():
            detail = f"{channels[place]} is infinite or beyond the range of float32"
            problems.setdefault(int(row), ("not_finite", detail))
        return values

    def _joined(
        self, parts: list[_Part], places: list[tuple[pa.RecordBatch, IntArray]]
    ) -> ObservationBatch:
        if len(parts) == 1 and not parts[0].problems:
            only = parts[0]
            return ObservationBatch(only.keys, only.times, only.values, only.static)
        if not parts:
            return ObservationBatch.empty(len(self._signature.channels))
        rows = [good for _, good in places]
        keys = [part.keys.take(good) for part, good in zip(parts, rows, strict=True)]
        ends = np.cumsum([0, *(int(each.offsets[-1]) for each in keys)])
        offsets = [each.offsets[:-1] + end for each, end in zip(keys, ends[:-1], strict=True)]
        return ObservationBatch(
            Keys(
                np.concatenate([each.data for each in keys]),
                np.concatenate([*offsets, ends[-1:]]),
            ),
            np.concatenate([part.times[good] for part, good in zip(parts, rows, strict=True)]),
            np.concatenate([part.values[good] for part, good in zip(parts, rows, strict=True)]),
            {
                name: [
                    part.static[name][row]
                    for part, good in zip(parts, rows, strict=True)
                    for row in good.tolist()
                ]
                for name in self._signature.static
            },
        )


class ArrowEncoder:
    """Writes the forecasts of a batch as one record batch; one that is not finite is NaN.

    The lists of a line of NDJSON are lists of fixed size here, or plain numbers where the horizon
    is one step. The scores of a classification are a column each, score_CLASS.
    """

    def __init__(self, signature: Signature) -> None:
        text = TextEncoder(signature)
        self._quantiles = [quantile for _, quantile in text.fields]
        self._horizon = signature.horizon
        self._is_count = signature.frequency.kind == "count"
        zone = "UTC" if signature.time_zone else None
        cutoff = pa.int64() if self._is_count else pa.timestamp("us", zone)
        forecast = pa.float32() if self._horizon == 1 else pa.list_(pa.float32(), self._horizon)
        self._classes = pa.array(signature.classes, pa.string())
        label = [("label", pa.string())] if signature.classes else []
        self._schema = pa.schema(
            [(text.id, pa.string()), ("cutoff", cutoff), *label]
            + [(name, forecast) for name, _ in text.fields]
        )
        self._head = self._schema.serialize().to_pybytes()

    def encode(self, batch: ForecastBatch) -> ForecastLines:
        """Return the record batch as an IPC message; its schema is the head."""
        count = len(batch)
        if not count:
            return ForecastLines(b"", np.empty(0, np.int64), head=self._head)
        keys, first = batch.keys, batch.keys.offsets[0]
        offsets = (keys.offsets - first).astype(np.int32)
        text = np.ascontiguousarray(keys.data[first : keys.offsets[-1]])
        columns = [
            pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text)),
            pa.array(np.ascontiguousarray(batch.origins)).view(self._schema.field(1).type),
        ]
        values = np.where(np.isfinite(batch.values), batch.values, np.float32(np.nan))
        if len(self._classes):
            codes = pa.array(batch.values[:, 0].argmax(-1).astype(np.int32))
            columns.append(self._classes.take(codes))
        for quantile in self._quantiles:
            flat = pa.array(np.ascontiguousarray(values[:, :, quantile]).reshape(-1))
            listed = pa.FixedSizeListArray.from_arrays
            columns.append(flat if self._horizon == 1 else listed(flat, self._horizon))
        records = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        data = records.serialize().to_pybytes()
        return ForecastLines(data, np.array([len(data)], np.int64), head=self._head)


def _keys(column: pa.Array, name: str, problems: dict[int, tuple[Reason, str]]) -> Keys:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    views = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not (pa.types.is_integer(kind) or any(is_kind(kind) for is_kind in views)):
        raise _UnusableError(
            reason="wrong_type", detail=f"column {name!r} is {column.type}, not a text"
        )
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    texts = column if pa.types.is_string(column.type) else column.cast(pa.large_string())
    _, ends, data = texts.buffers()
    width = np.int32 if pa.types.is_string(texts.type) else np.int64
    offsets = np.frombuffer(ends, width)[texts.offset : texts.offset + len(texts) + 1]
    keys = Keys(np.frombuffer(data or b"", np.uint8), offsets.astype(np.int64, copy=False))
    lengths = keys.lengths
    plain = texts.null_count == 0 and len(lengths) and lengths.min() > 0
    if plain and lengths.max() <= KEY_BYTES_MAX:
        return keys
    missing = _missing(texts)
    for row in np.flatnonzero(missing | (lengths == 0)).tolist():
        problems[row] = "missing_field", f"{name} is null or empty"
    for row in np.flatnonzero(~missing & (lengths > KEY_BYTES_MAX)).tolist():
        problems[row] = "key_too_long", f"{name} is longer than {KEY_BYTES_MAX} bytes"
    return keys


def _integer_times(column: pa.Array, unit: TimeUnit | None) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return times and which of them are in range."""
    numbers = _filled(column.cast(pa.int64()))
    if unit is None:
        return numbers, np.abs(numbers) <= COUNT_MAX
    if unit == "ns":
        times = numbers // 1000
        return times, (times >= FIRST_US) & (times <= LAST_US)
    factor = UNIT_NS[unit] // 1000
    in_range = (numbers >= -(-FIRST_US // factor)) & (numbers <= LAST_US // factor)
    return np.where(in_range, numbers, 0) * factor, in_range


def _filled(column: pa.Array) -> IntArray:
    """Return integers, 0 where they are null."""
    filled = column.fill_null(0) if column.null_count else column
    numbers: IntArray = filled.to_numpy(zero_copy_only=False)
    return numbers


def _are_stamps(times: IntArray) -> bool:
    """Whether all times are within the years that a timestamp can have."""
    return bool(times.min() >= FIRST_US and times.max() <= LAST_US)


def _missing(column: pa.Array) -> NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    missing: NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return missing


def _texts(records: pa.RecordBatch, name: str) -> list[str | None]:
    if name not in records.schema.names:
        return [None] * records.num_rows
    column = _only(records, name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise _UnusableError(
            reason="wrong_type", detail=f"column {name!r} is {column.type}, not a text"
        )
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _only(records: pa.RecordBatch, name: str) -> pa.Array:
    if records.schema.names.count(name) != 1:
        raise _UnusableError(
            reason="wrong_type", detail=f"the Arrow stream has column {name!r} twice"
        )
    return records.column(name)


def _row_text(records: pa.RecordBatch, row: int) -> bytes:
    content = records.slice(row, 1).to_pylist()[0]
    return json.dumps(content, default=str).encode()[:LINE_BYTES_KEPT_MAX]
