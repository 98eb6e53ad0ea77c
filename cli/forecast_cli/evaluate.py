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
    from forecast_cli.opening import opened
    from forecast_cli.output import follow, note, print_json, progress
    from forecastd.evaluation.evaluate import evaluate as score

    with opened(model, data, device) as (trained, store):
        begin, end = _rows(trained, store, part)
        with progress("evaluating", len(store.times)) as bar:
            result = score(trained, store, begin, end, follow(bar))
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
    """Print a metric a line: a table that fits a narrow terminal."""
    from forecast_cli.output import print_table

    columns = result.metrics
    rows = [[name, *(columns[by].get(name) for by in columns)] for name in columns["model"]]
    print_table(["metric", *(by.replace("_", " ") for by in columns)], rows)
