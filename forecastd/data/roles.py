"""Guessing the roles of columns: which is series, time, target, covariate, and why.

Guesses are made once, by `forecast init` and by commands that are given bare data; they are
written down with their reasons and never made silently later. Of a large data set some rows,
spread over all of it, decide; its size, span and grid are those of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from forecastd.config import DataSettings, TaskSettings
from forecastd.data.frames import gathered_names, type_text
from forecastd.data.layouts import FREQ_COLUMN, frequency_text
from forecastd.data.preparing import Report
from forecastd.data.reader import require_columns, schema_of, times_of
from forecastd.data.sample import Sample, sample_of
from forecastd.data.survey import narrowed, surveyed
from forecastd.data.table import Columns
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

    reasons: per key of [data]. left_out: column to reason. looked_at: rows that decided on the
    roles, 0: all. rows, series and the rest: what was found by `infer_roles`.
    """

    settings: DataSettings
    reasons: dict[str, str]
    left_out: dict[str, str]
    looked_at: int = 0
    rows: int = 0
    series: int = 0
    frequency: Frequency = field(default_factory=lambda: Frequency("count", 1))
    season: int = 1
    first: int = 0
    last: int = 0
    shortest: int = 0


def infer_roles(path_text: str, report: Report = lambda _: None) -> Proposal:
    """Look at a data set and propose settings with its frequency and season, and tell its extent.

    report: told how far it is. Raises DataError where `roles_of` does, and where the rows have no
    frequency.
    """
    return _with_grid(roles_of(path_text), report)


def roles_of(path_text: str) -> Proposal:
    """Look at a few rows and propose the role of each column. settings.path is as given.

    Raises DataError where no column can be the time or no numeric column is left.
    """
    sample = sample_of(path_text)
    if rolled := _rolled(path_text, sample):
        return rolled
    if sample.frame.height == 0:
        message = f"{path_text} has no rows"
        raise DataError(message, hint="name a data set with at least a few rows")
    reasons: dict[str, str] = {}
    time = _find_time(path_text, sample, reasons)
    identifier = _find_id(sample, time, reasons)
    columns = _Sorted.of(sample, time, identifier)
    data = _choose(path_text, sample.frame, columns, reasons)
    looked_at = 0 if sample.whole else sample.frame.height
    return Proposal(data, reasons, columns.left_out, looked_at)


def settings_for_model(path_text: str, columns: Columns, frequency: Frequency) -> DataSettings:
    """Return the settings that read a data set as a model's columns name it.

    A frame without the model's id and target columns, but with its time column, is taken as wide:
    each other numeric column is a series. Raises DataError where a column is missing.
    """
    schema = schema_of(path_text)
    names = list(schema)
    common = {"path": path_text, "time": columns.time, "freq": str(frequency)}
    folded = columns.id is not None and columns.id not in names and columns.target not in names
    folded = folded and columns.task == "forecast"
    if folded and columns.time in names and not columns.past and not columns.static:
        numeric = [n for n, kind in schema.items() if kind.is_numeric() and n != columns.time]
        if len(numeric) > 1:
            return DataSettings.model_validate({**common, "target": numeric})
    past = gathered_names(columns.past, columns.frames)
    task = _task_of(columns)
    answers = () if task.supervised else columns.targets
    needed = [columns.time, *answers, *past, *columns.static]
    require_columns(path_text, names, [*([columns.id] if columns.id else []), *needed])
    settings = DataSettings.model_validate(
        {
            **common,
            "id": columns.id,
            "target": list(columns.targets),
            "past": past,
            "static": list(columns.static),
        }
    )
    return settings.for_task(task, unlabelled=True) if task.supervised else settings


def _task_of(columns: Columns) -> TaskSettings:
    """Return what the targets are for, as [task] says it."""
    classes = list(columns.classes) if columns.task == "classification" else None
    return TaskSettings(kind=columns.task, classes=classes, cap=columns.cap)


def _rolled(path_text: str, sample: Sample) -> Proposal | None:
    """Propose settings for a data set of a series per row; None: it is none.

    Raises DataError where a start or a frequency is missing.
    """
    schema = sample.schema
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
    known = sample.frame[FREQ_COLUMN].drop_nulls()
    if len(known) == 0:
        message = f"{path_text} has no row that says how far its values lie"
        raise DataError(message, hint=f"fill the column {FREQ_COLUMN!r}")
    freq = frequency_text(str(known[0]))
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
    def of(cls, sample: Sample, time: str, identifier: str | None) -> _Sorted:
        columns = cls(identifier, time, [], [], [], {})
        for name, kind in sample.schema.items():
            if name in {time, identifier}:
                continue
            if kind.is_numeric() or kind == pl.Boolean:
                columns._add_number(sample, name)
            elif kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum):
                columns.texts.append(name)
            else:
                columns.left_out[name] = f"of type {type_text(kind)}"
        return columns

    def _add_number(self, sample: Sample, name: str) -> None:
        values = sample.frame[name]
        distinct = values.drop_nulls().n_unique()
        if name.lower() in TARGET_NAMES:
            self.numeric.append(name)
        elif distinct <= 1:
            self.left_out[name] = "never changes" if distinct else "holds no value"
        elif any(word in name.lower() for word in LABEL_WORDS):
            self.left_out[name] = "named like a label, which a live stream does not have"
        elif name.lower() in CALENDAR_NAMES and values.dtype.is_integer():
            self.left_out[name] = "the calendar features already say it"
        elif self.id and _constant_within(sample.frame, self.id, name):
            self.left_out[name] = "a number that never changes within a series"
        elif values.dtype.is_integer() and _counts_up(sample.stretches, self.id, name):
            self.left_out[name] = "counts up with time"
        elif distinct == 2:
            self.flags.append(name)
        else:
            self.numeric.append(name)


def _find_time(path_text: str, sample: Sample, reasons: dict[str, str]) -> str:
    frame, schema = sample.frame, sample.schema
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


def _find_id(sample: Sample, time: str, reasons: dict[str, str]) -> str | None:
    frame, schema = sample.frame, sample.schema
    lower = {name.lower(): name for name in reversed(list(schema))}
    for known in ID_NAMES:
        name = lower.get(known)
        if name in {None, time} or name is None or not _is_key(schema[name]):
            continue
        if frame.height > 1 and frame[time].n_unique() > 1 and not sample.repeats([name]):
            continue  # a number per row is no series
        reasons["id"] = f"named {name!r}"
        return name
    if not sample.repeats([time]):
        reasons["id"] = "no stamp repeats, so the rows are not of several series in turn"
        return None
    for name, kind in schema.items():
        named_like = name.lower().endswith(("id", "_key", "_code"))
        textual = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
        if name == time or not (textual or (kind.is_integer() and named_like)):
            continue
        if not sample.repeats([name, time]):
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


def _counts_up(stretches: list[pl.DataFrame], identifier: str | None, name: str) -> bool:
    """Tell whether a column grows by one and the same number from row to row of a series."""
    step = pl.col(name).cast(pl.Int64).diff()
    found = [
        frame.select(step.over(identifier) if identifier else step).to_series().drop_nulls()
        for frame in stretches
    ]
    steps = pl.concat(found)
    return len(steps) > 2 and steps.n_unique() == 1 and int(steps[0]) > 0


def _with_grid(proposal: Proposal, report: Report) -> Proposal:
    """Sort the proposed target and add frequency, season and extent."""
    settings = proposal.settings
    few = narrowed(settings)
    with surveyed(few, Path(), report=report) as survey:
        proposal.frequency, proposal.season = survey.frequency, survey.season
        proposal.reasons |= {"freq": survey.frequency_reason, "season": survey.season_reason}
        rows_read, columns = survey.intake.rows_read, len(settings.target)
        proposal.rows = rows_read // len(few.target) * columns
        proposal.series = columns if settings.wide else survey.series_count
        proposal.first, proposal.last = survey.span
        proposal.shortest = int(survey.counts.min())
    grid = {"freq": str(proposal.frequency), "season": proposal.season}
    proposal.settings = settings.model_copy(update=grid)
    return proposal
