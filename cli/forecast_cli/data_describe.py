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
    """Show rows, series, time span, grid, lengths with their padding, and each column."""
    from forecast_cli.output import note, print_json, print_table
    from forecast_cli.pictures import bar_chart

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
    print()
    if facts["lengths"]["shortest"] == facts["lengths"]["longest"]:
        each = "the series has" if facts["series"] == 1 else "each series has"
        print(f"{each} {facts['lengths']['longest']:,} steps, holes filled")
    else:
        bars = [(_range(bar), bar["series"]) for bar in facts["lengths"]["bars"]]
        print(bar_chart(bars, ("steps", "series")))
    print()
    print_table(["padding", f"of batches of {facts['padding']['batch']}"], _ways(facts["padding"]))


def _range(bar: dict[str, int]) -> str:
    low, high = bar["from"], bar["to"]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _ways(padding: dict[str, float]) -> list[list[str]]:
    """Return what the ways of batching cost."""
    ways = {
        "unsorted": "series as they come, each as long as the longest beside it",
        "sorted": "series sorted by length",
        "lanes": "lanes, as forecast train walks them",
    }
    return [[f"{100 * padding[way]:5.1f} %", words] for way, words in ways.items()]


def facts_of(source: str) -> dict[str, Any]:
    """Return what is known of a data set as plain values."""
    import numpy as np

    from forecast_cli.stages import stages
    from forecastd.data.describe import describe_columns, extent_of_data
    from forecastd.data.lengths import bars_of
    from forecastd.series import format_time

    data, base = settings_of(source)
    with stages("describe") as report:
        extent = extent_of_data(data, base, report)
    padding, lengths = extent.padding, extent.lengths
    return {
        "path": data.path,
        "rows": extent.rows,
        "series": len(lengths),
        "first": format_time(extent.first, extent.frequency, zone=extent.time_zone),
        "last": format_time(extent.last, extent.frequency, zone=extent.time_zone),
        "frequency": str(extent.frequency),
        "season": extent.season,
        "lengths": {
            "shortest": lengths.min(),
            "median": np.median(lengths),
            "longest": lengths.max(),
            "bars": [{"from": b[0], "to": b[1], "series": b[2]} for b in bars_of(lengths)],
        },
        "padding": {
            "batch": padding.batch,
            "sequence": padding.sequence,
            "unsorted": round(padding.unsorted, 6),
            "sorted": round(padding.by_length, 6),
            "lanes": round(padding.lanes, 6),
        },
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
