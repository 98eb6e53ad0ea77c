"""Small stores with answers, and ways to walk them, that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from forecastd.config import DataSettings, TaskSettings
from forecastd.data.lanes import Chunk, Pieces, pieces_of
from forecastd.data.store import Store, prepare

STEPS = {"a": 4, "b": 2, "c": 3}


def labelled(labels: Any, **columns: Any) -> pl.DataFrame:
    """Three series of counted steps with two inputs and a label for each."""
    parts = [
        pl.DataFrame(
            {
                "key": [key] * steps,
                "step": np.arange(1, steps + 1),
                "x1": np.arange(steps) + 10.0 * place,
                "x2": -np.arange(steps) - 10.0 * place,
                "label": pl.Series([labels[place]] * steps),
            }
        )
        for place, (key, steps) in enumerate(STEPS.items())
    ]
    return pl.concat(parts).with_columns(**columns)


def prepared(
    folder: Path,
    frame: pl.DataFrame | pa.Table,
    kind: Any = "classification",
    **given_settings: Any,
) -> Store:
    """Write a frame and prepare its store; `given_settings` are those of [data] and [task]."""
    settings = {"id": "key", "time": "step", "target": "label", "past": ["x1", "x2"]}
    task = {"kind": kind}
    for name in ("classes", "cap"):
        if name in given_settings:
            task[name] = given_settings.pop(name)
    write = parquet.write_table if isinstance(frame, pa.Table) else pl.DataFrame.write_parquet
    write(frame, folder / "data.parquet")
    data = DataSettings.model_validate({"path": "data.parquet", **settings, **given_settings})
    return prepare(data.for_task(TaskSettings.model_validate(task)), folder, folder / "store")


def responses(folder: Path, **settings: Any) -> Store:
    """The store of two responses, r1 twice x1 and r2 100 more."""
    frame = labelled(["a", "b", "c"], r1=pl.col("x1") * 2, r2=pl.col("x1") + 100)
    return prepared(folder, frame, "regression", target=["r1", "r2"], **settings)


def whole(store: Store) -> Pieces:
    """Return all series of a store, or what lies between their resets."""
    ends = store.offsets[1:]
    return pieces_of(store, store.offsets[:-1], ends, ends)


def real_steps(chunk: Chunk) -> NDArray[np.bool_]:
    """Say which steps of a chunk are no padding, [B, T]."""
    if chunk.filled is not None:
        return np.isnan(chunk.filled)
    return np.arange(chunk.times.shape[1]) < chunk.length[:, None]
