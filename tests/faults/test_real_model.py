"""The real network behind the real commands: the same forecasts whatever way they are made."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from daemon_process import TICKS_MAX, DaemonProcess, Killer, StreamClient, by_key
from networks import SPECS, network

from forecastd import artifact
from forecastd.artifact import Artifact, Example
from forecastd.connectors.contract import LineBatch
from forecastd.daemon.pipeline import Translation
from forecastd.features.vocabulary import Vocabulary
from forecastd.network.model import weights_of
from forecastd.runtime.kernel_stepper import KernelStepper
from forecastd.series import Frequency, Signature

pytestmark = [pytest.mark.slow, pytest.mark.process]

KILLS = 20
FORECASTD = (sys.executable, "-c", "from forecast_cli.service import run; run()")
FORECAST = (sys.executable, "-m", "forecast_cli")
START_US = int(np.datetime64("2013-01-01", "us").astype(np.int64))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network nobody has trained: its forecasts are bad, but they are the same everywhere."""
    spec = SPECS["lstm_quantile"]
    signature = Signature(
        id="unique_id",
        time="ds",
        target="y",
        past=("temp",),
        static=(),
        frequency=Frequency.parse("1h"),
        season=24,
        horizon=spec.head.horizon,
        quantiles=spec.head.quantiles,
    )
    made = Artifact(
        signature=signature,
        spec=spec,
        vocabulary=Vocabulary(("s0", "s1", "s2"), {}, {}),
        statistics={name: np.ones(3) for name in ("mean", "std", "mase_scale")},
        max_gap=6,
        weights=weights_of(network(spec, torch.float32)),
        provenance={},
        metrics={},
    )
    rng = np.random.default_rng(5)
    values = rng.normal(size=(30, 2)).astype(np.float32)
    times = START_US + 3_600_000_000 * np.arange(30)
    folder = tmp_path_factory.mktemp("artifact") / "model"
    artifact.save(folder, made, Example("s0", times, values))
    return folder


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """Hours with holes: some are filled, some begin the series anew."""
    rng = np.random.default_rng(3)
    hour = dict.fromkeys(range(20), 0)
    found = []
    for series in rng.integers(0, 20, 6000).tolist():
        hour[series] += int(rng.choice([1, 1, 1, 1, 2, 4, 9]))
        stamp = np.datetime64("2013-01-01T00", "h") + hour[series]
        y = None if rng.random() < 0.05 else round(float(rng.normal(20, 5)), 2)
        line = {"unique_id": f"s{series}", "ds": f"{stamp}:00:00", "y": y, "temp": 3.5}
        found.append(json.dumps(line).encode())
    return found


@pytest.fixture(scope="module")
def expected(model: Path, lines: list[bytes]) -> list[bytes]:
    """What one uninterrupted life answers."""
    stepper = KernelStepper(artifact.load(model), 100)
    translation = Translation.of(stepper)
    decoded = translation.decoder.decode(LineBatch("in", lines))
    result = stepper.step(decoded.batch)
    assert result.filled > 0
    assert result.resets > 0
    encoded = translation.encoder.encode(result.forecasts).lines
    assert len(encoded) == len(lines)
    return [line.rstrip(b"\n") for line in encoded]


def test_kills_change_nothing(
    model: Path, lines: list[bytes], expected: list[bytes], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as short:
        (tmp_path / "forecastd.toml").write_text(
            f"""
            state_dir = "state"
            model = {{ path = "{model}", device = "cpu" }}
            checkpoint = {{ every = "20ms" }}
            limits = {{ batch_rows = 64 }}
            api = {{ listen = "off" }}
            sources = {{ in = {{ type = "unix", path = "{short}/in.sock" }} }}
            sinks = {{ out = {{ type = "reply" }} }}
            """
        )
        checked = subprocess.run([*FORECASTD, "check"], cwd=tmp_path, capture_output=True)
        assert checked.returncode == 0, checked.stderr
        client = StreamClient("meter", lines)
        rng = random.Random(13)
        kills = 0
        done = False
        while not done:
            with DaemonProcess([*FORECASTD, "run"], tmp_path) as daemon:
                daemon.wait_for("READY=1")
                killer = Killer(daemon, rng.randint(1, TICKS_MAX // 7) if kills < KILLS else 0)
                done = client.play(f"{short}/in.sock", *killer.watch())
                kills += killer.killed
    assert kills == KILLS
    assert by_key(client.answers) == by_key(expected)


def test_forecast_stream_keeps_its_states_between_calls(
    model: Path, lines: list[bytes], expected: list[bytes], tmp_path: Path
) -> None:
    command = [*FORECAST, "stream", str(model), "--state", "state", "--device", "cpu"]
    answers: list[bytes] = []
    for part in (lines[:1000], lines[1000:1001], lines[1001:]):
        done = subprocess.run(
            command, input=b"\n".join(part), cwd=tmp_path, capture_output=True, check=True
        )
        answers += done.stdout.splitlines()
        assert f"{len(part)} observations, {len(part)} forecasts".encode() in done.stderr
    assert answers == expected


def test_forecast_stream_tells_what_it_rejected(model: Path, tmp_path: Path) -> None:
    line = b'{"unique_id":"s0","ds":"2013-01-01","y":1,"wind":2}\n'
    command = [*FORECAST, "stream", str(model)]
    done = subprocess.run(
        command, input=b"bad\nworse\n" + line, cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout == b""
    assert b"2 rejected as bad_json, the first: 'bad'" in done.stderr
    assert b"1 rejected as unknown_column" in done.stderr
    ignoring = subprocess.run(
        [*command, "--ignore-unknown"], input=line, cwd=tmp_path, capture_output=True, check=True
    )
    assert json.loads(ignoring.stdout)["cutoff"] == "2013-01-01T00:00:00"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_forecast_stream_with_a_commit(
    model: Path,
    lines: list[bytes],
    expected: list[bytes],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    command = [*FORECAST, "stream", str(model), "--state", "state"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n".join(lines[:50]) + b"\n")
        process.stdin.flush()
        answers = [process.stdout.readline().rstrip(b"\n")]
        process.send_signal(number)
        answers += process.stdout.read().splitlines()
        assert process.wait() == code
    rest = subprocess.run(
        command, input=b"\n".join(lines[50:60]), cwd=tmp_path, capture_output=True, check=True
    )
    assert answers + rest.stdout.splitlines() == expected[:60]


def test_a_reader_that_leaves_is_no_crash(model: Path, lines: list[bytes], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*FORECAST, "stream", str(model)]
    done = subprocess.run(
        command, input=lines[0], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.returncode == 141
    assert b"Traceback" not in done.stderr


def test_a_state_of_another_model_is_an_error_in_a_sentence(
    model: Path, lines: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "state").write_bytes(b"not a checkpoint")
    command = [*FORECAST, "stream", str(model), "--state", "state"]
    done = subprocess.run(command, input=b"", cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"error: the checkpoint state is damaged" in done.stderr
