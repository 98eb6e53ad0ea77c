"""`forecast predict`: open-loop forecasts of a data set as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set to forecast.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Parquet file to write.")],
    last: Annotated[
        bool, typer.Option("--last", help="Only from the newest observation of each series.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Forecast from every origin of a data set, or from the last of each series."""
    import tempfile

    from forecast_cli.output import note, print_json, progress
    from forecastd import artifact
    from forecastd.data.for_model import store_for_model
    from forecastd.scoring.predict import predict as score

    trained = artifact.load(model, device=device)
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        place = Path(folder) / "store"
        store = store_for_model(trained.signature, trained.max_gap, data, place)
        with progress("forecasting", len(store.times)) as bar:
            done = 0

            def show(now: int, _total: int) -> None:
                nonlocal done
                bar.advance(now - done)
                done = now

            result = score(trained, store, output, last=last, report=show)
    if as_json:
        print_json(result)
    else:
        note(f"{result.forecasts:,} forecasts of {result.series:,} series, {result.rows:,} rows")
        print(result.path)
