"""What a check counts in rows as they come: what is lost once they are sorted and thinned out."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecastd.data.intake import Intake, Rows, SeriesArray
from forecastd.data.suspects import clocks_change
from forecastd.data.table import Columns
from forecastd.series import FloatArray, IntArray

SENTINELS = (-9999.0, -999.0, -99999.0, 9999.0, 99999.0, 999999.0, -99.0, -200.0, -32768.0)
"""Numbers that people write for "missing"."""
SMALL = 1 << 16
"""So many series have numbers of 16 bits, which sort in one count."""

Flags = NDArray[np.bool_]


class Watch(Intake):
    """Takes frames as `Intake` does and looks at their rows. All [S] are by number of the series.

    missing: [S, C] whether a series has a missing value in a channel. stepped_back: [S] whether a
    row is earlier than the one before it. clock_rows: [S] rows in hours when clocks may change.
    sentinels: per channel and number of SENTINELS how often, and the series it is in. alike: [C]
    columns of one number have held the same so far.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        channels = len(columns.channels)
        self.missing = np.zeros((0, channels), bool)
        self.stepped_back = np.zeros(0, bool)
        self.clock_rows = np.zeros(0, np.int64)
        self.sentinels: dict[tuple[int, float], tuple[int, Flags]] = {}
        self.alike = np.zeros(channels, np.int64)
        self._newest = np.empty(0, np.int64)

    def take(self, frame: pl.DataFrame) -> Rows:
        """Convert a frame, and look at its rows."""
        rows = super().take(frame)
        self._grow(len(self.names))
        if len(rows.times):
            self._see_order(rows.series, rows.times)
            self._see_values(rows.series, rows.values)
            self._see_columns(rows.values)
            if not (self.time_zone or frame[self.columns.time].dtype.is_integer()):
                self.clock_rows += np.bincount(
                    rows.series[clocks_change(rows.times)], minlength=len(self.names)
                )
        return rows

    def copies(self) -> list[tuple[int, int]]:
        """Return the channels that hold what an earlier one holds, and that one; no target."""
        first: dict[int, int] = {}
        found = []
        for place, group in enumerate(self.alike[1:].tolist(), 1):
            if first.setdefault(group, place) != place:
                found.append((place, first[group]))
        return found

    def _grow(self, count: int) -> None:
        more = count - len(self.stepped_back)
        if more == 0:
            return
        lowest = np.iinfo(np.int64).min
        self.missing = np.pad(self.missing, ((0, more), (0, 0)))
        self.stepped_back = np.pad(self.stepped_back, (0, more))
        self.clock_rows = np.pad(self.clock_rows, (0, more))
        self._newest = np.pad(self._newest, (0, more), constant_values=lowest)

    def _see_order(self, series: SeriesArray, times: IntArray) -> None:
        """Mark the series whose rows step back; of those marked no more is to be known."""
        open_rows = ~self.stepped_back[series]
        if not open_rows.all():
            series, times = series[open_rows], times[open_rows]
        if len(series) == 0:
            return
        if not (series[1:] >= series[:-1]).all():
            marks = series.astype(np.uint16) if len(self.names) <= SMALL else series
            order = np.argsort(marks, kind="stable")
            series, times = series[order], times[order]
        starts = np.append(0, np.flatnonzero(series[1:] != series[:-1]) + 1)
        before = np.append(0, times[:-1])
        before[starts] = self._newest[series[starts]]
        self.stepped_back[series[times < before]] = True
        ends = np.append(starts[1:], len(series)) - 1
        self._newest[series[ends]] = times[ends]

    def _see_values(self, series: SeriesArray, values: FloatArray) -> None:
        for place in range(values.shape[1]):
            column = values[:, place]
            missing = np.isnan(column)
            if missing.any():
                self.missing[series[missing], place] = True
            for number in SENTINELS:
                hits = column == np.float32(number)
                if hits.any():
                    self._add_sentinel((place, number), series[hits])

    def _add_sentinel(self, which: tuple[int, float], series: SeriesArray) -> None:
        count, owners = self.sentinels.get(which, (0, np.zeros(0, bool)))
        owners = np.pad(owners, (0, len(self.names) - len(owners)))
        owners[series] = True
        self.sentinels[which] = (count + len(series), owners)

    def _see_columns(self, values: FloatArray) -> None:
        """Part columns that have held the same so far and do not in these rows."""
        groups, sizes = np.unique(self.alike[1:], return_counts=True)
        for group in groups[sizes > 1].tolist():
            members = np.flatnonzero(self.alike[1:] == group) + 1
            seen: dict[bytes, int] = {}
            for place in members.tolist():
                content = np.ascontiguousarray(values[:, place]) + np.float32(0)  # no minus zero
                digest = blake2b(content.data, digest_size=16).digest()
                self.alike[place] = seen.setdefault(digest, place)
