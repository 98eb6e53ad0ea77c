"""Folds a wide frame, where each column is a series, into rows that come series after series.

Where time rises in the files, rows then are in the order of the store and need no sorting. Columns
are read a group at a time: as many as can be held, or one by one where a column is very long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
from pyarrow import ArrowException, parquet

from forecastd.data.inputs import Inputs
from forecastd.data.reader import values_of

CELLS_PER_ROW = 16
"""Numbers of a wide frame that are held for each row handled at once: they take 8 bytes each."""


@dataclass(frozen=True)
class Wide:
    """A wide data set. series: its value columns. time: its time column. rows: None if unknown.

    kind: the type that holds the values of all. read: yields frames of the time and some of the
    columns, at most so many rows at once.
    names: what the columns with the series and the values are called when folded.
    """

    series: Sequence[str]
    time: str
    rows: int | None
    kind: pl.DataType
    read: Callable[[Sequence[str], int], Iterator[pl.DataFrame]]
    names: tuple[str, str]

    def folded(self, batch_rows: int) -> Iterator[pl.DataFrame]:
        """Yield long frames of at most about `batch_rows` rows, by the names of the columns.

        Text and the like, whose number of rows is unknown, is read once: what does not fit into
        memory comes batch by batch, all columns of each.
        """
        ordered = sorted(self.series)
        if self.rows is None:
            yield from self._read_once(ordered, batch_rows)
            return
        width = max(1, CELLS_PER_ROW * batch_rows // max(1, self.rows))
        for group in _groups(ordered, width):
            frames = self.read(group, max(1, batch_rows // len(group)))
            if width == 1:
                for frame in frames:
                    yield from self._long(frame, group, batch_rows)
            elif held := list(frames):
                yield from self._long(pl.concat(held), group, batch_rows)

    def _read_once(self, ordered: list[str], batch_rows: int) -> Iterator[pl.DataFrame]:
        held: list[pl.DataFrame] = []
        cells = 0
        frames = self.read(ordered, max(1, batch_rows // len(ordered)))
        for frame in frames:
            held.append(frame)
            cells += frame.height * len(ordered)
            if cells > CELLS_PER_ROW * batch_rows:
                break
        for frame in itertools.chain([pl.concat(held)] if held else [], frames):
            yield from self._long(frame, ordered, batch_rows)

    def _long(
        self, frame: pl.DataFrame, series: Sequence[str], batch_rows: int
    ) -> Iterator[pl.DataFrame]:
        for name in series:
            values_of(frame[name].head(1000))  # text is named before all are folded into one
        for some in _groups(series, max(1, batch_rows // max(1, frame.height))):
            yield from self.long(frame, some).iter_slices(batch_rows)

    def long(self, frame: pl.DataFrame, series: Sequence[str]) -> pl.DataFrame:
        """Return some series of a frame as rows, one series after another."""
        # The names come after folding: a column may itself be called as its values will be.
        folded = frame.unpivot(series, index=self.time, variable_name="\0", value_name="\0y")
        key, value = self.names
        return folded.rename({"\0": key, "\0y": value}).with_columns(pl.col(value).cast(self.kind))


def _groups(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


def rows_known(inputs: Inputs) -> int | None:
    """Return how many rows Parquet files say they have; None for other formats.

    Of other formats a column cannot be read without reading all of them.
    """
    if inputs.suffix != ".parquet":
        return None
    try:
        return sum(_rows(inputs, file.path) for file in inputs.files)
    except (OSError, ArrowException):
        return None  # the reader says what is wrong


def _rows(inputs: Inputs, path: str) -> int:
    with inputs.filesystem.open_input_file(path) as raw:
        return int(parquet.read_metadata(raw).num_rows)
