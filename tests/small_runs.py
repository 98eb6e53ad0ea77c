"""Trainings of a second: three waves, a small network, one thread, so that all bits repeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from models import waves

from forecastd.config import TrainConfig
from forecastd.training.run import Prepared, Run, start_run
from forecastd.training.run import train as fit
from forecastd.training.trainer import Report

LENGTHS = {"a": 400, "b": 400, "c": 400}


def config(path: Path, **changes: Any) -> TrainConfig:
    """Return settings for a data set; `changes` by table, as train={"epochs": 2}."""
    tables: dict[str, Any] = {
        "data": {"path": path.name, "id": "unique_id", "past": ["x"], "freq": "1h", "season": 24},
        "split": {"valid": 60, "test": 60},
        "features": {"lags": 12, "embedding": 2},
        "network": {"hidden": 8, "horizon": 4},
        "train": {"epochs": 3, "batch": 8, "sequence": 24, "warmup": 4, "threads": 1},
    }
    for table, values in changes.items():
        tables[table] = {**tables.get(table, {}), **values}
    if isinstance(tables["network"].get("layers"), list):  # it says the units of each layer
        tables["network"].pop("hidden", None)
    return TrainConfig.model_validate(tables)


def prepared(folder: Path, frame: pl.DataFrame | None = None, **changes: Any) -> Prepared:
    """Write the data set, and make a training of it ready in a new folder of folder/runs."""
    path = folder / "waves.parquet"
    if frame is not None or not path.exists():
        (waves(LENGTHS) if frame is None else frame).write_parquet(path)
    return start_run(config(path, **changes), folder, folder / "runs")


def trained(
    ready: Prepared, steps: int | None = None, report: Callable[[Report], None] | None = None
) -> Run:
    """Train to the end, or until `steps` steps of the optimiser are done."""
    return fit(
        ready,
        report or (lambda news: None),
        lambda: steps is not None and ready.trainer.progress.steps >= steps,
    )


def weights(run: Run) -> dict[str, bytes]:
    """Return all weights as bytes, to compare them to the last bit."""
    return as_bytes(run.outcome.network.state_dict())


def as_bytes(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """Return tensors as bytes by name."""
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
