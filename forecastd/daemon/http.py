"""What the daemon answers over HTTP. Imported when somebody asks: aiohttp takes time and memory."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from forecastd.daemon.control import Board

HEADER_BYTES_MAX = 8190


def serve(board: Board, listeners: list[socket.socket], ended: socket.socket) -> None:
    """Answer on listening sockets until `ended` becomes readable; closes the listeners.

    ended: a socket that does not block.
    """
    asyncio.run(_serve(board, listeners, ended))


async def _serve(board: Board, listeners: list[socket.socket], ended: socket.socket) -> None:
    runner = web.AppRunner(_app(board), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        await asyncio.get_running_loop().sock_recv(ended, 1)
    finally:
        await runner.cleanup()


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
