"""The commands on a classification and on a closed loop, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from answers import labelled, prepared
from models import example as forecast_example
from models import model, waves
from task_models import CLASSES, LABELS, NETWORKS, trained
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Example
from forecastd.errors import UserError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def labels(tmp_path: Path) -> tuple[Path, Path]:
    """A model and the data set that it was made for."""
    store = prepared(tmp_path, labelled(LABELS))
    rows = store.rows_of(0)
    example = Example(store.keys[0], np.array(store.times[rows]), np.array(store.values[rows]))
    artifact.save(tmp_path / "model", trained(store, NETWORKS["dropping"]), example)
    return tmp_path / "model", tmp_path / "data.parquet"


@pytest.fixture
def waved(tmp_path: Path) -> tuple[Path, Path]:
    """A model that forecasts with a covariate, and data for it."""
    artifact.save(tmp_path / "waves", model(), forecast_example())
    waves({"a": 20}).write_parquet(tmp_path / "waves.parquet")
    return tmp_path / "waves", tmp_path / "waves.parquet"


def test_evaluate_prints_metrics_and_confusion(labels: tuple[Path, Path]) -> None:
    printed = succeeded("evaluate", *labels, "--split", "all").stdout.splitlines()
    assert printed[0].split() == ["metric", "model", "majority"]
    assert [line.split()[0] for line in printed[1:5]] == [
        "accuracy", "balanced_accuracy", "macro_f1", "log_loss",
    ]  # fmt: skip
    assert printed[5].split() == ["true", "\\", "said", *CLASSES]
    assert sum(int(count) for line in printed[6:] for count in line.split()[1:]) == 9


def test_evaluate_the_last_step_as_json(labels: tuple[Path, Path]) -> None:
    command = ("evaluate", *labels, "--split", "all", "--step", "last", "--json")
    found = json.loads(succeeded(*command).stdout)
    assert (found["answers"], found["series"], found["classes"]) == (3, 3, list(CLASSES))
    assert np.sum(found["confusion"]) == 3
    assert found["metrics"]["model"].keys() == found["metrics"]["majority"].keys()


def test_steps_are_chosen_of_answers_alone(waved: tuple[Path, Path]) -> None:
    text = refused("evaluate", *waved, "--split", "all", "--step", "last")
    assert "--step last is for a regression or a classification" in text


def test_predict_drops_by_seed(labels: tuple[Path, Path], tmp_path: Path) -> None:
    def scores(*options: object) -> pl.DataFrame:
        succeeded("predict", *labels, "-o", tmp_path / "out.parquet", *options)
        return pl.read_parquet(tmp_path / "out.parquet")

    plain = scores()
    one, two = scores("--dropout", "--seed", 1), scores("--dropout", "--seed", 2)
    assert one.equals(scores("--dropout", "--seed", 1))
    assert not one.equals(two)
    assert not one.equals(plain)


def test_a_closed_loop_needs_what_it_needs(
    labels: tuple[Path, Path], waved: tuple[Path, Path], tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "out.parquet")
    text = refused("predict", *waved, *out, "--closed-loop", 3)
    assert "needs values of x that nobody knows yet" in text
    text = refused("predict", *labels, *out, "--closed-loop", 3)
    assert "a classification cannot run in a closed loop" in text
    text = refused("predict", *waved, *out, "--closed-loop", 3, "--last")
    assert "--closed-loop starts at the end of each series" in text
    text = refused("predict", *waved, *out, "--warmup", 3)
    assert "add --closed-loop STEPS" in text
    assert not (tmp_path / "out.parquet").exists()
