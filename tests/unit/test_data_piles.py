"""Sorting on disk gives the order, and pivoting the frame, that memory would give."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.config import DataSettings
from forecastd.data import piles, pivot
from forecastd.data.convert import convert
from forecastd.data.piles import sorted_frames
from forecastd.errors import DataError, UserError

ROWS = st.lists(
    st.tuples(st.sampled_from(["b", "a", "ü", "", None]), st.one_of(st.none(), st.integers(-3, 3))),
    max_size=80,
)
NUMBER = itertools.count()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Piles of a few rows, merged in many levels."""
    monkeypatch.setattr(piles, "PILE_BYTES", 200)
    monkeypatch.setattr(piles, "PILES_MAX", 2)


def frame_of(rows: list[tuple[str | None, int | None]]) -> pl.DataFrame:
    kinds = {"key": pl.String, "time": pl.Int32}
    frame = pl.DataFrame(rows, schema=kinds, orient="row").with_row_index("place")
    return frame.with_columns(
        pl.col("key").cast(pl.Categorical).alias("kind"),
        pl.concat_list("place", "place").alias("list"),
    )


def cut(frame: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    return frame.iter_slices(size)


@settings(max_examples=60)
@given(ROWS, st.integers(1, 9), st.sampled_from([["key", "time"], ["time"], ["kind", "time"]]))
@pytest.mark.usefixtures("tiny")
def test_rows_sorted_on_disk_are_those_sorted_in_memory(
    tmp_path: Path, rows: list[tuple[str | None, int | None]], size: int, by: list[str]
) -> None:
    folder = tmp_path / str(next(NUMBER))
    folder.mkdir()
    frame = frame_of(rows)
    texts = frame.with_columns(pl.col("kind").cast(pl.String))
    found = list(sorted_frames(cut(frame, size), by, folder))
    together = pl.concat([texts.clear(), *found])
    assert together.equals(texts.sort(by, maintain_order=True))


@pytest.mark.usefixtures("tiny")
def test_rows_in_order_make_one_pile(tmp_path: Path) -> None:
    frame = frame_of([("a", step) for step in range(500)])
    found = sorted_frames(cut(frame, 10), ["key", "time"], tmp_path)
    assert next(found)["time"][0] == 0
    assert len(list(tmp_path.glob("*.pile"))) == 1


def long_frame(
    tmp_path: Path, rows: list[tuple[str, int, float]]
) -> tuple[DataSettings, pl.DataFrame]:
    kinds = {"id": pl.String, "ds": pl.Int64, "y": pl.Float32}
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    path = tmp_path / "long.parquet"
    frame.write_parquet(path, row_group_size=7)
    return DataSettings(path=str(path), id="id"), frame


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("cab"), st.integers(0, 9)), st.floats(0, 9, width=32), min_size=1
    )
)
@pytest.mark.usefixtures("tiny")
def test_a_wide_frame_is_what_a_pivot_in_memory_gives(
    tmp_path: Path, values: dict[tuple[str, int], float]
) -> None:
    data, frame = long_frame(tmp_path, [(*place, value) for place, value in values.items()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pivot, "CELLS_MAX", 7)
        patch.setattr(pivot, "BATCH_ROWS", 4)
        rows = convert(data, tmp_path / "wide.parquet", "wide")
    found = pl.read_parquet(tmp_path / "wide.parquet")
    assert rows == found.height
    assert found.equals(frame.pivot("id", index="ds", values="y", maintain_order=True).sort("ds"))


def test_what_cannot_be_wide_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "wide.parquet"
    data, _ = long_frame(tmp_path, [("a", 1, 1.0), ("b", 1, 1.0), ("a", 1, 2.0)])
    with pytest.raises(DataError, match="'a' has several rows at 1"):
        convert(data, target, "wide")
    data, _ = long_frame(tmp_path, [("a", 1, 1.0), ("ds", 1, 1.0)])
    with pytest.raises(DataError, match="'ds' is called what the column of times"):
        convert(data, target, "wide")
    monkeypatch.setattr(pivot, "SERIES_MAX", 1)
    with pytest.raises(DataError, match="has 2 series, a wide frame at most 1"):
        convert(data, target, "wide")
    assert [path.name for path in tmp_path.iterdir()] == ["long.parquet"]


def test_no_room_for_piles_is_one_sentence(tmp_path: Path) -> None:
    data, _ = long_frame(tmp_path, [("a", 1, 1.0)])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        convert(data, tmp_path / "file" / "x.parquet", sort=True)
