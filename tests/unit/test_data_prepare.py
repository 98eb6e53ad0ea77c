from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecastd.config import DataSettings
from forecastd.data import preparing, store
from forecastd.data.preparing import Memory
from forecastd.data.sorting import in_order, order_of
from forecastd.data.store import PrepareProgress, Store, prepare
from forecastd.errors import DataError

ARRAYS = ("offsets", "segments", "times", "values", "observed")


@pytest.fixture(params=[Memory(64, 256), Memory(999, 32), Memory(1 << 20, 1 << 20)])
def memory(request: Any, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Batches and buckets far smaller than the data, so that every cut is taken."""
    chosen: Memory = request.param
    monkeypatch.setattr(store, "memory_for", lambda _budget, _channels: chosen)
    return chosen


def rows(dice: np.random.Generator, series: int = 40, big: int = 1500) -> pl.DataFrame:
    """Return series of many lengths, with holes and nulls, one larger than a bucket."""
    lengths = [big, *dice.integers(1, 90, series - 1).tolist()]
    frames = []
    for number, length in enumerate(lengths):
        steps = np.sort(dice.choice(length * 2, length, replace=False))
        frames.append(
            pl.DataFrame(
                {
                    "id": [f"s{number:03}"] * length,
                    "ds": (steps * 3_600_000_000).astype("datetime64[us]"),
                    "y": dice.normal(size=length).astype(np.float32),
                    "x": dice.integers(0, 9, length),
                    "place": pl.Series(
                        [f"p{number % 3}" if number % 5 else None] * length, dtype=pl.String
                    ),
                }
            )
        )
    together = pl.concat(frames)
    return together.with_columns(y=pl.when(pl.col("x") > 0).then("y")).sort("id", "ds")


def written(folder: Path, name: str, frames: list[pl.DataFrame]) -> Store:
    source = folder / name
    source.mkdir()
    for number, frame in enumerate(frames):
        frame.write_parquet(source / f"{number:03}.parquet")
    data = DataSettings(path=name, id="id", target=["y"], past=["x"], static=["place"])
    return prepare(data, folder, folder / f"{name}.store")


def contents(one: Store) -> dict[str, bytes]:
    return {name: (one.folder / f"{name}.npy").read_bytes() for name in ARRAYS}


def test_any_order_and_partition_gives_the_same_bytes(tmp_path: Path, memory: Memory) -> None:
    frame = rows(np.random.default_rng(1))
    plain = written(tmp_path, "plain", [frame])
    shuffled = frame.sample(fraction=1, shuffle=True, seed=2)
    late = pl.concat([frame[100:], frame[:100]])
    other = [
        written(tmp_path, "mixed", [shuffled]),
        written(tmp_path, "parts", list(shuffled.iter_slices(333))),
        written(tmp_path, "sorted_parts", list(frame.iter_slices(217))),
        written(tmp_path, "by_time", [frame.sort("ds", "id", descending=[False, True])]),
        written(tmp_path, "late", [late]),
    ]
    for one in other:
        assert contents(one) == contents(plain), one.folder.name
        assert (one.keys, one.static) == (plain.keys, plain.static)
        assert (one.frequency, one.season) == (plain.frequency, plain.season)
        assert not (one.folder / "buckets").exists()
    assert plain.report.holes > 0
    assert plain.report.rows_sorted_back == 0


def test_the_files_are_those_that_numpy_saves(tmp_path: Path) -> None:
    one = written(tmp_path, "plain", [rows(np.random.default_rng(3))])
    for name, content in contents(one).items():
        np.save(tmp_path / "again.npy", np.array(getattr(one, name)), allow_pickle=False)
        assert (tmp_path / "again.npy").read_bytes() == content, name


def test_the_first_of_repeats_in_file_order_stays(tmp_path: Path, memory: Memory) -> None:
    dice = np.random.default_rng(4)
    steps = dice.integers(0, 40, 4000)
    frame = pl.DataFrame(
        {
            "id": dice.choice(["a", "b", "c"], 4000),
            "ds": (steps * 3_600_000_000).astype("datetime64[us]"),
            "y": np.arange(4000, dtype=np.float32),
            "x": 0,
            "place": "p",
        }
    )
    again = frame[:1].with_columns(y=pl.lit(-1.0, pl.Float32))
    frame = pl.concat([frame, *[again] * 2000])
    first = frame.unique(["id", "ds"], keep="first").sort("id", "ds")
    one = written(tmp_path, "plain", [frame])
    assert one.values[:, 0][one.observed].tolist() == first["y"].to_list()
    assert one.report.repeats_dropped == 6000 - first.height
    in_file_order = frame.sort("id", maintain_order=True)
    times, owners = in_file_order["ds"].to_numpy(), in_file_order["id"].to_numpy()
    steps_back = (times[1:] < times[:-1]) & (owners[1:] == owners[:-1])
    assert one.report.rows_sorted_back == np.count_nonzero(steps_back)


@pytest.mark.parametrize("unit", [1, 1000, 3_600_000_000])
def test_rows_are_sorted_stably(unit: int) -> None:
    dice = np.random.default_rng(unit)
    series = dice.integers(0, 100_000, 5000).astype(np.int32) // 7
    times = dice.integers(-(1 << 20), 1 << 20, 5000) * unit
    found, _ = order_of(series, times)
    assert np.array_equal(found, np.lexsort((times, series)))
    assert in_order(series[found], times[found])
    assert not in_order(series, times)


def test_progress_is_told(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(5))
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "d.parquet")
    told: list[PrepareProgress] = []
    data = DataSettings(path="d.parquet", id="id", target=["y"])
    prepare(data, tmp_path, tmp_path / "store", report=told.append)
    assert [one.stage for one in told] == ["read", "sort", "fill"]
    assert [one.rows for one in told[:2]] == [frame.height, frame.height]
    assert all(one.rows_total == one.rows and one.seconds_left == 0 for one in told)
    prepare(data, tmp_path, tmp_path / "store", report=told.append)
    assert len(told) == 3


def test_the_budget_decides_how_much_is_in_memory() -> None:
    small, large = preparing.memory_for(1 << 26, 1), preparing.memory_for(1 << 27, 1)
    assert small.bucket_rows * 2 == pytest.approx(large.bucket_rows, abs=1)
    assert preparing.memory_for(1, 1) == preparing.memory_for(preparing.MEMORY_BYTES_MIN, 1)


def test_a_changed_schema_names_file_and_column(tmp_path: Path) -> None:
    frame = rows(np.random.default_rng(6))
    text = frame.with_columns(pl.lit("much").alias("y"))
    with pytest.raises(DataError, match=r"column 'y'.*001\.parquet"):
        written(tmp_path, "odd", [frame, text])
    assert not (tmp_path / "odd.store").exists()


def test_a_cut_file_leaves_nothing(tmp_path: Path, memory: Memory) -> None:
    frame = rows(np.random.default_rng(7))
    source = tmp_path / "cut"
    source.mkdir()
    frame.write_parquet(source / "0.parquet")
    frame.write_parquet(source / "1.parquet", row_group_size=200)
    content = bytearray((source / "1.parquet").read_bytes())
    content[200:4000] = bytes(3800)
    (source / "1.parquet").write_bytes(content)
    data = DataSettings(path="cut", id="id", target=["y"])
    with pytest.raises(DataError, match=r"cannot read .*1\.parquet"):
        prepare(data, tmp_path, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_a_file_that_vanishes_midway_leaves_nothing(tmp_path: Path, memory: Memory) -> None:
    source = tmp_path / "gone"
    source.mkdir()
    frame = rows(np.random.default_rng(8))
    for name in ("0", "1"):
        frame.write_parquet(source / f"{name}.parquet")

    def remove(_progress: PrepareProgress) -> None:
        (source / "1.parquet").unlink(missing_ok=True)

    data = DataSettings(path="gone", id="id", target=["y"])
    with pytest.raises(DataError, match=r"1\.parquet is gone"):
        prepare(data, tmp_path, tmp_path / "store", report=remove)
    assert [path.name for path in tmp_path.iterdir()] == ["gone"]
