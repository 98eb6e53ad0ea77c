"""Open-loop forecasts of a whole data set: every origin, or the last of each series.

The states are carried from the first row of each series, as the daemon carries them, so both give
the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from forecastd.artifact import Artifact
from forecastd.data.lanes import Chunk, Shape, pieces_of, sweep_plan, walk
from forecastd.data.store import Store
from forecastd.data.table import WIDE_ID
from forecastd.errors import UserError
from forecastd.files import publish_file
from forecastd.network.device import take_threads
from forecastd.network.walker import Walker, steps_at_once
from forecastd.series import FloatArray, IntArray, Signature

LANES = 64


@dataclass(frozen=True)
class Scored:
    """What was written: forecasts are (series, origin) pairs; rows are forecasts x horizon."""

    path: Path
    series: int
    forecasts: int
    rows: int


def predict(
    artifact: Artifact,
    store: Store,
    target: Path,
    *,
    last: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Scored:
    """Write the forecasts of a store to a Parquet file, whole or not at all.

    last: only from the newest observation of each series. report: rows of the store done, in all.
    Rows of one series are in order of cutoff and h; series follow one another in no order.
    """
    take_threads(artifact.spec)
    signature = artifact.signature
    ends = store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    wanted = _last_rows(store) if last else np.asarray(store.observed)
    shape = Shape(steps_at_once(artifact.spec, LANES), signature.horizon, 0)
    walker = Walker(
        artifact.network, artifact.clocks, artifact.vocabulary.encode(store.keys, store.static)
    )
    total, done, forecasts = len(store.times), 0, 0
    partial = target.with_name(f".{target.name}.partial")
    try:
        with pq.ParquetWriter(partial, output_schema(signature), compression="zstd") as writer:
            for chunk in walk(store, sweep_plan(pieces, LANES), shape):
                table, count = _score(walker, chunk, wanted, store, signature)
                if count:
                    writer.write_table(table)
                forecasts, done = forecasts + count, done + int(chunk.length.sum())
                report(done, total)
        publish_file(partial, target)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        message = f"cannot write {target}: {reason}"
        raise UserError(message, hint="choose another file with -o") from error
    finally:
        partial.unlink(missing_ok=True)
    return Scored(target, len(store.keys), forecasts, forecasts * signature.horizon)


def output_schema(signature: Signature) -> pa.Schema:
    """Return id, time of the target, cutoff (the origin), h, yhat, and the bands by level."""
    if signature.frequency.kind == "count":
        time = pa.int64()
    else:
        time = pa.timestamp("us", tz="UTC" if signature.time_zone else None)
    fields = [
        (signature.id or WIDE_ID, pa.string()),
        (signature.time, time),
        ("cutoff", time),
        ("h", pa.int32()),
        ("yhat", pa.float32()),
    ]
    for level in signature.levels:
        fields += [(f"yhat_lo_{level}", pa.float32()), (f"yhat_hi_{level}", pa.float32())]
    return pa.schema(fields)


def _last_rows(store: Store) -> NDArray[np.bool_]:
    wanted = np.zeros(len(store.times), np.bool_)
    for series in range(store.series_count):
        rows = store.rows_of(series)
        wanted[rows.start + np.flatnonzero(store.observed[rows])[-1]] = True
    return wanted


def _score(
    walker: Walker,
    chunk: Chunk,
    wanted: NDArray[np.bool_],
    store: Store,
    signature: Signature,
) -> tuple[pa.Table, int]:
    """Advance all lanes by a chunk and return the table of the wanted origins in it."""
    steps = np.arange(chunk.values.shape[1])
    rows = np.minimum(chunk.rows[:, None] + steps, len(wanted) - 1)
    here = wanted[rows] & (steps < chunk.length[:, None])
    at = np.flatnonzero(here.any(0))
    if chunk.values.shape[1] == 1:
        at = np.zeros(1, np.int64)
    with torch.inference_mode():
        forecast = walker.unroll(chunk, at)
        lanes, places = np.nonzero(here[:, at])
        values = forecast.unscaled()[lanes, places].float().numpy(force=True)
    series, origins = chunk.series[lanes], chunk.times[lanes, at[places]]
    return forecast_table(series, store.keys, origins, values, signature), len(lanes)


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
    some, owner = np.unique(series, return_inverse=True)
    names = pa.array([keys[place] for place in some.tolist()], pa.string())
    owners = pa.DictionaryArray.from_arrays(pa.array(np.repeat(owner, horizon)), names)
    columns = [
        owners.cast(pa.string()),
        pa.array(times).cast(schema.field(1).type),
        pa.array(np.repeat(origins, horizon)).cast(schema.field(2).type),
        pa.array(np.tile(ahead.astype(np.int32), len(origins))),
        pa.array(values[..., signature.median].reshape(-1)),
    ]
    for level in signature.levels:
        columns += [pa.array(values[..., q].reshape(-1)) for q in signature.interval(level)]
    return pa.Table.from_arrays(columns, schema=schema)
