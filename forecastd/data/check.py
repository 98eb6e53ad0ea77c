"""What is untidy in a data set, how much of it, and what will be done about each kind.

Checking changes nothing: rows are looked at as they come and again in order, as `prepare` sorts
them, and counted per series. Memory grows with the series, never with the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.config import DataSettings
from forecastd.data.preparing import Report
from forecastd.data.roles import roles_of
from forecastd.data.survey import Survey, surveyed
from forecastd.data.suspects import ClockJumps, Leaks, SameSeries, padded
from forecastd.data.tallies import Distances, Ranges, pairs_in
from forecastd.data.watch import SENTINELS, Watch

SERIES_NAMED = 5
SAMPLE_ROWS = 1 << 18
"""Rows by which a number is judged to lie far from the others."""


@dataclass(frozen=True)
class Finding:
    """One kind of untidiness. kind: a fixed word. series: the first few of series_total keys."""

    kind: str
    count: int
    what: str
    action: str
    series: list[str]
    series_total: int


@dataclass(frozen=True)
class CheckReport:
    """The data set as found, and its findings; none: it is tidy."""

    path: str
    rows: int
    series: int
    frequency: str
    season: int
    max_gap: int
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return plain values for json.dumps."""
        return {**asdict(self), "clean": self.clean}


@dataclass(frozen=True)
class _Case:
    """What every finding is made of: rows as they came, as sorted, and what was counted."""

    watch: Watch
    survey: Survey
    distances: Distances
    ranges: Ranges
    jumps: ClockJumps
    leaks: Leaks
    same: SameSeries


def check(
    source: DataSettings | str, base: Path | None = None, report: Report = lambda _: None
) -> CheckReport:
    """Read a data set and list what is untidy. A path: its roles are inferred.

    base: where a relative path in the settings starts; none: the current folder. report: told how
    far it is. Raises DataError where `prepare` would.
    """
    data = roles_of(source).settings if isinstance(source, str) else source
    with surveyed(data, base or Path(), Watch, report) as survey:
        case = _look(data, survey)
        checks: list[Callable[[_Case], list[Finding]]] = [
            _unusable,
            _order,
            _gaps,
            _stamps,
            _values,
            _sentinels,
            _shapes,
            _suspects,
        ]
        findings = [finding for one in checks for finding in one(case)]
        return CheckReport(
            path=data.path,
            rows=survey.intake.rows_read,
            series=survey.series_count,
            frequency=str(survey.frequency),
            season=survey.season,
            max_gap=survey.max_gap,
            findings=findings,
        )


def _look(data: DataSettings, survey: Survey) -> _Case:
    """Go through the sorted rows once."""
    assert isinstance(survey.intake, Watch)
    rows, zone = survey.rows, survey.intake.time_zone
    case = _Case(
        watch=survey.intake,
        survey=survey,
        distances=Distances(survey),
        ranges=Ranges(survey),
        jumps=ClockJumps(survey.series_count, survey.frequency, time_zone=zone),
        leaks=Leaks(rows.values.shape[1], len(rows.times)),
        same=SameSeries(),
    )
    for block in survey.blocks():
        pairs = pairs_in(survey, block)
        case.distances.add(pairs)
        case.jumps.add(*pairs)
        case.ranges.add(block)
        case.leaks.add(survey, block.first, block.end)
        if data.wide:
            case.same.add(survey, block.first, block.end)
    return case


def _finding(
    case: _Case,
    kind: str,
    count: int,
    what: str,
    action: str,
    owners: NDArray[np.generic] | None = None,
) -> list[Finding]:
    """Return one finding, or none where the count is 0. owners: [S] not 0 where it is found."""
    if count == 0:
        return []
    found = np.flatnonzero(owners) if owners is not None else np.empty(0, np.int64)
    names = case.survey.keys(found[:SERIES_NAMED])
    return [Finding(kind, count, what, action, names, len(found))]


def _unusable(case: _Case) -> list[Finding]:
    watch = case.watch
    return [
        *_finding(case, "no_key", watch.rows_without_key, "rows without a series", "left out"),
        *_finding(case, "no_time", watch.rows_without_time, "rows without a time", "left out"),
    ]


def _order(case: _Case) -> list[Finding]:
    watch, survey = case.watch, case.survey
    return [
        *_finding(
            case,
            "steps_back",
            survey.steps_back,
            "rows earlier than the row before them",
            "sorted by time; a live stream drops them as late",
            watch.stepped_back[survey.by_key],
        ),
        *_finding(
            case,
            "repeats",
            survey.repeats,
            "rows that repeat a stamp of their series",
            "the first in the file counts, the others are left out",
            watch.counts[survey.by_key] - survey.counts,
        ),
    ]


def _gaps(case: _Case) -> list[Finding]:
    found = case.distances
    return [
        *_finding(
            case,
            "gaps",
            found.holes,
            f"holes of up to {found.longest} steps, {found.steps:,} steps in all",
            "filled with missing values",
            found.filled,
        ),
        *_finding(
            case,
            "long_gaps",
            found.resets,
            f"holes longer than max_gap = {case.survey.max_gap} steps",
            "not filled: the state of the series starts afresh after the hole",
            found.reset,
        ),
    ]


def _stamps(case: _Case) -> list[Finding]:
    """Tell stamps off the grid, and series whose own frequency is another."""
    frequency = case.survey.frequency
    other, irregular = case.distances.other_frequency(), case.distances.irregular()
    return [
        *_finding(
            case,
            "mixed_frequency",
            int(np.count_nonzero(other)),
            f"series whose usual distance is not {frequency}",
            "kept on the common grid; better train them on their own",
            other,
        ),
        *_finding(
            case,
            "irregular",
            int(irregular.sum()),
            f"stamps that are not a whole number of {frequency} after the one before",
            "kept as they are and counted as the nearest step",
            irregular,
        ),
    ]


def _values(case: _Case) -> list[Finding]:
    watch, survey = case.watch, case.survey
    rows = int(watch.counts.sum())
    found: list[Finding] = []
    for place, name in enumerate(watch.columns.channels):
        owners = watch.missing[survey.by_key, place]
        marked = survey.sentinels.get(name, 0)
        nulls = watch.nulls[name] - marked
        found += _finding(
            case,
            "nulls",
            nulls,
            f"values missing in {name} ({100 * nulls / max(1, rows):.1f} %)",
            "masked: they never enter the network",
            owners,
        )
        found += _finding(
            case,
            "sentinels",
            marked,
            f"values in {name} that sentinels in [data] names",
            "taken as missing",
        )
        found += _finding(
            case,
            "non_finite",
            watch.non_finite[name],
            f"values in {name} are NaN or infinite",
            "taken as missing",
            owners,
        )
    return found


def _sentinels(case: _Case) -> list[Finding]:
    """Tell numbers that stand for "missing": known ones, far from all other values."""
    watch, rows = case.watch, case.survey.rows
    if not watch.sentinels:
        return []
    chosen, judged = np.arange(min(len(rows.times), SAMPLE_ROWS)), ""
    if len(rows.times) > SAMPLE_ROWS:
        chosen = np.sort(np.random.default_rng(0).integers(len(rows.times), size=SAMPLE_ROWS))
        judged = f" (judged by {SAMPLE_ROWS:,} rows)"
    sample = rows.values[chosen]
    found: list[Finding] = []
    known = [(place, number) for place in range(sample.shape[1]) for number in SENTINELS]
    for place, number in [which for which in known if which in watch.sentinels]:
        count, owners = watch.sentinels[place, number]
        if not _far_out(sample[:, place], number):
            continue
        name = watch.columns.channels[place]
        everywhere = np.pad(owners, (0, len(case.survey.by_key) - len(owners)))
        found += _finding(
            case,
            "sentinel",
            count,
            f"values of {number:g} in {name}, far from the others{judged}",
            f"kept as numbers: write sentinels = [{number:g}] in [data] if missing",
            everywhere[case.survey.by_key],
        )
    return found


def _far_out(values: NDArray[np.float32], number: float) -> bool:
    rest = values[(values != np.float32(number)) & np.isfinite(values)]
    if len(rest) == 0:
        return True
    low, middle, high = np.quantile(rest, [0.05, 0.5, 0.95])
    return bool(abs(number - middle) > 5 * max(high - low, 1e-6))


def _shapes(case: _Case) -> list[Finding]:
    """Tell series that never change, have no value, or are too short to learn from.

    An answer may well be one for the whole of a series, and any length has one.
    """
    columns, lengths, ranges = case.watch.columns, case.survey.counts, case.ranges
    name, forecast = columns.target, columns.task == "forecast"
    short_rows = max(10, 2 * case.survey.season)
    constant = forecast & (ranges.highest == ranges.lowest) & (lengths > 1)
    empty, short = np.isnan(ranges.highest), forecast & (lengths < short_rows)
    zeros = np.zeros(len(lengths), bool) if forecast else padded(case.survey)
    return [
        *_finding(
            case,
            "padded",
            int(np.count_nonzero(zeros)),
            "series that begin or end in rows whose inputs are all 0",
            "kept as if they were real; better leave padding out, it is put where it is needed",
            zeros,
        ),
        *_finding(
            case,
            "constant",
            int(np.count_nonzero(constant)),
            f"series whose {name} never changes",
            "kept; they are scaled by the spread of the others",
            constant,
        ),
        *_finding(
            case,
            "empty",
            int(np.count_nonzero(empty)),
            f"series without any value of {name}",
            "kept, but nothing is learned from them",
            empty,
        ),
        *_finding(
            case,
            "short",
            int(np.count_nonzero(short)),
            f"series of fewer than {short_rows} rows",
            "kept; their forecasts lean on what the other series taught",
            short,
        ),
    ]


def _suspects(case: _Case) -> list[Finding]:
    """Tell clocks that jump, copies and leaks among the columns."""
    survey, columns = case.survey, case.watch.columns
    found: list[Finding] = []
    twice = case.jumps.twice(survey, case.watch.clock_rows[survey.by_key])
    if twice is not None:
        found += _finding(
            case,
            "clock_jumps",
            case.jumps.count,
            "hours that a clock with daylight saving leaves out, "
            f"{int(twice.sum()):,} rows it gives twice",
            "left as they are: holes filled, repeats left out; better write the times in UTC",
            case.jumps.owners | (twice > 0),
        )
    copied = "kept: it adds work and tells nothing new"
    for place, first in case.watch.copies():
        what = f"column {columns.channels[place]} holds the same as {columns.channels[first]}"
        found += _finding(case, "duplicate", 1, what, copied)
    for series, first in case.same.copies:
        keys = survey.keys(np.array([series, first]))
        owners = np.arange(survey.series_count) == series
        what = f"column {keys[0]} holds the same as {keys[1]}"
        found += _finding(case, "duplicate", 1, what, copied, owners)
    for place, shift in case.leaks.found():
        when = f"{shift} steps ahead" if shift else "of the same step"
        what = f"values of {columns.channels[place]} are the target {when}"
        action = "kept: remove it from past, the forecasts would be too good"
        found += _finding(case, "leak", len(survey.rows.times) - shift, what, action)
    return found
