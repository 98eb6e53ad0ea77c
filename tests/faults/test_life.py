"""A real daemon process: bad input, starts that cannot work, signals, reload, what it shows."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_lines import BAD_LINES
from daemon_process import MEAN_DAEMON, TICKS_MAX, DaemonProcess, StreamClient, ask, connect
from steppers import MeanStepper

from forecastd.runtime import checkpoint
from forecastd.runtime.checkpoint import Checkpoint

pytestmark = pytest.mark.process

CONFIG = """
state_dir = "state"
[model]
path = "{model}"
series_max = {series_max}
[checkpoint]
every = "1h"
[limits]
line_bytes_max = 65536
[api]
listen = "off"
socket = "{short}/api.sock"
[log]
format = "json"
[sources.in]
type = "unix"
path = "{short}/in.sock"
[sinks.answers]
type = "reply"
[sinks.kept]
type = "file"
path = "out.ndjson"
"""


class Place:
    """A folder with a configuration; sockets are in a folder of a short name."""

    def __init__(self, folder: Path, short: str) -> None:
        self.folder = folder
        self.input = f"{short}/in.sock"
        self.api = Path(short) / "api.sock"
        self._short = short
        self.configure()

    def configure(self, model: str = "mean", series_max: int = 100, more: str = "") -> None:
        text = CONFIG.format(model=model, series_max=series_max, short=self._short)
        (self.folder / "forecastd.toml").write_text(text + more)

    def start(self, stdout: int | None = None) -> DaemonProcess:
        return DaemonProcess([*MEAN_DAEMON, "forecastd.toml"], self.folder, stdout)

    def refusal(self) -> str:
        """Start a daemon that must not come up; return what it says, after checking its code."""
        done = subprocess.run(
            [*MEAN_DAEMON, "forecastd.toml"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, done.stderr
        return done.stderr

    def metrics(self) -> dict[str, float]:
        lines = ask(self.api, "/metrics")[1].splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as short:
        yield Place(tmp_path, short)


def hourly(count: int, series: str = "a") -> list[bytes]:
    start = np.datetime64("2013-01-01T00", "h")
    return [
        json.dumps({"unique_id": series, "ds": f"{start + hour}:00:00", "y": hour}).encode()
        for hour in range(count)
    ]


def test_bad_input_never_stops_the_stream(place: Place) -> None:
    """Every bad line between two good ones, a line of 10 MB, and a series too many."""
    corpus = [(line, reason) for _, line, reason in BAD_LINES]
    corpus.append((b"x" * 10_000_000, "line_too_long"))
    good = hourly(len(corpus) + 4)
    lines = []
    for (bad, _), fine in zip(corpus, good, strict=False):
        lines += [fine, bad]
    lines += [good[len(corpus)], good[len(corpus)], good[0]]  # a repeat, and a step back
    lines += [b'{"unique_id":"b","ds":"2013-01-01","y":1}']  # one series more than there is room
    lines += good[len(corpus) + 1 :]
    expected = Counter(reason for _, reason in corpus)
    expected += Counter(["repeat", "late", "arena_full"])
    place.configure(series_max=1)
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        client = StreamClient("meter", lines)
        assert client.play(place.input)
        metrics = place.metrics()
        status = json.loads(ask(place.api, "/status")[1])
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        log = daemon.text()
    served = [json.loads(line)["cutoff"] for line in client.answers]
    assert served == [json.loads(line)["ds"] for line in good]
    counted = {
        reason: metrics[f'forecastd_lines_rejected_total{{reason="{reason}"}}']
        for reason in expected
    }
    assert counted == expected
    assert status["rejects"] == expected
    assert metrics['forecastd_lines_received_total{source="in"}'] == len(lines)
    assert metrics["forecastd_observations_used_total"] == len(good)
    rejects = (place.folder / "state/rejects.ndjson").read_bytes()
    kept = [json.loads(line) for line in rejects.splitlines()]
    assert Counter(each["reason"] for each in kept) == expected
    assert max(len(each["line"]) for each in kept) < 20_000
    assert "Traceback" not in log
    assert log.count("line rejected") == len(expected), "the first of each reason only"


def test_forecasts_on_request(place: Place) -> None:
    lines = hourly(5)
    asked, unknown = b'{"unique_id":"a","forecast":true}', b'{"unique_id":"z","forecast":true}'
    place.configure(more='[emit]\nwhen = "request"\n')
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        client = StreamClient("meter", [*lines[:2], asked, unknown, *lines[2:], asked, asked])
        assert client.play(place.input)
        metrics = place.metrics()
    served = [json.loads(line)["cutoff"] for line in client.answers]
    assert served == [json.loads(lines[newest])["ds"] for newest in (1, 4, 4)]
    assert metrics["forecastd_forecasts_sent_total"] == 3
    assert metrics["forecastd_forecasts_requested_total"] == 3
    assert metrics["forecastd_observations_used_total"] == 5
    assert metrics['forecastd_lines_rejected_total{reason="unknown_series"}'] == 1
    assert metrics['forecastd_lines_received_total{source="in"}'] == 9


def test_forecasts_at_intervals_come_without_another_line(place: Place) -> None:
    place.configure(more='[emit]\nwhen = "interval"\nevery = "50ms"\n')
    written = place.folder / "out.ndjson"
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        client = StreamClient("meter", hourly(5))
        assert client.play(place.input)
        newest = json.loads(hourly(5)[-1])["ds"].encode()
        for _ in zip(range(TICKS_MAX), daemon.notices(), strict=False):
            metrics = place.metrics()
            sent = written.read_bytes()
            if newest in sent and metrics["forecastd_forecasts_sent_total"] == sent.count(b"\n"):
                break
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    assert client.answers == [], "a reply sink has nobody to send them to"
    served = [json.loads(line)["cutoff"] for line in written.read_bytes().splitlines()]
    assert served[-1].encode() == newest
    assert metrics["forecastd_forecasts_sent_total"] == len(served)
    assert 1 <= len(served) <= 5


def test_sigterm_finishes_what_has_arrived_and_commits(place: Place) -> None:
    lines = hourly(400)
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        with connect(place.input) as client:
            client.sendall(b"".join(line + b"\n" for line in lines))
            client.recv(1)  # it has begun
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
        assert "STOPPING=1" in daemon.heard
    written = (place.folder / "out.ndjson").read_bytes()
    assert written.count(b"\n") == len(lines)
    found = load_checkpoint(place)
    assert found.snapshot.rows["steps"].tolist() == [len(lines)]
    assert found.positions["sinks"]["kept"]["size"] == len(written)
    assert not Path(place.input).exists()
    assert not place.api.exists()


def load_checkpoint(place: Place) -> Checkpoint:
    found = checkpoint.load(place.folder / "state/checkpoint", MeanStepper().arena.layout)
    assert found is not None
    return found


def test_a_second_signal_stops_at_once_without_a_commit(place: Place) -> None:
    """The daemon is stuck, for nobody reads its output; only the second signal can end it."""
    place.configure(more='[sinks.stuck]\ntype = "stdout"\n')
    reader, writer = os.pipe()
    with place.start(stdout=writer) as daemon:
        os.close(writer)
        daemon.wait_for("READY=1")
        with connect(place.input) as client:
            client.sendall(b"".join(line + b"\n" for line in hourly(3000)))
            select.select([reader], [], [])
            daemon.signal(signal.SIGTERM)
            daemon.signal(signal.SIGINT)
            assert daemon.wait() in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    os.close(reader)
    assert load_checkpoint(place).snapshot.keys == []


def test_a_reload_keeps_the_old_when_the_new_is_broken(place: Place) -> None:
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        place.configure(more="[sinks.kept2]\ntyp = 5\n")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("RELOADING=1")
        daemon.wait_for("READY=1")
        client = StreamClient("meter", hourly(3))
        assert client.play(place.input)
        assert len(client.answers) == 3
        metrics = place.metrics()
        assert metrics['forecastd_config_reloads_total{result="refused"}'] == 1
        assert metrics["forecastd_config_last_reload_successful"] == 0
        assert "reload refused" in daemon.text()
        assert "unknown key" in daemon.text() or "'type'" in daemon.text()


def test_a_reload_refuses_a_model_that_has_no_room(place: Place) -> None:
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        client = StreamClient("meter", [*hourly(1, "a"), *hourly(1, "b")])
        assert client.play(place.input)
        place.configure(series_max=1)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("RELOADING=1")
        daemon.wait_for("READY=1")
        assert json.loads(ask(place.api, "/status")[1])["series_max"] == 100
        assert "set series_max to 2 or more" in daemon.text()


def test_a_reload_swaps_the_model_and_keeps_what_the_encoder_knows(place: Place) -> None:
    """The small stepper's sum belongs to its encoder and its count to its network."""
    lines = hourly(5)
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        assert StreamClient("meter", lines[:4]).play(place.input)
        place.configure(model="other", more='[sinks.new]\ntype = "stdout"\n')
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("RELOADING=1")
        daemon.wait_for("READY=1")
        client = StreamClient("meter", [*lines, lines[4]])
        assert client.play(place.input)
        assert client.positions == [4]
        assert json.loads(client.answers[0])["yhat"][0] == 0 + 1 + 2 + 3 + 4, "the sum, over 1"
        assert len(client.answers) == 1, "the newest time is kept too, so a repeat is refused"
        assert json.loads(ask(place.api, "/status")[1])["model_digest"] == "other"
        assert place.metrics()['forecastd_config_reloads_total{result="applied"}'] == 1
        log = daemon.text()
        assert "after a restart" in log
        assert '"sinks"' in log
        daemon.kill()
    with place.start() as daemon:
        daemon.wait_for("READY=1")


def test_what_a_daemon_shows(place: Place) -> None:
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        assert StreamClient("meter", hourly(7)).play(place.input)
        assert ask(place.api, "/health") == (200, "ok\n")
        assert ask(place.api, "/ready") == (200, "ready\n")
        assert ask(place.api, "/nowhere")[0] == 404
        metrics = place.metrics()
        assert metrics["forecastd_forecasts_sent_total"] == 7
        assert metrics["forecastd_state_series"] == 1
        assert metrics["forecastd_checkpoint_size_bytes"] > 0
        command = [sys.executable, "-c", "from forecast_cli.service import run; run()", "status"]
        shown = subprocess.run(
            [*command, "--socket", str(place.api), "--json"], capture_output=True, check=True
        )
        status = json.loads(shown.stdout)
        assert status["observations"] == status["forecasts"] == 7
        assert status["sources"] == {"in": "running"}
        table = subprocess.run(
            [*command, "--config", "forecastd.toml"],
            cwd=place.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "observations" in table.stdout
    nobody = subprocess.run(
        [*command, "--socket", str(place.api)], capture_output=True, check=False
    )
    assert nobody.returncode == 1
    assert b"no daemon answers" in nobody.stderr


def test_under_the_journal_lines_have_a_priority_and_no_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        assert StreamClient("meter", [b"bad"]).play(place.input)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        lines = daemon.text().splitlines()
    assert all(re.match(r"<[3-7]>", line) for line in lines)
    assert not any("timestamp" in line for line in lines)
    assert any(line.startswith("<4>") and "line rejected" in line for line in lines)


def test_a_port_in_use(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place.configure(more=f'[sources.more]\ntype = "tcp"\nlisten = "127.0.0.1:{port}"\n')
        said = place.refusal()
    assert f"source more cannot listen on 127.0.0.1:{port}" in said
    assert "choose another port" in said


def test_the_port_of_the_api_in_use(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = place.folder / "forecastd.toml"
        path.write_text(path.read_text().replace('"off"', f'"127.0.0.1:{port}"'))
        said = place.refusal()
    assert f"api.listen cannot listen on 127.0.0.1:{port}" in said


def test_a_second_daemon_in_the_same_folder(place: Place) -> None:
    with place.start() as daemon:
        daemon.wait_for("READY=1")
        assert "is used by another process" in place.refusal()


def test_an_unwritable_state_dir(place: Place) -> None:
    (place.folder / "state").write_text("a file where a folder should be")
    assert "cannot be written" in place.refusal()


def test_a_damaged_checkpoint(place: Place) -> None:
    path = save_checkpoint(place, "mean")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "is damaged" in place.refusal()


def test_a_newer_checkpoint(place: Place) -> None:
    path = save_checkpoint(place, "mean")
    path.write_bytes(path.read_bytes().replace(b"FCSTATE2", b"FCSTATE3"))
    assert "newer than this forecastd knows" in place.refusal()


def test_a_checkpoint_of_another_model(place: Place) -> None:
    save_checkpoint(place, "another")
    assert "made by another model" in place.refusal()


def save_checkpoint(place: Place, digest: str) -> Path:
    (place.folder / "state").mkdir()
    path = place.folder / "state/checkpoint"
    checkpoint.save(path, Checkpoint(digest, MeanStepper().arena.snapshot(), {}))
    return path


def test_no_configuration(place: Place) -> None:
    (place.folder / "forecastd.toml").unlink()
    assert "there is no such file" in place.refusal()
