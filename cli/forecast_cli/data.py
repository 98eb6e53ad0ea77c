"""`forecast data check`: what is untidy in a data set, and what will be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.check import CheckReport, Finding


def check(
    source: Annotated[
        str, typer.Argument(metavar="DATA|CONFIG", help="A data set, or a .toml config.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 when anything was found.")
    ] = False,
) -> None:
    """List gaps, repeats, steps back, nulls and odd series, and what is done about each."""
    from forecast_cli.output import note, print_json, print_table

    report = report_of(source)
    if as_json:
        print_json(report.as_json())
    else:
        note(
            f"{report.path}: {report.rows:,} observations, {report.series:,} series, "
            f"freq {report.frequency}, season {report.season}, max_gap {report.max_gap}"
        )
        if source.endswith(".toml"):
            note(_split(source))
        if report.clean:
            note("nothing found: the data set is tidy")
        else:
            rows = [[f.kind, f.count, f.what, _named(f), f.action] for f in report.findings]
            print_table(["kind", "count", "what", "series", "what is done"], rows)
    if strict and not report.clean:
        raise typer.Exit(1)


def report_of(source: str) -> CheckReport:
    """Check the data set of a config, or bare data with inferred roles."""
    from pathlib import Path

    from forecast_cli.stages import stages
    from forecastd.config import TrainConfig, load
    from forecastd.data.check import check as check_data

    with stages("check") as report:
        if not source.endswith(".toml"):
            return check_data(source, report=report)
        loaded = load(TrainConfig, Path(source))
        return check_data(loaded.settings.data, loaded.folder, report)


def _split(config: str) -> str:
    from pathlib import Path

    from forecastd.config import TrainConfig, load

    return load(TrainConfig, Path(config)).settings.split.words()


def _named(finding: Finding) -> str:
    """Return the affected series, the first few by name."""
    shown = ", ".join(finding.series[:3])
    more = finding.series_total - min(3, len(finding.series))
    return f"{shown} and {more:,} more" if more > 0 else shown
