"""Every real data set there is goes from file to scores with what `forecast init` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from forecast_cli.main import app
from forecastd.errors import UserError

pytestmark = pytest.mark.slow

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = sorted(DATA.glob("*.parquet"))
HEADS = {"m5_train": 150_000, "m5_test": 150_000, "household_power": 100_000}
"""Files of which the first rows stand for all, to keep the matrix within minutes."""
SMALL = {
    "network.hidden": 8,
    "train.batch": 128,
    "train.loss_stride": 16,
    "train.threads": 1,
}
UNSCORED = {"nab_realKnownCause": "no origin has its whole horizon within the rows to evaluate"}
"""Files whose held-out part is shorter than the horizon, and what `evaluate` says then."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def source(file: Path, folder: Path) -> Path:
    """Return the file, or a copy of its first rows."""
    rows = HEADS.get(file.stem)
    if rows is None:
        return file
    head = folder / file.name
    pl.scan_parquet(file).head(rows).collect().write_parquet(head)
    return head


@pytest.mark.skipif(not FILES, reason="the data sets beside the checkout are not there")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_check_init_train_evaluate(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = source(file, tmp_path)
    checked: dict[str, Any] = json.loads(output("data", "check", data, "--json"))
    rows = pl.scan_parquet(data).select(pl.len()).collect().item()
    assert checked["rows"] % rows == 0  # of a wide frame, each column is a series
    assert checked["rows"] > 0
    output("init", data)
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    options = [word for setting in settings for word in ("--set", setting)]
    told = json.loads(output("train", "--epochs", 1, "--device", "cpu", "--json", *options))
    assert told["finished"]
    assert 0 <= told["padding_share"] < 1
    assert 0 <= told["loader_share"] < 1
    scored = call("evaluate", told["model"], data, "--json", "--device", "cpu")
    if file.stem in UNSCORED:
        assert isinstance(scored.exception, UserError)
        assert str(scored.exception).startswith(UNSCORED[file.stem])
        return
    assert scored.exit_code == 0, scored.exception
    metrics = json.loads(scored.stdout)["metrics"]["model"]
    assert np.isfinite(metrics["mae"])
