"""Drives each source and sink through its outside: what a peer does, and what can be read."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from forecastd.connectors.connections import Connections
from forecastd.connectors.contract import (
    ForecastLines,
    LineBatch,
    Position,
    SourceEnded,
    Surroundings,
)
from forecastd.connectors.file import FileSink, FileSinkSettings, FileSource, FileSourceSettings
from forecastd.connectors.reply import ReplySettings, ReplySink
from forecastd.connectors.socket import SocketSource, TcpSettings, UnixSettings
from forecastd.connectors.stdin import StdinSettings, StdinSource
from forecastd.connectors.stdout import StdoutSettings, StdoutSink

TICKS_MAX = 10_000


class FakeClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def surroundings(folder: Path, clock: FakeClock | None = None, **limits: int) -> Surroundings:
    clock = clock or FakeClock()
    return Surroundings(folder, Connections(clock), clock, **limits)


def take(source: Any, count: int) -> list[bytes]:
    """Call next_batch until `count` lines have come."""
    lines: list[bytes] = []
    for _ in range(TICKS_MAX):
        lines += source.next_batch().lines
        if len(lines) >= count:
            return lines
    raise AssertionError(f"only {len(lines)} of {count} lines came")  # noqa: EM102


def idle(source: Any) -> LineBatch:
    """Return a batch that should be empty."""
    return source.next_batch()


def rest(source: Any) -> list[bytes]:
    """Take lines until the source ends."""
    lines: list[bytes] = []
    for _ in range(TICKS_MAX):
        try:
            lines += source.next_batch().lines
        except SourceEnded:
            return lines
    raise AssertionError("the source does not end")  # noqa: EM101


class FileSourceHarness:
    """A file that somebody appends to."""

    resumes = True

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.surroundings = surroundings(folder)
        self._path = folder / "in.ndjson"
        self._path.touch()

    def open(self, position: Position | None = None) -> FileSource:
        settings = FileSourceSettings(type="file", path=self._path.name)
        return FileSource("in", settings, self.surroundings, position)

    def send(self, lines: list[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    def resend_from(self, position: Position, lines: list[bytes]) -> None:
        """The file still has everything."""


class StdinSourceHarness:
    """A pipe. Each life has a new one."""

    resumes = False

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.surroundings = surroundings(folder)
        self._reader, self._writer = os.pipe()
        stack.callback(os.close, self._reader)
        stack.callback(os.close, self._writer)

    def open(self, position: Position | None = None) -> StdinSource:
        settings = StdinSettings(type="stdin")
        return StdinSource("in", settings, self.surroundings, position, descriptor=self._reader)

    def send(self, lines: list[bytes]) -> None:
        os.write(self._writer, b"".join(line + b"\n" for line in lines))


class SocketSourceHarness:
    """A client of a named stream that sends from the position it is told."""

    resumes = True

    def __init__(self, folder: Path, stack: ExitStack, kind: str) -> None:
        self.surroundings = surroundings(folder)
        self._short = stack.enter_context(tempfile.TemporaryDirectory())
        self._kind = kind
        self._stack = stack
        self._client: socket.socket | None = None

    def open(self, position: Position | None = None) -> SocketSource:
        settings = (
            UnixSettings(type="unix", path=f"{self._short}/in.sock")
            if self._kind == "unix"
            else TcpSettings(type="tcp", listen="127.0.0.1:0")
        )
        self.source = SocketSource("in", settings, self.surroundings, position)
        self._client = None
        return self.source

    def connect(self) -> socket.socket:
        family = socket.AF_UNIX if self._kind == "unix" else socket.AF_INET
        client = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        client.connect(self.source.address)
        return client

    def greet(self) -> int:
        """Open the stream and return the position the source tells."""
        self._client = self.connect()
        self._client.sendall(b'{"stream":"meter"}\n')
        assert self.source.next_batch().lines == []
        return json.loads(read_line(self._client, self.source))["position"]

    def send(self, lines: list[bytes]) -> None:
        if self._client is None:
            self.greet()
        self._client.sendall(b"".join(line + b"\n" for line in lines))

    def resend_from(self, position: Position, lines: list[bytes]) -> None:
        self.send(lines[self.greet() :])


def read_line(client: socket.socket, source: SocketSource) -> bytes:
    """Read one line a source has sent, letting it work until then."""
    client.setblocking(False)
    data = b""
    for _ in range(TICKS_MAX):
        try:
            data += client.recv(1)
        except BlockingIOError:
            source.next_batch()
        if data.endswith(b"\n"):
            client.setblocking(True)
            return data
    raise AssertionError(f"no line, only {data!r}")  # noqa: EM102


class UnixHarness(SocketSourceHarness):
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack, "unix")


class TcpHarness(SocketSourceHarness):
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__(folder, stack, "tcp")


SOURCE_HARNESSES: dict[str, Any] = {
    "stdin": StdinSourceHarness,
    "file": FileSourceHarness,
    "unix": UnixHarness,
    "tcp": TcpHarness,
}


class FileSinkHarness:
    """The file a sink appends to."""

    resumes = True

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._surroundings = surroundings(folder)
        self._path = folder / "out.ndjson"

    def open(self, position: Position | None = None) -> FileSink:
        settings = FileSinkSettings(type="file", path=self._path.name)
        return FileSink("out", settings, self._surroundings, position)

    def batch(self, lines: list[bytes]) -> ForecastLines:
        return ForecastLines.of(lines)

    def arrived(self) -> bytes:
        return self._path.read_bytes()


class StdoutSinkHarness:
    """The reading end of a pipe."""

    resumes = False

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._surroundings = surroundings(folder)
        self._reader, self._writer = os.pipe()
        stack.callback(os.close, self._reader)
        stack.callback(os.close, self._writer)

    def open(self, position: Position | None = None) -> StdoutSink:
        settings = StdoutSettings(type="stdout")
        return StdoutSink("out", settings, self._surroundings, position, descriptor=self._writer)

    def batch(self, lines: list[bytes]) -> ForecastLines:
        return ForecastLines.of(lines)

    def arrived(self) -> bytes:
        return os.read(self._reader, 1 << 16)


class ReplySinkHarness:
    """A client that gets answers."""

    resumes = False

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._surroundings = surroundings(folder)
        self._client, server = socket.socketpair()
        connection = self._surroundings.connections.add(server, 1 << 16, 10.0)
        self._tag = connection.tag
        stack.callback(self._client.close)
        stack.callback(self._surroundings.connections.remove, connection)

    def open(self, position: Position | None = None) -> ReplySink:
        return ReplySink("out", ReplySettings(type="reply"), self._surroundings, position)

    def batch(self, lines: list[bytes]) -> ForecastLines:
        return ForecastLines.of(lines, np.full(len(lines), self._tag, np.int32))

    def arrived(self) -> bytes:
        return self._client.recv(1 << 16)


SINK_HARNESSES: dict[str, Any] = {
    "stdout": StdoutSinkHarness,
    "file": FileSinkHarness,
    "reply": ReplySinkHarness,
}


def harness_of(kind: Any, folder: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        yield kind(folder, stack)
