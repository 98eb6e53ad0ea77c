from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from forecastd.config import TrainConfig, load

CONFIG = """
[data]
path = "a \\"b\\".parquet"
past = ["temp", "wind"]

[network]
head = { levels = [50, 90] }

[train]
lr = 1e-5
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "forecast.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [(), ("--origin",)], ids=["plain", "origins"])
def test_what_show_prints_is_a_config_with_the_same_settings(
    run_forecast, config: Path, tmp_path: Path, options
) -> None:
    done = run_forecast("config", "show", *options)
    assert (done.returncode, done.stderr) == (0, "")
    shown = tmp_path / "shown.toml"
    shown.write_text(done.stdout, encoding="utf-8")
    assert load(TrainConfig, shown).settings == load(TrainConfig, config, environment={}).settings


@pytest.mark.parametrize(
    "split",
    [
        'valid = "7d"\ntest = 0.25\ngap = 3',
        'by = "series"\nvalid = ["a \\"b\\"", "é"]\ntest = 0.1\nseed = 5',
        'by = "ranges"\ntrain = [0, 900]\nvalid = [900, 1000]\ntest = [-24]',
        'by = "ranges"\ntest = [2013-01-31T06:00:00Z, 2013-02-01]',
        'by = "files"\ntest = "test.parquet"',
    ],
)
def test_show_prints_each_kind_of_split(run_forecast, config: Path, tmp_path: Path, split) -> None:
    config.write_text(f"{CONFIG}\n[split]\n{split}\n", encoding="utf-8")
    done = run_forecast("config", "show")
    assert (done.returncode, done.stderr) == (0, "")
    shown = tmp_path / "shown.toml"
    shown.write_text(done.stdout, encoding="utf-8")
    assert load(TrainConfig, shown).settings == load(TrainConfig, config, environment={}).settings


def test_show_tells_every_origin(run_forecast, config: Path) -> None:
    done = run_forecast(
        "config", "show", "--origin", "--json", "--set", "train.batch=3", FORECAST__TRAIN__SEED="7"
    )
    shown = json.loads(done.stdout)
    assert shown["train.lr"] == {"value": 1e-5, "origin": "forecast.toml:10"}
    assert shown["train.batch"] == {"value": 3, "origin": "--set"}
    assert shown["train.seed"] == {"value": 7, "origin": "$FORECAST__TRAIN__SEED"}
    assert shown["train.clip"] == {"value": 1.0, "origin": "default"}
    assert shown["network.head.levels"]["origin"] == "forecast.toml:7"


def test_show_as_json_is_values(run_forecast, config: Path) -> None:
    shown = json.loads(run_forecast("config", "show", "--json").stdout)
    assert shown["data.path"] == 'a "b".parquet'
    assert shown["data.season"] is None


def test_show_without_a_config_says_how_to_get_one(run_forecast) -> None:
    done = run_forecast("config", "show")
    assert (done.returncode, done.stdout) == (2, "")
    assert "forecast init" in done.stderr


def test_validate_lists_all_problems_of_all_files(
    run_forecast, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.toml").write_text("[data]\npath = 3\npst = []\n", encoding="utf-8")
    (tmp_path / "two.toml").write_text("[data\n", encoding="utf-8")
    done = run_forecast("config", "validate", "one.toml", "two.toml", config.name)
    assert (done.returncode, done.stdout) == (2, "")
    errors = done.stderr.splitlines()
    assert len(errors) == 3
    assert any("one.toml:2" in line for line in errors)
    assert any("one.toml:3" in line and "'past'" in line for line in errors)
    assert any("two.toml" in line for line in errors)


def test_validate_as_json_has_every_file(run_forecast, config: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("", encoding="utf-8")
    done = run_forecast("config", "validate", "bad.toml", config.name, "--json")
    assert done.returncode == 2
    bad, good = json.loads(done.stdout)
    assert (bad["file"], bad["valid"], len(bad["problems"])) == ("bad.toml", False, 1)
    assert good == {"file": "forecast.toml", "valid": True, "problems": []}


def test_validate_says_yes(run_forecast, config: Path) -> None:
    done = run_forecast("config", "validate", config.name)
    assert (done.returncode, done.stdout) == (0, "forecast.toml: valid\n")


def test_schema_describes_each_table(run_forecast) -> None:
    schema = json.loads(run_forecast("config", "schema").stdout)
    assert set(schema["properties"]) == set(TrainConfig.model_fields)
    assert schema["additionalProperties"] is False
    assert tomllib.loads(CONFIG).keys() <= schema["properties"].keys()
