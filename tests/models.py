"""Data sets, stores and saved models that several tests share; nothing here trains."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from networks import SPECS, network

from forecastd.artifact import Artifact, Example
from forecastd.config import DataSettings
from forecastd.data.store import Store, prepare
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import weights_of
from forecastd.series import Frequency, Signature

START = datetime(2013, 1, 1)  # noqa: DTZ001  naive on purpose
HOUR_US = 3_600_000_000
START_US = int(np.datetime64("2013-01-01", "us").astype(np.int64))
KEYS = ("a", "b", "c")


def waves(lengths: dict[str, int], seed: int = 0, *, first_hour: int = 0) -> pl.DataFrame:
    """Return noisy daily waves of several levels, an hour a row, with the covariate x."""
    dice = np.random.default_rng(seed)
    parts = []
    for place, (key, length) in enumerate(lengths.items()):
        steps = np.arange(length)
        y = 10 * (place + 1) + 5 * np.sin(2 * np.pi * steps / 24) + dice.normal(size=length)
        hours = [START + timedelta(hours=first_hour + step) for step in steps.tolist()]
        columns = {"unique_id": [key] * length, "ds": hours, "y": y, "x": dice.normal(size=length)}
        parts.append(pl.DataFrame(columns, schema_overrides={"ds": pl.Datetime("us")}))
    return pl.concat(parts)


def stored(folder: Path, frame: pl.DataFrame, name: str = "store", **settings: Any) -> Store:
    """Write a frame and prepare its store; `settings` are those of [data]."""
    path = folder / f"{name}.parquet"
    frame.write_parquet(path)
    chosen = {"id": "unique_id", "past": ["x"], "freq": "1h", "season": 24, **settings}
    data = DataSettings.model_validate({"path": path.name, **chosen})
    return prepare(data, folder, folder / name)


def model(name: str = "lstm_quantile", seed: int = 0, max_gap: int = 3) -> Artifact:
    """Return a model of random weights that reads y and x of the series a, b and c, hourly."""
    spec = SPECS[name]
    signature = Signature(
        id="unique_id",
        time="ds",
        target="y",
        past=("x",),
        static=(),
        frequency=Frequency.parse("1h"),
        season=24,
        horizon=spec.head.horizon,
        quantiles=spec.head.quantiles,
    )
    made = network(spec, torch.float32, seed)
    made.encoder.embed_unknown_as_mean()
    count = len(KEYS)
    statistics = {
        "mean": np.zeros(count),
        "std": np.arange(1.0, count + 1),
        "mase_scale": np.arange(1.0, count + 1) / 2,
    }
    return Artifact(
        signature=signature,
        spec=spec,
        vocabulary=Vocabulary(KEYS, {}, {}),
        statistics=statistics,
        max_gap=max_gap,
        weights=weights_of(made),
        provenance={"config": {}},
        metrics={"epochs": 0},
    )


def alone(name: str = "lstm_quantile") -> Artifact:
    """Return a random model that reads nothing but the series that it forecasts."""
    made = model(name)
    features = dataclasses.replace(SPECS[name].features, channels=1)
    made.spec = dataclasses.replace(SPECS[name], features=features)
    made.signature = dataclasses.replace(made.signature, past=())
    made.weights = weights_of(network(made.spec, torch.float32))
    return made


def example(rows: int = 20) -> Example:
    """Return a stretch of series a with a missing value."""
    dice = np.random.default_rng(3)
    values = dice.normal(size=(rows, 2)).astype(np.float32)
    values[rows // 2, 0] = np.nan
    return Example("a", START_US + HOUR_US * np.arange(rows), values)
