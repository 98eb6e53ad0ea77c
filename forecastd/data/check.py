"""What is untidy in a data set, how much of it, and what will be done about each kind.

Checking changes nothing: it reads the same table that `prepare` reads and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.config import DataSettings
from forecastd.data.roles import infer_roles
from forecastd.data.store import (
    Grid,
    frequency_of,
    gap_limit,
    holes_of,
    season_of,
    sorted_grid,
)
from forecastd.data.suspects import clock_jumps, copies, leaks
from forecastd.data.table import Table, read_table
from forecastd.series import Frequency, IntArray

SERIES_NAMED = 5
SENTINELS = (-9999.0, -999.0, -99999.0, 9999.0, 99999.0, 999999.0, -99.0, -200.0, -32768.0)
"""Numbers that people write for "missing"."""


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
    """What every check looks at."""

    table: Table
    grid: Grid
    frequency: Frequency
    season: int
    max_gap: int


def check(source: DataSettings | str, base: Path | None = None) -> CheckReport:
    """Read a data set and list what is untidy. A path: its roles are inferred.

    base: where a relative path in the settings starts; none: the current folder. Raises DataError
    where `prepare` would.
    """
    data = infer_roles(source).settings if isinstance(source, str) else source
    table = read_table(data, base or Path())
    grid = sorted_grid(table)
    frequency, _ = frequency_of(table, grid, data)
    season, _ = season_of(table, grid, data, frequency)
    case = _Case(table, grid, frequency, season, gap_limit(data, season))
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
        rows=table.rows_read,
        series=len(table.keys),
        frequency=str(frequency),
        season=season,
        max_gap=case.max_gap,
        findings=findings,
    )


def _finding(
    case: _Case, kind: str, count: int, what: str, action: str, owners: IntArray | None = None
) -> list[Finding]:
    """Return one finding, or none where the count is 0. owners: the series of each case."""
    if count == 0:
        return []
    found = np.unique(owners) if owners is not None else np.empty(0, np.int64)
    names = [case.table.keys[s] for s in found[:SERIES_NAMED]]
    return [Finding(kind, count, what, action, names, len(found))]


def _unusable(case: _Case) -> list[Finding]:
    table = case.table
    return [
        *_finding(case, "no_key", table.rows_without_key, "rows without a series", "left out"),
        *_finding(case, "no_time", table.rows_without_time, "rows without a time", "left out"),
    ]


def _order(case: _Case) -> list[Finding]:
    table, grid = case.table, case.grid
    by_series = np.argsort(table.series, kind="stable")
    owners, times = table.series[by_series], table.times[by_series]
    back = (owners[1:] == owners[:-1]) & (times[1:] < times[:-1])
    used = np.zeros(len(table.times), bool)
    used[grid.rows] = True
    return [
        *_finding(
            case,
            "steps_back",
            grid.steps_back,
            "rows earlier than the row before them",
            "sorted by time; a live stream drops them as late",
            owners[1:][back],
        ),
        *_finding(
            case,
            "repeats",
            grid.repeats,
            "rows that repeat a stamp of their series",
            "the first in the file counts, the others are left out",
            table.series[~used],
        ),
    ]


def _gaps(case: _Case) -> list[Finding]:
    holes, reset = holes_of(case.grid, case.frequency, case.max_gap)
    filled = holes > 0
    steps = int(holes.sum())
    longest = int(holes.max(initial=0))
    return [
        *_finding(
            case,
            "gaps",
            int(np.count_nonzero(filled)),
            f"holes of up to {longest} steps, {steps:,} steps in all",
            "filled with missing values",
            case.grid.series[filled],
        ),
        *_finding(
            case,
            "long_gaps",
            int(np.count_nonzero(reset)),
            f"holes longer than max_gap = {case.max_gap} steps",
            "not filled: the state of the series starts afresh after the hole",
            case.grid.series[reset],
        ),
    ]


def _stamps(case: _Case) -> list[Finding]:
    """Look for stamps off the grid, and for series whose own frequency is another."""
    grid, frequency = case.grid, case.frequency
    same = grid.series[1:] == grid.series[:-1]
    last, now = grid.times[:-1][same], grid.times[1:][same]
    owners = grid.series[1:][same]
    if len(last) == 0:
        return []
    steps = frequency.steps_between(last, now)
    off = frequency.advance(last, steps) != now
    if frequency.kind == "month":
        off &= np.abs(frequency.advance(last, steps) - now) > 4 * 86_400_000_000
    counts = np.bincount(owners, minlength=len(case.table.keys))
    off_grid = np.bincount(owners, off, len(case.table.keys))
    longer = np.bincount(owners, steps > 1, len(case.table.keys))
    other = np.flatnonzero((counts >= 3) & ((longer > 0.5 * counts) | (off_grid > 0.9 * counts)))
    irregular = off & ~np.isin(owners, other)
    return [
        *_finding(
            case,
            "mixed_frequency",
            len(other),
            f"series whose usual distance is not {frequency}",
            "kept on the common grid; better train them on their own",
            other,
        ),
        *_finding(
            case,
            "irregular",
            int(np.count_nonzero(irregular)),
            f"stamps that are not a whole number of {frequency} after the one before",
            "kept as they are and counted as the nearest step",
            owners[irregular],
        ),
    ]


def _values(case: _Case) -> list[Finding]:
    table = case.table
    found: list[Finding] = []
    for place, name in enumerate(table.columns.channels):
        owners = table.series[np.isnan(table.values[:, place])]
        marked = table.sentinels.get(name, 0)
        nulls = table.nulls[name] - marked
        share = 100 * nulls / max(1, len(table.times))
        found += _finding(
            case,
            "nulls",
            nulls,
            f"values missing in {name} ({share:.1f} %)",
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
            table.non_finite[name],
            f"values in {name} are NaN or infinite",
            "taken as missing",
            owners,
        )
    return found


def _sentinels(case: _Case) -> list[Finding]:
    """Look for numbers that stand for "missing": known ones, far from all other values."""
    table = case.table
    found: list[Finding] = []
    for place, name in enumerate(table.columns.channels):
        values = table.values[:, place]
        for number in SENTINELS:
            hits = values == np.float32(number)
            if not hits.any() or not _far_out(values, hits, number):
                continue
            found += _finding(
                case,
                "sentinel",
                int(np.count_nonzero(hits)),
                f"values of {number:g} in {name}, far from the others",
                f"kept as numbers: write sentinels = [{number:g}] in [data] if missing",
                table.series[hits],
            )
    return found


def _far_out(values: NDArray[np.float32], hits: NDArray[np.bool_], number: float) -> bool:
    rest = values[~hits & np.isfinite(values)]
    if len(rest) == 0:
        return True
    low, middle, high = np.quantile(rest, [0.05, 0.5, 0.95])
    return bool(abs(number - middle) > 5 * max(high - low, 1e-6))


def _shapes(case: _Case) -> list[Finding]:
    """Look for series that never change, have no value, or are too short to learn from."""
    table, count = case.table, len(case.table.keys)
    target = table.values[:, 0].astype(np.float64)
    known = np.isfinite(target)
    highest, lowest = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(highest, table.series[known], target[known])
    np.minimum.at(lowest, table.series[known], target[known])
    lengths = np.bincount(case.grid.series, minlength=count)
    short_rows = max(10, 2 * case.season)
    constant = np.flatnonzero((highest == lowest) & (lengths > 1))
    empty = np.flatnonzero(highest < lowest)
    short = np.flatnonzero(lengths < short_rows)
    return [
        *_finding(
            case,
            "constant",
            len(constant),
            f"series whose {table.columns.target} never changes",
            "kept; they are scaled by the spread of the others",
            constant,
        ),
        *_finding(
            case,
            "empty",
            len(empty),
            f"series without any value of {table.columns.target}",
            "kept, but nothing is learned from them",
            empty,
        ),
        *_finding(
            case,
            "short",
            len(short),
            f"series of fewer than {short_rows} rows",
            "kept; their forecasts lean on what the other series taught",
            short,
        ),
    ]


def _suspects(case: _Case) -> list[Finding]:
    """Look for what no single row shows: clocks that jump, copies and leaks among the columns."""
    table, rows = case.table, case.grid.rows
    used = np.zeros(len(table.times), bool)
    used[rows] = True
    suspects = [
        *clock_jumps(table, rows, np.flatnonzero(~used), case.frequency),
        *copies(table, rows),
        *leaks(table, rows),
    ]
    return [
        finding
        for one in suspects
        for finding in _finding(case, one.kind, one.number, one.what, one.action, one.owners)
    ]
