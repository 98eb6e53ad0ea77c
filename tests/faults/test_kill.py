"""kill -9 at 20 random moments under load: no observation is lost, and the numbers are the same.

The moments are counted in ticks of the daemon from a fixed seed, so the load decides, not a clock.
"""

from __future__ import annotations

import json
import random
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
from daemon_process import (
    MEAN_DAEMON,
    TICKS_MAX,
    DaemonProcess,
    Killer,
    StreamClient,
    by_key,
)
from steppers import MeanStepper

from forecastd.connectors.contract import LineBatch
from forecastd.daemon.pipeline import Translation

KILLS = 20
SERIES = 50
STEPS = 800

SOME = "emit = { steps = 3 }"

EVICTING = ', when_full = "evict", series_max = 20'
"""Rows for fewer than half of the series."""

CONFIG = """
state_dir = "state"
model = {{ path = "mean"{model} }}
{emit}
checkpoint = {{ every = "50ms" }}
limits = {{ batch_rows = {batch_rows} }}
api = {{ listen = "off" }}
[sources.in]
{source}
[sinks.out]
{sink}
"""


def configured(
    source: str, sink: str, model: str = "", batch_rows: int = 64, emit: str = ""
) -> str:
    return CONFIG.format(source=source, sink=sink, model=model, batch_rows=batch_rows, emit=emit)


def observation_lines() -> list[bytes]:
    """Each series has an observation an hour; series are interleaved at random."""
    rng = np.random.default_rng(7)
    start = np.datetime64("2013-01-01T00", "h")
    order = rng.permuted(np.repeat(np.arange(SERIES), STEPS))
    seen = np.zeros(SERIES, int)
    lines = []
    for series in order.tolist():
        stamp = str(start + seen[series])
        seen[series] += 1
        value = round(float(rng.normal(10, 3)), 3)
        line = {"unique_id": f"s{series}", "ds": f"{stamp}:00:00", "y": value}
        lines.append(json.dumps(line).encode())
    return lines


def uninterrupted(lines: list[bytes], steps: int = 1) -> list[bytes]:
    """Return the forecast lines after every so many steps, from one life that nobody ends."""
    stepper = MeanStepper()
    translation = Translation.of(stepper)
    decoded = translation.decoder.decode(LineBatch("in", lines))
    assert decoded.rejects == []
    result = stepper.step(decoded.batch, forecast=steps)
    return [line.rstrip(b"\n") for line in translation.encoder.encode(result.forecasts).lines]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["unix", pytest.param("tcp", marks=pytest.mark.slow)])
def test_a_socket_client_loses_nothing(kind: str, tmp_path: Path) -> None:
    lines = observation_lines()
    with tempfile.TemporaryDirectory() as short:  # for the length of a UNIX socket's path
        address = f"{short}/in.sock" if kind == "unix" else ("127.0.0.1", free_port())
        where = f'path = "{address}"' if kind == "unix" else f'listen = "127.0.0.1:{address[1]}"'
        config = configured(source=f'type = "{kind}"\n{where}', sink='type = "reply"')
        (tmp_path / "forecastd.toml").write_text(config)
        client = StreamClient("meter", lines)
        rng = random.Random(11)
        kills = 0
        done = False
        while not done:
            with DaemonProcess([*MEAN_DAEMON, "forecastd.toml"], tmp_path) as daemon:
                daemon.wait_for("READY=1")
                killer = Killer(daemon, rng.randint(1, TICKS_MAX) if kills < KILLS else 0)
                done = client.play(address, *killer.watch())
                kills += killer.killed
    assert kills == KILLS
    assert client.positions == sorted(client.positions)
    assert client.positions[-1] > 0
    assert by_key(client.answers) == by_key(uninterrupted(lines))


@pytest.mark.process
@pytest.mark.parametrize(
    ("model", "batch_rows", "emit"),
    [
        pytest.param("", 64, "", id="rows for all"),
        pytest.param(EVICTING, 16, "", id="evicting"),
        pytest.param("", 64, SOME, marks=pytest.mark.slow, id="some steps"),
    ],
)
def test_a_file_loses_and_repeats_nothing(
    model: str, batch_rows: int, emit: str, tmp_path: Path
) -> None:
    lines = observation_lines()
    (tmp_path / "in.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))
    config = configured(
        'type = "file"\npath = "in.ndjson"\nfollow = false',
        'type = "file"\npath = "out.ndjson"',
        model,
        batch_rows,
        emit,
    )
    (tmp_path / "forecastd.toml").write_text(config)
    command = [*MEAN_DAEMON, "forecastd.toml", "--once"]
    rng = random.Random(12)
    kills = 0
    while kills < KILLS:
        with DaemonProcess(command, tmp_path) as daemon:
            daemon.wait_for("READY=1")
            daemon.wait_for("WATCHDOG=1", count=rng.randint(1, TICKS_MAX))
            daemon.kill()
            kills += 1
    with DaemonProcess(command, tmp_path) as daemon:
        assert daemon.wait() == 0
    expected = uninterrupted(lines, 3 if emit else 1)
    assert (tmp_path / "out.ndjson").read_bytes().splitlines() == expected
