"""`forecast init`: look at a data set and write a commented config that trains on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # help does not need it
    from forecastd.data.roles import Proposal

HORIZON_MAX = 168
LINE_ITEMS = 8


def init(
    data: Annotated[str, typer.Argument(help="File, folder or glob to look at.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The config to write.")] = Path(
        "forecast.toml"
    ),
    horizon: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Steps ahead; default: one season.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing config.")] = False,
) -> None:
    """Look at a data set and write a config with the reason for each choice. Asks nothing."""
    from forecast_cli.output import note
    from forecast_cli.stages import stages
    from forecastd.data.roles import infer_roles
    from forecastd.errors import UserError
    from forecastd.files import write_durably

    if output.exists() and not force:
        message = f"{output} exists and was not changed"
        raise UserError(message, hint="add --force to replace it, or name another with -o")
    with stages("look") as report:
        proposal = infer_roles(data, report)
    text = config_text(proposal, path_beside(data, output), horizon)
    write_durably(output, text.encode())
    for line in summary(proposal):
        note(line)
    note(f"wrote {output}; next: forecast train {output}")


def path_beside(data: str, output: Path) -> str:
    """Return the path of the data as the config names it: relative where it lies below.

    A URI such as s3://bucket/data stays as it is.
    """
    from forecastd.data.inputs import is_uri

    if is_uri(data):
        return data
    folder, place = (
        Path(os.path.normpath(path.expanduser().absolute())) for path in (output.parent, Path(data))
    )
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)


def summary(proposal: Proposal) -> list[str]:
    """Return what was found, one line each, for a person."""
    from forecastd.series import format_time

    settings, reasons = proposal.settings, proposal.reasons
    looked_at = proposal.looked_at
    first, last = (
        format_time(time, proposal.frequency) for time in (proposal.first, proposal.last)
    )
    target = settings.target[0] if len(settings.target) == 1 else f"{len(settings.target)} columns"
    return [
        f"found {proposal.rows:,} observations of {proposal.series:,} series, {first} to {last}",
        f"  series  {settings.id or 'no column'}: {reasons['id']}",
        f"  time    {settings.time}: {reasons['time']}",
        f"  target  {target}: {reasons['target']}",
        f"  freq    {settings.freq}: {reasons['freq']}",
        f"  season  {settings.season}: {reasons['season']}",
        *([f"  past    {', '.join(settings.past)}"] if settings.past else []),
        *([f"  static  {', '.join(settings.static)}"] if settings.static else []),
        *(f"  without {name}: {reason}" for name, reason in proposal.left_out.items()),
        *([f"  judged by {looked_at:,} rows from all over the data set"] if looked_at else []),
    ]


def config_text(proposal: Proposal, path: str, horizon: int | None = None) -> str:
    """Return the config as commented TOML that `config.load` reads unchanged."""
    steps = horizon or max(1, min(proposal.season, HORIZON_MAX))
    sections = [
        ["# Settings of one model. `forecast train` reads this file; paths start at its folder."],
        ["version = 1"],
        _data(proposal, path),
        _split(proposal, steps),
        _features(proposal),
        _network(steps),
        _train(),
        ["[run]", 'dir = "runs"  # each training gets a folder of its own in here'],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _data(proposal: Proposal, path: str) -> list[str]:
    settings, reasons = proposal.settings, proposal.reasons
    lines = ["[data]", f"path = {_toml(path)}"]
    if settings.id is None:
        lines.append(f'# id = "unique_id"  # {reasons["id"]}')
    else:
        lines.append(f"id = {_toml(settings.id)}  # {reasons['id']}")
    lines.append(f"time = {_toml(settings.time)}  # {reasons['time']}")
    if settings.wide:
        lines.append(f"# {reasons['target']}. To forecast one of them with the others as")
        lines.append(f"# covariates write: target = {_toml(settings.target[0])} and past = [...]")
        lines.append(f"target = {_toml(settings.target)}")
    else:
        lines.append(f"target = {_toml(settings.target[0])}  # {reasons['target']}")
    if settings.past:
        lines.append(f"# numbers known up to now: {reasons['past']}; drop those a stream lacks")
        lines.append(f"past = {_toml(settings.past)}")
    else:
        lines.append('# past = ["temperature"]  # numbers known up to now')
    if settings.static:
        lines.append(f"static = {_toml(settings.static)}  # {reasons['static']}")
        lines.append(
            "# to say such a text of each series: name it as target, the inputs in past, and"
        )
        lines.append(
            '# write a table [task] with kind = "classification"; see docs/guides/tasks.md'
        )
    for name, reason in proposal.left_out.items():
        lines.append(f"# left out: {_toml(name)}, {reason}")
    season = proposal.season
    lines.append(f"freq = {_toml(settings.freq)}  # {reasons['freq']}")
    lines.append(f"season = {season}  # {reasons['season']}")
    lines.append(f"# max_gap = {season}  # longer holes restart a series; default: one season")
    return lines


def _split(proposal: Proposal, horizon: int) -> list[str]:
    part = split_part(proposal.rows // max(1, proposal.series), horizon)
    reason = "a share of the time range" if isinstance(part, float) else "rows: there are few"
    return [
        "[split]",
        "# The end is held out: test is the last part, valid chooses the best epoch before it.",
        '# A part is a share (0.1), rows of each series (720), or a span of time ("30d").',
        '# by = "time"  # or "series", "ranges", "files"; gap = 24 leaves steps between the parts',
        f"valid = {part}  # {reason}",
        f"test = {part}",
    ]


def split_part(rows: int, horizon: int) -> float | int:
    """Return how much of series of `rows` rows to hold out: a tenth, or some rows where few."""
    if rows >= 20 * horizon and rows >= 100:
        return 0.1
    return max(1, min(2 * horizon, rows // 5))


def _features(proposal: Proposal) -> list[str]:
    from forecastd.features.defaults import default_half_life, default_lags

    calendar, reason = calendar_of(proposal)
    half_life = default_half_life(proposal.season)
    lags = default_lags(proposal.season, proposal.rows // max(1, proposal.series))
    return [
        "[features]",
        f"calendar = {_toml(calendar)}  # {reason}",
        f"# half_life = {half_life}  # of the running scale, in steps; default: one season",
        f"# lags = {lags}  # last values mapped straight to the forecast",
        "embedding = 4  # numbers learned per series and category",
    ]


def calendar_of(proposal: Proposal) -> tuple[list[str], str]:
    """Return the clocks that fit the frequency, and why."""
    from forecastd.features.defaults import default_clocks

    span = proposal.last - proposal.first
    clocks = list(default_clocks(proposal.frequency, proposal.season, span))
    if not clocks:
        return [], "no clock fits this frequency"
    if clocks == ["season"]:
        return clocks, f"counts have no calendar; the season is {proposal.season} steps"
    rare = "" if "yearday" in clocks else "; less than two years do not show the time of year"
    return clocks, f"cycles longer than a step of {proposal.frequency}{rare}"


def _network(horizon: int) -> list[str]:
    return [
        "[network]",
        'kind = "lstm"',
        "hidden = 64  # units of each layer",
        "layers = 1",
        "dropout = 0.3  # share of outputs dropped in training",
        f"horizon = {horizon}  # steps ahead",
        "",
        "[network.head]",
        'kind = "quantile"  # or "point"',
        "levels = [80]  # central intervals in per cent",
    ]


def _train() -> list[str]:
    return [
        "[train]",
        "# epochs = 10  # passes over the data; default: from its size",
        "batch = 64  # walks side by side",
        "sequence = 96  # steps of back-propagation through time",
        "lr = 0.002",
        "patience = 5  # validations without gain before stopping; 0: never",
        "seed = 0",
        'device = "auto"  # cpu, cuda, cuda:1',
    ]


def _toml(value: object) -> str:
    """Return a value as TOML, long lists over several lines."""
    from forecast_cli.config import toml_value

    if not isinstance(value, list):
        return toml_value(value)
    items = [toml_value(item) for item in value]
    if len(items) <= LINE_ITEMS:
        return f"[{', '.join(items)}]"
    rows = [items[at : at + LINE_ITEMS] for at in range(0, len(items), LINE_ITEMS)]
    return "[\n" + "".join(f"  {', '.join(row)},\n" for row in rows) + "]"
