"""A run: one training on disk, from the resolved settings to the artifact.

runs/2026-11-21T0741-1/
  config.json     the settings with every default filled in
  metrics.jsonl   one line per epoch, and per validation within one
  model/          the artifact with the best weights, or the last
  last/           where an interrupted training goes on; removed when it is finished
  checkpoints/    where it can go on as well, epoch by epoch; only if train.checkpoint_every is set
  result.json     what came out
runs/store/       the prepared data, shared by the runs of the same input
runs/latest       the newest run that saved a model
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forecastd import __version__, artifact
from forecastd.artifact import Artifact, Example
from forecastd.config import DataSettings, TrainConfig
from forecastd.data.giving_back import give_back
from forecastd.data.preparing import MEMORY_BYTES, PREPARING, Preparing
from forecastd.data.split import settings_for_split, split, without_split_column
from forecastd.data.split_files import held_out_files
from forecastd.data.statistics import train_statistics
from forecastd.data.store import Store, prepare
from forecastd.errors import ConfigError, UserError
from forecastd.features.calendar import clock_columns
from forecastd.files import point_link, write_durably
from forecastd.network.device import choose_device
from forecastd.network.expand import check_network
from forecastd.network.model import weights_of
from forecastd.training.passes import Task
from forecastd.training.plan import (
    Material,
    network_spec,
    pace_of,
    require_memory,
    require_trainable,
    signature_of,
)
from forecastd.training.trainer import CHECKPOINTS, Listener, Outcome, Report, Trainer

EXAMPLE_ROWS = 64


@dataclass(frozen=True)
class Run:
    """A run's folder and, once trained, its artifact."""

    folder: Path
    artifact: Artifact
    outcome: Outcome


def new_folder(runs: Path, now: datetime) -> Path:
    """Create a folder for a new run, named by the time. Raises UserError."""
    try:
        for number in range(1, 1000):
            folder = runs / f"{now:%Y-%m-%dT%H%M}-{number}"
            if not folder.exists():
                folder.mkdir(parents=True)
                return folder
    except OSError as error:
        message = f"cannot make a run folder in {runs}: {error.strerror}"
        raise UserError(message, hint="choose another folder with --out or run.dir") from error
    message = f"{runs} holds a thousand runs of this minute"
    raise UserError(message, hint="choose another folder with --out")


def read_config(folder: Path) -> tuple[TrainConfig, Path]:
    """Return the settings of a run and the folder its relative paths start from.

    Raises ConfigError when the folder is no run.
    """
    try:
        saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return TrainConfig.model_validate(saved["settings"]), Path(saved["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{folder} is not a run that can be resumed"
        hint = "give the folder that `forecast train` printed"
        raise ConfigError([problem], hint=hint) from error


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to start. base: where relative paths of its settings start."""

    folder: Path
    base: Path
    store: Store
    task: Task
    trainer: Trainer


def start_run(config: TrainConfig, base: Path, runs: Path, how: Preparing = PREPARING) -> Prepared:
    """Prepare the data, and only when it is usable make a run folder in `runs`.

    base: where relative paths of the settings start. Raises UserError.
    """
    store, task = _task(config, base, runs, how)
    folder = new_folder(runs, datetime.now(UTC))
    give_back()
    settings = {"settings": config.model_dump(), "base": str(base)}
    write_durably(folder / "config.json", json.dumps(settings, indent=2).encode())
    return Prepared(folder, base, store, task, Trainer(task, folder / "last"))


def resume_run(folder: Path, how: Preparing = PREPARING) -> Prepared:
    """Go on with an interrupted run, or from one of its checkpoints.

    folder: of the run, or RUN/checkpoints/epoch-0003. Raises UserError when that is not possible.
    """
    folder, start = folder.resolve(), None
    if folder.parent.name == CHECKPOINTS:
        folder, start = folder.parents[1], folder
    config, base = read_config(folder)
    store, task = _task(config, base, folder.parent, how)
    trainer = Trainer(task, folder / "last")
    trainer.resume(start)
    return Prepared(folder, base, store, task, trainer)


def _task(config: TrainConfig, base: Path, runs: Path, how: Preparing) -> tuple[Store, Task]:
    choose_device(config.train.device)  # before the data is prepared
    check_network(config)
    material = _material(config, base, runs / "store", how)
    require_trainable(material)
    store = material.store
    signature = signature_of(config, store)
    vocabulary = material.vocabulary()
    spec = network_spec(config, signature, vocabulary, material)
    names = spec.features.clocks
    clocks = partial(
        clock_columns, clocks=names, frequency=store.frequency, season=signature.season
    )
    require_memory(config, material, how.memory_bytes or MEMORY_BYTES)
    pace = pace_of(config, spec, material)
    return store, Task(config, material, vocabulary, spec, pace, clocks)


def _material(config: TrainConfig, base: Path, stores: Path, how: Preparing) -> Material:
    """Prepare the data and split it. Raises UserError."""

    def made(data: DataSettings, name: str) -> Store:
        folder, (memory_bytes, report) = stores / name, how
        return prepare(data, base, folder, memory_bytes=memory_bytes, report=report)

    data = settings_for_split(config.data, config.split)
    store = made(data, _store_name(data))
    parts = split(store, config.split)
    store = without_split_column(store, config.data)
    valid_store = None
    if config.split.by == "files":
        held = held_out_files(config.data, config.split, store, base)
        if valid := held["valid"]:
            valid_store = made(valid, f"valid-{_store_name(valid)}")
    return Material(store, parts, train_statistics(store, parts), valid_store)


def never() -> bool:
    """Never stop a training."""
    return False


def train(prepared: Prepared, report: Listener, stop: Callable[[], bool] = never) -> Run:
    """Train and save.

    report: called after each step, each epoch and each validation with what there is to tell; where
    it returns True the training stops. stop: asked before each step. Stopped early, the best
    weights so far are saved and `last/` says where to go on.
    """
    metrics, every = prepared.folder / "metrics.jsonl", prepared.task.config.train.checkpoint_every
    lines = _lines_until(metrics, prepared.trainer.progress.steps)

    def write() -> None:
        write_durably(metrics, "".join(f"{line}\n" for line in lines).encode())

    def keep(news: Report) -> bool | None:
        if news.epoch_ended or news.valid is not None:
            line = {"epoch": news.epoch, "step": news.step, "loss": news.loss, "valid": news.valid}
            lines.append(json.dumps(line | {"lr": news.rate, "seconds": round(news.seconds, 3)}))
        if news.epoch_ended and every is not None and news.epoch % every == 0:
            write()
        return report(news)

    try:
        outcome = prepared.trainer.fit(keep, stop)
    finally:
        write()
    saved = artifact.save(
        prepared.folder / "model", _artifact(prepared, outcome), _example(prepared.task)
    )
    result = {
        "finished": outcome.finished,
        "ended": outcome.ended,
        "digest": saved.digest,
        "metrics": saved.metrics,
    }
    result |= shares_of(outcome)
    write_durably(prepared.folder / "result.json", json.dumps(result, indent=2).encode())
    point_link(prepared.folder.parent / "latest", prepared.folder.name)
    if outcome.finished:
        shutil.rmtree(prepared.folder / "last", ignore_errors=True)
    return Run(prepared.folder, saved, outcome)


def _lines_until(metrics: Path, steps: int) -> list[str]:
    """Return the lines of an earlier part of the run, up to the step where it goes on."""
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    return [line for line in lines if json.loads(line)["step"] <= steps]


def shares_of(outcome: Outcome) -> dict[str, float]:
    """Return what reading the data cost, as shares: see `Costs`."""
    costs = outcome.costs
    return {"loader_share": round(costs.loader, 4), "padding_share": round(costs.padding, 4)}


def _artifact(prepared: Prepared, outcome: Outcome) -> Artifact:
    task, store, progress = prepared.task, prepared.store, outcome.progress
    statistics, trained = task.material.statistics, task.material.parts.trained
    metrics: dict[str, Any] = {
        "epochs": progress.epoch,
        "steps": progress.steps,
        "seconds": round(progress.seconds, 1),
    }
    if task.config.train.keep == "last" and outcome.ended != "diverged":
        metrics |= {} if progress.newest is None else {"valid_loss": progress.newest}
    elif np.isfinite(progress.best):
        metrics |= {"best_epoch": progress.best_epoch + 1, "valid_loss": progress.best}
    return Artifact(
        signature=signature_of(task.config, store),
        spec=task.spec,
        vocabulary=task.vocabulary,
        statistics={
            "mean": statistics.mean[trained],
            "std": statistics.std[trained],
            "mase_scale": statistics.mase_scale[trained],
        },
        max_gap=store.max_gap,
        weights=weights_of(outcome.network),
        provenance=_provenance(task.config),
        metrics=metrics,
    )


def _provenance(config: TrainConfig) -> dict[str, Any]:
    return {
        "config": config.model_dump(),
        "forecastd": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _example(task: Task) -> Example:
    """Return the first training rows of the first series that trains, up to the first reset.

    Of what enters the network, so without the targets where these are answers.
    """
    store, parts = task.material.store, task.material.parts
    series = int(np.argmax(parts.trained))
    first, end = int(parts.train_begin[series]), int(parts.train_end[series])
    resets = store.segments[:, 2]
    end = min(end, int(resets[np.searchsorted(resets, first, "right")]))
    rows = slice(first, min(end, first + EXAMPLE_ROWS))
    answers = store.values.shape[1] - task.spec.features.channels
    values = np.array(store.values[rows, answers:], order="C")
    return Example(store.keys[series], np.array(store.times[rows]), values)


def _store_name(data: DataSettings) -> str:
    """Return a folder name for the store of a data set: runs of the same data share it."""
    stem = Path(data.path).stem or "data"
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)[:64]
