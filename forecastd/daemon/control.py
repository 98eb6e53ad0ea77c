"""HTTP for people and machines that watch the daemon, in a thread of its own.

It only reads what the loop publishes, so a slow or hostile client cannot hold up a tick. The first
client waits a moment longer: the server is imported for it, not for those who never ask.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Board:
    """What the loop publishes. Values are replaced whole, never changed, so reads need no lock.

    not_ready: why observations do not flow; empty when they do. status: see docs/guides/daemon.md.
    """

    metrics: Callable[[], bytes]
    not_ready: str = "starting"
    status: dict[str, Any] = field(default_factory=dict)


class ControlServer:
    """Serves /health, /ready, /metrics and /status on listening sockets it takes over."""

    def __init__(self, board: Board, listeners: list[socket.socket]) -> None:
        self._board = board
        self._listeners = listeners
        self._ended, self._end = socket.socketpair()
        self._ended.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and close the sockets."""
        self._end.close()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            for each in (*self._listeners, self._ended):
                stack.callback(each.close)
            if self._somebody_asks():
                from forecastd.daemon.http import serve

                serve(self._board, self._listeners, self._ended)

    def _somebody_asks(self) -> bool:
        """Wait for the first client; False when the end came before."""
        poll = select.poll()
        for each in (*self._listeners, self._ended):
            poll.register(each, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        return self._ended.fileno() not in ready
