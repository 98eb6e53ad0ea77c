"""Rows per second of the loader alone, beside numpy copying the same bytes; its share of a step."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from measure import keep, median_s

from forecastd.config import (
    DataSettings,
    NetworkSettings,
    SplitSettings,
    TrainConfig,
    TrainSettings,
)
from forecastd.data.lanes import Shape, extent_of, lane_plan, pieces_of, walk
from forecastd.data.store import Store, prepare
from forecastd.training.run import start_run, train

SERIES, ROWS, CHANNELS = 1000, 2000, 8
LANES, HORIZON, LEAD = 256, 24, 96
HIDDEN, STEPS = 64, 60


def synthetic(folder: Path) -> DataSettings:
    """Write hourly noise of eight columns (made-up data) and return its settings."""
    dice = np.random.default_rng(0)
    hours = np.datetime64("2020-01-01", "us") + np.arange(ROWS) * np.timedelta64(3600, "s")
    names = ["y", *(f"x{number}" for number in range(1, CHANNELS))]
    keys = [f"series-{number:04}" for number in range(SERIES)]
    columns = {name: dice.normal(size=SERIES * ROWS).astype(np.float32) for name in names}
    frame = pl.DataFrame(
        {"unique_id": np.repeat(keys, ROWS), "ds": np.tile(hours.astype("M8[us]"), SERIES)}
        | columns
    )
    frame.write_parquet(folder / "noise.parquet")
    return DataSettings(path="noise.parquet", id="unique_id", past=names[1:], freq="1h", season=24)


def alone(store: Store, sequence: int) -> dict[str, object]:
    """Walk all rows of the store once, and copy the same columns once."""
    ends = store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    plan = lane_plan(pieces, LANES, np.random.default_rng(0), sequence)
    shape = Shape(sequence, HORIZON, LEAD)

    def read() -> None:
        for _ in walk(store, plan, shape):
            pass

    def copy() -> None:
        np.array(store.values)
        np.array(store.times)

    walked, copied = median_s(read, 5), median_s(copy, 5)
    rows = len(store.times)
    return {
        "sequence": sequence,
        "lanes": LANES,
        "million_rows_per_s": round(rows / walked / 1e6, 1),
        "numpy_copy_million_rows_per_s": round(rows / copied / 1e6, 1),
        "share_of_copy": round(copied / walked, 2),
        "padding": round(extent_of(plan, shape).padding, 4),
    }


def in_training(data: DataSettings, folder: Path) -> dict[str, object]:
    """Train some steps of the default network and return the loader's share of their time."""
    config = TrainConfig(
        data=data,
        split=SplitSettings(valid=48, test=48),
        network=NetworkSettings(hidden=HIDDEN),
        train=TrainSettings(epochs=1, threads=1),
    )
    prepared = start_run(config, folder, folder / "runs")
    done = train(prepared, lambda _: None, lambda: prepared.trainer.progress.steps >= STEPS)
    costs = done.outcome.costs
    return {
        "hidden": HIDDEN,
        "steps": STEPS,
        "ms_per_step": round(1e3 * (costs.waited + costs.worked) / STEPS, 2),
        "loader_share": round(costs.loader, 4),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        settings = synthetic(place)
        made = prepare(settings, place, place / "store")
        found = [alone(made, sequence) for sequence in (96, 336)]
        keep("loader", [*found, in_training(settings, place)])
