"""How good the forecasts of real data are, by the commands a user types; -s shows the figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.process]

Metrics = dict[str, dict[str, float]]


def forecast(folder: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "forecast_cli", *map(str, arguments)],
        cwd=folder, env={**os.environ, "TERM": "dumb"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained(folder: Path, config: Path, *options: object) -> tuple[Path, dict[str, Any]]:
    arguments = ["train", config, "--out", folder / "runs", "--seed", 0, "--device", "cpu"]
    told = json.loads(forecast(folder, *arguments, "--json", *options))
    return Path(told["model"]), told["metrics"]


def scored(folder: Path, model: Path, data: Path) -> Metrics:
    return json.loads(forecast(folder, "evaluate", model, data, "--json"))["metrics"]


def show(name: str, training: dict[str, Any], metrics: Metrics) -> None:
    lines = [f"\n{name}: trained {training['epochs']} epochs in {training['seconds']} s"]
    for forecaster, found in metrics.items():
        figures = "  ".join(f"{metric} {value:.4f}" for metric, value in found.items())
        lines.append(f"  {forecaster:15} {figures}")
    sys.stdout.write("\n".join(lines) + "\n")


@pytest.mark.shows("S40", "S88")
def test_weather_a_day_ahead(project: Path, tmp_path: Path) -> None:
    data = project / "datasets" / "nyc_weather"
    model, training = trained(tmp_path, data / "forecast.toml")
    metrics = scored(tmp_path, model, data / "nyc_weather.parquet")
    show("nyc_weather", training, metrics)
    mae = metrics["model"]["mae"]
    assert mae <= 0.75 * metrics["seasonal_naive"]["mae"]
    assert mae <= 0.97 * metrics["last_value"]["mae"]
    assert 0.72 <= metrics["model"]["coverage_80"] <= 0.88


def test_a_published_benchmark_with_only_horizon_and_split_set(
    project: Path, tmp_path: Path
) -> None:
    """ETTh1, 96 hours ahead, all seven channels: PatchTST is published with 0.370."""
    data = project.parent / "shared" / "data" / "ETTh1.parquet"
    if not data.is_file():
        pytest.skip("ETTh1.parquet of the shared data is not here")
    forecast(tmp_path, "init", data, "-o", "forecast.toml", "--horizon", 96)
    parts = {"train": 8640, "valid": 2880, "test": 2880}
    options = [text for name, rows in parts.items() for text in ("--set", f"split.{name}={rows}")]
    model, training = trained(tmp_path, tmp_path / "forecast.toml", *options)
    metrics = scored(tmp_path, model, data)
    show("ETTh1", training, metrics)
    assert metrics["model"]["mse_std"] <= 0.375
