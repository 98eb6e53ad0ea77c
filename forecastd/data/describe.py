"""What a data set holds: its extent and grid, how long its series are, and its columns.

Its columns are read once, its target once more to be sorted on disk; memory is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.frames import is_frame, type_text
from forecastd.data.inputs import inputs_of
from forecastd.data.lengths import Padding, padding_of
from forecastd.data.preparing import Report
from forecastd.data.reader import BATCH_ROWS, require_columns
from forecastd.data.survey import narrowed, surveyed
from forecastd.data.table import resolve
from forecastd.data.where import parse
from forecastd.data.writing import Lines, plan_layout
from forecastd.series import Frequency, IntArray


@dataclass(frozen=True)
class Extent:
    """How much there is, and its grid.

    rows: read. first, last: times. lengths: [S] in steps of each series, holes filled. time_zone:
    whether the times have one.
    """

    rows: int
    first: int
    last: int
    frequency: Frequency
    season: int
    lengths: IntArray
    padding: Padding
    time_zone: bool


@dataclass
class ColumnFacts:
    """One column. missing: nulls, NaN and sentinels. mean, least, most: of the numbers left."""

    name: str
    type: str
    rows: int = 0
    missing: int = 0
    least: float | str | None = None
    mean: float | None = None
    most: float | str | None = None
    counted: int = field(default=0, repr=False)

    @property
    def missing_share(self) -> float:
        """Missing values per row, 0 where there is no row."""
        return self.missing / self.rows if self.rows else 0.0

    def add(self, column: pl.Series) -> None:
        """Count the values of a batch in. The mean is merged, so no sum grows without bound."""
        self.rows += len(column)
        known = column.drop_nulls()
        if column.dtype.is_decimal() or column.dtype == pl.Boolean:
            known = known.cast(pl.Float64)
        if known.dtype.is_float():
            known = known.filter(known.is_finite())
        self.missing += len(column) - len(known)
        if len(known) == 0:
            return
        if known.dtype.is_numeric():
            low, high = float(str(known.min())), float(str(known.max()))
            self.least = low if self.least is None else min(float(self.least), low)
            self.most = high if self.most is None else max(float(self.most), high)
            self.counted += len(known)
            average = float(known.cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
            before = self.mean or 0.0
            self.mean = before + (average - before) * len(known) / self.counted
        elif known.dtype.is_temporal():
            first, last = str(known.min()), str(known.max())
            self.least = first if self.least is None else min(str(self.least), first)
            self.most = last if self.most is None else max(str(self.most), last)


def extent_of_data(data: DataSettings, base: Path, report: Report = lambda _: None) -> Extent:
    """Sort the target of a data set and return its extent. Raises DataError for unusable data.

    report: told how far it is.
    """
    few = narrowed(data)
    with surveyed(few, base, report=report) as survey:
        times, starts = survey.rows.times, survey.rows.starts
        layout = plan_layout(Lines(times, starts[:-1], survey.frequency, survey.max_gap))
        columns = len(data.target) if data.wide else 1
        lengths, segments = np.diff(layout.offsets), layout.segments
        if data.wide:  # the columns have the same times, so any of them stands for each
            lengths = np.repeat(lengths[:1], columns)
            segments = np.tile(segments[segments[:, 0] == 0], (columns, 1))
        return Extent(
            rows=survey.intake.rows_read // len(few.target) * columns,
            first=survey.span[0],
            last=survey.span[1],
            frequency=survey.frequency,
            season=survey.season,
            lengths=lengths,
            padding=padding_of(segments),
            time_zone=survey.intake.time_zone,
        )


def describe_columns(data: DataSettings, base: Path) -> list[ColumnFacts]:
    """Return the facts of every column of a data set, used or not.

    `where` and `sentinels` of the settings hold here too. Raises DataError for unreadable files.
    """
    inputs = inputs_of(resolve(data, base))
    schema = schema_of_inputs(inputs)
    where = None if data.where is None else parse(data.where)
    require_columns(inputs.text, list(schema), [data.time])
    facts = [ColumnFacts(name, _type_name(kind)) for name, kind in schema.items()]
    for frame in read_batches(inputs, Selection(schema, BATCH_ROWS, where)):
        for fact in facts:
            fact.add(_cleared(frame[fact.name], data))
    return facts


def _cleared(column: pl.Series, data: DataSettings) -> pl.Series:
    """Put nulls for the sentinels of the columns they belong to."""
    numbers = {*(() if data.task.kind == "classification" else data.target), *data.past}
    if not data.sentinels or column.name not in numbers or is_frame(column.dtype):
        return column
    hits = column.cast(pl.Float64).is_in(data.sentinels).fill_null(value=False)
    return column.zip_with(
        ~hits, pl.Series(column.name, [None], column.dtype).new_from_index(0, len(column))
    )


def _type_name(kind: pl.DataType) -> str:
    if not isinstance(kind, pl.Datetime):
        return type_text(kind)
    zone = f", {kind.time_zone}" if kind.time_zone else ""
    return f"Datetime({kind.time_unit}{zone})"
