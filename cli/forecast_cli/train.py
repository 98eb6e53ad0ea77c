"""`forecast train`: fit a network and write a run folder with the artifact."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.preparing import MemoryOption

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.preparing import Preparing
    from forecastd.training.run import Prepared, Run
    from forecastd.training.trainer import Report

ENDINGS = {
    "patience": "ended early: validations gained nothing for as long as train.patience allows",
    "loss": "ended early: the loss fell below train.loss_threshold",
    "converged": "ended early: no step leads further down",
    "diverged": "ended early: the loss was not a number; try a lower train.lr or train.clip",
}
"""What is said where a training ended before its epochs or iterations were over."""


def train(
    config: Annotated[
        Path, typer.Argument(help="The config, or with --resume a run folder or checkpoint.")
    ] = (Path("forecast.toml")),
    data: Annotated[str | None, typer.Option(help="Another data set: data.path.")] = None,
    out: Annotated[str | None, typer.Option(help="Where run folders go: run.dir.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes: train.epochs.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda: train.device.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="train.seed.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="Any key, as in train.lr=1e-3.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run folder.")
    ] = False,
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model; writes a run folder with settings, metrics and the model.

    Ctrl-C saves the best weights so far and where to go on.
    """
    from forecast_cli.output import note, print_json
    from forecast_cli.preparing import shown
    from forecastd.training.run import shares_of

    flags = {"train.epochs": epochs, "train.device": device, "train.seed": seed}
    texts = {"data.path": data and str(Path(data).expanduser().absolute()), "run.dir": out}
    overrides = [f"{key}={value}" for key, value in flags.items() if value is not None]
    overrides += [f'{key}="{value}"' for key, value in texts.items() if value is not None]
    with shown(memory) as how:
        prepared = _prepared(config, overrides + (settings or []), how, resume=resume)
    note(_opening(prepared))
    run, interrupted = _train(prepared)
    metrics, shares = run.artifact.metrics, shares_of(run.outcome)
    result = {"run": run.folder, "model": run.folder / "model", "metrics": metrics}
    if as_json:
        result |= {
            "finished": run.outcome.finished,
            "ended": run.outcome.ended,
            "digest": run.artifact.digest,
        }
        print_json(result | shares)
    else:
        note(_closing(metrics, shares))
        print(run.folder / "model")
    if run.outcome.ended in ENDINGS:
        note(ENDINGS[run.outcome.ended])
    if interrupted:
        note(f"interrupted; go on with: forecast train --resume {run.folder}")
        raise typer.Exit(130 if interrupted == signal.SIGINT else 143)
    if not as_json:
        note(f"next: forecast evaluate {run.folder / 'model'} {_data_path(prepared)}")


def _prepared(config: Path, overrides: list[str], how: Preparing, *, resume: bool) -> Prepared:
    from forecastd.config import TrainConfig, load
    from forecastd.errors import ConfigError, SpecError
    from forecastd.network.expand import check_located, located
    from forecastd.training.run import resume_run, start_run

    if resume:
        if overrides:
            problem = "--resume goes on with the settings of the run; other settings change it"
            raise ConfigError([problem], hint="leave them out, or start a new run")
        return resume_run(config, how)
    loaded = load(TrainConfig, config, overrides=overrides)
    check_located(loaded)
    runs = Path(loaded.settings.run.dir).expanduser()
    if loaded.origin("run.dir") != "--set":
        runs = loaded.folder / runs
    try:
        return start_run(loaded.settings, loaded.folder, runs, how)
    except SpecError as error:  # the data are not what the network takes
        raise located(loaded, error) from error


def _opening(prepared: Prepared) -> str:
    spec, pace = prepared.task.spec, prepared.task.pace
    store, material = prepared.store, prepared.task.material
    clocks = ", ".join(spec.features.clocks) or "none"
    weights = sum(p.numel() for p in prepared.trainer.network.parameters())
    return (
        f"run {prepared.folder}\n"
        f"{len(store.times):,} rows of {store.series_count:,} series, freq {store.frequency}, "
        f"season {store.season}; {spec.features.width} inputs, clocks {clocks}, "
        f"{spec.features.lags} lags\n"
        f"{'; '.join(material.words())}\n"
        f"{weights:,} weights on {prepared.trainer.network.device}; {pace.epochs} epochs of "
        f"{_batches(prepared)}"
    )


def _batches(prepared: Prepared) -> str:
    """Say what a step of the solver sees."""
    pace = prepared.task.pace
    if pace.batching is None:
        return f"{pace.lanes} lanes, {pace.shape.sequence} steps at a time"
    length = pace.batching.length
    steps = f"{length} steps at a time" if isinstance(length, int) else f"as long as the {length}"
    return f"mini-batches of {pace.lanes} series, {steps}"


def _train(prepared: Prepared) -> tuple[Run, int]:
    """Train with a bar; return the run and the signal that ended it, 0 if none."""
    from forecast_cli.output import progress
    from forecastd.training.run import train as fit

    caught: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    every = prepared.task.config.train.report_every
    before = {name: signal.signal(name, remember) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress("training", prepared.task.pace.epochs) as bar:

            def show(news: Report) -> None:
                if news.epoch_ended:
                    bar.advance(1, f"loss {news.loss:.4f}")
                due = not news.epoch_ended and every is not None and news.step % every == 0
                if news.valid is not None or due:
                    bar.line(_line(news))

            return fit(prepared, show, lambda: bool(caught)), (caught or [0])[0]
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _line(news: Report) -> str:
    """Return epoch, step, losses, learning rate and time as one line."""
    valid = "" if news.valid is None else f"  valid {news.valid:.4f}"
    return (
        f"epoch {news.epoch}/{news.epochs}  step {news.step}  loss {news.loss:.4f}{valid}  "
        f"lr {news.rate:.3g}  {news.seconds:.1f} s"
    )


def _closing(metrics: dict[str, Any], shares: dict[str, float]) -> str:
    return (
        f"{_best(metrics)}; {metrics['epochs']} epochs in {metrics['seconds']} s; loader "
        f"{shares['loader_share']:.1%} of step time, padding {shares['padding_share']:.1%}"
    )


def _best(metrics: dict[str, object]) -> str:
    if "valid_loss" not in metrics:
        return "the weights are the newest: nothing was validated"
    if "best_epoch" not in metrics:
        return f"the weights are the newest, with loss {metrics['valid_loss']:.4f} in validation"
    return f"the weights are those of epoch {metrics['best_epoch']}"


def _data_path(prepared: Prepared) -> Path:
    """Return the data set that `forecast evaluate` takes next, as one can type it here."""
    data, split = prepared.task.config.data, prepared.task.config.split
    held = split.test or split.valid if split.by == "files" else None
    path = prepared.base / Path(str(held or data.path)).expanduser()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
