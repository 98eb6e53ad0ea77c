"""What training, validation and evaluation see of each kind of split."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from models import waves
from small_runs import LENGTHS, prepared, trained, weights
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd import artifact
from forecastd.data.lanes import lane_plan, walk, window_plan
from forecastd.data.split import Parts
from forecastd.data.statistics import train_statistics
from forecastd.errors import DataError
from forecastd.features.vocabulary import Vocabulary
from forecastd.training.run import Prepared


def rows_of(parts: Parts, name: str) -> list[list[int]]:
    begin, end = getattr(parts, f"{name}_begin"), getattr(parts, f"{name}_end")
    return [list(range(*pair)) for pair in zip(begin.tolist(), end.tolist(), strict=True)]


def test_a_column_says_the_part_and_is_no_feature(tmp_path: Path) -> None:
    fold = pl.col("unique_id").replace_strict({"a": "1", "b": "2", "c": "3"})
    frame = waves({"a": 200, "b": 200, "c": 200}).with_columns(fold=fold.cast(pl.Int32))
    by = {"by": "series", "column": "fold", "valid": "2", "test": [3]}
    run = trained(prepared(tmp_path, frame, split=by))
    assert run.artifact.signature.static == ()
    assert run.artifact.vocabulary.series == ("a",)
    with pytest.raises(DataError, match=r"'4' in split\.test is no value of column 'fold'"):
        prepared(tmp_path, frame, split={**by, "test": "4"})


KINDS: dict[str, dict[str, Any]] = {
    "time": {"valid": 60, "test": 60, "gap": 10},
    "series": {"by": "series", "valid": ["b"], "test": ["c"]},
    "ranges": {"by": "ranges", "train": [20, 200], "valid": [210, 300], "test": [320]},
}


def held_out(ready: Prepared) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows of the store do not train."""
    material = ready.task.material
    mask = np.ones(len(material.store.times), bool)
    for rows in rows_of(material.parts, "train"):
        mask[rows] = False
    return mask


@pytest.mark.parametrize("kind", KINDS)
def test_no_target_of_training_is_a_row_held_out(kind: str, tmp_path: Path) -> None:
    ready = prepared(tmp_path, waves(LENGTHS), split=KINDS[kind])
    material, shape = ready.task.material, ready.task.pace.shape
    marked = np.array(material.store.values)
    marked[held_out(ready)] = 1e9
    store = dataclasses.replace(material.store, values=marked)
    for planner in (lane_plan, window_plan):
        plan = planner(material.training_pieces(), 4, np.random.default_rng(0), 24)
        chunks = list(walk(store, plan, shape))
        assert chunks
        assert all(np.nan_to_num(chunk.future).max() < 1e8 for chunk in chunks)
        assert all(np.nan_to_num(chunk.values).max() < 1e8 for chunk in chunks)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_and_vocabulary_are_those_of_the_training_rows(
    kind: str, tmp_path: Path
) -> None:
    ready = prepared(tmp_path, waves(LENGTHS), split=KINDS[kind])
    material = ready.task.material
    spoiled = np.array(material.store.values)
    spoiled[held_out(ready)] = 1e9
    again = train_statistics(dataclasses.replace(material.store, values=spoiled), material.parts)
    for name in ("mean", "std", "mase_scale", "missing"):
        found = getattr(again, name)
        np.testing.assert_array_equal(found, getattr(material.statistics, name))
    trained_keys = ["a"] if kind == "series" else ["a", "b", "c"]
    assert ready.task.vocabulary == Vocabulary.learn(trained_keys, {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_does_not_change_with_the_rows_that_test(kind: str, tmp_path: Path) -> None:
    frame = waves(LENGTHS)
    first = prepared(tmp_path, frame, split=KINDS[kind])
    tested = np.concatenate(rows_of(first.task.material.parts, "test")).astype(int)
    mask = np.zeros(frame.height, bool)
    mask[tested] = True
    spoiled = frame.with_columns(y=pl.when(pl.Series(mask)).then(-1e6).otherwise("y"))
    (tmp_path / "other").mkdir()
    one = trained(first)
    other = trained(prepared(tmp_path / "other", spoiled, split=KINDS[kind]))
    assert weights(one) == weights(other)
    assert "valid_loss" in one.artifact.metrics
    assert artifact.load(one.folder).vocabulary == one.artifact.vocabulary


# by files


def in_files(folder: Path) -> dict[str, Any]:
    """Write a file for each part and return the settings."""
    (folder / "test").mkdir()
    waves({"b": 150, "new": 150}, seed=1).write_parquet(folder / "val.parquet")
    for place, key in enumerate(("c", "d")):
        waves({key: 100}, seed=2).write_parquet(folder / "test" / f"{place}.parquet")
    return {"by": "files", "valid": "val.parquet", "test": "test/*.parquet"}


def test_files_validate_and_test(tmp_path: Path) -> None:
    ready = prepared(tmp_path, waves({"a": 300, "b": 300}), split=in_files(tmp_path))
    material = ready.task.material
    assert material.validation.store.keys == ["b", "new"]
    assert ready.task.vocabulary.series == ("a", "b")
    assert material.parts.untrained == 0
    expected = [material.statistics.std[1], np.median(material.statistics.std)]
    assert material.validation_deviation().tolist() == expected
    run = trained(ready)
    assert np.isfinite(run.artifact.metrics["valid_loss"])


def test_a_file_that_validates_changes_nothing_of_what_trains(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    frame = waves({"a": 300, "b": 300})
    one = prepared(tmp_path, frame, split=in_files(tmp_path))
    other = prepared(tmp_path / "other", frame, split=in_files(tmp_path / "other"))
    waves({"z": 90}, seed=9).write_parquet(tmp_path / "other" / "val.parquet")
    changed = prepared(tmp_path / "other", frame, split=other.task.config.split.model_dump())
    assert changed.task.vocabulary == one.task.vocabulary
    np.testing.assert_array_equal(
        changed.task.material.statistics.std, one.task.material.statistics.std
    )


def test_a_file_in_two_parts_is_refused(tmp_path: Path) -> None:
    given = in_files(tmp_path)
    with pytest.raises(DataError, match=r"val\.parquet is both in split\.valid and in split\.test"):
        prepared(tmp_path, waves({"a": 300}), split={**given, "test": "v*.parquet"})
    with pytest.raises(DataError, match="there is no file"):
        prepared(tmp_path, waves({"a": 300}), split={**given, "test": "gone.parquet"})


# what is scored


def scored(*words: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "validation", "test"), [("time", 3, 3), ("series", 1, 1), ("ranges", 3, 3)]
)
def test_evaluate_scores_the_part_of_each_kind(
    kind: str, validation: int, test: int, tmp_path: Path
) -> None:
    ready = prepared(tmp_path, waves(LENGTHS), split=KINDS[kind])
    run = trained(ready)
    horizon = ready.task.config.network.horizon
    for name, series in (("validation", validation), ("test", test)):
        found = scored("evaluate", run.folder, tmp_path / "waves.parquet", "--split", name)
        lengths = [len(rows) for rows in rows_of(ready.task.material.parts, name[:5]) if rows]
        assert found["series"] == series == len(lengths)
        whole = kind == "series"  # the first row of a series has no origin before it
        assert found["origins"] == sum(length - horizon + (not whole) for length in lengths)


def test_evaluate_scores_a_column_s_part_and_a_file_s(tmp_path: Path) -> None:
    fold = pl.col("unique_id").replace_strict({"a": "1", "b": "2", "c": "3"})
    frame = waves(LENGTHS).with_columns(fold=fold)
    by = {"by": "series", "column": "fold", "valid": "2", "test": "3"}
    run = trained(prepared(tmp_path, frame, split=by))
    data = tmp_path / "waves.parquet"
    assert scored("evaluate", run.folder, data, "--split", "test")["series"] == 1
    (tmp_path / "files").mkdir()
    ready = prepared(tmp_path / "files", frame, split=in_files(tmp_path / "files"))
    run = trained(ready)
    held = tmp_path / "files" / "test"
    assert scored("evaluate", run.folder, held, "--split", "test")["series"] == 2
    result = CliRunner().invoke(app, ["evaluate", str(run.folder), str(data)])
    assert isinstance(result.exception, DataError)
    assert "is the data the model was trained on" in result.exception.message
