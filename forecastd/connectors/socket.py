"""Sources `tcp` and `unix`: lines from many clients at once, with streams that resume.

docs/formats/ndjson.md describes the protocol. A stream is a name under which a client's lines are
counted, so that after any crash it learns how many are durable and goes on from there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from pydantic import Field, model_validator

from forecastd.connectors.connections import Connection
from forecastd.connectors.contract import LineBatch, Position, SourceEnded, Surroundings
from forecastd.connectors.lines import Lines, Taken, too_long_rejects
from forecastd.errors import UserError
from forecastd.series import Reject
from forecastd.settings import Duration, Settings

STREAMS_MAX = 1024
STREAM_NAME_CHARACTERS_MAX = 128
_CONTROL_BYTES_MAX = 1024
_CONTROL_WORDS = (b'"stream"', b'"end"')
_BACKLOG = 128


class TcpSettings(Settings):
    """[sources.NAME] type = "tcp"."""

    type: Literal["tcp"]
    listen: str = Field("127.0.0.1:8798", description="address:port; port 0: any free one")
    allow_remote: bool = Field(False, description="permit an address other machines can reach")
    write_timeout: Duration = Field(30.0, description="close a client that reads nothing so long")

    @model_validator(mode="after")
    def _check_address(self) -> TcpSettings:
        check_listen(self.listen, allow_remote=self.allow_remote)
        return self


class UnixSettings(Settings):
    """[sources.NAME] type = "unix"."""

    type: Literal["unix"]
    path: str = Field(description="the socket file; readable and writable by owner and group")
    write_timeout: Duration = Field(30.0, description="close a client that reads nothing so long")


class SocketSource:
    """Serves at most CONNECTIONS_MAX clients, a fair share of each batch for every one.

    Position: how many lines of each named stream were returned. A second connection of a stream
    replaces the first. The least recently opened idle stream is forgotten when there are too many;
    its client starts again at 0, and its lines are dropped as repeats.
    """

    def __init__(
        self,
        name: str,
        settings: TcpSettings | UnixSettings,
        surroundings: Surroundings,
        position: Position | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._surroundings = surroundings
        self._returned: dict[str, int] = dict((position or {}).get("streams", {}))
        self._committed = dict(self._returned)
        self._clients: dict[int, Connection] = {}
        self._turn = 0
        self._draining = False
        self._closed = False
        if isinstance(settings, TcpSettings):
            self._listener = listen_tcp(settings.listen, f"source {name}")
        else:
            self._listener = listen_unix(surroundings.resolve(settings.path), f"source {name}")
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    @property
    def address(self) -> Any:
        """The address in use, with the real port where the configured one is 0."""
        return self._listener.getsockname()

    @property
    def poll_interval_s(self) -> float | None:
        """0 while lines are in memory, a second while a client may turn out to be too slow."""
        clients = self._clients.values()
        if any(client.readable and client.splitter.has_line for client in clients):
            return 0.0
        return 1.0 if any(client.stuck_since is not None for client in clients) else None

    @property
    def commit_wanted(self) -> bool:
        """Whether a client asked for a commit, or waits to hear its stream's position."""
        return any(client.end_wanted or client.waiting for client in self._clients.values())

    def next_batch(self) -> LineBatch:
        """Serve the sockets and return the lines that have arrived."""
        if self._closed:
            raise SourceEnded
        self._serve()
        parts: list[Lines] = []
        tags: list[int] = []
        rejects: list[Reject] = []
        for connection in self._in_turn():
            rows = self._share(sum(map(len, parts)) + len(rejects))
            if rows <= 0:
                break
            taken = self._take(connection, rows)
            if len(taken.lines):
                parts.append(taken.lines)
                tags.append(connection.tag)
            limit = self._surroundings.line_bytes_max
            rejects += too_long_rejects(self.name, taken, limit)
        if self._draining and not parts and not rejects:
            raise SourceEnded
        tag_column = np.repeat(np.array(tags, np.int32), [len(part) for part in parts])
        return LineBatch(self.name, Lines.joined(parts), tag_column, rejects)

    def position(self) -> Position:
        """Return how many lines of each stream were returned."""
        return {"streams": dict(self._returned)}

    def acknowledge(self, position: Position) -> None:
        """Tell every named stream how far it is durable, and greet those that waited for it."""
        self._committed = dict(position["streams"])
        for connection in self._clients.values():
            if connection.stream is None:
                connection.end_wanted = False
                continue
            durable = self._committed.get(connection.stream, 0)
            if connection.waiting:
                self._greet(connection)
            elif connection.end_wanted or durable != connection.acked:
                self._say(connection, {"ack": durable})
            connection.acked = durable
            connection.end_wanted = False

    def drain(self) -> None:
        """Accept nobody, read what each client's socket holds once, then only return it."""
        self._draining = True
        self._epoll.unregister(self._listener.fileno())
        for connection in self._clients.values():
            if connection.readable and not connection.ended:
                connection.receive()

    def descriptors(self) -> list[int]:
        """Return one descriptor that is readable when any socket needs service."""
        for connection in self._clients.values():
            self._watch(connection)
        return [] if self._closed else [self._epoll.fileno()]

    def close(self) -> None:
        """Close the listener and every connection; a UNIX socket file is removed."""
        if self._closed:
            return
        self._closed = True
        for connection in list(self._clients.values()):
            self._surroundings.connections.remove(connection)
        self._clients.clear()
        self._epoll.close()
        self._listener.close()
        if isinstance(self._settings, UnixSettings):
            self._surroundings.resolve(self._settings.path).unlink(missing_ok=True)

    def _serve(self) -> None:
        for connection in list(self._clients.values()):
            self._surroundings.connections.give_up_if_slow(connection)
            if self._is_done(connection):
                self._remove(connection)
            else:
                self._watch(connection)
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._listener.fileno():
                self._accept()
                continue
            connection = self._clients[descriptor]
            if events & select.EPOLLOUT:
                connection.send(b"", self._surroundings.clock())
            if events & select.EPOLLIN and not self._draining:
                connection.receive()
            elif events & (select.EPOLLHUP | select.EPOLLERR):
                connection.drop_output()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            peer, _ = self._listener.accept()
            limit = self._surroundings.line_bytes_max
            connection = self._surroundings.connections.add(
                peer, limit, self._settings.write_timeout
            )
            if connection is not None:
                self._clients[peer.fileno()] = connection
                self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Wait for exactly the events the connection can use now, so that waiting never spins."""
        wanted, descriptor = connection.interest(), connection.peer.fileno()
        if wanted == connection.registered:
            return
        if not wanted:
            self._epoll.unregister(descriptor)
        elif not connection.registered:
            self._epoll.register(descriptor, wanted)
        else:
            self._epoll.modify(descriptor, wanted)
        connection.registered = wanted

    def _is_done(self, connection: Connection) -> bool:
        """Whether a client that sends no more has also got all it is waiting for."""
        if not connection.ended or connection.splitter.has_line or connection.unsent_bytes:
            return False
        if connection.stream is None:
            return connection.splitter.is_empty
        return connection.deaf or connection.acked == self._returned[connection.stream]

    def _remove(self, connection: Connection) -> None:
        del self._clients[connection.peer.fileno()]
        self._surroundings.connections.remove(connection)

    def _in_turn(self) -> list[Connection]:
        """Return the clients, beginning with another one each time so that none starves."""
        clients = list(self._clients.values())
        self._turn = (self._turn + 1) % max(1, len(clients))
        return clients[self._turn :] + clients[: self._turn]

    def _share(self, used_rows: int) -> int:
        fair = max(1, self._surroundings.batch_rows // max(1, len(self._clients)))
        return min(fair, self._surroundings.batch_rows - used_rows)

    def _take(self, connection: Connection, rows: int) -> Taken:
        """Take lines of one client; control lines are obeyed and not returned."""
        if not connection.readable:
            return Taken.nothing()
        # A first line may be a control line that must be answered before others are counted.
        taken = connection.splitter.take(rows if connection.greeted else 1)
        if connection.ended and not taken.count and connection.stream is None:
            # A named client sends its torn last line again; for others it is all there will be.
            taken = connection.splitter.finish()
        lines = self._without_control(connection, taken.lines)
        connection.greeted = connection.greeted or taken.count > 0
        taken = Taken(lines, taken.too_long)
        if connection.stream is not None and not connection.waiting:
            self._returned[connection.stream] += taken.count
        return taken

    def _without_control(self, connection: Connection, lines: Lines) -> Lines:
        """Obey control lines; return the others. What cannot contain one is not looked at."""
        if not any(lines.may_contain(word) for word in _CONTROL_WORDS):
            return lines
        rows = [row for row, line in enumerate(lines) if not self._obey(connection, line)]
        return lines.take(np.array(rows, np.int64))

    def _obey(self, connection: Connection, line: bytes) -> bool:
        """Carry out a control line; return whether it was one."""
        if len(line) > _CONTROL_BYTES_MAX or not any(word in line for word in _CONTROL_WORDS):
            return False
        try:
            content = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if content == {"end": True}:
            connection.end_wanted = True
            return True
        if not connection.greeted and isinstance(content, dict) and set(content) == {"stream"}:
            self._open_stream(connection, content["stream"])
            return True
        return False

    def _open_stream(self, connection: Connection, name: object) -> None:
        if not (isinstance(name, str) and name.isprintable()) or not (
            1 <= len(name) <= STREAM_NAME_CHARACTERS_MAX
        ):
            limit = STREAM_NAME_CHARACTERS_MAX
            self._say(connection, {"error": f"a stream's name is 1 to {limit} printable letters"})
            connection.ended = True
            connection.splitter.take(self._surroundings.batch_rows)
            return
        for other in list(self._clients.values()):
            if other.stream == name:
                self._remove(other)
        self._returned[name] = self._returned.pop(name, 0)  # now the most recently opened
        self._forget_streams()
        connection.stream = name
        connection.waiting = self._returned[name] != self._committed.get(name, 0)
        if not connection.waiting:
            self._greet(connection)

    def _greet(self, connection: Connection) -> None:
        assert connection.stream is not None
        connection.waiting = False
        connection.acked = self._committed.get(connection.stream, 0)
        self._say(connection, {"stream": connection.stream, "position": connection.acked})

    def _forget_streams(self) -> None:
        open_streams = {client.stream for client in self._clients.values()}
        for name in list(self._returned):
            if len(self._returned) <= STREAMS_MAX:
                return
            if name not in open_streams and name != next(reversed(self._returned)):
                del self._returned[name]

    def _say(self, connection: Connection, content: dict[str, Any]) -> None:
        connection.send(msgspec.json.encode(content) + b"\n", self._surroundings.clock())


class Address(NamedTuple):
    """A TCP address; port 0 means any free one."""

    host: str
    port: int


def parse_listen(text: str) -> Address:
    """Read "127.0.0.1:8798", "localhost:8798" or "[::1]:8798"; raises ValueError."""
    host, separator, port = text.rpartition(":")
    host = host.strip("[]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        message = f"{text!r} is not address:port, for example 127.0.0.1:8798"
        raise ValueError(message)
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        message = f"{host!r} is not an IP address; write one, or localhost"
        raise ValueError(message) from None
    return Address(host, int(port))


def check_listen(text: str, *, allow_remote: bool) -> None:
    """Raise ValueError for an address that is wrong, or reachable from outside unasked."""
    host = parse_listen(text).host
    if not ipaddress.ip_address(host).is_loopback and not allow_remote:
        message = f"other machines can reach {host}; use 127.0.0.1 or set allow_remote = true"
        raise ValueError(message)


def listen_tcp(text: str, owner: str) -> socket.socket:
    """Return a listening socket. Raises UserError when the address cannot be used."""
    address = parse_listen(text)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart must not wait for connections of the last life to time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        message = f"{owner} cannot listen on {text}: {error.strerror}"
        raise UserError(message, hint="stop the other program or choose another port") from error
    return listener


def listen_unix(path: Path, owner: str) -> socket.socket:
    """Return a listening socket on a file of mode 0660, replacing one that nobody serves.

    Raises UserError when another process serves it or the place cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _unlink_if_stale(path)
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        message = f"{owner} cannot listen on {path}: {error.strerror or error}"
        hint = "stop the other program or choose another path"
        raise UserError(message, hint=hint) from error
    return listener


def _unlink_if_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return  # its queue is full, so it is alive; bind will say that it is in use
        except OSError:
            path.unlink(missing_ok=True)
