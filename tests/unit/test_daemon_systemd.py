"""The unit file is one that systemd understands, and what the daemon tells systemd."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from forecastd.daemon.notify import Notifier

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
EXPOSURE_MAX = 15  # tenths of the score that systemd-analyze gives; 0 is tightest


@needs_systemd
def test_systemd_understands_the_unit(project: Path, tmp_path: Path) -> None:
    """In a file tree of its own; what systemd does not know it only warns about."""
    for program in ("usr/bin/forecastd", "bin/kill"):
        path = tmp_path / program
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(project / "systemd/forecastd.service", units)
    command = [
        ANALYZE,
        "verify",
        "--man=no",
        "--recursive-errors=no",
        f"--root={tmp_path}",
        "/etc/systemd/system/forecastd.service",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_unit_is_tight(project: Path) -> None:
    command = [
        ANALYZE,
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE_MAX}",
        str(project / "systemd/forecastd.service"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_unit_runs_commands_that_exist(project: Path) -> None:
    from typer.main import get_command

    from forecast_cli.service import app

    text = (project / "systemd/forecastd.service").read_text()
    used = [line.split()[1] for line in text.splitlines() if line.startswith("ExecStart")]
    assert used == ["check", "run"]
    assert set(used) <= set(get_command(app).commands)


def test_machine_code_is_kept_where_the_unit_may_write(project: Path) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(project / "systemd/forecastd.service")
    service = unit["Service"]
    assert service["ProtectSystem"] == "strict"
    folder = f"/var/cache/{service['CacheDirectory']}"
    assert service["Environment"] == f"NUMBA_CACHE_DIR={folder}"


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return messages


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[Manager, str]]:
    with tempfile.TemporaryDirectory() as short:
        name = f"{short}/notify"
        address = name if request.param == "file" else f"\0{name}"
        manager = Manager(address)
        yield manager, address.replace("\0", "@", 1)
        manager.socket.close()


def test_what_is_told(manager: tuple[Manager, str]) -> None:
    manager_end, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.status("loading")
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    status, ready, reloading, stopping = manager_end.heard()
    assert (status, ready, stopping) == ("STATUS=loading", "READY=1", "STOPPING=1")
    flag, stamp = reloading.splitlines()
    assert flag == "RELOADING=1"
    assert int(stamp.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.ticked()
    assert manager_end.heard() == [], "no watchdog was asked for"
    notifier.close()


def test_the_watchdog_is_fed_at_half_its_interval(manager: tuple[Manager, str]) -> None:
    manager_end, address = manager
    now = [10.0]
    environment = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    notifier = Notifier(environment, lambda: now[0])
    for second in range(60):
        now[0] = 10.0 + second
        notifier.ticked()
    assert manager_end.heard() == ["WATCHDOG=1"] * 4
    notifier.close()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"},
    ],
)
def test_a_watchdog_for_nobody_or_for_another_process(variables: dict[str, str]) -> None:
    assert Notifier(variables).watchdog_interval_s is None


def test_a_manager_that_is_gone_does_no_harm() -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/nonexistent/notify"})
    notifier.ready()
    notifier.close()
    notifier.ready()
