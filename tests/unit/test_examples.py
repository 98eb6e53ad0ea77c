"""The examples are whole: configs that load, networks that fit, a table that tells the truth."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from typer.testing import CliRunner

from forecast_cli.main import app
from forecastd.config import TrainConfig, load
from forecastd.network.expand import check_network

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONFIGS = sorted(EXAMPLES.glob("*/forecast.toml"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield importlib.import_module("run")
    for name in ("run", "table", "made_up"):
        sys.modules.pop(name, None)


def test_each_folder_is_an_example(run: ModuleType) -> None:
    assert {path.parent.name for path in CONFIGS} == {example.name for example in run.EXAMPLES}
    assert {example.row for example in run.EXAMPLES} == {f"E{number}" for number in range(1, 11)}
    assert all(example.sets or example.made for example in run.EXAMPLES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_each_config_loads_and_its_network_fits(path: Path) -> None:
    loaded = load(TrainConfig, path, environment={})
    check_network(loaded.settings)
    assert loaded.settings.train.threads == 1  # examples run side by side


@pytest.mark.shows("S11")
def test_the_video_example_has_the_parameters_of_the_document() -> None:
    config = EXAMPLES / "e8_moving_shapes" / "forecast.toml"
    found = CliRunner().invoke(app, ["inspect", str(config), "--json"])
    assert found.exit_code == 0, found.output
    assert "9376800" in found.stdout


def test_what_reached_its_goal_is_told(run: ModuleType) -> None:
    example = next(one for one in run.EXAMPLES if one.name == "e2_turbofan")
    rows = [
        run._row(example, 0, scores) | {"cpu_s_a_seed": 1.0}
        for scores in ([(14.0, 41.9), (15.0, 41.9)], [(15.0, 41.9), (16.0, 41.9)])
    ]
    assert [row["reached"] for row in rows] == [True, False]
    assert [row["mean"] for row in rows] == [14.5, 15.5]
    lines = run.table(rows).splitlines()
    assert "**14.5** | < 15.0 reached | 41.9 (the mean of training)" in lines[2]
    assert "missed" in lines[3]


def test_an_example_without_its_data_is_left_out(
    run: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "DATA", tmp_path / "data")
    example = next(one for one in run.EXAMPLES if one.name == "e1_japanese_vowels")
    assert not run._has_data(example, tmp_path)
    assert (
        "e1_japanese_vowels is left out: japanese_vowels_train.parquet" in capsys.readouterr().err
    )
    letters = next(one for one in run.EXAMPLES if one.name == "e10_letters")
    assert run._has_data(letters, tmp_path)
    assert (tmp_path / "data" / "letters_all.parquet").exists()


@pytest.mark.trap(43)
def test_labels_that_turn_over_for_a_minute_are_settled(run: ModuleType, tmp_path: Path) -> None:
    labels = [0] * 30 + [1] * 30
    noisy = [1 - label if at in {6, 19, 45} else label for at, label in enumerate(labels)]
    for part in ("test1", "test2"):
        frame = pl.DataFrame({"ds": range(60), "Light": [0.0] * 60, "Occupancy": noisy})
        frame.write_parquet(tmp_path / f"occupancy_{part}.parquet")
    run.settle(tmp_path)
    found = pl.read_parquet(tmp_path / "occupancy_test2_settled.parquet")
    assert found["Occupancy"].to_list() == labels
    assert found.columns == ["ds", "Light", "Occupancy"]


def test_the_guide_prints_the_kept_figures(run: ModuleType) -> None:
    kept = json.loads((EXAMPLES.parent / "benchmarks/results/examples.json").read_text())["rows"]
    assert all(math.isfinite(row["mean"]) for row in kept)
    guide = (EXAMPLES.parent / "docs/guides/examples.md").read_text(encoding="utf-8")
    assert run.table(kept) in guide
