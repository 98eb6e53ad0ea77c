"""One model, one data set, three ways: Parquet in batch, lines through a pipe, a socket daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from daemon_process import DaemonProcess, by_key

from forecast_cli.history import History
from forecast_cli.replay import settings_of
from forecast_cli.sender import Sender, parse_address
from forecastd.config import TrainConfig
from forecastd.training.run import start_run, train

pytestmark = pytest.mark.process

FORECASTD = [sys.executable, "-c", "from forecast_cli.service import run; run()", "run"]
FORECAST = [sys.executable, "-m", "forecast_cli"]
HORIZON = 12
COLUMNS = ["yhat", "yhat_lo_80", "yhat_hi_80"]
CONFIG = """
state_dir = "state"
model = {{ path = "{model}", device = "cpu" }}
api = {{ listen = "off" }}
sources = {{ in = {{ type = "unix", path = "{socket}" }} }}
sinks = {{ out = {{ type = "reply" }} }}
"""

Forecasts = dict[tuple[str, datetime], np.ndarray]
"""By series and origin: [horizon, columns]."""


@pytest.fixture(scope="module")
def weather(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four weeks of weather with holes, missing pressures and the only missing temperature."""
    frame = pl.read_parquet(project / "datasets" / "nyc_weather" / "nyc_weather.parquet")
    day = pl.col("ds").dt.date()
    frame = frame.filter(day.is_between(pl.date(2013, 8, 10), pl.date(2013, 9, 5)))
    assert frame["temp"].null_count() == 1
    assert frame["pressure"].null_count() > 100
    path = tmp_path_factory.mktemp("weather") / "weather.parquet"
    frame.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def model(weather: Path) -> Path:
    """A small network; max_gap is so short that some holes are filled and others reset."""
    config = TrainConfig.model_validate(
        {
            "data": {
                "path": weather.name, "id": "unique_id", "target": "temp",
                "past": ["dewp", "pressure"], "freq": "1h", "season": 24, "max_gap": 1,
            },
            "split": {"valid": "5d", "test": "5d"},
            "features": {"lags": 48},
            "network": {"hidden": 16, "horizon": HORIZON},
            "train": {"epochs": 2, "batch": 16, "device": "cpu"},
        }
    )  # fmt: skip
    ready = start_run(config, weather.parent, weather.parent / "runs")
    assert ready.store.report.rows_filled > 0
    assert ready.store.report.resets > 0
    return train(ready, lambda news: None, lambda: False).folder / "model"


def run(*arguments: object, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        [*FORECAST, *map(str, arguments)],
        env={**os.environ, "TERM": "dumb"}, input=stdin, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def of_lines(lines: list[bytes]) -> Forecasts:
    found: Forecasts = {}
    for (series, cutoff), line in by_key(lines).items():
        content = json.loads(line)
        values = np.array([content[name] for name in COLUMNS]).T
        found[series, datetime.fromisoformat(cutoff)] = values
    return found


def by_predict(model: Path, weather: Path, folder: Path) -> Forecasts:
    run("predict", model, weather, "-o", folder / "out.parquet")
    frame = pl.read_parquet(folder / "out.parquet")
    parts = frame.partition_by("unique_id", "cutoff", as_dict=True, maintain_order=True)
    assert all(part["h"].to_list() == list(range(1, HORIZON + 1)) for part in parts.values())
    return {key: part.select(COLUMNS).to_numpy() for key, part in parts.items()}


def by_stream(model: Path, weather: Path) -> Forecasts:
    lines = run("replay", weather, "--model", model)
    return of_lines(run("stream", model, stdin=lines).splitlines())


def by_daemon(model: Path, weather: Path, folder: Path) -> Forecasts:
    answers: list[bytes] = []
    with tempfile.TemporaryDirectory() as short:  # for the length of a UNIX socket's path
        socket = f"{short}/in.sock"
        (folder / "forecastd.toml").write_text(CONFIG.format(model=model, socket=socket))
        with DaemonProcess(FORECASTD, folder) as daemon:
            daemon.wait_for("READY=1")
            lines = History.read(*settings_of(str(weather), model))
            sender = Sender(parse_address(f"unix://{socket}"), "weather", answers.append)
            assert sender.send(lines).lines == len(lines)
    return of_lines(answers)


def assert_same(found: Forecasts, expected: Forecasts, atol: float) -> None:
    assert found.keys() == expected.keys()
    keys = sorted(expected)
    np.testing.assert_allclose(
        np.stack([found[key] for key in keys]),
        np.stack([expected[key] for key in keys]),
        rtol=1e-5,
        atol=atol,
    )


def test_batch_stream_and_daemon_forecast_the_same(
    model: Path, weather: Path, tmp_path: Path
) -> None:
    frame = pl.read_parquet(weather)
    atol = 1e-5 * float(frame["temp"].std())  # type: ignore[arg-type]
    batch = by_predict(model, weather, tmp_path)
    assert len(batch) == len(frame)
    assert_same(by_stream(model, weather), batch, atol)
    assert_same(by_daemon(model, weather, tmp_path), batch, atol)
