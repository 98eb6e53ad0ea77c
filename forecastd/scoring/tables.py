"""What a model says of rows, as the columns of a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from forecastd.data.store import Store
from forecastd.data.table import WIDE_ID
from forecastd.network.sweep import Swept
from forecastd.series import FloatArray, IntArray, Signature


def output_schema(signature: Signature) -> pa.Schema:
    """Return the columns that a model writes.

    A forecast: id, time of the target, cutoff (the origin), h, yhat, and the bands by level. A
    classification: id, time, label, and score_CLASS, which add up to one. A regression: id, time,
    yhat, or yhat_NAME where there are several responses.
    """
    if signature.frequency.kind == "count":
        time = pa.int64()
    else:
        time = pa.timestamp("us", tz="UTC" if signature.time_zone else None)
    fields = [(signature.id or WIDE_ID, pa.string()), (signature.time, time)]
    if signature.supervised:
        if signature.task == "classification":
            fields.append(("label", pa.string()))
        return pa.schema([*fields, *((name, pa.float32()) for name in signature.answers)])
    fields += [("cutoff", time), ("h", pa.int32()), ("yhat", pa.float32())]
    for level in signature.levels:
        fields += [(f"yhat_lo_{level}", pa.float32()), (f"yhat_hi_{level}", pa.float32())]
    return pa.schema(fields)


def table_of(part: Swept, store: Store, signature: Signature) -> pa.Table:
    """Return what was said of some rows of a store."""
    series, times = part.chunk.series[part.lanes], np.asarray(store.times)[part.rows]
    if signature.supervised:
        return answer_table(series, store.keys, times, part.values[:, 0], signature)
    return forecast_table(series, store.keys, times, part.values, signature)


def forecast_table(
    series: IntArray,
    keys: Sequence[str],
    origins: IntArray,
    values: FloatArray,
    signature: Signature,
) -> pa.Table:
    """Return forecasts as rows: series [n] index into keys, origins [n], values [n, horizon, Q]."""
    horizon = values.shape[1]
    ahead = np.arange(1, horizon + 1)
    schema = output_schema(signature)
    times = signature.frequency.advance(origins[:, None], ahead).reshape(-1)
    columns = [
        _keys(series, keys, horizon),
        pa.array(times).cast(schema.field(1).type),
        pa.array(np.repeat(origins, horizon)).cast(schema.field(2).type),
        pa.array(np.tile(ahead.astype(np.int32), len(origins))),
        pa.array(values[..., signature.median].reshape(-1)),
    ]
    for level in signature.levels:
        columns += [pa.array(values[..., q].reshape(-1)) for q in signature.interval(level)]
    return pa.Table.from_arrays(columns, schema=schema)


def closed_schema(signature: Signature) -> pa.Schema:
    """Return the columns of a closed loop: those of a forecast without bands."""
    return output_schema(replace(signature, quantiles=()))


def closed_table(
    series: IntArray,
    keys: Sequence[str],
    origins: IntArray,
    values: FloatArray,
    signature: Signature,
) -> pa.Table:
    """Return closed-loop forecasts as rows: values [n, steps, 1], else as forecast_table."""
    return forecast_table(series, keys, origins, values, replace(signature, quantiles=()))


def answer_table(
    series: IntArray,
    keys: Sequence[str],
    times: IntArray,
    values: FloatArray,
    signature: Signature,
) -> pa.Table:
    """Return answers as rows: series, times [n], values [n, K] probabilities or [n, R] numbers."""
    schema = output_schema(signature)
    columns = [_keys(series, keys), pa.array(times).cast(schema.field(1).type)]
    if signature.task == "classification":
        codes = pa.array(values.argmax(-1).astype(np.int32))
        labels = pa.array(signature.classes, pa.string())
        columns.append(pa.DictionaryArray.from_arrays(codes, labels).cast(pa.string()))
    columns += [pa.array(np.ascontiguousarray(column)) for column in values.T]
    return pa.Table.from_arrays(columns, schema=schema)


def _keys(series: NDArray[np.integer], keys: Sequence[str], repeated: int = 1) -> pa.Array:
    some, owner = np.unique(series, return_inverse=True)
    names = pa.array([keys[place] for place in some.tolist()], pa.string())
    owners = pa.DictionaryArray.from_arrays(pa.array(np.repeat(owner, repeated)), names)
    return owners.cast(pa.string())
