"""Wide frames: the store is the long form's to the byte; what is in order needs no sorting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecastd.config import DataSettings
from forecastd.data.store import Store, prepare
from forecastd.data.table import long_batches
from forecastd.data.wide import CELLS_PER_ROW
from forecastd.errors import DataError

ROWS, COLUMNS = 3000, 30
NAMES = [f"meter {n}" for n in range(COLUMNS)]
"""Not in the order of text: "meter 10" comes before "meter 2"."""
WRITERS: dict[str, Any] = {
    "parquet": lambda frame, path: frame.write_parquet(path, row_group_size=700),
    "csv": lambda frame, path: frame.write_csv(path),
    "arrow": lambda frame, path: frame.write_ipc(path, record_batch_size=700),
}


def meters(rows: int = ROWS) -> pl.DataFrame:
    """Return readings with holes in time, nulls, repeats, and columns of several types."""
    dice = np.random.default_rng(0)
    stamps = pl.Series("ds", np.sort(dice.integers(0, rows, rows)) * 3_600_000_000)
    columns = {name: dice.integers(0, 100, rows) / (1 + place % 2) for place, name in
               enumerate(NAMES)}  # fmt: skip
    frame = pl.DataFrame({"ds": stamps.cast(pl.Datetime("us")), **columns})
    frame = frame.with_columns(pl.col(NAMES[::3]).cast(pl.Int32))
    return frame.with_columns(pl.when(pl.col(NAMES[4]) > 20).then(pl.col(NAMES[4])))


def long_form(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.unpivot(NAMES, index="ds", variable_name="unique_id", value_name="y")


def made(folder: Path, path: str, stages: list[str] | None = None, **settings: Any) -> Store:
    given = {"freq": "1h", "season": 24, "path": path, **settings}
    told = stages if stages is not None else []
    return prepare(
        DataSettings.model_validate(given),
        folder,
        folder / f"store of {path}",
        memory_bytes=1,  # as little as there is
        report=lambda news: told.append(news.stage),
    )


def assert_same(one: Store, other: Store) -> None:
    assert one.keys == other.keys
    assert one.frequency == other.frequency
    for name in ("offsets", "segments", "times", "values", "observed"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("order", ["rising", "any"])
def test_wide_is_the_long_form_to_the_byte(suffix: str, order: str, tmp_path: Path) -> None:
    frame = meters()
    if order == "any":
        # Of equal stamps the first in the file counts, so repeats keep their order.
        frame = frame.unique("ds", keep="first").sample(fraction=1, shuffle=True, seed=3)
    WRITERS[suffix](frame, tmp_path / f"wide.{suffix}")
    long_form(frame).write_parquet(tmp_path / "long.parquet")
    stages: list[str] = []
    wide = made(tmp_path, f"wide.{suffix}", stages, target=NAMES)
    assert_same(wide, made(tmp_path, "long.parquet", id="unique_id"))
    assert ("sort" in stages) == (order == "any")


@pytest.mark.parametrize("batch_rows", [1, 7, 200, 1 << 20])
def test_rows_come_series_after_series_whatever_fits(batch_rows: int, tmp_path: Path) -> None:
    frame = meters(100)
    frame.write_parquet(tmp_path / "wide.parquet", row_group_size=30)
    expected = long_form(frame).sort("unique_id", maintain_order=True)
    data = DataSettings(path="wide.parquet", target=NAMES)
    batches = long_batches(data, tmp_path, batch_rows)
    frames = list(batches.frames)
    assert max(frame.height for frame in frames) <= batch_rows
    assert {frame.schema == batches.schema for frame in frames} == {True}
    assert pl.concat(frames).select(expected.columns).equals(expected)


def test_many_files_where_and_sentinels(tmp_path: Path) -> None:
    frame = meters(400)
    (tmp_path / "parts").mkdir()
    for place, part in enumerate(frame.iter_slices(90)):
        part.write_parquet(tmp_path / "parts" / f"{place}.parquet")
    long = long_form(frame.filter(pl.col("meter 0") > 50))
    long.write_parquet(tmp_path / "long.parquet")
    extra = {"sentinels": [7.0, 33.0]}
    wide = made(tmp_path, "parts", target=NAMES[1:], where='"meter 0" > 50', **extra)
    kept = made(
        tmp_path, "long.parquet", id="unique_id", where="not unique_id = 'meter 0'", **extra
    )
    assert_same(wide, kept)
    assert wide.report.sentinels == kept.report.sentinels
    assert wide.report.sentinels["y"] > 0


def test_text_beyond_what_is_held_goes_through_the_sort(tmp_path: Path) -> None:
    frame = meters(60)
    frame.write_csv(tmp_path / "wide.csv")
    data = DataSettings(path="wide.csv", target=NAMES)
    rows = frame.height * COLUMNS // (2 * CELLS_PER_ROW)
    found = pl.concat(long_batches(data, tmp_path, rows).frames)
    assert found.height == frame.height * COLUMNS
    ordered = found["unique_id"].to_list()
    assert ordered != sorted(ordered)
    expected = long_form(frame).sort("unique_id", "ds", maintain_order=True)
    again = found.sort("unique_id", "ds", maintain_order=True)["y"].cast(pl.Float64)
    assert again.equals(expected["y"])


def test_text_among_the_columns_is_named(tmp_path: Path) -> None:
    frame = meters(50).with_columns(pl.lit("x").alias("meter 7"))
    frame.write_parquet(tmp_path / "wide.parquet")
    with pytest.raises(DataError, match="column 'meter 7' holds text, such as 'x'"):
        made(tmp_path, "wide.parquet", target=NAMES)
