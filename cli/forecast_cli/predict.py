"""`forecast predict`: what a model says of a data set, as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forecast_cli.preparing import MemoryOption
from forecast_cli.states import StateInOption, StateOutOption, States


def predict(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set to forecast.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Parquet file to write.")],
    last: Annotated[
        bool, typer.Option("--last", help="Only from the newest observation of each series.")
    ] = False,
    closed_loop: Annotated[
        int | None,
        typer.Option(min=1, help="Steps ahead, each forecast fed back, from each series' end."),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(min=1, help="Rows observed before the loop is closed, instead of all."),
    ] = None,
    dropout: Annotated[
        bool, typer.Option("--dropout", help="Drop at random, as layers do in training.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="What --dropout draws follows from it.")] = 0,
    state_in: StateInOption = None,
    state_out: StateOutOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Forecast, classify or regress every row of a data set, or the last of each series."""
    from forecast_cli.opening import opened
    from forecast_cli.output import follow, note, print_json, progress
    from forecastd.scoring.closed_loop import predict_closed
    from forecastd.scoring.predict import predict as score

    _require_one_way(closed_loop, last, dropout, warmup)
    states = States(state_in, state_out).alone(closed_loop is not None or dropout)
    with (
        opened(model, data, device, memory=memory) as (trained, store),
        progress("forecasting", len(store.times)) as bar,
    ):
        news = follow(bar)
        if states:
            result = states.predict(trained, store, output, last=last, report=news)
        elif closed_loop is None:
            seeded = seed if dropout else None
            result = score(trained, store, output, last=last, dropout=seeded, report=news)
        else:
            steps = closed_loop
            result = predict_closed(trained, store, output, steps, warmup=warmup, report=news)
    if as_json:
        print_json(result)
    else:
        note(f"{result.forecasts:,} forecasts of {result.series:,} series, {result.rows:,} rows")
        print(result.path)


def _require_one_way(
    closed_loop: int | None, last: bool, dropout: bool, warmup: int | None
) -> None:
    """Raise UserError for options that do not go together."""
    from forecastd.errors import UserError

    if closed_loop is not None and (last or dropout):
        message = "--closed-loop starts at the end of each series and drops nothing"
        raise UserError(message, hint="leave --last and --dropout out")
    if warmup is not None and closed_loop is None:
        message = "--warmup tells where a closed loop begins"
        raise UserError(message, hint="add --closed-loop STEPS")
