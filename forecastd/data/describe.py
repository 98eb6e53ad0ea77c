"""What a data set holds, column by column, read once in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.inputs import inputs_of
from forecastd.data.reader import BATCH_ROWS, require_columns
from forecastd.data.table import resolve
from forecastd.data.where import parse


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


def describe_columns(data: DataSettings, base: Path) -> list[ColumnFacts]:
    """Return the facts of every column of a data set, used or not.

    `where` and `sentinels` of the settings hold here too. Raises DataError for unreadable files.
    """
    inputs = inputs_of(resolve(data, base))
    schema = schema_of_inputs(inputs)
    where = None if data.where is None else parse(data.where)
    require_columns(inputs.text, list(schema), [data.time])
    facts = [ColumnFacts(name, str(kind)) for name, kind in schema.items()]
    for frame in read_batches(inputs, Selection(schema, BATCH_ROWS, where)):
        for fact in facts:
            fact.add(_cleared(frame[fact.name], data))
    return facts


def _cleared(column: pl.Series, data: DataSettings) -> pl.Series:
    """Put nulls for the sentinels of the columns they belong to."""
    if not data.sentinels or column.name not in {*data.target, *data.past}:
        return column
    hits = column.cast(pl.Float64).is_in(data.sentinels).fill_null(value=False)
    return column.zip_with(
        ~hits, pl.Series(column.name, [None], column.dtype).new_from_index(0, len(column))
    )
