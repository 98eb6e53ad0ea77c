from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecast_cli.init import init, path_beside, split_part
from forecastd.config import TrainConfig, load
from forecastd.data.split import split
from forecastd.data.store import prepare
from forecastd.errors import DataError, UserError


def shared_files() -> list[str]:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    # The large ones would cost more time than they could show.
    return [p.name for p in sorted(folder.glob("*.parquet")) if p.stat().st_size < 480_000]


def written(data: Path | str, output: Path, horizon: int | None = None) -> TrainConfig:
    init(str(data), output, horizon)
    return load(TrainConfig, output, environment={}).settings


def test_the_bundled_data(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = project / "datasets" / "nyc_weather" / "nyc_weather.parquet"
    config = written(data, tmp_path / "forecast.toml")
    assert config.data.path == str(data)
    assert (config.data.id, config.data.time, config.data.target) == ("unique_id", "ds", ["temp"])
    assert "dewp" in config.data.past
    assert "wind_gust" not in config.data.past
    assert (config.data.freq, config.data.season, config.network.horizon) == ("1h", 24, 24)
    assert config.features.calendar == ["hour", "weekday"]
    assert (config.split.valid, config.split.test) == (0.1, 0.1)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "26,115 observations of 3 series" in printed.err
    assert f"next: forecast train {tmp_path / 'forecast.toml'}" in printed.err
    text = (tmp_path / "forecast.toml").read_text()
    assert '# left out: "wind_gust", 80 % of it is missing' in text


@pytest.mark.parametrize("name", shared_files() or [""])
def test_every_real_data_set_gives_a_config_that_loads_and_splits(
    name: str, tmp_path: Path
) -> None:
    if not name:
        pytest.skip("the shared data is not here")
    data = Path(__file__).resolve().parents[3] / "shared" / "data" / name
    config = written(data, tmp_path / "forecast.toml")
    assert 1 <= config.network.horizon <= 168
    store = prepare(config.data, tmp_path, tmp_path / "store")
    parts = split(store, config.split)
    assert parts.untrained < store.series_count
    assert np.isfinite(store.values[:, 0]).any()


def test_odd_names_and_many_columns_survive(tmp_path: Path) -> None:
    names = ['wind "gust"', "back\\slash", "tab\there", "köln", "a.b", "100%", *"klmnopq"]
    columns = {name: np.arange(100.0) * (place + 1) for place, name in enumerate(names)}
    pl.DataFrame({"ds": range(100), **columns}).write_parquet(tmp_path / "odd.parquet")
    config = written(tmp_path / "odd.parquet", tmp_path / "forecast.toml")
    assert config.data.target == names
    assert config.data.path == "odd.parquet"


def test_a_path_below_the_config_is_relative_and_others_absolute(tmp_path: Path) -> None:
    output = tmp_path / "project" / "forecast.toml"
    assert path_beside(str(tmp_path / "project" / "data" / "*.parquet"), output) == "data/*.parquet"
    assert path_beside(str(tmp_path / "project" / ".." / "x.csv"), output) == str(
        tmp_path / "x.csv"
    )


def test_an_existing_config_is_kept_unless_forced(tmp_path: Path) -> None:
    pl.DataFrame({"ds": range(50), "y": np.arange(50.0)}).write_csv(tmp_path / "data.csv")
    output = tmp_path / "forecast.toml"
    output.write_text("mine")
    with pytest.raises(UserError, match="add --force"):
        init(str(tmp_path / "data.csv"), output)
    assert output.read_text() == "mine"
    init(str(tmp_path / "data.csv"), output, force=True)
    assert load(TrainConfig, output, environment={}).settings.data.path == "data.csv"


def test_the_horizon_can_be_given_and_has_limits_by_default(tmp_path: Path) -> None:
    stamps = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 20), "5m", eager=True)
    wave = np.sin(2 * np.pi * np.arange(len(stamps)) / 288)
    pl.DataFrame({"ds": stamps, "y": wave}).write_parquet(tmp_path / "d.parquet")
    assert written(tmp_path / "d.parquet", tmp_path / "a.toml").network.horizon == 168
    assert written(tmp_path / "d.parquet", tmp_path / "b.toml", 12).network.horizon == 12


@pytest.mark.parametrize(
    ("rows", "horizon", "part"),
    [(10_000, 24, 0.1), (144, 12, 24), (100, 24, 20), (12, 1, 2), (3, 1, 1)],
)
def test_few_rows_are_split_by_rows(rows: int, horizon: int, part: float) -> None:
    assert split_part(rows, horizon) == part


def test_data_that_is_not_there_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        init(str(tmp_path / "none.parquet"), tmp_path / "forecast.toml")
    assert list(tmp_path.iterdir()) == []
