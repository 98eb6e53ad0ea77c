"""`make demo`: train on the bundled weather, start the daemon, and follow it as a live stream.

Every step is a command that anyone can type; the demo prints each before it runs it.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from forecast_cli.failures import guarded
from forecast_cli.output import is_screen, note, print_table
from forecast_cli.pictures import Column, fan_chart
from forecastd.errors import UserError

if TYPE_CHECKING:
    from forecastd.artifact import Artifact
    from forecastd.data.store import Store
    from forecastd.evaluation.evaluate import Evaluation

DATA = Path("datasets/nyc_weather")
PLAY_FROM = "2013-11-01"
CHART_DAYS = 4
READY_ATTEMPTS = 600
DAEMON = """\
# Written by `make demo`: observations come in over a UNIX socket, forecasts go back on it.
state_dir = "state"

[model]
path = "{model}"

[api]
listen = "off"

[log]
level = "warning"

[sources.stations]
type = "unix"
path = "stations.sock"

[sinks.answers]
type = "reply"
"""

Forecasts = dict[str, dict[str, dict[str, Any]]]


class Played(NamedTuple):
    """What came back from the daemon: forecasts by series and origin, and the rate."""

    forecasts: Forecasts
    observations: int
    seconds: float


def demo(
    folder: Path = typer.Option(Path("demo"), help="Where the demo's files go; emptied first."),
) -> None:
    """Train on a year of weather, start the daemon, play its last weeks as a live stream."""
    if not (DATA / "forecast.toml").is_file():
        message = f"there is no {DATA / 'forecast.toml'} here"
        raise UserError(message, hint="run the demo in the project's folder")
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note("Hourly weather of three New York airports, 2013. The last 30 days are held out.")
    model = _train(folder)
    config = folder / "forecastd.toml"
    config.write_text(DAEMON.format(model=model.resolve()), encoding="utf-8")
    played = _play(config)
    _show(model, played)
    print(f"\nAll of it took {time.monotonic() - started:.0f} s. Next, with your own data:\n")
    print("  forecast init YOUR.parquet        # look at it, write forecast.toml with reasons")
    print("  forecast train forecast.toml      # train; prints the model's folder")
    print("  forecast replay YOUR.parquet --model MODEL | forecast stream MODEL    # live")


def _train(folder: Path) -> Path:
    """Train and return the model's folder."""
    command = ["forecast", "train", str(DATA / "forecast.toml"), "--out", str(folder / "runs")]
    _announce(command)
    done = subprocess.run(_installed(command), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
    return Path(done.stdout.decode().strip())


def _play(config: Path) -> Played:
    """Start the daemon, play history into it, stop it."""
    command = ["forecastd", "run", "-c", str(config)]
    _announce(command)
    daemon = subprocess.Popen(_installed(command))
    try:
        _wait_ready(daemon, config.parent / "state" / "api.sock")
        command = ["forecast", "replay", str(DATA / "forecast.toml"), "--from", PLAY_FROM]
        command += ["--to", f"unix://{config.parent / 'stations.sock'}"]
        _announce(command)
        forecasts, seconds = _replay(command)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    by_origin: Forecasts = defaultdict(dict)
    for forecast in forecasts:
        by_origin[forecast["unique_id"]][forecast["cutoff"]] = forecast
    return Played(by_origin, len(forecasts), seconds)


def _replay(command: list[str]) -> tuple[list[dict[str, Any]], float]:
    """Run a replay; return the forecasts it printed and the seconds from the first to the last."""
    forecasts, first = [], 0.0
    with subprocess.Popen(_installed(command), stdout=subprocess.PIPE) as replay:
        for line in replay.stdout or ():
            first = first or time.monotonic()
            forecasts.append(json.loads(line))
        seconds = time.monotonic() - first
    if replay.returncode:
        raise typer.Exit(replay.returncode)
    return forecasts, seconds


def _wait_ready(daemon: subprocess.Popen[bytes], api: Path) -> None:
    """Wait until the daemon answers that it is ready. Raises typer.Exit when it has ended."""
    pause = threading.Event()
    for _ in range(READY_ATTEMPTS):
        if daemon.poll() is not None:
            raise typer.Exit(daemon.returncode or 1)
        if api.exists() and _ready(api):
            return
        pause.wait(0.1)
    message = "the daemon did not become ready"
    raise UserError(message, hint="run `forecastd run -c demo/forecastd.toml` to see why")


def _ready(api: Path) -> bool:
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        try:
            connection.sock.connect(os.fspath(api))
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _show(model: Path, played: Played) -> None:
    """Print the chart of one airport, the errors, the coverage and the rate."""
    from forecast_cli.opening import opened

    with opened(model, str(DATA / "nyc_weather.parquet")) as (trained, store):
        key = store.keys[0]
        print(f"\n{key}, the last {CHART_DAYS} days: each day's forecast was made at midnight.\n")
        print(fan_chart(_columns(store, key, played.forecasts[key]), "°F"))
        result = _score(trained, store, played.forecasts)
    print()
    _print_scores(result)
    coverage = result.metrics["model"]["coverage_80"]
    rate = played.observations / played.seconds
    print(f"\nThe 80 % band held {coverage:.1%} of {result.values:,} values.")
    print(f"{played.observations:,} observations in {played.seconds:.1f} s: {rate:,.0f} a second,")
    print("each with a forecast of 24 hours, from replay through a socket to the daemon and back.")


def _columns(store: Store, key: str, forecasts: dict[str, dict[str, Any]]) -> list[Column]:
    """Return the last days hour by hour, each day forecast from its midnight."""
    from forecastd.series import format_time

    rows = store.rows_of(store.keys.index(key))
    times, values = store.times[rows], store.values[rows, 0]
    stamps = [str(format_time(int(time), store.frequency)) for time in times]
    midnights = [i for i, stamp in enumerate(stamps) if stamp.endswith("T00:00:00")]
    midnights = [i for i in midnights if stamps[i] in forecasts and i + 24 < len(stamps)]
    columns = []
    for midnight in midnights[-CHART_DAYS:]:
        made = forecasts[stamps[midnight]]
        for step in range(24):
            row = midnight + 1 + step
            band = made["yhat"][step], made["yhat_lo_80"][step], made["yhat_hi_80"][step]
            label = stamps[midnight][:10] if step == 0 else ""
            columns.append(Column(float(values[row]), *band, label))
    return columns


def _score(trained: Artifact, store: Store, forecasts: Forecasts) -> Evaluation:
    """Score what the daemon sent on the held-out days, as `forecast evaluate` does."""
    import numpy as np

    from forecastd.config import TrainConfig
    from forecastd.data.split import split
    from forecastd.evaluation.evaluate import Scoreboard
    from forecastd.series import format_time

    parts = split(store, TrainConfig.model_validate(trained.provenance["config"]).split)
    board = Scoreboard(trained, store)
    horizon = trained.signature.horizon
    for series, key in enumerate(store.keys):
        begin, end = int(parts.test_begin[series]), int(parts.test_end[series])
        rows, values = [], []
        for row in range(begin - 1, end - horizon):
            made = forecasts[key].get(str(format_time(int(store.times[row]), store.frequency)))
            if made is not None:
                rows.append(row)
                values.append([made["yhat_lo_80"], made["yhat"], made["yhat_hi_80"]])
        board.add(series, np.array(rows), np.array(values, np.float32).swapaxes(1, 2))
    return board.result()


def _print_scores(result: Evaluation) -> None:
    ours = result.metrics["model"]["mae"]
    rows = [
        [
            name.replace("_", " "),
            *(metrics[m] for m in ("mae", "rmse", "mase")),
            ours / metrics["mae"],
        ]
        for name, metrics in result.metrics.items()
    ]
    title = "24 hours ahead, December 2013, every hour an origin:"
    print_table(["forecast", "mae", "rmse", "mase", "model's mae / its mae"], rows, title=title)


def _installed(command: list[str]) -> list[str]:
    """Return the command as it is installed beside this Python."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def _announce(command: list[str]) -> None:
    text = f"\n$ {shlex.join(command)}"
    note(f"\x1b[1m{text}\x1b[0m" if is_screen(sys.stderr) else text)


def main() -> None:
    """Be the process of `make demo`."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(demo)
    guarded(app, "demo")


if __name__ == "__main__":
    main()
