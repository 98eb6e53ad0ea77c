"""`forecast stream`: observations on stdin, forecasts on stdout, as NDJSON or Arrow."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from forecast_cli.output import note
from forecast_cli.starting import starting


class When(StrEnum):
    """When forecasts are written."""

    step = "step"
    last = "last"
    interval = "interval"
    request = "request"


class Form(StrEnum):
    """How observations and forecasts are written."""

    ndjson = "ndjson"
    arrow = "arrow"


def stream(
    model: Annotated[Path, typer.Argument(help="Folder of a trained model, or of its run.")],
    state: Annotated[
        Path | None,
        typer.Option(help="Keep the states of all series in this file between calls."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Accept lines that have other columns too.")
    ] = False,
    series_max: Annotated[
        int, typer.Option(min=1, help="Most series at once; lines of further ones are rejected.")
    ] = 100_000,
    form: Annotated[
        Form, typer.Option("--format", help="Of input and output: ndjson, or an Arrow IPC stream.")
    ] = Form.ndjson,
    emit: Annotated[
        When,
        typer.Option(help="Forecast after steps, the last of a burst, at times, or on request."),
    ] = When.step,
    every: Annotated[
        str | None,
        typer.Option(help="With step: how many steps of a series; with interval: such as 10s."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Step on so many threads at most; else all cores.")
    ] = None,
    closed_loop: Annotated[
        int | None,
        typer.Option(min=1, help="Forecast so many steps ahead, feeding forecasts back."),
    ] = None,
) -> None:
    """Answer observations on stdin with forecasts on stdout."""
    with starting():
        from forecastd.daemon.local import Conduct, run_stdio
        from forecastd.daemon.policy import parse_policy
        from forecastd.runtime.opening import Stepping, open_model

        policy = parse_policy(emit.value, every)
        opened = open_model(
            model, device, series_max, note, Stepping(threads, closed_loop=closed_loop)
        )
    conduct = Conduct("ignore" if ignore_unknown else "reject", form.value, policy)
    result = run_stdio(opened.stepper, state, conduct)
    _summarise(result.counts)
    if result.ended_by is not None:
        raise typer.Exit(128 + result.ended_by)


def _summarise(counts: Any) -> None:
    note(f"{counts.observations} observations, {counts.forecasts} forecasts")
    for reason, lines in counts.rejected.most_common():
        first = counts.examples[reason]
        text = first.line.decode(errors="backslashreplace")
        note(f"{lines} rejected as {reason}, the first: {text[:120]!r} ({first.detail})")
