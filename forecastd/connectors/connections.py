"""Live connections of socket sources, shared with the sink that answers on them."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
from collections import Counter
from collections.abc import Callable

from forecastd.connectors.lines import LineSplitter

Clock = Callable[[], float]

READ_BYTES = 1 << 16
UNSENT_BYTES_MAX = 1 << 20
"""A connection with more unsent bytes is not read until its client has taken some of them."""

CONNECTIONS_MAX = 256
_ACKNOWLEDGED_POLL_MS = 1.0


class Connection:
    """One client: its unread input, its unsent output, and the stream it speaks for.

    Memory is bounded: input by the line limit, output by UNSENT_BYTES_MAX plus the answers to one
    batch. No method blocks or raises for a lost client: `deaf` says that it takes no more output;
    lines it had sent before are still read.
    """

    def __init__(
        self, peer: socket.socket, tag: int, line_bytes_max: int, write_timeout_s: float
    ) -> None:
        peer.setblocking(False)
        self.peer = peer
        self.tag = tag
        self.splitter = LineSplitter(line_bytes_max)
        self.write_timeout_s = write_timeout_s
        self.stream: str | None = None
        self.greeted = False  # its first line has been looked at
        self.waiting = False  # it is to be told its stream's position after the next commit
        self.end_wanted = False  # it asked for a commit
        self.acked = 0
        self.ended = False  # it will send no more
        self.deaf = False
        self.stuck_since: float | None = None
        self.registered = 0
        self._unsent = bytearray()

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait for the client to read."""
        return len(self._unsent)

    @property
    def readable(self) -> bool:
        """Whether more lines may be taken from this client now."""
        return not self.waiting and self.unsent_bytes <= UNSENT_BYTES_MAX

    def interest(self) -> int:
        """Return the epoll events this connection waits for."""
        reading = self.readable and not self.ended and not self.splitter.has_line
        return (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if self._unsent else 0)

    def receive(self) -> None:
        """Read what has arrived, at most one buffer."""
        try:
            data = self.peer.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.ended = True
            return
        self.splitter.feed(data)
        self.ended = not data

    def send(self, data: bytes, now: float) -> None:
        """Hand bytes to the kernel, and keep those it does not take yet."""
        if self.deaf:
            return
        self._unsent += data
        try:
            while self._unsent:
                sent = self.peer.send(self._unsent)
                del self._unsent[:sent]
                self.stuck_since = None
        except BlockingIOError:
            self.stuck_since = now if self.stuck_since is None else self.stuck_since
        except OSError:
            self.drop_output()

    def drop_output(self) -> None:
        """Send nothing more, now and later."""
        self.deaf = True
        self.stuck_since = None
        self._unsent.clear()

    def unacknowledged_bytes(self) -> int:
        """Return how much the client's kernel has not got yet.

        For a UNIX socket the kernel that took the bytes is the client's.
        """
        if self.deaf or self.peer.family == socket.AF_UNIX:
            return self.unsent_bytes
        with contextlib.suppress(OSError):
            answer = fcntl.ioctl(self.peer.fileno(), termios.TIOCOUTQ, b"\0" * 4)
            return self.unsent_bytes + int(struct.unpack("i", answer)[0])
        return 0


class Connections:
    """All live connections by tag, whichever source accepted them.

    `closed` counts connections closed for a reason ("slow", "refused").
    """

    def __init__(self, clock: Clock) -> None:
        self.closed: Counter[str] = Counter()
        self._clock = clock
        self._by_tag: dict[int, Connection] = {}
        self._next_tag = 0

    def __len__(self) -> int:
        return len(self._by_tag)

    def add(
        self, peer: socket.socket, line_bytes_max: int, write_timeout_s: float
    ) -> Connection | None:
        """Adopt an accepted socket; None, with a word to the client, when there are too many."""
        if len(self) >= CONNECTIONS_MAX:
            self.closed["refused"] += 1
            peer.setblocking(False)
            with contextlib.suppress(OSError):
                peer.send(b'{"error":"too many connections, at most %d"}\n' % CONNECTIONS_MAX)
            peer.close()
            return None
        self._next_tag = (self._next_tag + 1) % (1 << 31)
        connection = Connection(peer, self._next_tag, line_bytes_max, write_timeout_s)
        self._by_tag[connection.tag] = connection
        return connection

    def send(self, tag: int, data: bytes) -> None:
        """Send bytes to a connection; a connection that is gone gets nothing."""
        connection = self._by_tag.get(tag)
        if connection is not None:
            connection.send(data, self._clock())

    def remove(self, connection: Connection) -> None:
        """Close a connection."""
        self._by_tag.pop(connection.tag, None)
        connection.drop_output()
        connection.peer.close()

    def give_up_if_slow(self, connection: Connection) -> None:
        """Give up a client that has taken nothing for longer than its write timeout."""
        since = connection.stuck_since
        if since is not None and self._clock() - since > connection.write_timeout_s:
            self._give_up(connection)

    def flush(self) -> None:
        """Return when each client's kernel has everything, or its write timeout has passed."""
        waiting = [each for each in self._by_tag.values() if each.unacknowledged_bytes()]
        started = self._clock()
        while waiting:
            poll = select.poll()
            for connection in waiting:
                poll.register(connection.peer, select.POLLOUT if connection.unsent_bytes else 0)
            ready = dict(poll.poll(_ACKNOWLEDGED_POLL_MS))
            now = self._clock()
            for connection in waiting:
                if ready.get(connection.peer.fileno(), 0) & (select.POLLERR | select.POLLHUP):
                    connection.drop_output()
                connection.send(b"", now)
                late = now - started > connection.write_timeout_s
                if late and connection.unacknowledged_bytes():
                    self._give_up(connection)
            waiting = [each for each in waiting if each.unacknowledged_bytes()]

    def _give_up(self, connection: Connection) -> None:
        self.closed["slow"] += 1
        connection.drop_output()
        connection.ended = True
