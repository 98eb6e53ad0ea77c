from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forecastd.config import DataSettings, SplitSettings
from forecastd.data.split import split
from forecastd.data.statistics import Statistics, train_statistics
from forecastd.data.store import open_store, prepare


def statistics_of(
    folder: Path, series: dict[str, list[float | None]], test: int = 0, season: int = 2
) -> Statistics:
    keys = [key for key, values in series.items() for _ in values]
    steps = [step for values in series.values() for step in range(len(values))]
    values = [value for values in series.values() for value in values]
    frame = pl.DataFrame({"unique_id": keys, "ds": steps, "y": pl.Series(values, dtype=pl.Float64)})
    frame.write_parquet(folder / "data.parquet")
    data = DataSettings(path="data.parquet", id="unique_id", season=season)
    store = prepare(data, folder, folder / "store")
    return train_statistics(store, split(store, SplitSettings(valid=0, test=test)))


def test_level_spread_and_scale_skip_what_is_missing(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, {"a": [1.0, 5.0, None, 9.0, 7.0, 3.0]})
    values = np.array([1.0, 5.0, 9.0, 7.0, 3.0])
    assert found.mean[0] == pytest.approx(values.mean())
    assert found.std[0] == pytest.approx(values.std())
    assert found.mase_scale[0] == pytest.approx((4 + 6) / 2)
    assert found.missing.tolist() == [pytest.approx(1 / 6)]


def test_only_the_training_part_counts(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, {"a": [1.0, 2.0, 3.0, 4.0, 1e9, 1e9]}, test=2)
    assert found.mean[0] == pytest.approx(2.5)
    assert found.mase_scale[0] == pytest.approx(2.0)


def test_a_constant_series_takes_the_median_spread_of_the_others(tmp_path: Path) -> None:
    found = statistics_of(
        tmp_path,
        {"a": [1.0, 3.0] * 4, "b": [10.0, 20.0] * 4, "c": [7.0] * 8, "d": [0.0, 4.0] * 4},
    )
    assert found.std.tolist() == pytest.approx([1.0, 5.0, 2.0, 2.0])
    assert found.mean[2] == 7.0
    assert found.mase_scale[2] == pytest.approx(2.0)


def test_a_series_without_a_value_takes_the_medians(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, {"a": [1.0, 3.0] * 2, "b": [None] * 4, "c": [5.0, 9.0] * 2})
    assert found.mean.tolist() == pytest.approx([2.0, 4.5, 7.0])
    assert found.std.tolist() == pytest.approx([1.0, 1.5, 2.0])


def test_scale_falls_back_to_lag_one_then_to_the_spread(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, {"a": [1.0, 3.0, 1.0, 3.0], "b": [2.0], "c": [4.0, 7.0]})
    assert found.mase_scale[0] == pytest.approx(2.0)
    assert found.mase_scale[1] == pytest.approx(found.std[1])
    assert found.mase_scale[2] == pytest.approx(3.0)


def test_nothing_but_a_constant_is_scaled_by_one(tmp_path: Path) -> None:
    found = statistics_of(tmp_path, {"a": [7.0] * 5})
    assert (found.mean[0], found.std[0], found.mase_scale[0]) == (7.0, 1.0, 1.0)


def test_the_scale_does_not_reach_across_a_reset(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": [0, 1, 2, 50, 51, 52], "y": [1.0, 2.0, 3.0, 100.0, 101.0, 102.0]})
    frame.write_parquet(tmp_path / "data.parquet")
    data = DataSettings(path="data.parquet", season=1)
    store = prepare(data, tmp_path, tmp_path / "store")
    found = train_statistics(store, split(store, SplitSettings(valid=0, test=0)))
    assert found.mase_scale[0] == pytest.approx(1.0)


@pytest.mark.parametrize("block_rows", [1, 7, 100])
def test_the_size_of_the_blocks_does_not_matter(tmp_path: Path, block_rows: int) -> None:
    dice = np.random.default_rng(0)
    series = {f"s{n}": dice.normal(1e6, 1.0, dice.integers(1, 40)).tolist() for n in range(12)}
    statistics_of(tmp_path, series)
    store = open_store(tmp_path / "store")
    parts = split(store, SplitSettings(valid=0, test=2))
    whole, found = train_statistics(store, parts), train_statistics(store, parts, block_rows)
    for name in ("mean", "std", "mase_scale", "missing"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-9), name
