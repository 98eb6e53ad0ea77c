"""`forecast predict`: open-loop forecasts of a data set as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forecast_cli.preparing import MemoryOption


def predict(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set to forecast.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Parquet file to write.")],
    last: Annotated[
        bool, typer.Option("--last", help="Only from the newest observation of each series.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Forecast from every origin of a data set, or from the last of each series."""
    from forecast_cli.opening import opened
    from forecast_cli.output import follow, note, print_json, progress
    from forecastd.scoring.predict import predict as score

    with (
        opened(model, data, device, memory=memory) as (trained, store),
        progress("forecasting", len(store.times)) as bar,
    ):
        result = score(trained, store, output, last=last, report=follow(bar))
    if as_json:
        print_json(result)
    else:
        note(f"{result.forecasts:,} forecasts of {result.series:,} series, {result.rows:,} rows")
        print(result.path)
