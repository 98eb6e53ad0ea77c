"""HTTP for people and machines that watch the daemon, in a thread of its own.

It only reads what the loop publishes, so a slow or hostile client cannot hold up a tick.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from forecastd.errors import BugError

HEADER_BYTES_MAX = 8190
_START_LIMIT_S = 30.0


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
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_LIMIT_S):
            message = "the control server does not start"
            raise BugError(message)

    def close(self) -> None:
        """Stop serving and close the sockets."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(
            _app(self._board), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        try:
            self._loop.run_until_complete(self._serve(runner))
            self._started.set()
            self._loop.run_forever()
            self._loop.run_until_complete(runner.cleanup())
        finally:
            for listener in self._listeners:
                listener.close()
            self._loop.close()

    async def _serve(self, runner: web.AppRunner) -> None:
        await runner.setup()
        for listener in self._listeners:
            await web.SockSite(runner, listener).start()


def _app(board: Board) -> web.Application:
    async def health(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        problem = board.not_ready
        return web.Response(text=f"{problem or 'ready'}\n", status=503 if problem else 200)

    async def metrics(request: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=board.metrics(), headers={"Content-Type": kind})

    async def status(request: web.Request) -> web.Response:
        return web.json_response(board.status)

    app = web.Application(client_max_size=HEADER_BYTES_MAX)
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/ready", ready),
            web.get("/metrics", metrics),
            web.get("/status", status),
        ]
    )
    return app
