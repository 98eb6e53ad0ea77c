"""A client that sends lines to a socket source and resumes after any break on either side.

docs/formats/ndjson.md describes the protocol: the server counts the lines of each named stream and
tells how many are durable; the sender goes on from there, so none is lost and none counts twice.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from forecastd.errors import PeerError, UserError

READ_BYTES = 1 << 16
LINE_BYTES_MAX = 1 << 24
CONNECT_TIMEOUT_S = 10.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 2.0
_CONTROL_BYTES_MAX = 1024


class Address(NamedTuple):
    """Where to send: a UNIX socket's path, or host and port."""

    text: str
    path: str | None
    host: str = ""
    port: int = 0


class Piece(NamedTuple):
    """Whole lines, to be sent `due_s` seconds after the first piece."""

    due_s: float
    data: bytes


class Lines(Protocol):
    """Lines in a fixed order, so that any of them can be sent again."""

    def __len__(self) -> int:
        """Return how many lines there are."""
        ...

    def pieces_from(self, line: int) -> Iterator[Piece]:
        """Yield the lines from number `line` on, timed from that line."""
        ...


class Sent(NamedTuple):
    """What became of a sending. already: lines the server had before. connections: how many."""

    lines: int
    already: int
    connections: int


def parse_address(text: str) -> Address:
    """Read "unix://PATH" or "tcp://HOST:PORT". Raises UserError for anything else."""
    scheme, _, rest = text.partition("://")
    if scheme == "unix" and rest:
        return Address(text, rest)
    host, separator, port = rest.rpartition(":")
    if scheme == "tcp" and separator and host and port.isdecimal() and int(port) <= 65535:
        return Address(text, None, host.strip("[]"), int(port))
    message = f"{text!r} is no place to send to"
    raise UserError(message, hint="write stdout, unix://PATH or tcp://HOST:PORT")


class Sender:
    """Sends lines as the stream `name`; answers that are not the protocol's go to `on_line`.

    After a break it connects again, waiting longer each time, and gives up when `retry_s` seconds
    bring no progress. A forecast may come twice when a connection broke before its commit.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        on_line: Callable[[bytes], None],
        *,
        retry_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._name = name
        self._on_line = on_line
        self._retry_s = retry_s
        self._clock = clock
        self._first_position: int | None = None
        self._committed = 0
        self._received = 0
        self._connections = 0

    def send(self, lines: Lines) -> Sent:
        """Send all lines and return when the server has committed them.

        Raises PeerError when the server stays out of reach or refuses the stream.
        """
        outage_since: float | None = None
        delay_s = BACKOFF_FIRST_S
        while True:
            started, progress = self._clock(), self._progress
            try:
                with self._connect() as peer:
                    _Conversation(self, peer, lines).run()
                already = min(self._first_position or 0, len(lines))
                return Sent(len(lines), already, self._connections)
            except OSError as error:
                now = self._clock()
                moved = self._progress != progress or now - started > self._retry_s
                if outage_since is None or moved:
                    outage_since, delay_s = now, BACKOFF_FIRST_S
                if now - outage_since + delay_s > self._retry_s:
                    raise self._gave_up(error) from error
            threading.Event().wait(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_LAST_S)

    @property
    def _progress(self) -> tuple[int, int]:
        return self._committed, self._received

    def greeted(self, position: int) -> None:
        """Take the position from which the server wants to go on."""
        self._connections += 1
        if self._first_position is None:
            self._first_position = position
        self._committed = position

    def acknowledged(self, position: int) -> None:
        """Take the number of lines the server has committed."""
        self._committed = position

    def received(self, line: bytes) -> None:
        """Hand on a line that is not the protocol's."""
        self._received += 1
        self._on_line(line)

    @property
    def committed(self) -> int:
        """How many lines the server has committed."""
        return self._committed

    @property
    def greeting(self) -> bytes:
        """The first line of a connection."""
        return _encode({"stream": self._name})

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that paces the lines."""
        return self._clock

    def _connect(self) -> socket.socket:
        if self._address.path is None:
            place = (self._address.host, self._address.port)
            return socket.create_connection(place, CONNECT_TIMEOUT_S)
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.settimeout(CONNECT_TIMEOUT_S)
            peer.connect(self._address.path)
        except OSError:
            peer.close()
            raise
        return peer

    def _gave_up(self, error: OSError) -> PeerError:
        reason = error.strerror or str(error) or type(error).__name__
        message = f"cannot send to {self._address.text}: {reason}"
        return PeerError(message, hint="start the receiver, or check the address; see --retry")


class _Conversation:
    """One connection: what is left to send, and what has been read of an answer."""

    def __init__(self, sender: Sender, peer: socket.socket, lines: Lines) -> None:
        self._sender = sender
        self._peer = peer
        self._lines = lines
        self._pieces: Iterator[Piece] | None = None
        self._next: Piece | None = None
        self._started = 0.0
        self._output = memoryview(sender.greeting)
        self._input = bytearray()
        self._end_sent = False

    def run(self) -> None:
        """Talk until all lines are committed. Raises OSError when the connection breaks."""
        self._peer.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._peer, selectors.EVENT_READ)
            while not self._done:
                wait_s = self._fill_output()
                writing = selectors.EVENT_WRITE if self._output else 0
                selector.modify(self._peer, selectors.EVENT_READ | writing)
                for _, events in selector.select(wait_s):
                    if events & selectors.EVENT_READ:
                        self._read()
                    if events & selectors.EVENT_WRITE:
                        self._write()

    @property
    def _done(self) -> bool:
        return self._pieces is not None and self._sender.committed >= len(self._lines)

    def _fill_output(self) -> float | None:
        """Take the next piece when it is due; return how long to wait for it otherwise."""
        if self._output or self._pieces is None or self._end_sent:
            return None
        if self._next is None:
            self._next = next(self._pieces, None)
        if self._next is None:
            self._output = memoryview(_encode({"end": True}))
            self._end_sent = True
            return None
        wait_s = self._started + self._next.due_s - self._sender.clock()
        if wait_s > 0:
            return wait_s
        self._output, self._next = memoryview(self._next.data), None
        return None

    def _write(self) -> None:
        try:
            sent = self._peer.send(self._output)
        except BlockingIOError:
            return
        self._output = self._output[sent:]

    def _read(self) -> None:
        try:
            data = self._peer.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            reason = "the receiver closed the connection"
            raise ConnectionResetError(reason)
        self._input += data
        *complete, rest = self._input.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            message = f"the receiver sent a line longer than {LINE_BYTES_MAX} bytes"
            raise PeerError(message, hint="is it a forecastd?")
        self._input = bytearray(rest)
        for line in complete:
            self._understand(bytes(line))

    def _understand(self, line: bytes) -> None:
        content = _control(line)
        if content is None:
            self._sender.received(line)
        elif "error" in content:
            message = f"the receiver refuses the stream: {content['error']}"
            raise PeerError(message)
        elif "ack" in content:
            self._sender.acknowledged(content["ack"])
        else:
            self._sender.greeted(content["position"])
            self._pieces = self._lines.pieces_from(content["position"])
            self._started = self._sender.clock()


def _control(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line of the protocol, None for any other line."""
    if len(line) > _CONTROL_BYTES_MAX:
        return None
    if not any(word in line for word in (b'"ack"', b'"position"', b'"error"')):
        return None
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or set(content) not in (
        {"ack"},
        {"stream", "position"},
        {"error"},
    ):
        return None
    return content


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
