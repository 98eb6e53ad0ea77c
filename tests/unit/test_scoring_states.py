"""Scoring that goes on from states in a file is one scoring of the whole history."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from models import example, model, waves
from networks import network
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd import artifact
from forecastd.artifact import Artifact
from forecastd.errors import ArtifactError, UserError
from forecastd.network.model import weights_of
from forecastd.network.spec import HeadSpec, lstm_chain
from forecastd.runtime.state_file import SavedStates, load_states, save_states

LENGTHS = {"a": 130, "b": 75, "new": 40}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


BY = ("unique_id", "cutoff", "h")


def predicted(
    folder: Path, data: pl.DataFrame, *options: object, by: Sequence[str] = BY
) -> pl.DataFrame:
    data.write_parquet(folder / "data.parquet")
    out = folder / "out.parquet"
    result = call("predict", folder / "m", folder / "data.parquet", "-o", out, *options)
    assert result.exit_code == 0, result.exception or result.output
    return pl.read_parquet(out).sort(by)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    artifact.save(tmp_path / "m", model("two_layers", max_gap=3), example())
    return tmp_path


def of_kind(kind: str) -> Artifact:
    """A model whose network says one thing of what it is given, or answers instead of forecasts."""
    trained = model("two_layers", max_gap=3)
    spec = trained.spec
    if kind == "last":
        spec = replace(spec, layers=lstm_chain(6, 1, 0.0, "last"))
    else:
        head = HeadSpec("responses", 1, outputs=1)
        spec = replace(spec, features=replace(spec.features, channels=1, lags=0), head=head)
        trained.signature = replace(
            trained.signature, task="regression", horizon=1, quantiles=(), past=("x",)
        )
    trained.spec, trained.weights = spec, weights_of(network(spec, torch.float32, 5))
    return trained


def parts(frame: pl.DataFrame, *bounds: int) -> list[pl.DataFrame]:
    """Cut every series before rows `bounds`; the series "new" begins in the last part only."""
    row = pl.int_range(pl.len()).over("unique_id") + pl.when(pl.col("unique_id") == "new").then(
        bounds[-1]
    ).otherwise(0)
    edges = [0, *bounds, 10_000]
    return [frame.filter((row >= low) & (row < high)) for low, high in itertools.pairwise(edges)]


def same(found: pl.DataFrame, wanted: pl.DataFrame, by: Sequence[str] = BY) -> None:
    assert found.select(by).equals(wanted.select(by))
    numbers = [name for name in wanted.columns if name.startswith("yhat")]
    np.testing.assert_allclose(
        found.select(numbers).to_numpy(), wanted.select(numbers).to_numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.trap(20, 22)
@pytest.mark.shows("S36", "S37")
@pytest.mark.parametrize("hole", [0, 2])
def test_a_history_in_parts_gives_the_forecasts_of_the_whole(folder: Path, hole: int) -> None:
    """Also where stamps are missing between two parts: they are stepped over."""
    whole = waves(LENGTHS)
    first, second, third = parts(whole, 50, 90)
    second = second.filter(pl.int_range(pl.len()).over("unique_id") >= hole)
    wanted = predicted(folder, pl.concat([first, second, third]))
    states = folder / "s.safetensors"
    found = [predicted(folder, first, "--state-out", states)]
    for part in (second, third):
        found.append(predicted(folder, part, "--state-in", states, "--state-out", states))
    same(pl.concat(found).sort("unique_id", "cutoff", "h"), wanted)
    kept = load_states(states)
    assert sorted(kept.keys.tolist()) == ["a", "b", "new"]
    steps = dict(zip(kept.keys.tolist(), kept.steps.tolist(), strict=True))
    assert steps == LENGTHS


@pytest.mark.parametrize("kind", ["last", "regression"])
def test_other_networks_go_on_too(tmp_path: Path, kind: str) -> None:
    stretch = example()
    if kind == "regression":
        stretch.values = stretch.values[:, 1:]
    artifact.save(tmp_path / "m", of_kind(kind), stretch)
    by = ["unique_id", "cutoff", "h"] if kind == "last" else ["unique_id", "ds"]
    first, second = parts(waves(LENGTHS), 60)
    states = tmp_path / "s.safetensors"
    wanted = predicted(tmp_path, waves(LENGTHS), by=by)
    found = [predicted(tmp_path, first, "--state-out", states, by=by)]
    found.append(predicted(tmp_path, second, "--state-in", states, by=by))
    same(pl.concat(found).sort(by), wanted, by)


def test_too_long_a_hole_starts_the_series_afresh(folder: Path) -> None:
    first, second = parts(waves({"a": 100}), 50)
    second = second.filter(pl.int_range(pl.len()) >= 4)  # max_gap is 3
    states = folder / "s.safetensors"
    predicted(folder, first, "--state-out", states)
    found = predicted(folder, second, "--state-in", states, "--state-out", states)
    same(found, predicted(folder, second))
    assert load_states(states).steps.tolist() == [46]


def test_rows_that_are_not_newer_are_passed_over(folder: Path) -> None:
    first, _ = parts(waves(LENGTHS), 60)
    states = folder / "s.safetensors"
    wanted = predicted(folder, waves(LENGTHS))
    predicted(folder, first, "--state-out", states)
    found = predicted(folder, waves(LENGTHS), "--state-in", states)
    newer = wanted.join(found, on=["unique_id", "cutoff", "h"], how="semi")
    assert len(found) == len(wanted) - 60 * 2 * 3
    same(found, newer.sort("unique_id", "cutoff", "h"))


def test_only_the_newest_of_each_series_where_wanted(folder: Path) -> None:
    first, second = parts(waves(LENGTHS), 60)
    states = folder / "s.safetensors"
    predicted(folder, first, "--state-out", states)
    found = predicted(folder, second, "--state-in", states, "--last")
    same(found, predicted(folder, waves(LENGTHS), "--last"))


def test_states_of_series_that_the_data_do_not_have_stay(folder: Path) -> None:
    states, after = folder / "s.safetensors", folder / "t.safetensors"
    predicted(folder, waves({"a": 50, "b": 60}), "--state-out", states)
    later = waves({"b": 70}).tail(10)
    predicted(folder, later, "--state-in", states, "--state-out", after)
    before, kept = load_states(states), load_states(after)
    assert kept.keys.tolist() == ["a", "b"]
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(kept.arrays[name][0], array[0])
    assert kept.last_time[1] > before.last_time[1]


@pytest.mark.trap(23)
def test_states_of_another_model_are_refused(folder: Path) -> None:
    artifact.save(folder / "other", model("two_layers", seed=9), example())
    states = folder / "s.safetensors"
    predicted(folder, waves({"a": 50}), "--state-out", states)
    result = call(
        "predict", folder / "other", folder / "data.parquet", "-o", folder / "x.parquet",
        "--state-in", states,
    )  # fmt: skip
    assert isinstance(result.exception, ArtifactError)
    assert "made by another model" in str(result.exception)
    assert not (folder / "x.parquet").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--state-out", "s.bin"], "end it with .safetensors"),
        (["--state-in", "none.safetensors"], "it is no file"),
        (["--state-out", "s.safetensors", "--dropout"], "--dropout out"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    folder: Path, options: list[str], said: str
) -> None:
    waves({"a": 50}).write_parquet(folder / "d.parquet")
    result = call("predict", folder / "m", folder / "d.parquet", "-o", folder / "x.pq", *options)
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def made(**changes: Any) -> SavedStates:
    from forecastd.series import Keys

    content: dict[str, Any] = {
        "digest": "d", "keys": Keys.of(["a", "é"]), "last_time": np.array([3, 4]),
        "steps": np.array([1, 2]), "arrays": {"x": np.arange(4.0).reshape(2, 2)},
    }  # fmt: skip
    return SavedStates(**(content | changes))


def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_states(path, made())
    found = load_states(path)
    assert (found.digest, found.keys.tolist()) == ("d", ["a", "é"])
    assert found.last_time.tolist() == [3, 4]
    np.testing.assert_array_equal(found.arrays["x"], made().arrays["x"])
    assert found.places(["é", "b"]).tolist() == [1, -1]


@pytest.mark.trap(26)
@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": {"x": np.full((2, 1), np.nan)}},
        {"arrays": {"x": np.zeros((3, 1))}},
        {"steps": np.array([1])},
        {"last_time": np.array([1.0, 2.0])},
    ],
)
def test_damaged_states_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "s.safetensors"
    save_states(path, made(**changes))
    with pytest.raises(ArtifactError, match="damaged"):
        load_states(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="damaged"):
        load_states(path)
