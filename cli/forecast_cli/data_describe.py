"""`forecast data describe`: what a data set holds, before anything is decided about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # help does not need it
    from pathlib import Path

    from forecastd.config import DataSettings


def describe(
    source: Annotated[
        str, typer.Argument(metavar="DATA|CONFIG", help="A data set, or a .toml config.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show rows, series, time span, frequency and season, and each column's type and range."""
    from forecast_cli.output import note, print_json, print_table

    facts = facts_of(source)
    if as_json:
        print_json(facts)
        return
    note(
        f"{facts['path']}: {facts['rows']:,} observations, {facts['series']:,} series, "
        f"{facts['first']} to {facts['last']}, freq {facts['frequency']}, season {facts['season']}"
    )
    rows = [
        [c["name"], c["type"], f"{100 * c['missing_share']:.1f} %", c["min"], c["mean"], c["max"]]
        for c in facts["columns"]
    ]
    print_table(["column", "type", "missing", "min", "mean", "max"], rows)


def facts_of(source: str) -> dict[str, Any]:
    """Return what is known of a data set as plain values."""
    from forecastd.data.describe import describe_columns
    from forecastd.data.store import frequency_of, season_of, sorted_grid
    from forecastd.data.table import read_table
    from forecastd.series import format_time

    data, base = settings_of(source)
    table = read_table(data, base)
    grid = sorted_grid(table)
    frequency, _ = frequency_of(table, grid, data)
    season, _ = season_of(table, grid, data, frequency)
    zone = table.columns.time_zone
    return {
        "path": data.path,
        "rows": table.rows_read,
        "series": len(table.keys),
        "first": format_time(int(grid.times.min()), frequency, zone=zone),
        "last": format_time(int(grid.times.max()), frequency, zone=zone),
        "frequency": str(frequency),
        "season": season,
        "columns": [
            {
                "name": column.name,
                "type": column.type,
                "missing_share": round(column.missing_share, 6),
                "min": column.least,
                "mean": column.mean,
                "max": column.most,
            }
            for column in describe_columns(data, base)
        ],
    }


def settings_of(source: str) -> tuple[DataSettings, Path]:
    """Return the [data] of a config, or inferred roles of bare data, and where paths start."""
    from pathlib import Path

    from forecastd.config import TrainConfig, load
    from forecastd.data.roles import roles_of

    if not source.endswith(".toml"):
        return roles_of(source).settings, Path()
    loaded = load(TrainConfig, Path(source))
    return loaded.settings.data, loaded.folder
