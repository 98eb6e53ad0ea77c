"""Cuts an Arrow IPC stream into record batches in bounded memory, without Arrow.

Only the frame of each message is read: its length, its kind, and how many rows it has. Every
number is checked before it is used, for the bytes may come from anybody.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

_CONTINUATION = 0xFFFFFFFF
_PREFIX_BYTES = 8
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3


class Frame(NamedTuple):
    """A record batch: with `context`, schema and dictionaries, before it, a whole IPC stream."""

    context: bytes
    message: bytes
    rows: int
    end: int


class Piece(NamedTuple):
    """Rows [start, stop) of a record batch."""

    frame: Frame
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TakenFrames:
    """Pieces in order, and what was wrong with the stream, if it broke."""

    pieces: list[Piece]
    broken: str | None = None

    @property
    def count(self) -> int:
        """How many rows and problems were taken."""
        return sum(piece.stop - piece.start for piece in self.pieces) + (self.broken is not None)


class _Message(NamedTuple):
    kind: int
    rows: int
    dictionary: int
    is_delta: bool
    body_bytes: int


class _BrokenError(Exception):
    pass


class FrameSplitter:
    """Takes bytes in, gives rows out; `consumed_bytes` ends at the last batch given out whole.

    rows_taken: how many rows of the next batch were given out already. After bytes that are no
    Arrow stream nothing more is read, for no later frame can be found. skip: consumed_bytes and
    rows_taken of an earlier life that read the same stream, whose rows are not given out again.
    Memory is bounded by twice frame_bytes_max (a batch, and the dictionaries) plus what was fed.
    """

    def __init__(self, frame_bytes_max: int, skip: tuple[int, int] = (0, 0)) -> None:
        self.consumed_bytes, self.rows_taken = skip
        self._skip_bytes = skip[0]
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._read_bytes = 0  # of the stream, before the buffer
        self._schema = b""
        self._dictionaries: dict[int, bytes] = {}
        self._frames: deque[Frame] = deque()
        self._broken: str | None = None
        self._told = False

    @property
    def has_line(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._frames) or (self._broken is not None and not self._told)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, not even the beginning of a frame."""
        return not self._frames and not self._buffer

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        if self._broken is not None:
            return
        self._buffer += data
        try:
            while self._take_message():
                pass
        except _BrokenError as problem:
            self._broken = str(problem)
            self._buffer.clear()

    def take(self, rows: int) -> TakenFrames:
        """Return at most `rows` rows of batches that are complete."""
        pieces: list[Piece] = []
        while self._frames and rows > 0:
            frame, start = self._frames[0], self.rows_taken
            stop = min(frame.rows, start + rows)
            if stop > start:
                pieces.append(Piece(frame, start, stop))
            rows -= stop - start
            self.rows_taken = stop
            if stop == frame.rows:
                self._frames.popleft()
                self.consumed_bytes, self.rows_taken = frame.end, 0
        if pieces or self._frames or self._broken is None or self._told:
            return TakenFrames(pieces)
        self._told = True
        return TakenFrames([], self._broken)

    def finish(self) -> TakenFrames:
        """Return what is wrong with a stream that ends here, if anything is."""
        if self._buffer:
            self._buffer.clear()
            self._broken = "the stream ends within a frame"
        return self.take(1)

    def _take_message(self) -> bool:
        """Take the message at the beginning of the buffer; False: it is not complete."""
        buffer = self._buffer
        if len(buffer) < _PREFIX_BYTES:
            return False
        continuation, metadata_bytes = struct.unpack_from("<Ii", buffer)
        if continuation != _CONTINUATION or metadata_bytes < 0:
            detail = "not an Arrow IPC stream, or one that was damaged"
            raise _BrokenError(detail)
        self._check_size(metadata_bytes)
        if not metadata_bytes:  # the end of a stream; another one may follow
            self._advance(_PREFIX_BYTES)
            self._schema = b""
            return True
        if len(buffer) < _PREFIX_BYTES + metadata_bytes:
            return False
        message = _read_message(self._first(_PREFIX_BYTES + metadata_bytes)[_PREFIX_BYTES:])
        size = _PREFIX_BYTES + metadata_bytes + message.body_bytes
        self._check_size(size)
        if len(buffer) < size:
            return False
        self._keep(message, self._first(size))
        self._advance(size)
        return True

    def _keep(self, message: _Message, content: bytes) -> None:
        if message.kind == _SCHEMA:
            self._schema, self._dictionaries = content, {}
            return
        if not self._schema:
            detail = "the Arrow stream does not begin with its schema"
            raise _BrokenError(detail)
        if message.kind == _DICTIONARY:
            before = self._dictionaries.get(message.dictionary, b"") if message.is_delta else b""
            self._dictionaries[message.dictionary] = before + content
            self._check_size(sum(map(len, self._dictionaries.values())))
        elif message.kind == _RECORDS:
            end = self._read_bytes + len(content)
            if end <= self._skip_bytes or not message.rows:
                return
            context = b"".join([self._schema, *self._dictionaries.values()])
            self._frames.append(Frame(context, content, message.rows, end))

    def _first(self, size: int) -> bytes:
        """Return a copy of the first bytes of the buffer."""
        with memoryview(self._buffer) as view:
            return bytes(view[:size])

    def _advance(self, size: int) -> None:
        del self._buffer[:size]
        self._read_bytes += size

    def _check_size(self, size: int) -> None:
        if size > self._frame_bytes_max:
            detail = f"a frame of {size} bytes, more than {self._frame_bytes_max}"
            raise _BrokenError(detail)


def _read_message(metadata: bytes) -> _Message:
    """Read what a flatbuffer of Arrow's Message says of its kind and sizes."""
    try:
        table = _Table(metadata, _number(metadata, "<I", 0))
        kind = table.value(1, "<B")
        body_bytes = table.value(3, "<q")
        header = table.table(2)
        rows = header.value(0, "<q") if kind == _RECORDS else 0
        dictionary = header.value(0, "<q") if kind == _DICTIONARY else 0
        is_delta = kind == _DICTIONARY and header.value(2, "<B") != 0
    except struct.error:
        detail = "a frame whose header is damaged"
        raise _BrokenError(detail) from None
    if body_bytes < 0 or rows < 0:
        detail = "a frame whose sizes are negative"
        raise _BrokenError(detail)
    return _Message(kind, rows, dictionary, is_delta, body_bytes)


def _number(data: bytes, kind: str, at: int) -> int:
    if at < 0:
        raise struct.error
    return int(struct.unpack_from(kind, data, at)[0])


class _Table:
    """A table of a flatbuffer. Whatever lies outside the buffer raises struct.error."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - _number(data, "<i", at)
        self._fields_bytes = _number(data, "<H", self._fields)

    def value(self, field: int, kind: str) -> int:
        """Return a field, 0 where it is left out."""
        place = self._place(field)
        return _number(self._data, kind, place) if place else 0

    def table(self, field: int) -> _Table:
        """Return the table a field points to."""
        place = self._place(field)
        if not place:
            raise struct.error
        return _Table(self._data, place + _number(self._data, "<I", place))

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._fields_bytes:
            return 0
        offset = _number(self._data, "<H", self._fields + entry)
        return self._at + offset if offset else 0
