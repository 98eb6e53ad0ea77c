"""Cuts a stream of bytes into lines in bounded memory, whatever the length of a line."""

from __future__ import annotations

from dataclasses import dataclass

from forecastd.series import Reject

HEAD_BYTES = 200
"""How much of a line that is too long is kept to show to people."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Complete lines, and the beginnings of complete lines that were too long."""

    lines: list[bytes]
    too_long: list[bytes]

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
        self._head: bytes | None = None  # beginning of the line that is being skipped
        self._skipped_bytes = 0

    @property
    def has_line(self) -> bool:
        """Whether `take` would return something."""
        return b"\n" in self._buffer

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, not even the beginning of a line."""
        return not self._buffer and self._head is None

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    def take(self, rows: int) -> Taken:
        """Return at most `rows` complete lines."""
        parts = self._buffer.split(b"\n", rows)
        self._buffer = parts.pop()
        too_long = []
        if parts and self._head is not None:
            too_long.append(self._head)
            self.consumed_bytes += self._skipped_bytes + len(parts.pop(0)) + 1
            self._head, self._skipped_bytes = None, 0
        self.consumed_bytes += sum(map(len, parts)) + len(parts)
        too_long += [part[:HEAD_BYTES] for part in parts if len(part) > self._line_bytes_max]
        lines = [part for part in parts if len(part) <= self._line_bytes_max]
        self._skip_if_too_long()
        return Taken(lines, too_long)

    def finish(self) -> Taken:
        """Return the unfinished last line, if any, as a line: nothing more will come."""
        if self.is_empty:
            return Taken([], [])
        self._buffer += b"\n"
        taken = self.take(1)
        self.consumed_bytes -= 1  # the line end above was never in the stream
        return taken

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
