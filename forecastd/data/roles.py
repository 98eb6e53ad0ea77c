"""Guessing the roles of columns: which is series, time, target, covariate, and why.

Guesses are made once, by `forecast init` and by commands that are given bare data; they are
written down with their reasons and never made silently later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from forecastd.config import DataSettings
from forecastd.data.layouts import FREQ_COLUMN, frequency_text
from forecastd.data.reader import read_frame, require_columns, schema_of, times_of
from forecastd.data.store import frequency_of, season_of, sorted_grid
from forecastd.data.table import Columns, read_table
from forecastd.errors import DataError
from forecastd.series import Frequency

ID_NAMES = ("unique_id", "item_id", "series_id", "ts_id", "series", "id", "key")
TIME_NAMES = (
    "ds",
    "timestamp",
    "time",
    "datetime",
    "date",
    "date_time",
    "ts",
    "time_utc",
    "step",
    "t",
    "cycle",
)
START_NAME = "start"
TARGET_NAMES = ("y", "target", "value")
CALENDAR_NAMES = {
    "year", "quarter", "month", "week", "weekday", "wday", "day", "day_of_week", "dayofweek",
    "day_of_year", "dayofyear", "hour", "minute",
}  # fmt: skip
LABEL_WORDS = ("anomaly", "label", "class", "fold", "split")
WIDE_MAX = 2_000
MISSING_MAX = 0.5
"""The share of nulls from which a column is no covariate."""


@dataclass
class Proposal:
    """Settings for a data set with the reason for each choice.

    reasons: per key of [data]. left_out: column to reason. rows, series: what was found.
    """

    settings: DataSettings
    reasons: dict[str, str]
    left_out: dict[str, str]
    rows: int = 0
    series: int = 0
    frequency: Frequency = field(default_factory=lambda: Frequency("count", 1))
    season: int = 1
    first: int = 0
    last: int = 0
    shortest: int = 0


def infer_roles(path_text: str) -> Proposal:
    """Look at a data set and propose settings. settings.path is `path_text` as given.

    Raises DataError where no column can be the time or no numeric column is left.
    """
    schema = schema_of(path_text)
    if rolled := _rolled(path_text, schema):
        return _with_grid(rolled)
    frame = read_frame(path_text)
    if frame.height == 0:
        message = f"{path_text} has no rows"
        raise DataError(message, hint="name a data set with at least a few rows")
    reasons: dict[str, str] = {}
    time = _find_time(path_text, frame, schema, reasons)
    identifier = _find_id(frame, schema, time, reasons)
    columns = _Sorted.of(frame, schema, time, identifier)
    data = _choose(path_text, frame, columns, reasons)
    return _with_grid(Proposal(data, reasons, columns.left_out))


def settings_for_model(path_text: str, columns: Columns, frequency: Frequency) -> DataSettings:
    """Return the settings that read a data set as a model's columns name it.

    A frame without the model's id and target columns, but with its time column, is taken as wide:
    each other numeric column is a series. Raises DataError where a column is missing.
    """
    schema = schema_of(path_text)
    names = list(schema)
    common = {"path": path_text, "time": columns.time, "freq": str(frequency)}
    folded = columns.id is not None and columns.id not in names and columns.target not in names
    if folded and columns.time in names and not columns.past and not columns.static:
        numeric = [n for n, kind in schema.items() if kind.is_numeric() and n != columns.time]
        if len(numeric) > 1:
            return DataSettings.model_validate({**common, "target": numeric})
    needed = [columns.time, columns.target, *columns.past, *columns.static]
    require_columns(path_text, names, [*([columns.id] if columns.id else []), *needed])
    return DataSettings.model_validate(
        {
            **common,
            "id": columns.id,
            "target": [columns.target],
            "past": list(columns.past),
            "static": list(columns.static),
        }
    )


def _rolled(path_text: str, schema: pl.Schema) -> Proposal | None:
    """Propose settings for a data set of a series per row; None: it is none.

    Raises DataError where a start or a frequency is missing.
    """
    lists = [n for n, kind in schema.items() if isinstance(kind, pl.List)]
    lower = {name.lower(): name for name in reversed(lists)}
    target = next((lower[known] for known in TARGET_NAMES if known in lower), None)
    if target is None:
        return None
    names = {name.lower(): name for name in reversed(list(schema))}
    time = next((names[known] for known in (START_NAME, *TIME_NAMES) if known in names), None)
    if time is None:
        message = f"each row of {path_text} is a series, but no column says when it starts"
        raise DataError(message, hint=f"add a column {START_NAME!r} of timestamps or counts")
    identifier = next((names[known] for known in ID_NAMES if known in names), None)
    past = [name for name in lists if name != target and "dynamic_real" in name.lower()]
    if FREQ_COLUMN not in schema:
        message = f"each row of {path_text} is a series, but nothing says how far its values lie"
        raise DataError(message, hint=f"add a column {FREQ_COLUMN!r}, or write a config by hand")
    rest = set(schema) - {target, time, identifier, FREQ_COLUMN, *past}
    freq = frequency_text(str(read_frame(path_text, [FREQ_COLUMN])[FREQ_COLUMN][0]))
    data = DataSettings(
        path=path_text, id=identifier, time=time, target=[target], past=past, freq=freq
    )
    reasons = {
        "id": f"named {identifier!r}" if identifier else "no column names the series",
        "time": f"named {time!r}: when the series of a row starts",
        "target": f"named {target!r}: a list for each series",
        "past": "lists named as covariates" if past else "no other list of numbers",
        "static": "none found",
    }
    return Proposal(data, reasons, dict.fromkeys(sorted(rest), "not a list of numbers by step"))


@dataclass
class _Sorted:
    """Columns that are neither time nor id, by what they can be."""

    id: str | None
    time: str
    numeric: list[str]
    flags: list[str]
    texts: list[str]
    left_out: dict[str, str]

    @classmethod
    def of(
        cls, frame: pl.DataFrame, schema: pl.Schema, time: str, identifier: str | None
    ) -> _Sorted:
        columns = cls(identifier, time, [], [], [], {})
        for name, kind in schema.items():
            if name in {time, identifier}:
                continue
            if kind.is_numeric() or kind == pl.Boolean:
                columns._add_number(frame, name)
            elif kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum):
                columns.texts.append(name)
            else:
                columns.left_out[name] = f"of type {kind}"
        return columns

    def _add_number(self, frame: pl.DataFrame, name: str) -> None:
        values = frame[name]
        distinct = values.drop_nulls().n_unique()
        if name.lower() in TARGET_NAMES:
            self.numeric.append(name)
        elif distinct <= 1:
            self.left_out[name] = "never changes" if distinct else "holds no value"
        elif any(word in name.lower() for word in LABEL_WORDS):
            self.left_out[name] = "named like a label, which a live stream does not have"
        elif name.lower() in CALENDAR_NAMES and values.dtype.is_integer():
            self.left_out[name] = "the calendar features already say it"
        elif self.id and _constant_within(frame, self.id, name):
            self.left_out[name] = "a number that never changes within a series"
        elif values.dtype.is_integer() and _counts_up(frame, self.id, name):
            self.left_out[name] = "counts up with time"
        elif distinct == 2:
            self.flags.append(name)
        else:
            self.numeric.append(name)


def _find_time(
    path_text: str, frame: pl.DataFrame, schema: pl.Schema, reasons: dict[str, str]
) -> str:
    lower = {name.lower(): name for name in reversed(list(schema))}
    for known in TIME_NAMES:
        name = lower.get(known)
        if name is not None and _is_time(frame[name]):
            reasons["time"] = f"named {name!r}"
            return name
    for name, kind in schema.items():
        if isinstance(kind, pl.Datetime) or kind == pl.Date:
            reasons["time"] = "the first column of timestamps"
            return name
    for name, kind in schema.items():
        if kind == pl.String and _is_time(frame[name].head(1000)):
            reasons["time"] = "the first column of text that reads as timestamps"
            return name
    message = f"{path_text} has no column that can be the time; its columns: {', '.join(schema)}"
    raise DataError(message, hint="it needs a column of timestamps, dates or counts, such as ds")


def _is_time(column: pl.Series) -> bool:
    try:
        return bool(times_of(column).known.any())
    except DataError:
        return False


def _find_id(
    frame: pl.DataFrame, schema: pl.Schema, time: str, reasons: dict[str, str]
) -> str | None:
    lower = {name.lower(): name for name in reversed(list(schema))}
    for known in ID_NAMES:
        name = lower.get(known)
        if name in {None, time} or name is None or not _is_key(schema[name]):
            continue
        if 1 < frame.height == frame[name].n_unique() and frame[time].n_unique() > 1:
            continue  # a number per row is no series
        reasons["id"] = f"named {name!r}"
        return name
    if frame[time].n_unique() == frame.height:
        reasons["id"] = "no stamp repeats, so the rows are not of several series in turn"
        return None
    for name, kind in schema.items():
        named_like = name.lower().endswith(("id", "_key", "_code"))
        textual = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
        if name == time or not (textual or (kind.is_integer() and named_like)):
            continue
        if frame.select(pl.struct(name, time).n_unique()).item() == frame.height:
            reasons["id"] = "stamps repeat, but no stamp repeats within one value of it"
            return name
    reasons["id"] = "stamps repeat, but no column tells the series apart; see data check"
    return None


def _is_key(kind: pl.DataType) -> bool:
    textual = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
    return textual or kind.is_integer()


def _choose(
    path_text: str, frame: pl.DataFrame, columns: _Sorted, reasons: dict[str, str]
) -> DataSettings:
    numbers = columns.numeric or columns.flags
    if not numbers:
        message = f"{path_text} has no column of numbers to forecast"
        raise DataError(message, hint="it needs a target such as y that holds changing numbers")
    named = [name for known in TARGET_NAMES for name in numbers if name.lower() == known]
    past: list[str] = []
    if not named and columns.id is None and len(columns.numeric) > 1:
        target = columns.numeric[:WIDE_MAX]
        reasons["target"] = f"a wide frame: each of {len(target)} columns of numbers is a series"
        for name in columns.numeric[WIDE_MAX:]:
            columns.left_out[name] = f"more than {WIDE_MAX} columns"
        for name in columns.flags:
            columns.left_out[name] = "only two values: a flag, not a series"
    else:
        target = [named[0] if named else numbers[0]]
        reasons["target"] = f"named {target[0]!r}" if named else "the first column of numbers"
        past = _covariates(frame, columns, target[0])
        reasons["past"] = "the other columns of numbers" if past else "no other column of numbers"
    static = _statics(frame, columns)
    reasons["static"] = "text that never changes within a series" if static else "none found"
    return DataSettings.model_validate(
        {
            "path": path_text,
            "id": columns.id,
            "time": columns.time,
            "target": target,
            "past": past,
            "static": static,
        }
    )


def _covariates(frame: pl.DataFrame, columns: _Sorted, target: str) -> list[str]:
    """Return the other columns of numbers, less those that are mostly missing."""
    past = []
    for name in [n for n in [*columns.numeric, *columns.flags] if n != target]:
        share = frame[name].null_count() / frame.height
        if share > MISSING_MAX:
            columns.left_out[name] = f"{100 * share:.0f} % of it is missing"
        else:
            past.append(name)
    return past


def _statics(frame: pl.DataFrame, columns: _Sorted) -> list[str]:
    static = []
    for name in columns.texts:
        reason = _why_not_static(frame, columns.id, name)
        if reason is None:
            static.append(name)
        else:
            columns.left_out[name] = reason
    return static


def _why_not_static(frame: pl.DataFrame, identifier: str | None, name: str) -> str | None:
    if identifier is None:
        return "text, and there is only one series" if frame[name].n_unique() == 1 else "text"
    if not _constant_within(frame, identifier, name):
        return "text that changes within a series"
    distinct, series = frame[name].n_unique(), frame[identifier].n_unique()
    if distinct == 1:
        return "never changes"
    return "another value for each series, as the id has" if distinct >= series else None


def _constant_within(frame: pl.DataFrame, identifier: str, name: str) -> bool:
    known = frame.lazy().filter(pl.col(name).is_not_null())
    counts = known.group_by(identifier).agg(pl.col(name).n_unique().alias("distinct"))
    most = counts.select(pl.col("distinct").max()).collect().item()
    return most is not None and int(most) <= 1


def _counts_up(frame: pl.DataFrame, identifier: str | None, name: str) -> bool:
    """Tell whether a column grows by one and the same number from row to row of a series."""
    step = pl.col(name).cast(pl.Int64).diff()
    steps = frame.select(step.over(identifier) if identifier else step).to_series().drop_nulls()
    return len(steps) > 2 and steps.n_unique() == 1 and int(steps[0]) > 0


def _with_grid(proposal: Proposal) -> Proposal:
    """Read the proposed columns and add frequency, season and extent."""
    table = read_table(proposal.settings, Path())
    grid = sorted_grid(table)
    proposal.frequency, why_frequency = frequency_of(table, grid, proposal.settings)
    proposal.season, why_season = season_of(table, grid, proposal.settings, proposal.frequency)
    proposal.reasons |= {"freq": why_frequency, "season": why_season}
    proposal.rows, proposal.series = table.rows_read, len(table.keys)
    proposal.first, proposal.last = int(grid.times.min()), int(grid.times.max())
    proposal.shortest = min(len(one) for one in grid.by_series(grid.times, len(table.keys)))
    proposal.settings = proposal.settings.model_copy(
        update={"freq": str(proposal.frequency), "season": proposal.season}
    )
    return proposal
