"""A daemon in a process of its own, for tests that kill it, and a client that resumes."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

SCRIPT = Path(__file__).with_name("mean_daemon.py")
MEAN_DAEMON = (sys.executable, "-W", "error", str(SCRIPT))
TICKS_MAX = 30
"""A daemon to be killed lives for so many ticks at most."""

WATCHDOG_US = 2000
"""So small that the daemon reports nearly every tick: tests count ticks instead of seconds."""


class DaemonProcess:
    """Starts a daemon, follows what it tells systemd, and ends it."""

    def __init__(self, command: list[str], folder: Path, stdout: int | None = None) -> None:
        self.heard: list[str] = []
        self._folder = tempfile.TemporaryDirectory()  # UNIX socket paths are at most 107 bytes
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"{self._folder.name}/notify"
        self._notices.bind(address)
        self._pending: list[str] = []
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FORECAST")},
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": str(WATCHDOG_US),
            "PYTHONUNBUFFERED": "1",
        }
        self.log = (folder / "daemon.log").open("ab+")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self.log,
        )
        self._pidfd = os.pidfd_open(self.process.pid)

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        os.close(self._pidfd)
        self._notices.close()
        self._folder.cleanup()
        self.log.close()

    def notices(self) -> Iterator[str]:
        """Yield what the daemon tells systemd, until it has ended."""
        while True:
            while self._pending:
                yield self._pending.pop(0)
            ready, _, _ = select.select([self._notices, self._pidfd], [], [])
            if self._notices not in ready:
                return
            self._pending += self.read_notices()

    @property
    def notice_socket(self) -> socket.socket:
        """Readable when read_notices has something."""
        return self._notices

    def read_notices(self) -> list[str]:
        """Return the lines of one message, as told to systemd."""
        lines = self._notices.recv(4096).decode().splitlines()
        self.heard += lines
        return lines

    def wait_for(self, notice: str, count: int = 1) -> None:
        """Return when the daemon has said `notice` so often; fail when it ends before."""
        for each in self.notices():
            count -= each == notice
            if count == 0:
                return
        problem = f"ended with {self.process.wait()} before {notice}:\n{self.text()}"
        raise AssertionError(problem)

    def text(self) -> str:
        """Return the log."""
        self.log.seek(0)
        return self.log.read().decode()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        """Drain notices until the end, and return the exit code."""
        for _ in self.notices():
            pass
        return self.process.wait()


def ask(api_socket: Path, path: str) -> tuple[int, str]:
    """Return status and body of a GET on the control socket."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.connect(str(api_socket))
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def connect(address: str | tuple[str, int]) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    peer = socket.socket(family, socket.SOCK_STREAM)
    try:
        peer.connect(address)
    except OSError:
        peer.close()
        raise
    return peer


class StreamClient:
    """Sends the lines of a named stream, and keeps the answers over any number of connections."""

    def __init__(self, name: str, lines: list[bytes]) -> None:
        self.name = name
        self.lines = lines
        self.answers: list[bytes] = []
        self.positions: list[int] = []
        self.acked = 0

    def play(
        self,
        address: str | tuple[str, int],
        watch: socket.socket | None = None,
        on_watch: Callable[[], None] = lambda: None,
    ) -> bool:
        """Send until all lines are acknowledged; False if the connection broke before that.

        on_watch is called when `watch` becomes readable: to kill the daemon under load.
        """
        with connect(address) as peer:
            greeting = {"stream": self.name}
            try:
                peer.sendall(json.dumps(greeting).encode() + b"\n")
            except OSError:
                return False
            reader = _Reader(peer)
            first = reader.next_line()
            if first is None:
                return False
            position = json.loads(first)["position"]
            self.positions.append(position)
            self.acked = max(self.acked, position)
            unsent = b"".join(line + b"\n" for line in self.lines[position:]) + b'{"end":true}\n'
            return self._exchange(peer, reader, unsent, watch, on_watch)

    def _exchange(
        self,
        peer: socket.socket,
        reader: _Reader,
        unsent: bytes,
        watch: socket.socket | None,
        on_watch: Callable[[], None],
    ) -> bool:
        peer.setblocking(False)
        rest = memoryview(unsent)
        while True:
            readable = [peer] if watch is None else [peer, watch]
            ready, writable, _ = select.select(readable, [peer] if rest else [], [])
            if watch is not None and watch in ready:
                on_watch()
            if writable:
                try:
                    rest = rest[peer.send(rest[:8192]) :]
                except BlockingIOError:
                    pass
                except OSError:
                    rest = rest[:0]  # what the daemon has sent is still to be read
            if peer in ready:
                alive = reader.read()
                for line in reader.lines():
                    self._take(line)
                if self.acked == len(self.lines) and not rest:
                    return True
                if not alive:
                    return False

    def _take(self, line: bytes) -> None:
        if line.startswith(b'{"ack"'):
            self.acked = json.loads(line)["ack"]
        else:
            self.answers.append(line)


class Killer:
    """Kills a daemon after its next `ticks` ticks; never, if that is 0."""

    def __init__(self, daemon: DaemonProcess, ticks: int) -> None:
        self.killed = 0
        self._daemon = daemon
        self._ticks_left = ticks

    def watch(self) -> tuple[socket.socket, Callable[[], None]]:
        """Return what StreamClient.play wants: a socket to watch, and what to call then."""
        return self._daemon.notice_socket, self._on_notice

    def _on_notice(self) -> None:
        ticks = self._daemon.read_notices().count("WATCHDOG=1")
        if self._ticks_left > 0 and not self.killed:
            self._ticks_left -= ticks
            if self._ticks_left <= 0:
                self._daemon.kill()
                self.killed = 1


def by_key(lines: list[bytes]) -> dict[tuple[str, str], bytes]:
    """Drop repeats by (series, origin); repeats that differ are a failure."""
    found: dict[tuple[str, str], bytes] = {}
    for line in lines:
        forecast = json.loads(line)
        key = (forecast["unique_id"], forecast["cutoff"])
        assert found.setdefault(key, line) == line
    return found


class _Reader:
    """Lines from a socket."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._buffer = b""

    def read(self) -> bool:
        try:
            data = self._peer.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    def lines(self) -> list[bytes]:
        *lines, self._buffer = self._buffer.split(b"\n")
        return lines

    def next_line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            if not self.read():
                return None
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line
