"""The HTTP that people and machines watch the daemon by."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import ask

from forecastd.connectors.socket import listen_unix
from forecastd.daemon.control import Board, ControlServer


class Served:
    """A control server on a UNIX socket."""

    def __init__(self, short: str) -> None:
        self.board = Board(metrics=lambda: b"a_metric 1\n")
        self.path = Path(short) / "api.sock"
        self.server = ControlServer(self.board, [listen_unix(self.path, "api")])


@pytest.fixture
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as short:
        made = Served(short)
        yield made
        made.server.close()


def test_ready_says_why_it_is_not(served: Served) -> None:
    assert ask(served.path, "/health") == (200, "ok\n")
    assert ask(served.path, "/ready") == (503, "starting\n")
    served.board.not_ready = "loading the model"
    assert ask(served.path, "/ready") == (503, "loading the model\n")
    served.board.not_ready = ""
    assert ask(served.path, "/ready") == (200, "ready\n")


def test_metrics_and_status_are_what_is_published(served: Served) -> None:
    assert ask(served.path, "/metrics") == (200, "a_metric 1\n")
    served.board.status = {"series": 3}
    code, body = ask(served.path, "/status")
    assert (code, json.loads(body)) == (200, {"series": 3})


def test_the_server_is_imported_for_the_first_client() -> None:
    code = """
import socket, sys, threading
from forecastd.daemon.control import Board, ControlServer
listener = socket.create_server(("127.0.0.1", 0))
server = ControlServer(Board(lambda: b""), [listener])
assert "aiohttp" not in sys.modules and "asyncio" not in sys.modules
with socket.create_connection(listener.getsockname()) as client:
    client.sendall(b"GET /health HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    assert client.makefile("rb").readline().startswith(b"HTTP/1.1 200")
assert "aiohttp" in sys.modules
server.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_server_nobody_asked_closes() -> None:
    with tempfile.TemporaryDirectory() as short:
        made = Served(short)
        made.server.close()
        with pytest.raises(ConnectionRefusedError):
            ask(made.path, "/health")


def test_it_closes_twice_without_harm(served: Served) -> None:
    served.server.close()
    served.server.close()
    with pytest.raises(ConnectionRefusedError):
        ask(served.path, "/health")


def test_help_is_quick_to_import() -> None:
    code = """
import sys
from forecast_cli.service import run
sys.argv = ["forecastd", "--help"]
try:
    run()
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"torch", "polars", "pyarrow", "aiohttp", "numpy", "pydantic"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("run", "check", "status"):
        assert f" {command} " in done.stdout
