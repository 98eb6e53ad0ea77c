"""Series that had to leave the arena: their rows in a file that only grows, found again by key.

A checkpoint names the file, its length and the keys in it. What was appended after a checkpoint is
cut off when it is restored, and nothing before that length ever changes, so both agree after any
crash. docs/formats/checkpoint.md describes the bytes.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import ArtifactError, PeerError
from forecastd.files import sync_folder
from forecastd.runtime.key_table import KeyTable, checksums, key_checksums
from forecastd.series import IntArray, Keys

MAGIC = b"FCEVICT1"
CHUNK_ROWS = 16384
_HEADER = struct.Struct("<8sQ")
_NAME = re.compile(r"evicted\.(\d+)")
_DEAD_BYTES_MIN = 1 << 24
"""Less than this is not worth writing the file anew."""

Rows = NDArray[np.void]


class EvictedIndex(NamedTuple):
    """What a checkpoint keeps of evicted series. keys[i] owns record places[i], rising.

    number: of the file `evicted.NUMBER` beside the checkpoint. end: how many of its records belong
    to the checkpoint.
    """

    number: int
    end: int
    keys: Keys
    places: IntArray


class Evicted:
    """The evicted series of an arena, in a folder that nobody else writes to.

    row_bytes: the size of a row. index: from the checkpoint that was restored; None: no series.
    Raises ArtifactError when the file does not fit the index, and PeerError when the disk fails.
    """

    def __init__(self, folder: Path, row_bytes: int, index: EvictedIndex | None = None) -> None:
        self._folder = folder
        self._record = np.dtype([("row", f"V{row_bytes}"), ("checksum", np.uint64)])
        self._table = KeyTable()
        self._map: mmap.mmap | None = None
        if index is None:
            self._number = max(_numbers(folder), default=0) + 1
            self._path = folder / f"evicted.{self._number}"
            self._descriptor = self._create()
        else:
            self._number = index.number
            self._path = folder / f"evicted.{self._number}"
            self._descriptor = self._reopen(index.end)
            self._table.fill(index.keys, index.places, index.end)

    def __len__(self) -> int:
        return len(self._table)

    def holds(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which series are here: [n]."""
        held: NDArray[np.bool_] = self._table.find(keys) >= 0
        return held

    def put(self, keys: Keys, rows: Rows) -> None:
        """Keep the rows of series that are not here yet: [n]."""
        end = self._table.end
        self._table.claim(keys, end + len(keys))
        self._append(end, self._sealed(keys, rows))

    def take(self, keys: Keys) -> tuple[IntArray, Rows]:
        """Give series back: which of `keys` (all different) were here, and their rows."""
        places = self._table.find(keys)
        found = np.flatnonzero(places >= 0)
        if len(found) == 0:
            return found, np.empty(0, self._record["row"])
        rows = self._read(keys.take(found), places[found])
        self._table.delete(places[found])
        return found, rows

    def settle(self) -> EvictedIndex:
        """Make all of it durable, and return what the next checkpoint has to keep.

        The file is written anew when most of it is dead; the old one stays until `settled`.
        """
        dead = self._table.end - len(self._table)
        if dead > len(self._table) and dead * self._record.itemsize >= _DEAD_BYTES_MIN:
            self._write_anew()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        places = self._table.live_slots()
        return EvictedIndex(self._number, self._table.end, self._table.keys_at(places), places)

    def settled(self) -> None:
        """Remove the files that no checkpoint names any more."""
        for number in _numbers(self._folder):
            if number != self._number:
                (self._folder / f"evicted.{number}").unlink(missing_ok=True)

    def chunks(self) -> Iterator[tuple[Keys, Rows]]:
        """Yield all series with their rows."""
        places = self._table.live_slots()
        for start in range(0, len(places), CHUNK_ROWS):
            chunk = places[start : start + CHUNK_ROWS]
            keys = self._table.keys_at(chunk)
            yield keys, self._read(keys, chunk)

    def close(self) -> None:
        """Close the file; the object is of no use after that."""
        self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _write_anew(self) -> None:
        fresh = Evicted(self._folder, self._record["row"].itemsize)
        for keys, rows in self.chunks():
            fresh.put(keys, rows)
        self.close()
        self._number, self._path = fresh._number, fresh._path
        self._descriptor, self._table = fresh._descriptor, fresh._table

    def _sealed(self, keys: Keys, rows: Rows) -> NDArray[np.void]:
        records = np.empty(len(rows), self._record)
        records["row"] = rows.view(self._record["row"])
        records["checksum"] = _seals(keys, rows)
        return records

    def _read(self, keys: Keys, places: IntArray) -> Rows:
        """Return rows that are what was written, or raise."""
        needed = _HEADER.size + self._table.end * self._record.itemsize
        try:
            if self._map is None or len(self._map) < needed:
                self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error
        if len(self._map) < needed:
            raise self._damaged()
        records = np.frombuffer(self._map, self._record, self._table.end, _HEADER.size)[places]
        rows = records["row"].copy()
        if not np.array_equal(records["checksum"], _seals(keys, rows)):
            raise self._damaged()
        return rows

    def _create(self) -> int:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            os.write(descriptor, _HEADER.pack(MAGIC, self._record.itemsize))
            sync_folder(self._folder)
        except OSError as error:
            raise self._failed(error) from error
        return descriptor

    def _reopen(self, end: int) -> int:
        """Open the file of a checkpoint, and cut off what came after it."""
        size = _HEADER.size + end * self._record.itemsize
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            head = os.pread(descriptor, _HEADER.size, 0)
            right = head == _HEADER.pack(MAGIC, self._record.itemsize)
            if right and os.fstat(descriptor).st_size >= size:
                os.ftruncate(descriptor, size)
                return descriptor
            os.close(descriptor)
        except FileNotFoundError:
            message = f"the file of evicted series {self._path} that the checkpoint names is gone"
            hint = "restore it, or move the checkpoint away to start fresh"
            raise ArtifactError(message, hint=hint) from None
        except OSError as error:
            raise self._failed(error) from error
        raise self._damaged()

    def _append(self, place: int, records: NDArray[np.void]) -> None:
        rest = memoryview(records.view(np.uint8).data)
        offset = _HEADER.size + place * self._record.itemsize
        try:
            while rest:
                written = os.pwrite(self._descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> PeerError:
        reason = getattr(error, "strerror", None) or error
        hint = "make room on the disk, or set when_full to refuse"
        return PeerError(f"cannot use {self._path}: {reason}", hint=hint)

    def _damaged(self) -> ArtifactError:
        message = f"the file of evicted series {self._path} is damaged"
        hint = "restore a copy of it and of the checkpoint, or move both away to start fresh"
        return ArtifactError(message, hint=hint)


def _seals(keys: Keys, rows: Rows) -> NDArray[np.uint64]:
    """Return a checksum of each key with its row."""
    size = rows.dtype.itemsize
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), size)
    return checksums(raw) ^ key_checksums(keys)


def _numbers(folder: Path) -> list[int]:
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return [int(match[1]) for match in found if match]
