"""Keeps what was not used, as JSON lines with the reason, in bounded space."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from forecastd.connectors.file import write_all
from forecastd.errors import PeerError, UserError
from forecastd.files import rotate
from forecastd.series import Reject

WallClock = Callable[[], datetime]


def wall_clock() -> datetime:
    """Return the time of day, for people; nothing is measured with it."""
    return datetime.now(UTC)


class DeadLetter:
    """Appends rejects to a file; when it is full it becomes NAME.1 and a new one begins.

    After a crash the rejects since the last checkpoint come once more.
    """

    def __init__(self, path: Path, bytes_max: int, clock: WallClock = wall_clock) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._clock = clock
        self._descriptor = self._open()

    def append(self, rejects: Iterable[Reject]) -> None:
        """Keep rejects. Raises PeerError when the disk fails."""
        now = self._clock().isoformat(timespec="milliseconds")
        lines = [_line(reject, now) for reject in rejects]
        if not lines:
            return
        used_bytes = os.fstat(self._descriptor).st_size
        if used_bytes and used_bytes + sum(map(len, lines)) > self._bytes_max:
            os.close(self._descriptor)
            rotate(self._path)
            self._descriptor = self._open()
        write_all(self._descriptor, b"".join(self._fitting(lines)), str(self._path))

    def flush(self) -> None:
        """Return when everything is on disk. Raises PeerError when the disk fails."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            message = f"cannot write {self._path} to disk: {error.strerror}"
            raise PeerError(message) from error

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _fitting(self, lines: list[bytes]) -> list[bytes]:
        """Return the first lines that a new file has room for; the counts know of the others."""
        kept, room = [], self._bytes_max
        for line in lines:
            room -= len(line)
            if room < 0:
                break
            kept.append(line)
        return kept

    def _open(self) -> int:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            message = f"cannot write the dead-letter file {self._path}: {error.strerror}"
            raise UserError(message, hint="set dead_letter.path to a writable place") from error


def _line(reject: Reject, now: str) -> bytes:
    record = {
        "time": now,
        "reason": reject.reason,
        "source": reject.source,
        "detail": reject.detail,
        "line": reject.line.decode("utf-8", errors="backslashreplace"),
    }
    return msgspec.json.encode(record) + b"\n"
