"""A checkpoint: all live states with the positions of sources and sinks, as one durable file.

The file exists whole or not at all. docs/formats/checkpoint.md describes its bytes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import ArtifactError
from forecastd.files import write_pieces_durably
from forecastd.runtime.arena import ArenaSnapshot
from forecastd.runtime.evicted import EvictedIndex
from forecastd.series import Keys

MAGIC = b"FCSTATE2"
OLDER = b"FCSTATE1"
HEADER_BYTES_MAX = 1 << 28
_PREFIX = struct.Struct("<8sQ")
_DIGEST_BYTES = 32
_WORD = 8
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """States and positions that belong together.

    digest: of the stepper that made the states. positions: JSON value per source and sink name.
    evicted: the series that are not in the arena but in a file beside; None: there is no such file.
    """

    digest: str
    snapshot: ArenaSnapshot
    positions: dict[str, Any]
    evicted: EvictedIndex | None = None


def save(path: Path, checkpoint: Checkpoint) -> int:
    """Write a checkpoint durably, piece by piece, and return its size in bytes.

    Raises UserError when it cannot be written.
    """
    size = 0

    def counted() -> Iterator[memoryview]:
        nonlocal size
        digest = hashlib.sha256()
        for array in _arrays(checkpoint):
            for piece in _pieces(array):
                digest.update(piece)
                size += len(piece)
                yield piece
        size += _DIGEST_BYTES
        yield memoryview(digest.digest())

    write_pieces_durably(path, counted())
    return size


def load(path: Path, layout: np.dtype[np.void]) -> Checkpoint | None:
    """Read a checkpoint whose rows have `layout`; None if there is none.

    The arrays are views of the file, which may be replaced but not changed while they are used.
    Raises ArtifactError when the file is damaged, older, newer, or of another layout.
    """
    opened = _read(path)
    if opened is None:
        return None
    content, header, start = opened
    if header["layout"] != layout_text(layout):
        message = f"the checkpoint {path} was made by a model of another shape"
        raise ArtifactError(message, hint="use the old model, or move the file away to start fresh")
    return _checkpoint(path, content, start, header, layout)


def load_as_written(path: Path) -> Checkpoint | None:
    """Read a checkpoint with the layout that it tells itself, as `load` does, for people."""
    opened = _read(path)
    if opened is None:
        return None
    content, header, start = opened
    try:
        layout = layout_of(header["layout"])
    except (ValueError, TypeError) as error:
        raise _damaged(path) from error
    return _checkpoint(path, content, start, header, layout)


def _read(path: Path) -> tuple[mmap.mmap | bytes, dict[str, Any], int] | None:
    """Return the bytes of a whole file, its header, and where what follows begins."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot read the checkpoint {path}: {error.strerror}"
        raise ArtifactError(message) from error
    header, start = _open(path, content)
    return content, header, start


def _checkpoint(
    path: Path,
    content: mmap.mmap | bytes,
    start: int,
    header: dict[str, Any],
    layout: np.dtype[np.void],
) -> Checkpoint:
    try:
        snapshot, evicted = _parts(content, start, header, layout)
    except ValueError:
        raise _damaged(path) from None
    return Checkpoint(header["digest"], snapshot, header["positions"], evicted)


def layout_text(layout: np.dtype[np.void]) -> str:
    """Return a row layout as text that is equal only for equal layouts."""
    return json.dumps([list(map(str, entry)) for entry in layout.descr])


def layout_of(text: str) -> np.dtype[np.void]:
    """Return the row layout that `layout_text` wrote. Raises ValueError where it is none."""
    parts = []
    for name, kind, *shape in json.loads(text):
        sizes = tuple(int(size) for size in re.findall(r"\d+", shape[0])) if shape else ()
        if not re.fullmatch(r"[<|=][fiuV]\d+", kind):
            raise ValueError(kind)
        parts.append((name, np.dtype((np.dtype(kind), sizes))))
    starts = np.cumsum([0, *(kind.itemsize for _, kind in parts)]).tolist()
    fields = [(n, kind, at) for (n, kind), at in zip(parts, starts, strict=False) if n]
    names, kinds, offsets = zip(*fields, strict=True)
    layout = np.dtype({
        "names": names, "formats": kinds, "offsets": offsets, "itemsize": starts[-1],
    })  # fmt: skip
    if layout_text(layout) != text:
        raise ValueError(text)
    return layout


def _arrays(checkpoint: Checkpoint) -> Iterator[NDArray[Any]]:
    """Yield all there is to write before the digest, in the order of the file."""
    keys, rows = checkpoint.snapshot
    evicted = checkpoint.evicted
    header: dict[str, Any] = {
        "digest": checkpoint.digest,
        "layout": layout_text(rows.dtype),
        "positions": checkpoint.positions,
        "series": len(keys),
        "evicted": None,
    }
    if evicted is not None:
        count = len(evicted.keys)
        header["evicted"] = {"number": evicted.number, "records": evicted.end, "series": count}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _WORD)
    yield np.frombuffer(_PREFIX.pack(MAGIC, len(text)) + text, np.uint8)
    yield from _column(keys)
    yield rows
    if evicted is not None:
        yield np.zeros(-rows.nbytes % _WORD, np.uint8)
        yield from _column(evicted.keys)
        yield evicted.places.astype("<i8")


def _column(keys: Keys) -> Iterator[NDArray[Any]]:
    offsets = keys.offsets - keys.offsets[0]
    yield offsets.astype("<i8")
    yield keys.data[keys.offsets[0] : keys.offsets[-1]]
    yield np.zeros(-int(offsets[-1]) % _WORD, np.uint8)


def _pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    for start in range(0, len(raw), _PIECE_BYTES):
        yield raw[start : start + _PIECE_BYTES].data


def _open(path: Path, content: mmap.mmap | bytes) -> tuple[dict[str, Any], int]:
    """Return the header, and where what follows it begins, of a file that is whole."""
    if len(content) < _PREFIX.size + _DIGEST_BYTES:
        raise _damaged(path)
    magic, header_bytes = _PREFIX.unpack_from(content)
    if magic[:-1] != MAGIC[:-1]:
        raise _damaged(path)
    if magic == OLDER:
        message = f"the checkpoint {path} has an older format, which this forecastd does not read"
        raise ArtifactError(
            message, hint="finish with the release that wrote it, or move it away to start fresh"
        )
    if magic != MAGIC:
        message = f"the checkpoint {path} has a format newer than this forecastd knows"
        raise ArtifactError(message, hint="update forecastd, or move the file away to start fresh")
    end = len(content) - _DIGEST_BYTES
    with memoryview(content) as view:
        digest = hashlib.sha256()
        for start in range(0, end, _PIECE_BYTES):
            digest.update(view[start : min(start + _PIECE_BYTES, end)])
    start = _PREFIX.size + header_bytes
    if digest.digest() != content[end:] or header_bytes > HEADER_BYTES_MAX or start > end:
        raise _damaged(path)
    return json.loads(content[_PREFIX.size : start]), start


def _parts(
    content: mmap.mmap | bytes, start: int, header: dict[str, Any], layout: np.dtype[np.void]
) -> tuple[ArenaSnapshot, EvictedIndex | None]:
    """Return the arrays behind the header. Raises ValueError when they do not fill the file."""
    reader = _Reader(content, start, len(content) - _DIGEST_BYTES)
    keys = reader.column(header["series"])
    snapshot = ArenaSnapshot(keys, reader.array(layout, header["series"]))
    evicted = None
    if (known := header["evicted"]) is not None:
        reader.align()
        evicted_keys = reader.column(known["series"])
        places = reader.array(np.dtype("<i8"), known["series"])
        if len(places) and not (places[0] >= 0 and places[-1] < known["records"]):
            raise ValueError
        evicted = EvictedIndex(int(known["number"]), known["records"], evicted_keys, places)
    reader.finish()
    return snapshot, evicted


class _Reader:
    """Takes arrays out of a file one after another; ValueError when it is too short."""

    def __init__(self, content: mmap.mmap | bytes, start: int, end: int) -> None:
        self._content = content
        self._start = start
        self._end = end

    def array(self, kind: np.dtype[Any], count: int) -> NDArray[Any]:
        if not 0 <= count * kind.itemsize <= self._end - self._start:
            raise ValueError
        found = np.frombuffer(self._content, kind, count, self._start)
        self._start += found.nbytes
        return found

    def column(self, count: int) -> Keys:
        offsets = self.array(np.dtype("<i8"), count + 1)
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError
        data = self.array(np.dtype(np.uint8), int(offsets[-1]))
        self.align()
        return Keys(data, offsets)

    def align(self) -> None:
        self._start += -self._start % _WORD

    def finish(self) -> None:
        if self._start != self._end:
            raise ValueError


def _damaged(path: Path) -> ArtifactError:
    message = f"the checkpoint {path} is damaged"
    return ArtifactError(message, hint="restore a copy, or move it away to start fresh")
