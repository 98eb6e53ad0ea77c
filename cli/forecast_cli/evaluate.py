"""`forecast evaluate`: how good a model is on held-out data, beside naive forecasts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.artifact import Artifact
    from forecastd.data.store import Store
    from forecastd.evaluation.evaluate import Evaluation
    from forecastd.series import IntArray


class Part(StrEnum):
    """The rows to score."""

    TEST = "test"
    VALID = "valid"
    ALL = "all"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set with the true values.")],
    part: Annotated[
        Part, typer.Option(help="The part of the training's [split] to score, or all rows.")
    ] = Part.TEST,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model: MAE, RMSE, MASE, WQL, coverage, beside last value and seasonal naive."""
    import tempfile

    from forecast_cli.output import note, print_json, progress
    from forecastd import artifact
    from forecastd.data.for_model import store_for_model
    from forecastd.evaluation.evaluate import evaluate as score

    trained = artifact.load(model, device=device)
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        place = Path(folder) / "store"
        store = store_for_model(trained.signature, trained.max_gap, data, place)
        begin, end = _rows(trained, store, part)
        with progress("evaluating", len(store.times)) as bar:
            done = 0

            def show(now: int, _total: int) -> None:
                nonlocal done
                bar.advance(now - done)
                done = now

            result = score(trained, store, begin, end, show)
    if as_json:
        print_json(result)
        return
    note(f"{result.origins:,} origins of {result.series:,} series, {result.values:,} values")
    _print(result)


def _rows(trained: Artifact, store: Store, part: Part) -> tuple[IntArray, IntArray]:
    """Return first and end row per series."""
    from forecastd.config import SplitSettings
    from forecastd.data.split import split
    from forecastd.errors import ArtifactError

    if part is Part.ALL:
        return store.offsets[:-1], store.offsets[1:]
    try:
        settings = SplitSettings.model_validate(trained.provenance["config"]["split"])
    except (LookupError, TypeError, ValueError) as error:
        message = "the model does not tell how its data was split"
        raise ArtifactError(message, hint="score all rows with --part all") from error
    parts = split(store, settings)
    if part is Part.VALID:
        return parts.train_end, parts.valid_end
    return parts.valid_end, parts.test_end


def _print(result: Evaluation) -> None:
    from forecast_cli.output import print_table

    names = list(result.metrics["model"])
    rows = [
        [forecaster.replace("_", " "), *(metrics.get(name) for name in names)]
        for forecaster, metrics in result.metrics.items()
    ]
    print_table(["forecast", *names], rows)
