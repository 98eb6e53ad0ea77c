"""`forecast bench stream`: observations a second through the real `forecast stream`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need them
    from forecast_cli.bench_traffic import Traffic
    from forecastd.artifact import Artifact

FORMATS = ("ndjson", "arrow")


class Order(StrEnum):
    """Whose observation comes next."""

    round = "round"
    random = "random"


@dataclass(frozen=True)
class Row:
    """One run; docs/reference/performance.md has the meaning of each column."""

    hidden: int
    layers: int
    horizon: int
    quantiles: int
    lags: int
    format: str
    series: int
    order: str
    observations: int
    forecasts: int
    threads: int
    device: str
    observations_per_s: int | None
    first_forecast_s: float
    peak_rss_mb: float


def stream(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a trained model; without, an untrained one is made."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    series: Annotated[str, typer.Option(help="How many series are live.")] = "10000",
    observations: Annotated[
        int, typer.Option(min=1, help="How many are measured, after the first of each series.")
    ] = 1_000_000,
    order: Annotated[
        Order, typer.Option(help="Series in turn, or drawn at random for each observation.")
    ] = Order.round,
    form: Annotated[
        str, typer.Option("--format", help="Of input and output: ndjson, arrow, or both.")
    ] = "ndjson,arrow",
    hidden: Annotated[str, typer.Option(help="Units of the untrained model.")] = "64",
    layers: Annotated[int, typer.Option(min=1, help="Layers of the untrained model.")] = 1,
    horizon: Annotated[int, typer.Option(min=1, help="Steps it forecasts.")] = 1,
    quantiles: Annotated[
        str, typer.Option(help="Quantiles it forecasts, as 0.1,0.5,0.9; without, one value.")
    ] = "",
    lags: Annotated[
        int, typer.Option(min=0, help="Values of the past that the untrained model keeps.")
    ] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Cores that the process may use.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time whole streams: observations in, forecasts out, in a process of its own."""
    from forecast_cli.bench_step import numbers
    from forecast_cli.bench_traffic import Traffic
    from forecast_cli.output import print_json
    from forecastd.runtime.measuring import untrained

    formats = _formats(form)
    traffics = [Traffic(size, observations, order.value) for size in numbers(series, "--series")]
    levels = _quantiles(quantiles)
    units = numbers(hidden, "--hidden") if model is None else []
    made = [untrained(each, layers, horizon, levels, lags) for each in units]
    ways = [(each, threads, device) for each in formats]
    rows: list[Row] = []
    for place in [model] if model is not None else made:
        rows += _run_all(place, traffics, ways)
    if as_json:
        print_json(rows)
    else:
        _print(rows)


def _run_all(
    model: Path | Artifact, traffics: list[Traffic], ways: list[tuple[str, int, str]]
) -> list[Row]:
    """Send each traffic in each way through a model, one on disk or one that was made."""
    from forecast_cli.output import note
    from forecastd import artifact

    rows = []
    with on_disk(model) as folder:
        trained = artifact.read(folder)
        for traffic, how in product(traffics, ways):
            note(f"{traffic.total:,} observations of {traffic.series:,} series as {how[0]}")
            rows.append(run(folder, trained, traffic, how))
    return rows


def run(folder: Path, trained: Artifact, traffic: Traffic, how: tuple[str, int, str]) -> Row:
    """Send observations through `forecast stream` with the model of a folder.

    how: format, cores and device. Raises UserError when the model cannot be fed or the device is
    not there, PeerError when the process fails or does not answer every observation.
    """
    from forecast_cli.bench_traffic import Traffic, watch, write
    from forecastd.errors import PeerError
    from forecastd.network.device import choose_device
    from forecastd.runtime.measuring import lstm_shapes

    form, threads, device = how
    chosen = choose_device(device)
    arguments = [str(folder), "--series-max", str(traffic.series), "--device", chosen]
    with tempfile.TemporaryDirectory(prefix="forecast-") as place:
        source = Path(place) / "observations"
        first = Traffic(1, 1, traffic.order)
        write(source, trained, first, form)
        watch(arguments, source, form, first.series, threads)  # compiles what is not yet on disk
        write(source, trained, traffic, form)
        seen = watch(arguments, source, form, traffic.series, threads)
    if seen.forecasts != traffic.total:
        message = f"{seen.forecasts} forecasts of {traffic.total} observations in {form}"
        raise PeerError(message, hint="give more --series: times past the year 9999 are refused")
    shapes, signature = lstm_shapes(trained), trained.signature
    return Row(
        hidden=shapes[-1].hidden,
        layers=len(shapes),
        horizon=signature.horizon,
        quantiles=len(signature.quantiles),
        lags=trained.spec.head.lags,
        format=form,
        series=traffic.series,
        order=traffic.order,
        observations=traffic.observations,
        forecasts=seen.forecasts,
        threads=threads,
        device=chosen,
        observations_per_s=None if seen.per_s is None else round(seen.per_s),
        first_forecast_s=round(seen.first_forecast_s, 3),
        peak_rss_mb=round(seen.peak_rss_mb, 1),
    )


def _formats(text: str) -> list[str]:
    from forecastd.errors import UserError

    formats = [part.strip() for part in text.split(",")]
    unknown = [each for each in formats if each not in FORMATS]
    if unknown:
        message = f"--format {unknown[0]!r} is not a format"
        raise UserError(message, hint=f"write {', '.join(FORMATS)}, or both with a comma")
    return formats


def _quantiles(text: str) -> tuple[float, ...]:
    """Return rising quantiles with the median among them, none of an empty text."""
    from forecastd.errors import UserError

    if not text.strip():
        return ()
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    rising = list(found) == sorted(set(found)) and all(0 < each < 1 for each in found)
    if not rising or 0.5 not in found:
        message = f"--quantiles {text!r} are not rising numbers between 0 and 1 that contain 0.5"
        raise UserError(message, hint="write them with commas: 0.1,0.5,0.9")
    return found


@contextmanager
def on_disk(model: Path | Artifact) -> Iterator[Path]:
    """Give the folder of a model; one that was made is written to a temporary one."""
    if isinstance(model, Path):
        yield model
        return
    import numpy as np

    from forecastd import artifact
    from forecastd.artifact import Example

    with tempfile.TemporaryDirectory(prefix="forecast-") as place:
        folder = Path(place) / "model"
        values = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
        times = np.arange(4, dtype=np.int64) * model.signature.frequency.size
        artifact.save(folder, model, Example("series-0", times, values))
        yield folder


def _print(rows: list[Row]) -> None:
    from forecast_cli.output import note, print_table

    columns = ("model", "out", "format", "series", "order", "per s", "first s", "MB", "cores")
    print_table(
        columns,
        [
            (
                f"{row.hidden}x{row.layers}",
                f"{row.horizon}x{max(1, row.quantiles)}",
                row.format,
                row.series,
                row.order,
                row.observations_per_s,
                round(row.first_forecast_s, 2),
                round(row.peak_rss_mb),
                row.threads,
            )
            for row in rows
        ],
    )
    note(
        "per s: observations a second from when every series has had its first forecast to the "
        "last one, so without the start; first s: from the start of the process to its first "
        "forecast; MB: the most memory it had. out: steps x quantiles. What reads the forecasts "
        "throws them away on another core where there is one."
    )
    if any(row.observations_per_s is None for row in rows):
        note("too few observations for a rate: give more with --observations")
