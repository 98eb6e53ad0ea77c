from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecastd.config import DataSettings
from forecastd.data import store
from forecastd.data.preparing import Memory
from forecastd.data.store import PrepareProgress, Store, prepare
from forecastd.errors import DataError

SETTINGS: dict[str, Any] = {"id": "id", "target": ["y"], "past": ["x"], "static": ["place"]}


@pytest.fixture(autouse=True, params=[Memory(64, 256), Memory(1 << 18, 1 << 20)])
def memory(request: Any, monkeypatch: pytest.MonkeyPatch) -> Memory:
    chosen: Memory = request.param
    monkeypatch.setattr(store, "memory_for", lambda _budget, _channels: chosen)
    return chosen


def rows(dice: np.random.Generator, count: int, keys: int = 9) -> pl.DataFrame:
    """Return rows in any order with repeats, holes, nulls, and texts that come late or change."""
    key = dice.integers(0, keys, count)
    steps = dice.integers(0, 300, count)
    texts = np.where(dice.random(count) < 0.9, None, dice.choice(["north", "south"], count))
    return pl.DataFrame(
        {
            "id": [None if dice.random() < 0.02 else f"s{number}" for number in key],
            "ds": (steps * 3_600_000_000).astype("datetime64[us]"),
            "y": dice.normal(size=count).astype(np.float32),
            "x": dice.integers(0, 9, count),
            "place": pl.Series(texts.tolist(), dtype=pl.String),
        }
    ).with_columns(y=pl.when(pl.col("x") > 0).then("y"))


def made(folder: Path, target: str, told: list[PrepareProgress] | None = None) -> Store:
    data = DataSettings.model_validate({"path": "in", **SETTINGS})
    report = (told if told is not None else []).append
    return prepare(data, folder, folder / target, report=report)


def files_of(one: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(one.folder.iterdir())}


def rows_read(told: list[PrepareProgress]) -> int:
    return max(one.rows for one in told if one.stage == "read")


@pytest.mark.parametrize("seed", range(12))
def test_a_grown_store_is_the_one_made_afresh(tmp_path: Path, seed: int) -> None:
    """Files of new times, of new series, before or after the old ones, with rows in any order."""
    dice = np.random.default_rng(seed)
    frame = rows(dice, 900)
    by_time = frame.sort("ds", maintain_order=True)
    if seed % 3 == 0:  # each file holds other series
        parts = [frame.filter(pl.col("id").str.ends_with(str(n))) for n in range(9)]
    elif seed % 3 == 1:  # each file holds other times
        parts = [by_time[start : start + 100] for start in range(0, 900, 100)]
    else:  # repeats lie in several files
        parts = [frame[start : start + 100] for start in range(0, 900, 100)]
    early = set(dice.choice(9, 5, replace=False).tolist()) if seed % 3 < 1 else set(range(5))
    if seed % 2 and seed % 3:
        early = set(range(4, 9))
    (tmp_path / "in").mkdir()
    for number in sorted(early):
        parts[number].write_parquet(tmp_path / "in" / f"{number}.parquet")
    old = made(tmp_path, "grown")
    for number in set(range(9)) - early:
        parts[number].write_parquet(tmp_path / "in" / f"{number}.parquet")
    told: list[PrepareProgress] = []
    grown = made(tmp_path, "grown", told)
    assert files_of(grown) == files_of(made(tmp_path, "fresh"))
    assert rows_read(told) == frame.drop_nulls("id").height - old.report.rows_read + (
        frame["id"].null_count() if seed % 3 else 0
    )
    assert grown.report.repeats_dropped > 0
    assert "merge" in {one.stage for one in told}


def test_files_between_those_of_their_series_are_read_with_all_others(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(1), 300)
    (tmp_path / "in").mkdir()
    for number in (0, 2, 1):
        part = frame[100 * number : 100 * number + 100]
        part.write_parquet(tmp_path / "in" / f"{number}.parquet")
        if number == 2:
            made(tmp_path, "grown")
    told: list[PrepareProgress] = []
    grown = made(tmp_path, "grown", told)
    assert told[-1].stage == "fill"
    assert rows_read(told) == 300
    assert files_of(grown) == files_of(made(tmp_path, "fresh"))


def test_a_store_grows_again_and_again(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(2), 600)
    (tmp_path / "in").mkdir()
    for number in range(6):
        part = frame[100 * number : 100 * number + 100]
        part.write_parquet(tmp_path / "in" / f"{number}.parquet")
        told: list[PrepareProgress] = []
        made(tmp_path, "grown", told)
        assert rows_read(told) == 100
    assert files_of(made(tmp_path, "grown")) == files_of(made(tmp_path, "fresh"))


@pytest.mark.parametrize("change", ["touched", "gone", "option", "type", "damaged", "no spans"])
def test_what_is_no_mere_growth_is_read_as_a_whole(tmp_path: Path, change: str) -> None:
    frame = rows(np.random.default_rng(3), 400)
    (tmp_path / "in").mkdir()
    for number in range(3):
        part = frame[100 * number : 100 * number + 100]
        part.write_parquet(tmp_path / "in" / f"{number}.parquet")
    old = made(tmp_path, "grown")
    more = frame[300:].with_columns(pl.col("x").cast(pl.Float64))
    (more if change == "type" else frame[300:]).write_parquet(tmp_path / "in" / "3.parquet")
    if change == "touched":
        os.utime(tmp_path / "in" / "1.parquet", ns=(5, 5))
    elif change == "gone":
        (tmp_path / "in" / "0.parquet").unlink()
    elif change == "option":
        settings = {"path": "in", **SETTINGS, "season": 5}
        prepare(DataSettings.model_validate(settings), tmp_path, tmp_path / "grown")
        os.utime(tmp_path / "in" / "3.parquet", ns=(5, 5))
    elif change == "damaged":
        (old.folder / "times.npy").write_bytes(b"\x93NUMPY")
    elif change == "no spans":
        (old.folder / "spans.npy").unlink()
    told: list[PrepareProgress] = []
    grown = made(tmp_path, "grown", told)
    assert rows_read(told) == (300 if change == "gone" else 400)
    assert files_of(grown) == files_of(made(tmp_path, "fresh"))


def test_new_files_that_do_not_fit_leave_the_old_store(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(4), 200)
    (tmp_path / "in").mkdir()
    frame[:100].write_parquet(tmp_path / "in" / "0.parquet")
    old = files_of(made(tmp_path, "grown"))
    frame[100:].with_columns(y=pl.lit("much")).write_parquet(tmp_path / "in" / "1.parquet")
    with pytest.raises(DataError, match=r"column 'y'.*1\.parquet"):
        made(tmp_path, "grown")
    assert {path.name: path.read_bytes() for path in (tmp_path / "grown").iterdir()} == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "in"]


def test_a_new_file_without_a_usable_row_adds_only_to_the_counts(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(5), 200)
    (tmp_path / "in").mkdir()
    frame.write_parquet(tmp_path / "in" / "0.parquet")
    old = made(tmp_path, "grown")
    frame.with_columns(id=pl.lit(None, pl.String)).write_parquet(tmp_path / "in" / "1.parquet")
    grown = made(tmp_path, "grown")
    assert grown.report.rows_without_key == old.report.rows_without_key + 200
    assert files_of(grown) == files_of(made(tmp_path, "fresh"))


def test_wide_frames_grow_too(tmp_path: Path) -> None:
    hours = (np.arange(90) * 3_600_000_000).astype("datetime64[us]")
    frame = pl.DataFrame({"ds": hours, "b": np.arange(90.0), "a": -np.arange(90.0)})
    (tmp_path / "in").mkdir()
    frame[:60].write_parquet(tmp_path / "in" / "0.parquet")
    data = DataSettings(path="in", target=["b", "a"])
    prepare(data, tmp_path, tmp_path / "grown")
    frame[60:].write_parquet(tmp_path / "in" / "1.parquet")
    grown = prepare(data, tmp_path, tmp_path / "grown")
    assert files_of(grown) == files_of(prepare(data, tmp_path, tmp_path / "fresh"))
    assert len(grown.times) == 180
