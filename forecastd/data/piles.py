"""Sorts frames of any columns that do not fit in memory: piles in order on disk, then merged.

`buckets.py` does the same for rows of numbers; here every column stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import ipc

PILE_BYTES = 1 << 25
PILES_MAX = 64
_ROW, _PILE, _LAST = "\1row", "\1pile", "\1last"


def sorted_frames(
    frames: Iterable[pl.DataFrame], by: list[str], folder: Path
) -> Iterator[pl.DataFrame]:
    """Yield the rows by some columns, nulls first, equal ones in the order in which they came.

    Categories become text, and are sorted as such. folder: where rows that do not fit in memory
    lie meanwhile; what is left in it is of no use. Raises OSError when its disk is full.
    """
    with closing(_Piles(by, folder)) as piles:
        whole = _put_on(piles, frames, by)
    merged = _merged(piles.finished, by) if whole is None else iter([whole])
    for frame in merged:
        yield frame.drop(_ROW)


def _put_on(piles: _Piles, frames: Iterable[pl.DataFrame], by: list[str]) -> pl.DataFrame | None:
    """Sort as many rows as fit in memory at a time; where that are all, they need no pile."""
    rows = 0
    waiting: list[pl.DataFrame] = []
    for frame in frames:
        texts = pl.col(pl.Categorical, pl.Enum).cast(pl.String)
        numbers = pl.int_range(rows, rows + frame.height, dtype=pl.Int64, eager=True)
        waiting.append(frame.with_columns(texts).with_columns(numbers.alias(_ROW)))
        rows += frame.height
        if sum(int(one.estimated_size()) for one in waiting) > PILE_BYTES:
            piles.add(pl.concat(waiting).sort([*by, _ROW]))
            waiting = []
    last = pl.concat(waiting).sort([*by, _ROW]) if waiting else None
    if last is not None and piles.made:
        piles.add(last)
    return None if piles.made else last


class _Piles:
    """Piles on disk. What follows the newest one is put on it, so rows in order make one pile."""

    def __init__(self, by: list[str], folder: Path) -> None:
        self.made = 0
        self._by = by
        self._folder = folder
        self._newest: _Pile | None = None
        self._levels: list[list[Path]] = [[]]

    def add(self, frame: pl.DataFrame) -> None:
        """Put rows in order on the newest pile, or begin another."""
        if self._newest is not None and not self._newest.is_followed_by(frame, self._by):
            self._finish(self._newest)
            self._newest = None
        if self._newest is None:
            self._newest = self._new()
        self._newest.put(frame)

    @property
    def finished(self) -> list[Path]:
        """All piles that no more is put on."""
        return [path for level in self._levels for path in level]

    def close(self) -> None:
        """Finish the newest pile."""
        if self._newest is not None:
            newest, self._newest = self._newest, None
            self._finish(newest)

    def _new(self) -> _Pile:
        self.made += 1
        return _Pile(self._folder / f"{self.made}.pile")

    def _finish(self, pile: _Pile) -> None:
        """Make one pile of many wherever as many of a size have come together."""
        pile.close()
        self._levels[0].append(pile.path)
        for number, level in enumerate(self._levels):
            if len(level) < PILES_MAX:
                return
            larger = self._new()
            for frame in _merged(level, self._by):
                larger.put(frame)
            larger.close()
            for path in level:
                path.unlink()
            level.clear()
            if number + 1 == len(self._levels):
                self._levels.append([])
            self._levels[number + 1].append(larger.path)


class _Pile:
    """A file of rows in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._writer: ipc.RecordBatchFileWriter | None = None
        self._last: pl.DataFrame | None = None

    def is_followed_by(self, frame: pl.DataFrame, by: list[str]) -> bool:
        """Say whether rows in order may come after those there are."""
        if self._last is None:
            return True
        columns = list(dict.fromkeys([*by, _ROW]))
        pair = pl.concat([self._last.select(columns), frame.head(1).select(columns)])
        return bool(pair.sort(columns)[_ROW][0] == self._last[_ROW][0])

    def put(self, frame: pl.DataFrame) -> None:
        """Add rows. Texts are copied: chosen rows share those of all the others."""
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = ipc.new_file(self._file, table.schema)
        # Of all piles that are merged a batch each is in memory: no more than one pile in all.
        rows = max(1, PILE_BYTES // PILES_MAX * frame.height // max(1, table.nbytes))
        self._writer.write_table(table, max_chunksize=rows)
        self._last = frame.tail(1)

    def close(self) -> None:
        """Finish the file."""
        with self._file:
            if self._writer is not None:
                self._writer.close()


def _merged(piles: list[Path], by: list[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of piles in order.

    All rows up to the least of the last rows read of each pile are known to be the next ones.
    """
    heads = [_Head(path) for path in piles]
    while rows := [head.marked(number) for number, head in enumerate(heads) if head.fill()]:
        together = pl.concat(rows).sort([*by, _ROW])
        lasts = together[_LAST].arg_true()
        known = int(lasts[0]) + 1 if len(lasts) else together.height
        yield together.head(known).drop(_PILE, _LAST)
        rest = together.slice(known)
        for number, head in enumerate(heads):
            head.rows = rest.filter(pl.col(_PILE) == number).drop(_PILE, _LAST)


class _Head:
    """The rows of a pile that were read and are not given out yet."""

    def __init__(self, path: Path) -> None:
        self.rows: pl.DataFrame | None = None
        self._batches = _batches(path)
        self._ended = False
        self._full = 0

    def fill(self) -> bool:
        """Read more where few rows are left, and say whether there is any."""
        while not self._ended and (self.rows is None or self.rows.height <= self._full // 2):
            more = next(self._batches, None)
            if more is None:
                self._ended = True
            else:
                self._full = more.height
                self.rows = more if self.rows is None else pl.concat([self.rows, more])
        return self.rows is not None and self.rows.height > 0

    def marked(self, number: int) -> pl.DataFrame:
        """Return the rows with the number of the pile, the last marked if more is to be read."""
        assert self.rows is not None
        last = -1 if self._ended else self.rows.height - 1
        return self.rows.with_columns(
            pl.lit(number, pl.UInt32).alias(_PILE), (pl.int_range(pl.len()) == last).alias(_LAST)
        )


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    with path.open("rb") as file, ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            frame = pl.from_arrow(pa.Table.from_batches([reader.get_batch(number)]))
            assert isinstance(frame, pl.DataFrame)
            yield frame
