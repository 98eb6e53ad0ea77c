"""What every source and sink promises, so that the daemon can treat them alike.

A source hands out raw lines and a sink takes encoded lines: connectors know nothing of models.
Everything a connector remembers between two lives comes from the position it is opened with.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from forecastd.connectors.connections import Clock, Connections
from forecastd.connectors.frames import FrameSplitter, Piece, TakenFrames
from forecastd.connectors.lines import Lines, LineSplitter, Taken, too_long_rejects
from forecastd.series import IntArray, Reject

PIPE_BYTES = 1 << 20
"""The most a user without privileges may ask for."""

Position = dict[str, Any]
"""A JSON object that only the connector that made it understands. {}: nothing to resume."""

Tags = NDArray[np.int32]

Format = Literal["ndjson", "arrow"]
"""How observations and forecasts are written: docs/formats/ndjson.md, docs/formats/arrow.md."""


class SourceEnded(Exception):
    """A source has nothing more to give, now and later."""


@dataclass(slots=True)
class LineBatch:
    """Lines in order of arrival, without their line ends.

    tags: [n] int32, the connection each line came from (-1: none); None if there are none.
    rejects: lines that were too long to be returned. Both count as consumed.
    """

    source: str
    lines: Sequence[bytes]
    tags: Tags | None = None
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines) + len(self.rejects)


@dataclass(slots=True)
class FrameBatch:
    """Rows of Arrow record batches in order of arrival; rejects as in LineBatch."""

    source: str
    pieces: list[Piece]
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(piece.stop - piece.start for piece in self.pieces) + len(self.rejects)


Batch = LineBatch | FrameBatch


@dataclass(slots=True)
class ForecastLines:
    """Encoded forecasts in one buffer; line i, with its line end, ends at ends[i].

    tags as in LineBatch. head: what has to stand once before everything else at a place; the
    schema of an Arrow stream, whose lines are its record batches.
    """

    data: bytes
    ends: IntArray
    tags: Tags | None = None
    head: bytes = b""

    @classmethod
    def of(cls, lines: Sequence[bytes], tags: Tags | None = None) -> ForecastLines:
        """Return the buffer of some lines."""
        column = Lines.of(lines)
        return cls(column.data, column.ends, tags)

    @property
    def lines(self) -> Lines:
        """The single lines."""
        return Lines(self.data, np.concatenate([[0], self.ends[:-1]])[: len(self.ends)], self.ends)


@dataclass(frozen=True)
class Surroundings:
    """What connectors share: where relative paths start, limits, live connections, the clock."""

    folder: Path
    connections: Connections
    clock: Clock
    batch_rows: int = 16_384
    line_bytes_max: int = 65536
    frame_bytes_max: int = 1 << 26

    def resolve(self, path: str) -> Path:
        """Return a configured path; a relative one starts at the configuration's folder."""
        return self.folder / Path(path).expanduser()

    def splitter(
        self, form: Format, skip: tuple[int, int] = (0, 0)
    ) -> LineSplitter | FrameSplitter:
        """Return what cuts a stream of this format; skip: as in FrameSplitter, for Arrow only."""
        if form == "arrow":
            return FrameSplitter(self.frame_bytes_max, skip)
        return LineSplitter(self.line_bytes_max)

    def batch(self, source: str, taken: Taken | TakenFrames) -> Batch:
        """Return the batch of what a splitter gave."""
        if isinstance(taken, Taken):
            rejects = too_long_rejects(source, taken, self.line_bytes_max)
            return LineBatch(source, taken.lines, rejects=rejects)
        broken = [] if taken.broken is None else [Reject("bad_frame", source, b"", taken.broken)]
        return FrameBatch(source, taken.pieces, broken)


def widen_pipe(descriptor: int) -> None:
    """Let a pipe hold PIPE_BYTES, so that both ends work in large batches; else do nothing."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Source(Protocol):
    """A stream of lines that can say where it stands and go on from there.

    Opening: `Class(name, settings, surroundings, position)` resumes after the last line that had
    been returned when `position` was taken; None or {} starts fresh. Raises UserError when the
    place cannot be opened. No method blocks. After `close` only `close` may be called, and
    `next_batch`, which raises SourceEnded.
    """

    name: str

    @property
    def poll_interval_s(self) -> float | None:
        """Ask again after so long although no descriptor is ready; None: descriptors tell all."""
        ...

    @property
    def commit_wanted(self) -> bool:
        """Whether a peer waits for a commit of what was returned so far."""
        ...

    def next_batch(self) -> Batch:
        """Return at most batch_rows lines, none when idle. The caller owns the batch.

        Raises SourceEnded when nothing more will come, PeerError when the source fails.
        """
        ...

    def position(self) -> Position:
        """Return where to resume after the last line returned."""
        ...

    def acknowledge(self, position: Position) -> None:
        """Tell peers that everything up to `position` is durable. Never raises for a lost peer."""
        ...

    def drain(self) -> None:
        """Take nothing new: next_batch returns what has arrived, then raises SourceEnded."""
        ...

    def descriptors(self) -> list[int]:
        """Return file descriptors that become readable when next_batch has work. Do not read."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


class Sink(Protocol):
    """A place for forecasts. Repeats of (series, origin) after a crash are harmless to it.

    Opening: `Class(name, settings, surroundings, position)`; a sink that can, drops what was
    written after `position`, so that nothing is repeated or torn. Raises UserError when the place
    cannot be opened. After `close` only `close` may be called.
    """

    name: str

    @property
    def format(self) -> Format:
        """How forecasts must be encoded for this sink."""
        ...

    def write(self, batch: ForecastLines) -> None:
        """Take forecasts; the caller keeps the batch. May block as long as the peer does.

        Raises PeerError when the place fails, BrokenPipeError when its reader is gone.
        """
        ...

    def flush(self) -> None:
        """Make everything written durable, or hand it to the peer's machine, before returning."""
        ...

    def position(self) -> Position:
        """Return where to resume after everything written; only meaningful after `flush`."""
        ...

    def close(self) -> None:
        """Release everything without flushing. May be called twice."""
        ...
