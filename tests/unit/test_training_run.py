from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from models import START, stored, waves
from small_runs import LENGTHS, as_bytes, prepared, trained, weights

from forecastd import artifact
from forecastd.data.split import split
from forecastd.errors import ArtifactError, ConfigError
from forecastd.evaluation.evaluate import evaluate
from forecastd.network.model import flatten
from forecastd.training.run import new_folder, read_config, resume_run
from forecastd.training.trainer import Trainer

STEPS_PER_EPOCH = 6
"""In lanes: 840 rows in 8 lanes, 24 steps at a time, and each change of series cuts one short."""


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without what a clock decides."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def lanes(trainer: Trainer) -> dict[str, bytes]:
    assert trainer.walker.state is not None
    return as_bytes(flatten(trainer.walker.state, list(trainer.network.layers)))


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    one = trained(prepared(tmp_path))
    same = trained(prepared(tmp_path))
    other = trained(prepared(tmp_path, train={"seed": 1}))
    assert weights(one) == weights(same)
    assert lines(one.folder) == lines(same.folder)
    assert one.artifact.digest == same.artifact.digest
    assert weights(one) != weights(other)


def test_a_run_s_folder_holds_settings_metrics_and_model(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path))
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json", "metrics.jsonl", "model", "result.json",
    }  # fmt: skip
    found = lines(run.folder)
    assert [line["epoch"] for line in found] == [1, 2, 3]
    assert [line["step"] for line in found] == [STEPS_PER_EPOCH * n for n in (1, 2, 3)]
    assert all(np.isfinite(line["loss"]) and np.isfinite(line["valid"]) for line in found)
    result = json.loads((run.folder / "result.json").read_text())
    assert result["finished"] is True
    assert result["digest"] == artifact.load(run.folder).digest
    settings, base = read_config(run.folder)
    assert settings.model_dump() == run.artifact.provenance["config"]
    assert base == tmp_path


@pytest.mark.shows("S86")
def test_training_learns(tmp_path: Path) -> None:
    found = lines(trained(prepared(tmp_path, train={"epochs": 12, "lr": 0.01})).folder)
    assert found[-1]["valid"] < 0.8 * found[0]["valid"]


@pytest.mark.parametrize("steps", [0, 1, 5, 6, 7, 10, 12, 14])
@pytest.mark.parametrize("mode", ["lanes", "windows"])  # an epoch is 6 steps, and 5
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(
    mode: str, steps: int, tmp_path: Path
) -> None:
    train = {"mode": mode}
    whole = prepared(tmp_path, train=train)
    expected = trained(whole)
    stopped = trained(prepared(tmp_path, train=train), steps)
    assert not stopped.outcome.finished
    assert stopped.outcome.progress.steps == steps
    torch.manual_seed(99)  # the dice of the process must not matter
    again = resume_run(stopped.folder)
    found = trained(again)
    assert found.outcome.finished
    assert weights(found) == weights(expected)
    assert lines(found.folder) == lines(expected.folder)
    assert found.outcome.progress.history == expected.outcome.progress.history
    assert lanes(again.trainer) == lanes(whole.trainer)
    assert found.artifact.digest == expected.artifact.digest
    assert not (found.folder / "last").exists()


def test_a_training_can_be_stopped_again_and_again(tmp_path: Path) -> None:
    expected = trained(prepared(tmp_path))
    run = trained(prepared(tmp_path), 2)
    for steps in (6, 9, 13):
        run = trained(resume_run(run.folder), steps)
    run = trained(resume_run(run.folder))
    assert weights(run) == weights(expected)
    assert lines(run.folder) == lines(expected.folder)


def test_stopped_before_the_first_validation_the_newest_weights_are_saved(tmp_path: Path) -> None:
    ready = prepared(tmp_path, train={"epochs": 40})  # validates every fourth epoch
    fresh = as_bytes(ready.trainer.network.state_dict())
    run = trained(ready, 2 * STEPS_PER_EPOCH)
    assert weights(run) != fresh
    assert run.artifact.metrics["epochs"] == 2
    assert "best_epoch" not in run.artifact.metrics
    assert artifact.load(run.folder).digest == run.artifact.digest


def test_a_damaged_state_is_refused_in_a_sentence(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path), 3)
    (run.folder / "last" / "state.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ArtifactError, match="last does not hold a training that can go on"):
        resume_run(run.folder)


def test_a_finished_run_cannot_go_on(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path))
    with pytest.raises(ArtifactError, match="does not hold a training that can go on"):
        resume_run(run.folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run that can be resumed"):
        read_config(tmp_path)


def test_the_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    train = {"epochs": 8, "lr": 0.3, "schedule": "constant", "patience": 0}  # too fast: it jumps
    ready = prepared(tmp_path, train=train)
    kept: list[tuple[float, dict[str, bytes]]] = []

    def keep(news: Any) -> None:
        if news.valid is not None:
            kept.append((news.valid, as_bytes(ready.trainer.network.state_dict())))

    run = trained(ready, report=keep)
    best = min(range(8), key=lambda epoch: kept[epoch][0])
    assert best < 7
    assert run.artifact.metrics["best_epoch"] == best + 1
    assert run.artifact.metrics["valid_loss"] == kept[best][0]
    found, expected = weights(run), kept[best][1]
    table = "encoder.embeddings.0.weight"  # its first row is the mean of the others
    assert {k: v for k, v in found.items() if k != table} == {
        k: v for k, v in expected.items() if k != table
    }


@pytest.mark.trap(33)
def test_patience_stops(tmp_path: Path) -> None:
    train = {"epochs": 8, "lr": 0.3, "schedule": "constant", "patience": 2}
    run = trained(prepared(tmp_path, train=train))
    valid = [line["valid"] for line in lines(run.folder)]
    best = int(np.argmin(valid))
    assert run.outcome.finished
    assert len(valid) == best + 3 < 8


def test_validation_never_sees_the_test_rows(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    frame = waves(LENGTHS)
    last = pl.int_range(pl.len()).over("unique_id") >= 400 - 60
    spoiled = frame.with_columns(
        y=pl.when(last).then(-1e6).otherwise("y"), x=pl.when(last).then(7e5).otherwise("x")
    )
    assert not frame.equals(spoiled)
    one = trained(prepared(tmp_path / "one", frame))
    other = trained(prepared(tmp_path / "other", spoiled))
    assert weights(one) == weights(other)
    assert lines(one.folder) == lines(other.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"mode": "windows"}},
        {"network": {"hidden": 8, "horizon": 4, "output": "last"}},
        {"network": {"hidden": 8, "horizon": 4, "layers": 2, "dropout": 0.0}},
        {"network": {"hidden": 8, "horizon": 4, "head": {"kind": "point"}}},
        {"features": {"lags": 0, "embedding": 0, "calendar": []}},
        {"train": {"schedule": "constant", "warmup": 100, "loss_stride": 50}},
        {"split": {"valid": 0, "test": 0.1}},
        {"split": {"train": "8d", "valid": "2d", "test": "3d"}},
    ],
    ids=str,
)
def test_every_way_to_train_trains_and_scores(changes: dict[str, Any], tmp_path: Path) -> None:
    run = trained(prepared(tmp_path, **changes))
    loaded = artifact.load(run.folder)
    store = stored(tmp_path, waves(LENGTHS), "again")
    parts = split(store, read_config(run.folder)[0].split)
    result = evaluate(loaded, store, parts.train_end, store.offsets[1:])
    assert all(np.isfinite(value) for value in result.metrics["model"].values())
    assert result.origins > 0


def test_folders_of_runs_are_numbered(tmp_path: Path) -> None:
    first, second = (new_folder(tmp_path / "runs", START) for _ in range(2))
    assert (first.name, second.name) == ("2013-01-01T0000-1", "2013-01-01T0000-2")


def test_the_latest_run_is_the_one_that_saved_a_model(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path))
    prepared(tmp_path)
    assert (tmp_path / "runs" / "latest").resolve() == run.folder
