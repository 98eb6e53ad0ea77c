"""What reading costs a training: said in the result and to the person, and cleaned up after."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from models import waves
from small_runs import LENGTHS, config, prepared, trained
from typer.testing import CliRunner

from forecast_cli.config import toml_value
from forecast_cli.main import app
from forecastd.data.lanes import extent_of, walk
from forecastd.training.passes import pinned
from forecastd.training.run import resume_run


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("mode", ["lanes", "windows"])
def test_the_result_says_what_the_loader_and_the_padding_cost(mode: str, tmp_path: Path) -> None:
    frame = waves({"a": 90, "b": 12, "c": 7, "d": 300})
    ready = prepared(tmp_path, frame, train={"mode": mode}, split={"valid": 2, "test": 2})
    run = trained(ready)
    result = json.loads((run.folder / "result.json").read_text())
    assert 0 < result["loader_share"] < 1
    pace, material = ready.task.pace, ready.task.material
    dice = np.random.default_rng([0, pace.epochs - 1])  # seed and newest epoch
    plan = pace.planner(material.training_pieces(), pace.lanes, dice, pace.shape.sequence)
    chunks = list(walk(ready.store, plan, pace.shape))
    steps = sum(chunk.times.size for chunk in chunks)
    expected = 1 - sum(int(chunk.length.sum()) for chunk in chunks) / steps
    assert result["padding_share"] == pytest.approx(expected, abs=1e-4)
    assert result["padding_share"] == round(extent_of(plan, pace.shape).padding, 4)


def test_a_resumed_training_tells_the_same_padding(tmp_path: Path) -> None:
    whole = trained(prepared(tmp_path))
    again = trained(resume_run(trained(prepared(tmp_path), 14).folder))
    found = [json.loads((run.folder / "result.json").read_text()) for run in (whole, again)]
    assert found[0]["padding_share"] == found[1]["padding_share"]
    assert found[0]["digest"] == found[1]["digest"]


def test_windows_of_short_series_are_hardly_padded(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    frame = waves({f"s{number:03}": int(dice.integers(4, 40)) for number in range(200)})
    changes = {"train": {"mode": "windows"}, "split": {"valid": 1, "test": 1}}
    run = trained(prepared(tmp_path, frame, **changes))
    assert run.outcome.costs.padding < 0.05


@pytest.mark.parametrize("steps", [0, 3, None])
def test_no_reader_is_left_behind(steps: int | None, tmp_path: Path) -> None:
    trained(prepared(tmp_path), steps)
    assert readers() == []


def test_no_reader_is_left_behind_by_an_error(tmp_path: Path) -> None:
    def broken(news: object) -> None:
        message = "the disk is full"
        raise OSError(message)

    with pytest.raises(OSError, match="the disk is full"):
        trained(prepared(tmp_path), report=broken)
    assert readers() == []


def test_the_last_line_of_train_says_both_shares(tmp_path: Path) -> None:
    waves(LENGTHS).write_parquet(tmp_path / "waves.parquet")
    lines = ["version = 1"]
    for table, values in config(tmp_path / "waves.parquet").model_dump(exclude_none=True).items():
        if table in {"data", "split", "train"}:
            lines += [f"[{table}]", *(f"{key} = {toml_value(v)}" for key, v in values.items())]
    path = tmp_path / "forecast.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    told = CliRunner().invoke(app, ["train", str(path), "--epochs", "1", "--device", "cpu"])
    assert told.exit_code == 0, told.exception
    (line,) = [line for line in told.stderr.splitlines() if "of step time" in line]
    run = tmp_path / "runs" / "latest"
    result = json.loads((run / "result.json").read_text())
    assert f"loader {result['loader_share']:.1%} of step time" in line
    assert line.endswith(f"padding {result['padding_share']:.1%}")


@pytest.mark.gpu
def test_chunks_for_a_gpu_are_pinned_and_the_same(tmp_path: Path) -> None:
    ready = prepared(tmp_path)
    pace, material = ready.task.pace, ready.task.material
    plan = pace.planner(material.training_pieces(), 4, np.random.default_rng(0), 24)
    for chunk in walk(ready.store, plan, pace.shape):
        for one, other in zip(chunk, pinned(chunk), strict=True):
            if one is None:
                assert other is None
                continue
            np.testing.assert_array_equal(one, other)
            assert torch.from_numpy(other).is_pinned() or other.size == 0
