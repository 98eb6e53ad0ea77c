"""Rows per second of the training loop, beside torch.nn.LSTM alone on the same shapes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from measure import keep, median_s

from forecastd.config import DataSettings, NetworkSettings, TrainConfig, TrainSettings
from forecastd.training.run import start_run, train

SERIES, ROWS, EPOCHS = 16, 4000, 4


def synthetic(folder: Path) -> Path:
    """Write hourly waves with noise (made-up data) and return the file."""
    hours = np.arange(ROWS)
    dice = np.random.default_rng(0)
    frames = [
        pl.DataFrame(
            {
                "unique_id": [f"wave-{number}"] * ROWS,
                "ds": np.datetime64("2020-01-01", "us")
                + hours * np.timedelta64(3_600_000_000, "us"),
                "y": np.sin(hours * 2 * np.pi / 24 + number) + dice.normal(size=ROWS) * 0.1,
            }
        )
        for number in range(SERIES)
    ]
    path = folder / "waves.parquet"
    pl.concat(frames).write_parquet(path)
    return path


def ours(hidden: int) -> float:
    """Return rows per second of whole epochs, loading, loss and optimiser included."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataSettings(path=str(synthetic(Path(folder))), id="unique_id", freq="1h", season=24)
        config = TrainConfig(
            data=data,
            network=NetworkSettings(hidden=hidden),
            train=TrainSettings(epochs=EPOCHS, threads=1, patience=0),
        )
        prepared = start_run(config, Path(folder), Path(folder) / "runs")
        done = train(prepared, lambda _: None, lambda: False)
        rows = sum(p.end - p.begin for p in prepared.task.material.training_pieces())
        return rows * EPOCHS / done.outcome.progress.seconds


def reference(hidden: int) -> float:
    """Return rows per second of one LSTM layer, forward and backward."""
    lstm = torch.nn.LSTM(11, hidden, batch_first=True)
    x = torch.randn(64, 96, 11)
    return 64 * 96 / median_s(lambda: lstm(x)[0].sum().backward(), 20)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = []
    for size in (64, 128):
        loop, layer = ours(size), reference(size)
        rows.append(
            {
                "hidden": size,
                "rows_per_s": round(loop),
                "nn_lstm_rows_per_s": round(layer),
                "share_of_nn_lstm": round(loop / layer, 2),
            }
        )
    keep("train", rows)
