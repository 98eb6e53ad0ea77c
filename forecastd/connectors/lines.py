"""Cuts a stream of bytes into lines in bounded memory, whatever the length of a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from forecastd.series import IntArray, Reject

HEAD_BYTES = 200
"""How much of a line that is too long is kept to show to people."""


_NEWLINE = 10


class Lines(Sequence[bytes]):
    """n lines in one buffer: a sequence of bytes that holds no object a line.

    Line i is data[starts[i] : ends[i]]; starts and ends: int64 [n].
    """

    __slots__ = ("data", "ends", "starts")

    def __init__(self, data: bytes, starts: IntArray, ends: IntArray) -> None:
        self.data = data
        self.starts = starts
        self.ends = ends

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Lines:
        """Return the column of some lines; a column is returned as it is."""
        if isinstance(lines, Lines):
            return lines
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        ends = np.cumsum(lengths)
        return cls(b"".join(lines), ends - lengths, ends)

    @classmethod
    def joined(cls, parts: Sequence[Lines]) -> Lines:
        """Return the lines of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        shifts = np.cumsum([0, *(len(part.data) for part in parts)]).tolist()
        none = np.empty(0, np.int64)
        starts = [part.starts + shift for part, shift in zip(parts, shifts, strict=False)]
        ends = [part.ends + shift for part, shift in zip(parts, shifts, strict=False)]
        data = b"".join(part.data for part in parts)
        return cls(data, np.concatenate([none, *starts]), np.concatenate([none, *ends]))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Lines: ...
    def __getitem__(self, place: int | slice) -> bytes | Lines:
        if isinstance(place, slice):
            return Lines(self.data, self.starts[place], self.ends[place])
        return self.data[self.starts[place] : self.ends[place]]

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.data[start:end]

    def __eq__(self, other: object) -> bool:
        """Whether `other` has the same lines in the same order, as a column or as a list."""
        return list(self) == list(other) if isinstance(other, Lines | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Lines.of({list(self)!r})"

    def take(self, rows: IntArray) -> Lines:
        """Return the lines at `rows`, in that order; the buffer is shared."""
        return Lines(self.data, self.starts[rows], self.ends[rows])

    def may_contain(self, word: bytes) -> bool:
        """Whether `word` is in a line, or in the bytes between two."""
        span = (int(self.starts[0]), int(self.ends[-1])) if len(self) else (0, 0)
        return self.data.find(word, *span) >= 0


@dataclass(frozen=True, slots=True)
class Taken:
    """Complete lines, and the beginnings of complete lines that were too long."""

    lines: Lines
    too_long: list[bytes]

    @classmethod
    def nothing(cls) -> Taken:
        """Return no lines."""
        return cls(Lines.of([]), [])

    @property
    def count(self) -> int:
        """How many lines were consumed."""
        return len(self.lines) + len(self.too_long)


class LineSplitter:
    """Takes bytes in, gives lines out; `consumed_bytes` ends at the last line given out.

    Memory is bounded by line_bytes_max plus what was fed since the last `take`.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self.consumed_bytes = 0
        self._line_bytes_max = line_bytes_max
        self._buffer = b""
        self._taken_bytes = 0  # of the buffer, while complete lines are left in it
        self._ends = np.empty(0, np.int64)  # of the complete lines left
        self._head: bytes | None = None  # beginning of the line that is being skipped
        self._skipped_bytes = 0

    @property
    def has_line(self) -> bool:
        """Whether `take` would return something."""
        return len(self._ends) > 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, not even the beginning of a line."""
        return self._taken_bytes == len(self._buffer) and self._head is None

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        found = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        left = self._ends - self._taken_bytes
        rest = self._buffer[self._taken_bytes :]
        self._ends = np.concatenate([left, found + len(rest)]) if len(left) else found + len(rest)
        self._buffer, self._taken_bytes = rest + data, 0

    def take(self, rows: int) -> Taken:
        """Return at most `rows` complete lines."""
        if not self.has_line or not rows:
            self._skip_if_too_long()
            return Taken.nothing()
        lines = self._cut(rows)
        too_long = []
        if self._head is not None:
            too_long.append(self._head)
            self.consumed_bytes += self._skipped_bytes
            self._head, self._skipped_bytes = None, 0
            lines = lines[1:]
        short = lines.ends - lines.starts <= self._line_bytes_max
        if not short.all():
            too_long += [line[:HEAD_BYTES] for line in lines.take(np.flatnonzero(~short))]
            lines = lines.take(np.flatnonzero(short))
        self._skip_if_too_long()
        return Taken(lines, too_long)

    def finish(self) -> Taken:
        """Return the unfinished last line, if any, as a line: nothing more will come."""
        if self.is_empty:
            return Taken.nothing()
        self.feed(b"\n")
        taken = self.take(1)
        self.consumed_bytes -= 1  # the line end above was never in the stream
        return taken

    def _cut(self, rows: int) -> Lines:
        """Take at most `rows` lines off the buffer, of any length."""
        ends, self._ends = self._ends[:rows], self._ends[rows:]
        starts = np.empty_like(ends)
        starts[0], starts[1:] = self._taken_bytes, ends[:-1] + 1
        lines = Lines(self._buffer, starts, ends)
        after = int(ends[-1]) + 1
        self.consumed_bytes += after - self._taken_bytes
        self._taken_bytes = after
        if not self.has_line:
            self._buffer, self._taken_bytes = self._buffer[after:], 0
        return lines

    def _skip_if_too_long(self) -> None:
        skipping = self._head is not None
        if (skipping or len(self._buffer) > self._line_bytes_max) and not self.has_line:
            if self._head is None:
                self._head = self._buffer[:HEAD_BYTES]
            self._skipped_bytes += len(self._buffer)
            self._buffer = b""


def too_long_rejects(source: str, taken: Taken, line_bytes_max: int) -> list[Reject]:
    """Return a reject for each line that was too long."""
    detail = f"longer than {line_bytes_max} bytes"
    return [Reject("line_too_long", source, head, detail) for head in taken.too_long]
