"""`forecast data convert` and `forecast data synth`: data sets written as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.convert import Form


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="File, folder, glob or URI to read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    sort: Annotated[bool, typer.Option("--sort", help="Sort by series and time.")] = False,
    long: Annotated[bool, typer.Option("--long", help="A row for each series and time.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="A column for each series.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a data set as one Parquet, Arrow, CSV or NDJSON file, by the ending of its name."""
    from forecast_cli.output import note
    from forecastd.config import DataSettings
    from forecastd.data.convert import convert as convert_data
    from forecastd.data.roles import infer_roles
    from forecastd.errors import UserError

    if long and wide:
        message = "--long and --wide exclude each other"
        raise UserError(message, hint="leave one of them away")
    _require_new(target, force)
    form: Form = "long" if long else "wide" if wide else "as found"
    needs_roles = long or wide or sort
    data = infer_roles(source).settings if needs_roles else DataSettings(path=source)
    rows = convert_data(data, target, form, sort=sort)
    note(f"wrote {rows:,} rows to {target}")


def synth(
    name: Annotated[str, typer.Argument(help="waves, random-walk, intermittent or trend+season.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    series: Annotated[int, typer.Option(min=1, help="How many series.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Hourly steps of each series.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a made-up data set for trials and measurements; it stands for nothing real."""
    from forecast_cli.output import note
    from forecastd.data.convert import write_frames
    from forecastd.data.synthetic import SCHEMA, require_kind, synthesize

    require_kind(name)
    _require_new(target, force)
    rows = write_frames(SCHEMA, synthesize(name, series, steps, seed), target)
    note(f"wrote {rows:,} made-up rows of {series:,} series to {target}")


def _require_new(target: Path, force: bool) -> None:
    from forecastd.errors import UserError

    if target.exists() and not force:
        message = f"{target} exists and was not changed"
        raise UserError(message, hint="add --force to replace it, or name another file")
