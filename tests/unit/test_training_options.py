"""What ends a training, what it keeps, and what it can go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import waves
from small_runs import LENGTHS, as_bytes, config, prepared, trained, weights
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd.data.preparing import Preparing
from forecastd.errors import ArtifactError, ConfigError, UserError
from forecastd.network.model import flatten
from forecastd.training.run import Prepared, resume_run, start_run, train
from forecastd.training.trainer import Report

STEPS_PER_EPOCH = 6
"""In lanes, see test_training_run."""
FIXED = {"schedule": "none", "patience": 0}
SEQUENCES = {"mode": "sequences", "batch": 2, "sequence_length": 100}
"""3 series of 280 rows that train: 2 batches of 3 pieces."""


def losses(run: Any, what: str = "loss") -> list[float]:
    return [line[what] for line in run.outcome.progress.history]


def lanes(ready: Prepared) -> dict[str, bytes]:
    state = ready.trainer.walker.state
    assert state is not None
    return as_bytes(flatten(state, list(ready.trainer.network.layers)))


@pytest.mark.shows("S41")
@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        ("adam", {}), ("sgdm", {}), ("rmsprop", {}), ("lbfgs", {}),
        ("adamw", SEQUENCES), ("lbfgs", SEQUENCES),
    ],
    ids=str,
)  # fmt: skip
def test_every_solver_learns_and_goes_on_to_the_bit(
    solver: str, mode: dict[str, Any], tmp_path: Path
) -> None:
    options = {"solver": solver, "epochs": 3, "clip_method": "l2norm", **mode}
    whole = prepared(tmp_path, train=options)
    expected = trained(whole)
    valid = losses(expected, "valid")
    assert min(valid[1:]) < valid[0]
    stopped = trained(prepared(tmp_path, train=options), 2 if solver == "lbfgs" else 8)
    assert not stopped.outcome.finished
    torch.manual_seed(99)  # the dice of the process must not matter
    again = resume_run(stopped.folder)
    found = trained(again)
    assert weights(found) == weights(expected)
    assert found.outcome.progress.history == expected.outcome.progress.history
    assert lanes(again) == lanes(whole)


@pytest.mark.shows("S49")
@pytest.mark.trap(13)
def test_each_piece_of_a_mini_batch_is_a_step(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path, train={**SEQUENCES, "epochs": 2}))
    assert run.outcome.progress.steps == 2 * 2 * 3
    whole = trained(prepared(tmp_path, train={"mode": "sequences", "batch": 2, "epochs": 2}))
    assert whole.outcome.progress.steps == 2 * 2


def test_once_shuffled_is_the_same_order_in_each_epoch(tmp_path: Path) -> None:
    found = {}
    for shuffle in ("never", "once", "every-epoch"):
        options = {"mode": "sequences", "batch": 1, "epochs": 3, "shuffle": shuffle}
        ready = prepared(tmp_path, train=options)
        seen: list[int] = []
        walker = ready.trainer.walker
        unroll = walker.unroll

        def noted(chunk: Any, at: Any, seen: list[int] = seen, unroll: Any = unroll) -> Any:
            seen.append(int(chunk.series[0]))
            return unroll(chunk, at)

        walker.unroll = noted  # type: ignore[method-assign]
        trained(ready)
        found[shuffle] = [tuple(seen[n : n + 3]) for n in (0, 3, 6)]
    assert set(found["never"]) == {(0, 1, 2)}
    assert len(set(found["once"])) == 1
    assert all(sorted(order) == [0, 1, 2] for order in found["every-epoch"])
    assert len(set(found["every-epoch"])) > 1


@pytest.mark.shows("S87")
def test_a_loss_below_the_threshold_ends_it(tmp_path: Path) -> None:
    whole = trained(prepared(tmp_path, train={"epochs": 6, **FIXED}))
    first = losses(whole)[0]
    found = losses(whole)
    until = next(n for n, loss in enumerate(found) if loss < first * 0.8)
    assert 0 < until < 5
    options = {"epochs": 6, "loss_threshold": first * 0.8, **FIXED}
    run = trained(prepared(tmp_path, train=options))
    assert run.outcome.finished
    assert run.outcome.ended == "loss"
    assert losses(run) == found[: until + 1]


def test_iterations_end_it_within_an_epoch(tmp_path: Path) -> None:
    run = trained(prepared(tmp_path, train={"max_iterations": 8, "epochs": 5, **FIXED}))
    assert (run.outcome.ended, run.outcome.progress.steps) == ("iterations", 8)
    assert run.artifact.metrics["valid_loss"] == run.outcome.progress.newest


def test_the_cycle_of_the_rate_ends_with_the_iterations(tmp_path: Path) -> None:
    rates: list[float] = []
    trained(
        prepared(tmp_path, train={"max_iterations": 10, "epochs": 50}),
        report=lambda news: rates.append(news.rate),
    )
    assert max(rates) == pytest.approx(2e-3)
    assert rates[-1] < rates[0] * 2 < max(rates) / 4
    found = prepared(tmp_path, train={"max_iterations": 10, "epochs": None})
    assert found.task.pace.epochs == 3  # two are enough: each ends with some chunks cut short


@pytest.mark.trap(38)
def test_masks_of_a_split_sequence_go_on_to_the_bit(tmp_path: Path) -> None:
    layer = {"type": "lstm", "hidden": 6, "dropout": {"variational_state": 0.4}}
    changes = {
        "network": {"layers": [layer], "hidden": None, "horizon": 4},
        "train": {**SEQUENCES, "epochs": 2, "sequence_length": 140},
    }
    expected = trained(prepared(tmp_path, **changes))
    stopped = trained(prepared(tmp_path, **changes), 5)
    torch.manual_seed(99)
    assert weights(trained(resume_run(stopped.folder))) == weights(expected)


@pytest.mark.shows("S41")
@pytest.mark.trap(33)
def test_validations_by_iterations_and_patience_counts_them(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []

    def hear(news: Report) -> None:
        if news.valid is not None:
            told.append((news.step, news.valid))

    options = {"epochs": 8, "lr": 0.3, "schedule": "none", "validation_frequency": 4}
    run = trained(prepared(tmp_path, train={**options, "patience": 2}), report=hear)
    steps, valid = zip(*told, strict=True)
    assert steps == tuple(range(4, 4 * len(steps) + 1, 4))
    assert run.outcome.ended == "patience"
    assert int(np.argmin(valid)) == len(valid) - 3  # and nothing for two validations
    assert run.outcome.progress.steps < 8 * STEPS_PER_EPOCH
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["valid"] is not None] == list(steps)


@pytest.mark.parametrize("steps", [4, 7])
def test_validations_by_iterations_go_on_to_the_bit(steps: int, tmp_path: Path) -> None:
    options = {"validation_frequency": 4, "epochs": 3}
    expected = trained(prepared(tmp_path, train=options))
    stopped = trained(prepared(tmp_path, train=options), steps)
    found = trained(resume_run(stopped.folder))
    assert weights(found) == weights(expected)
    assert found.artifact.digest == expected.artifact.digest


@pytest.mark.shows("S41")
def test_best_or_last_weights(tmp_path: Path) -> None:
    options = {"epochs": 6, "lr": 0.3, **FIXED}  # too fast: it jumps
    best = trained(prepared(tmp_path, train=options))
    ready = prepared(tmp_path, train={**options, "keep": "last"})
    last: list[dict[str, bytes]] = []

    def keep(news: Report) -> None:
        if news.epoch_ended:
            last.append(as_bytes(ready.trainer.network.state_dict()))

    run = trained(ready, report=keep)
    table = "encoder.embeddings.0.weight"  # its first row is the mean of the others
    found = weights(run)
    assert {k: v for k, v in found.items() if k != table} == {
        k: v for k, v in last[-1].items() if k != table
    }
    assert found != weights(best)
    assert run.artifact.metrics["valid_loss"] == losses(run, "valid")[-1]
    assert "best_epoch" not in run.artifact.metrics


@pytest.mark.shows("S41")
def test_a_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    options = {"epochs": 5, "checkpoint_every": 2}
    run = trained(prepared(tmp_path, train=options))
    folder = run.folder / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-0002", "epoch-0004"]
    told = (run.folder / "metrics.jsonl").read_text().splitlines()
    expected = weights(run)
    again = resume_run(folder / "epoch-0002")
    assert again.folder == run.folder
    assert again.trainer.progress.epoch == 2
    found = trained(again)
    assert weights(found) == expected
    clocked = ("seconds",)
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if k not in clocked} for line in lines] == [
        {k: v for k, v in json.loads(line).items() if k not in clocked} for line in told
    ]
    with pytest.raises(ArtifactError, match="does not hold a training that can go on"):
        resume_run(folder / "epoch-0003")


@pytest.mark.shows("S41")
def test_who_hears_of_each_step_can_stop_it(tmp_path: Path) -> None:
    heard: list[Report] = []

    def hear(news: Report) -> bool:
        heard.append(news)
        return news.step >= 4

    run = train(prepared(tmp_path), hear)
    assert [news.step for news in heard] == [1, 2, 3, 4]
    assert all(news.rate > 0 and np.isfinite(news.loss) for news in heard)
    assert run.outcome.ended == "stopped"
    assert weights(trained(resume_run(run.folder))) == weights(trained(prepared(tmp_path)))


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    options = {"solver": "sgdm", "lr": 10.0, "clip": 0.0, "l2": 1e6, "epochs": 2, **FIXED}
    with pytest.raises(UserError, match="the loss is not a number at step"):
        trained(prepared(tmp_path, train={**options, "validation_frequency": 10000}))


def test_lbfgs_is_refused_where_the_data_do_not_fit(tmp_path: Path) -> None:
    waves(LENGTHS).write_parquet(tmp_path / "waves.parquet")
    settings = config(tmp_path / "waves.parquet", train={"solver": "lbfgs"})
    with pytest.raises(ConfigError, match="lbfgs reads the whole training part"):
        start_run(settings, tmp_path, tmp_path / "runs", Preparing(memory_bytes=1000))


def test_the_command_tells_of_iterations_and_why_it_ended(tmp_path: Path) -> None:
    waves(LENGTHS).write_parquet(tmp_path / "waves.parquet")
    (tmp_path / "forecast.toml").write_text(
        """version = 1
[data]
path = "waves.parquet"
id = "unique_id"
freq = "1h"
season = 24
[network]
hidden = 4
horizon = 2
[train]
mode = "sequences"
sequence_length = 200
batch = 2
epochs = 2
report_every = 3
loss_threshold = 100.0
threads = 1
solver = "sgdm"
[[train.multipliers]]
part = "lstm_1"
rate = 0.5
""",
        encoding="utf-8",
    )
    told = CliRunner().invoke(app, ["train", str(tmp_path / "forecast.toml"), "--device", "cpu"])
    assert told.exit_code == 0, told.exception
    assert "mini-batches of 2 series, 200 steps at a time" in told.stderr
    lines = [line for line in told.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split("  ")[1] for line in lines] == ["step 3", "step 4"]
    assert all("  lr 0.0" in line for line in lines)
    assert "ended early: the loss fell below train.loss_threshold" in told.stderr
    shown = CliRunner().invoke(app, ["config", "show", str(tmp_path / "forecast.toml")])
    assert shown.exit_code == 0, shown.exception
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout, encoding="utf-8")
    checked = CliRunner().invoke(app, ["config", "validate", str(again)])
    assert checked.exit_code == 0, checked.output
