"""Data sets that are hardly there: each trains and scores, or is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from models import stored, waves
from small_runs import prepared, trained

from forecastd import artifact
from forecastd.errors import DataError
from forecastd.evaluation.evaluate import evaluate
from forecastd.scoring.predict import predict
from forecastd.training.run import Run

AUTO = {"features": {"lags": None}, "train": {"epochs": 2}, "split": {"valid": 10, "test": 10}}
LAST = {**AUTO, "network": {"hidden": 4, "horizon": 2, "output": "last"}}
WINDOWS = {**AUTO, "train": {"epochs": 2, "mode": "windows"}}


def attempt(folder: Path, frame: pl.DataFrame, **changes: Any) -> Run | str:
    """Train; return the run, or the sentence that refuses it."""
    try:
        return trained(prepared(folder, frame, **changes))
    except DataError as error:
        return str(error)


def assert_usable(run: Run, folder: Path, frame: pl.DataFrame) -> None:
    loaded = artifact.load(run.folder)
    for tensor in loaded.network.state_dict().values():
        assert np.isfinite(tensor.numpy()).all()
    store = stored(folder, frame, "all")
    result = predict(loaded, store, folder / "out.parquet")
    assert result.forecasts == int(store.observed.sum())
    assert np.isfinite(pl.read_parquet(result.path)["yhat"].to_numpy()).all()


@pytest.mark.parametrize("changes", [AUTO, LAST, WINDOWS], ids=["lanes", "last", "windows"])
@pytest.mark.parametrize("rows", [2, 3, 5, 10])
def test_series_of_a_few_rows(rows: int, changes: dict[str, Any], tmp_path: Path) -> None:
    frame = waves({f"s{i}": rows for i in range(30)})
    found = attempt(tmp_path, frame, **{**changes, "split": {"valid": 1, "test": 1}})
    if isinstance(found, str):
        assert rows <= 3
        assert "no row" in found or "no series of two rows" in found
    else:
        assert_usable(found, tmp_path, frame)


@pytest.mark.parametrize("changes", [AUTO, LAST, WINDOWS], ids=["lanes", "last", "windows"])
def test_one_series_of_thirty_rows(changes: dict[str, Any], tmp_path: Path) -> None:
    frame = waves({"a": 30})
    found = attempt(tmp_path, frame, **{**changes, "split": {"valid": 0.1, "test": 0.1}})
    assert isinstance(found, Run)
    assert_usable(found, tmp_path, frame)
    store = stored(tmp_path, frame, "scored")
    result = evaluate(artifact.load(found.folder), store, store.offsets[:-1], store.offsets[1:])
    assert np.isfinite(result.metrics["model"]["mae"])


def test_lengths_of_every_kind_together(tmp_path: Path) -> None:
    frame = waves({"long": 300, "short": 5, "two": 2, "one": 1})
    found = attempt(tmp_path, frame, **AUTO)
    assert isinstance(found, Run)
    assert_usable(found, tmp_path, frame)


def test_a_series_that_begins_after_the_training_part(tmp_path: Path) -> None:
    frame = waves({"old": 300}).vstack(waves({"new": 20}, first_hour=280))
    ready = prepared(tmp_path, frame, split={"valid": 0.1, "test": 0.1})
    assert ready.task.material.parts.untrained == 1
    assert_usable(trained(ready), tmp_path, frame)


@pytest.mark.parametrize("rows", [1, 2])
def test_nothing_to_train_on_is_said_in_a_sentence(rows: int, tmp_path: Path) -> None:
    found = attempt(tmp_path, waves({"a": rows}), split={"valid": 1, "test": 0})
    assert isinstance(found, str)
    assert "train" in found
    assert not (tmp_path / "runs" / "latest").exists()


def test_a_target_that_is_never_there(tmp_path: Path) -> None:
    frame = waves({"a": 100, "b": 100}).with_columns(
        y=pl.when(pl.col("unique_id") == "a").then("y")
    )
    found = attempt(tmp_path, frame, **AUTO)
    assert isinstance(found, Run)
    assert_usable(found, tmp_path, frame)


def test_constant_series(tmp_path: Path) -> None:
    frame = waves({"a": 100, "b": 100}).with_columns(y=pl.lit(5.0), x=pl.lit(0.0))
    found = attempt(tmp_path, frame, **AUTO)
    assert isinstance(found, Run)
    assert_usable(found, tmp_path, frame)


def test_no_target_at_all(tmp_path: Path) -> None:
    frame = waves({"a": 100}).with_columns(y=pl.lit(None, pl.Float64))
    found = attempt(tmp_path, frame, **AUTO)
    assert isinstance(found, str)
    assert found.startswith("the target 'y' has no value in the training part")
