"""Source `file` follows a growing file; sink `file` appends to one.

The source knows its place by inode, byte offset and a digest of the first bytes, so it survives
rotation and truncation. The sink cuts off what was written after the last checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from forecastd.connectors.contract import (
    Batch,
    ForecastLines,
    Format,
    Position,
    SourceEnded,
    Surroundings,
)
from forecastd.connectors.frames import FrameSplitter, TakenFrames
from forecastd.connectors.lines import Taken
from forecastd.errors import PeerError, UserError
from forecastd.settings import Duration, Settings

CHUNK_BYTES = 1 << 19
HEAD_BYTES = 1024
"""The first bytes whose digest tells a file from another one under the same inode."""


class FileSourceSettings(Settings):
    """[sources.NAME] type = "file"."""

    type: Literal["file"]
    path: str = Field(description="the file to read; it may appear later when followed")
    follow: bool = Field(True, description="wait for more at the end; false: stop there")
    format: Format = Field(
        "ndjson", description="how observations are written: ndjson, or arrow (an IPC stream)"
    )
    poll: Duration = Field(0.5, description="how often to look for more at the end")


class FileSinkSettings(Settings):
    """[sinks.NAME] type = "file"."""

    type: Literal["file"]
    path: str = Field(description="the file to append forecasts to")
    format: Format = Field(
        "ndjson", description="how forecasts are written: ndjson, or arrow (an IPC stream)"
    )


class FileSource:
    """Reads a file from its first byte, and goes on when it grows, is rotated or truncated.

    While it waits at the end of a followed file, an unfinished last line is left for later.
    """

    commit_wanted = False

    def __init__(
        self,
        name: str,
        settings: FileSourceSettings,
        surroundings: Surroundings,
        position: Position | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._surroundings = surroundings
        self._path = surroundings.resolve(settings.path)
        self._descriptor = -1
        self._ended = False
        self._draining = False
        self._seen_end = False
        self._splitter = surroundings.splitter(settings.format)
        self._head = b""
        self._inode = self._offset = self._read_bytes = 0
        self._resume(position or {})
        if self._descriptor < 0 and not settings.follow:
            message = f"source {name}: there is no file {self._path}"
            raise UserError(message, hint="correct its path, or set follow = true to wait for it")

    @property
    def poll_interval_s(self) -> float | None:
        """0 until the end is reached, then the configured interval."""
        at_end = self._seen_end and self._settings.follow
        return self._settings.poll if at_end else 0.0

    def next_batch(self) -> Batch:
        """Return the next lines; SourceEnded at the end of a file that is not followed."""
        if self._ended:
            raise SourceEnded
        try:
            taken = self._take()
        except OSError as error:
            message = f"source {self.name}: cannot read {self._path}: {error.strerror}"
            raise PeerError(message) from error
        return self._surroundings.batch(self.name, taken)

    def position(self) -> Position:
        """Return inode, offset after the last line returned, and the digest of the head."""
        if self._descriptor < 0:
            return {}
        offset = self._offset + self._splitter.consumed_bytes
        head = self._head[:offset]
        position = {
            "inode": self._inode,
            "offset": offset,
            "head_bytes": len(head),
            "head_sha256": hashlib.sha256(head).hexdigest(),
        }
        if isinstance(self._splitter, FrameSplitter):
            position["rows"] = self._splitter.rows_taken
        return position

    def acknowledge(self, position: Position) -> None:
        """Do nothing: the position in the checkpoint is all there is."""

    def drain(self) -> None:
        """Read nothing more from the file: the rest stays there for the next life."""
        self._draining = True

    def descriptors(self) -> list[int]:
        """Return none: a regular file is always readable, so it is polled instead."""
        return []

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._start(-1, 0)

    def _take(self) -> Taken | TakenFrames:
        taken = self._splitter.take(self._surroundings.batch_rows)
        if taken.count:
            return taken
        if self._draining:
            self._ended = True
            raise SourceEnded
        self._read()
        taken = self._splitter.take(self._surroundings.batch_rows)
        if taken.count or not self._seen_end:
            return taken
        if not self._settings.follow:
            taken = self._splitter.finish()
            self._ended = not taken.count
            if self._ended:
                raise SourceEnded
            return taken
        return self._follow()

    def _read(self) -> None:
        """Feed the next chunk; what is read after an end may be another file's content."""
        if self._descriptor < 0:
            self._seen_end = True
            return
        if self._seen_end and not self._head_matches(self._descriptor, self._head):
            self._splitter.finish()
            self._start(self._descriptor, 0)
        data = os.pread(self._descriptor, CHUNK_BYTES, self._read_bytes)
        if self._read_bytes < HEAD_BYTES:
            self._head = (self._head + data)[:HEAD_BYTES]
        self._read_bytes += len(data)
        self._splitter.feed(data)
        self._seen_end = not data

    def _follow(self) -> Taken | TakenFrames:
        """At the end: look whether the path now leads to another file, or to a shorter one."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return self._splitter.take(0)
        if self._descriptor >= 0 and status.st_ino == self._inode:
            if status.st_size >= self._read_bytes:
                return self._splitter.take(0)
            taken = self._splitter.finish()
            self._start(self._descriptor, 0)
            return taken
        if self._descriptor >= 0 and os.fstat(self._descriptor).st_size > self._read_bytes:
            return self._splitter.take(
                0
            )  # lines came between the last read and the rotation: read first
        taken = self._splitter.finish()
        self._start(self._open(self._path), 0)
        return taken

    def _resume(self, position: Position) -> None:
        """Open the file the position speaks of, under its own or a rotated name, else the path."""
        for path in (self._path, *sorted(self._path.parent.glob(f"{self._path.name}?*"))):
            if not position or not path.is_file() or path.stat().st_ino != position["inode"]:
                continue
            descriptor = self._open(path)
            head = os.pread(descriptor, position["head_bytes"], 0)
            same = hashlib.sha256(head).hexdigest() == position["head_sha256"]
            if same and os.fstat(descriptor).st_size >= position["offset"]:
                self._start(descriptor, position["offset"], position.get("rows", 0))
                return
            os.close(descriptor)
        if self._path.exists():
            self._start(self._open(self._path), 0)

    def _start(self, descriptor: int, offset: int, rows: int = 0) -> None:
        """Read `descriptor` from `offset` on, closing another one that was open.

        An Arrow stream is read from its beginning, where its schema is, and rows are skipped.
        """
        self._splitter = self._surroundings.splitter(self._settings.format, (offset, rows))
        offset = 0 if self._settings.format == "arrow" else offset
        if self._descriptor not in (-1, descriptor):
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino if descriptor >= 0 else 0
        self._head = os.pread(descriptor, min(offset, HEAD_BYTES), 0) if descriptor >= 0 else b""
        self._offset = self._read_bytes = offset
        self._seen_end = False

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            message = f"source {self.name}: cannot open {path}: {error.strerror}"
            raise UserError(message, hint="check the path and its permissions") from error

    @staticmethod
    def _head_matches(descriptor: int, head: bytes) -> bool:
        return os.pread(descriptor, len(head), 0) == head


class FileSink:
    """Appends lines. A file that was replaced or cut since the checkpoint is appended to."""

    def __init__(
        self,
        name: str,
        settings: FileSinkSettings,
        surroundings: Surroundings,
        position: Position | None = None,
    ) -> None:
        self.name = name
        self.format = settings.format
        self._has_head = False
        self._path = surroundings.resolve(settings.path)
        try:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            status = os.fstat(self._descriptor)
            if position and status.st_ino == position["inode"]:
                os.ftruncate(self._descriptor, min(status.st_size, position["size"]))
        except OSError as error:
            message = f"sink {name}: cannot write {self._path}: {error.strerror}"
            raise UserError(message, hint="check that its folder exists and is writable") from error

    def write(self, batch: ForecastLines) -> None:
        """Append the lines, after the head of their format where the file is empty.

        Raises UserError where the file begins with another one.
        """
        if batch.head and not self._has_head:
            self._write_head(batch.head)
        write_all(self._descriptor, batch.data, str(self._path))

    def _write_head(self, head: bytes) -> None:
        with self._path.open("rb") as file:
            found = file.read(len(head))
        if not found:
            write_all(self._descriptor, head, str(self._path))
        elif found != head:
            message = f"sink {self.name}: {self._path} does not begin with this model's schema"
            raise UserError(message, hint="give the sink another path, or move the file away")
        self._has_head = True

    def flush(self) -> None:
        """Return when the file is on disk. A failed fsync is not tried again: data may be gone."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            message = f"sink {self.name}: cannot write {self._path} to disk: {error.strerror}"
            raise PeerError(message) from error

    def position(self) -> Position:
        """Return inode and size."""
        status = os.fstat(self._descriptor)
        return {"inode": status.st_ino, "size": status.st_size}

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def write_all(descriptor: int, data: bytes, place: str) -> None:
    """Write all bytes, blocking while the reader is slow.

    Raises BrokenPipeError when the reader is gone, PeerError when the place fails otherwise.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"cannot write to {place}: {error.strerror}"
        raise PeerError(message) from error
