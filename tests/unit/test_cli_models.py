from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from models import example, model, waves
from small_runs import LENGTHS
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecast_cli.pictures import ACTUAL, BAND, BOTH, FORECAST, HEIGHT, Column, fan_chart
from forecastd import artifact
from forecastd.errors import ArtifactError, ConfigError, DataError, UserError

CONFIG = """
[data]
path = "waves.parquet"
id = "unique_id"
past = ["x"]
freq = "1h"
season = 24
[split]
valid = 60
test = 60
[features]
lags = 12
[network]
hidden = 8
horizon = 4
[train]
epochs = 2
batch = 8
sequence = 24
warmup = 4
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result


def refused(kind: type[Exception], *arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, kind), result.exception or result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with data, config and one run, and what `train --json` printed."""
    folder = tmp_path_factory.mktemp("cli")
    waves(LENGTHS).write_parquet(folder / "waves.parquet")
    (folder / "forecast.toml").write_text(CONFIG)
    result = succeeded("train", folder / "forecast.toml", "--json")
    assert "epoch 2/2" in result.stderr
    return folder, json.loads(result.stdout)


@pytest.fixture
def data(trained: tuple[Path, dict[str, Any]]) -> Path:
    return trained[0] / "waves.parquet"


@pytest.fixture
def run(trained: tuple[Path, dict[str, Any]]) -> Path:
    return Path(trained[1]["run"])


def test_train_writes_a_run_beside_its_config(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, told = trained
    assert Path(told["run"]).parent == folder / "runs"
    assert told["finished"] is True
    assert told["digest"] == artifact.load(Path(told["model"])).digest
    assert told["metrics"]["epochs"] == 2


def test_train_prints_the_model_alone_on_stdout(data: Path, tmp_path: Path) -> None:
    config = data.with_name("forecast.toml")
    result = succeeded("train", config, "--out", tmp_path, "--epochs", 1, "--seed", 3)
    folder = Path(result.stdout.strip())
    loaded = artifact.load(folder)
    assert folder.parent.parent == tmp_path
    assert loaded.provenance["config"]["train"]["seed"] == 3
    assert loaded.metrics["epochs"] == 1
    assert f"next: forecast evaluate {folder}" in result.stderr


def test_train_takes_any_setting_and_another_data_set(data: Path, tmp_path: Path) -> None:
    waves({"k": 300}).write_parquet(tmp_path / "other.parquet")
    result = succeeded(
        "train", data.with_name("forecast.toml"), "--out", tmp_path / "runs", "--json",
        "--data", tmp_path / "other.parquet", "--set", "network.hidden=5", "-S", "train.epochs=1",
    )  # fmt: skip
    loaded = artifact.load(Path(json.loads(result.stdout)["model"]))
    assert loaded.vocabulary.series == ("k",)
    assert loaded.spec.layers[0].options["hidden"] == 5


def test_train_refuses_before_it_makes_a_run(data: Path, run: Path, tmp_path: Path) -> None:
    config = data.with_name("forecast.toml")
    common = ["train", config, "--out", tmp_path / "runs"]
    assert "nowhere" in refused(UserError, *common, "--data", "nowhere.parquet")
    assert "'network.horizont'" in refused(ConfigError, *common, "--set", "network.horizont=3")
    assert "settings of the run" in refused(
        ConfigError, "train", run, "--resume", "--set", "train.lr=1"
    )
    assert "is not a run" in refused(ConfigError, "train", tmp_path, "--resume")
    assert "can go on" in refused(ArtifactError, "train", run, "--resume")
    (tmp_path / "file").write_text("")
    refused(UserError, "train", config, "--out", tmp_path / "file")
    assert not list((tmp_path / "runs").glob("2*"))


def test_predict_writes_every_origin(run: Path, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    result = succeeded("predict", run, data, "-o", target)
    assert result.stdout.strip() == str(target)
    assert "1,200 forecasts of 3 series, 4,800 rows" in result.stderr
    frame = pl.read_parquet(target)
    assert frame.columns == [
        "unique_id", "ds", "cutoff", "h", "yhat", "yhat_lo_80", "yhat_hi_80",
    ]  # fmt: skip
    assert len(frame) == 4800


def test_predict_the_last_origin_as_json(run: Path, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    told = json.loads(succeeded("predict", run, data, "-o", target, "--last", "--json").stdout)
    assert told == {"path": str(target), "series": 3, "forecasts": 3, "rows": 12}
    newest = pl.read_parquet(data)["ds"].max()
    assert pl.read_parquet(target)["cutoff"].unique().to_list() == [newest]


def test_predict_refuses_data_that_does_not_fit(run: Path, data: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(data)
    others = {
        "without.parquet": frame.drop("x"),
        "daily.parquet": frame.with_columns(ds=pl.col("ds").rank("dense").cast(pl.Int32)
                                            .cast(pl.Date).cast(pl.Datetime("us"))),
    }  # fmt: skip
    found = []
    for name, other in others.items():
        other.write_parquet(tmp_path / name)
        target = tmp_path / "out.parquet"
        found.append(refused(DataError, "predict", run, tmp_path / name, "-o", target))
        assert not target.exists()
    assert "'x'" in found[0]
    assert "steps by 1d, but the model was trained on steps of 1h" in found[1]
    assert "nowhere" in refused(
        UserError, "predict", run, data, "-o", tmp_path / "nowhere" / "out.parquet"
    )


def test_evaluate_prints_a_table_beside_the_naive_forecasts(run: Path, data: Path) -> None:
    result = succeeded("evaluate", run, data)
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["metric", "model", "last", "value", "seasonal", "naive"]
    assert [row.split()[0] for row in rows[:3]] == ["mae", "rmse", "mase"]
    assert max(map(len, result.stdout.splitlines())) < 80
    assert f"{3 * (60 - 4 + 1)} origins of 3 series" in result.stderr


@pytest.mark.parametrize(
    ("part", "origins"), [("test", 57), ("valid", 57), ("validation", 57), ("all", 396)]
)  # fmt: skip
def test_evaluate_a_part_as_json(part: str, origins: int, run: Path, data: Path) -> None:
    told = json.loads(succeeded("evaluate", run, data, "--part", part, "--json").stdout)
    assert told["origins"] == 3 * origins
    assert told["series"] == 3
    assert told["metrics"].keys() == {"model", "last_value", "seasonal_naive"}
    assert 0 < told["metrics"]["model"]["mae"] < math.inf
    assert 0 <= told["metrics"]["model"]["coverage_80"] <= 1


def test_evaluate_a_model_that_does_not_tell_its_split(data: Path, tmp_path: Path) -> None:
    artifact.save(tmp_path / "model", model(), example())
    found = refused(ArtifactError, "evaluate", tmp_path / "model", data)
    assert "--split all" in found
    succeeded("evaluate", tmp_path / "model", data, "--part", "all")


def test_inspect_tells_shape_and_size(run: Path) -> None:
    told = json.loads(succeeded("inspect", run, "--json").stdout)
    assert told["signature"]["target"] == "y"
    assert told["spec"]["head"]["horizon"] == 4
    assert told["series_in_training"] == 3
    loaded = artifact.load(run)
    assert told["weights"] == sum(p.numel() for p in loaded.network.parameters())
    assert told["state_bytes_per_series"] > 0
    text = succeeded("inspect", run).stdout
    assert "y, 4 steps of 1h ahead" in text
    assert loaded.digest in text


@pytest.mark.parametrize("command", ["inspect", "evaluate", "predict"])
def test_no_model_is_said_in_a_sentence(command: str, data: Path, tmp_path: Path) -> None:
    rest = {"inspect": [], "evaluate": [data], "predict": [data, "-o", tmp_path / "out"]}
    found = refused(ArtifactError, command, tmp_path / "nothing", *rest[command])
    assert "nothing is not a model" in found


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    """Ctrl-C after the first epoch: the model is saved, and --resume finishes the rest."""
    waves(dict.fromkeys("abc", 4000)).write_parquet(tmp_path / "waves.parquet")
    (tmp_path / "forecast.toml").write_text(
        CONFIG.replace("epochs = 2", "epochs = 19\npatience = 0")
    )
    command = [sys.executable, "-m", "forecast_cli", "train"]
    environment = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(
        [*command, "forecast.toml"], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as training:  # fmt: skip
        assert training.stderr is not None
        for line in training.stderr:
            if line.startswith("epoch 1/19"):
                break
        training.send_signal(signal.SIGINT)
        out, rest = training.communicate()
    assert training.returncode == 130, rest
    folder = Path(out.strip()).parent
    assert f"go on with: forecast train --resume {folder}" in rest
    interrupted = artifact.load(folder)
    assert 1 <= interrupted.metrics["epochs"] < 19
    done = subprocess.run(
        [*command, "--resume", str(folder)], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 20))
    assert artifact.load(folder).digest != interrupted.digest
    assert not (folder / "last").exists()


# Pictures


def chart(columns: list[Column]) -> list[str]:
    return fan_chart(columns, "°F").splitlines()


def test_a_chart_shows_actual_forecast_and_band() -> None:
    columns = [Column(10, 12, 8, 16, "Monday"), Column(12, 12, 8, 16)]
    lines = chart(columns)
    assert lines[0].strip() == "°F"
    drawing = lines[1 : 1 + HEIGHT]
    body = [line.partition("│")[2] for line in drawing]
    first = [line[0] for line in body if line]
    assert first.count(ACTUAL) == 1
    assert first.count(FORECAST) == 1
    assert BAND in first
    assert sum(line.count(BOTH) for line in body) == 1
    assert drawing[-1].split()[0] == "8.0"
    assert any(line.strip() == "Monday" for line in lines)
    assert "80 % band" in lines[-1]


def test_missing_values_leave_room() -> None:
    nan = math.nan
    columns = [Column(nan, 1, 0, 2), Column(1, nan, nan, nan), Column(2, 2, 0, 2)]
    body = [line.partition("│")[2].ljust(3) for line in chart(columns)[1 : 1 + HEIGHT]]
    cells = np.array([list(line) for line in body])
    assert ACTUAL not in cells[:, 0]
    assert set(cells[:, 1]) == {" ", ACTUAL}


def test_a_forecast_outside_everything_else_is_drawn() -> None:
    nan = math.nan
    lines = chart([Column(1, 9, nan, nan), Column(2, -9, nan, nan)])
    assert sum(line.count(FORECAST) for line in lines[1 : 1 + HEIGHT]) == 2


def test_nothing_to_draw_is_an_empty_chart() -> None:
    nan = math.nan
    lines = chart([Column(nan, nan, nan, nan)])
    assert not any(mark in "".join(lines[:-1]) for mark in (ACTUAL, BAND, BOTH))


def test_a_flat_line_is_drawn() -> None:
    lines = chart([Column(5, 5, 5, 5)] * 3)
    assert sum(line.count(BOTH) for line in lines[:-1]) == 3
