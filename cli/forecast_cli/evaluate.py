"""`forecast evaluate`: how good a model is on held-out data, beside naive forecasts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.preparing import MemoryOption

if TYPE_CHECKING:  # help does not need it
    from collections.abc import Mapping

    from forecastd.artifact import Artifact
    from forecastd.data.store import Store
    from forecastd.evaluation.answers import Answers
    from forecastd.evaluation.evaluate import Evaluation
    from forecastd.series import IntArray


class Step(StrEnum):
    """The steps of a series whose answers are scored."""

    ALL = "all"
    LAST = "last"


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
    step: Annotated[
        Step,
        typer.Option(help="Score a regression or classification on all steps, or on the last."),
    ] = Step.ALL,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    memory: MemoryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on held-out data, beside naive forecasts or a constant answer."""
    from forecast_cli.opening import opened
    from forecast_cli.output import follow, note, print_json, progress
    from forecastd.evaluation.answers import Answers, evaluate_answers
    from forecastd.evaluation.evaluate import evaluate as score

    with opened(model, data, device, split=part is not Part.ALL, memory=memory) as (trained, store):
        begin, end = _rows(trained, store, part, data)
        supervised, last = trained.signature.supervised, step is Step.LAST
        _require_answers(supervised or not last)
        result: Evaluation | Answers
        with progress("evaluating", len(store.times)) as bar:
            if supervised:
                news = follow(bar)
                result = evaluate_answers(trained, store, begin, end, last=last, report=news)
            else:
                result = score(trained, store, begin, end, follow(bar))
    if as_json:
        print_json(result)
        return
    if isinstance(result, Answers):
        scored = "" if part is Part.ALL else f", the {part.value} part; --split all scores all rows"
        note(f"{result.answers:,} answers of {result.series:,} series{scored}")
    else:
        note(f"{result.origins:,} origins of {result.series:,} series, {result.values:,} values")
    _print(result.metrics)
    if isinstance(result, Answers) and result.classes:
        _print_confusion(result)


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


def _require_answers(good: bool) -> None:
    """Raise UserError where steps are chosen of a model that gives no answers."""
    from forecastd.errors import UserError

    if not good:
        message = "--step last is for a regression or a classification, and the model forecasts"
        raise UserError(message, hint="leave it out: forecasts are scored at every origin")


def _print(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print a metric a line: a table that fits a narrow terminal."""
    from forecast_cli.output import print_table

    rows = [[name, *(metrics[by].get(name) for by in metrics)] for name in metrics["model"]]
    print_table(["metric", *(by.replace("_", " ") for by in metrics)], rows)


def _print_confusion(result: Answers) -> None:
    """Print how often each true class was said to be which."""
    from forecast_cli.output import print_table

    said = result.confusion
    rows = [[label, *counts] for label, counts in zip(result.classes, said, strict=True)]
    print_table(["true \\ said", *result.classes], rows)
