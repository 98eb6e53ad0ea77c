"""`forecast evaluate`: how good a model is on held-out data, beside naive forecasts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.preparing import MemoryOption

if TYPE_CHECKING:  # help does not need it
    from forecastd.artifact import Artifact
    from forecastd.data.store import Store
    from forecastd.evaluation.evaluate import Evaluation
    from forecastd.series import IntArray


class Part(StrEnum):
    """The rows to score."""

    TEST = "test"
    VALID = "valid"
    VALIDATION = "validation"
    ALL = "all"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    data: Annotated[str, typer.Argument(help="The data set with the true values.")],
    part: Annotated[
        Part,
        typer.Option(
            "--split", "--part", help="The part of the training's [split] to score, or all rows."
        ),
    ] = Part.TEST,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model: MAE, RMSE, MASE, WQL, coverage, beside last value and seasonal naive."""
    from forecast_cli.opening import opened
    from forecast_cli.output import follow, note, print_json, progress
    from forecastd.evaluation.evaluate import evaluate as score

    with opened(model, data, device, split=part is not Part.ALL, memory=memory) as (trained, store):
        begin, end = _rows(trained, store, part, data)
        with progress("evaluating", len(store.times)) as bar:
            result = score(trained, store, begin, end, follow(bar))
    if as_json:
        print_json(result)
        return
    note(f"{result.origins:,} origins of {result.series:,} series, {result.values:,} values")
    _print(result)


def _rows(trained: Artifact, store: Store, part: Part, data: str) -> tuple[IntArray, IntArray]:
    """Return first and end row per series. Raises UserError where `data` is not that part."""
    from forecast_cli.opening import split_of
    from forecastd.data.split import split
    from forecastd.errors import DataError

    whole = store.offsets[:-1], store.offsets[1:]
    if part is Part.ALL:
        return whole
    settings = split_of(trained)
    name = "test" if part is Part.TEST else "valid"
    if settings.by == "files":
        if Path(data).name == Path(trained.provenance["config"]["data"]["path"]).name:
            message = f"{data} is the data the model was trained on, and its {name} part is a file"
            hint = f"give {getattr(settings, name) or 'that file'}, or score all: --split all"
            raise DataError(message, hint=hint)
        return whole
    parts = split(store, settings, scoring=True)
    begin, end = getattr(parts, f"{name}_begin"), getattr(parts, f"{name}_end")
    if not (begin < end).any():
        message = f"the {name} part of the model's [split] has no row in {data}"
        raise DataError(message, hint="name another part with --split, or another data set")
    return begin, end


def _print(result: Evaluation) -> None:
    """Print a metric a line: a table that fits a narrow terminal."""
    from forecast_cli.output import print_table

    columns = result.metrics
    rows = [[name, *(columns[by].get(name) for by in columns)] for name in columns["model"]]
    print_table(["metric", *(by.replace("_", " ") for by in columns)], rows)
