from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastd.config import DataSettings
from forecastd.data.store import Store, open_store, prepare
from forecastd.errors import DataError

START = datetime(2013, 1, 1)  # noqa: DTZ001  naive on purpose


def hours(*steps: int) -> list[datetime]:
    return [START + timedelta(hours=step) for step in steps]


def stored(tmp_path: Path, frame: pl.DataFrame, name: str = "store", **settings: Any) -> Store:
    path = tmp_path / f"{name}.parquet"
    frame.write_parquet(path)
    data = DataSettings.model_validate({"path": path.name, **settings})
    return prepare(data, tmp_path, tmp_path / name)


def panel(*rows: tuple[str, int, float | None]) -> pl.DataFrame:
    keys, steps, values = zip(*rows, strict=True)
    return pl.DataFrame({"unique_id": keys, "ds": hours(*steps), "y": values})


def assert_same(one: Store, other: Store) -> None:
    for name in ("offsets", "segments", "times", "values", "observed"):
        assert np.array_equal(
            getattr(one, name), getattr(other, name), equal_nan=name == "values"
        ), name
    assert (one.keys, one.columns, one.frequency) == (other.keys, other.columns, other.frequency)


def test_rows_are_sorted_and_holes_filled(tmp_path: Path) -> None:
    frame = panel(("b", 0, 1.0), ("a", 3, 4.0), ("a", 0, 2.0), ("a", 1, 3.0), ("b", 1, None))
    store = stored(tmp_path, frame, id="unique_id", freq="1h", season=2)
    assert store.keys == ["a", "b"]
    assert store.offsets.tolist() == [0, 4, 6]
    assert np.array_equal(
        store.values[:, 0], np.array([2, 3, np.nan, 4, 1, np.nan], np.float32), equal_nan=True
    )
    assert store.observed.tolist() == [True, True, False, True, True, True]
    assert np.diff(store.times[:4]).tolist() == [3_600_000_000] * 3
    assert store.segments.tolist() == [[0, 0, 4], [1, 4, 6]]
    assert (store.report.holes, store.report.rows_filled, store.report.resets) == (1, 1, 0)
    assert store.report.nulls == {"y": 1}
    assert store.report.rows_sorted_back == 1


def test_a_long_hole_starts_a_segment(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0), ("a", 5, 3.0), ("a", 7, 4.0), ("b", 0, 5.0))
    store = stored(tmp_path, frame, id="unique_id", freq="1h", season=1, max_gap=2)
    assert store.segments.tolist() == [[0, 0, 2], [0, 2, 5], [1, 5, 6]]
    assert (store.report.resets, store.report.rows_filled) == (1, 1)
    kept = stored(tmp_path, frame, "kept", id="unique_id", freq="1h", season=1, max_gap=3)
    assert kept.segments.tolist() == [[0, 0, 8], [1, 8, 9]]
    bare = stored(tmp_path, frame, "bare", id="unique_id", freq="1h", season=1, max_gap=0)
    assert bare.observed.all()
    assert len(bare.segments) == 4


def test_of_repeated_stamps_the_first_in_the_file_stays(tmp_path: Path) -> None:
    frame = panel(("a", 1, 1.0), ("a", 0, 2.0), ("a", 1, 3.0), ("a", 1, 4.0), ("a", 2, 5.0))
    store = stored(tmp_path, frame, id="unique_id")
    assert store.values[:, 0].tolist() == [2.0, 1.0, 5.0]
    assert store.report.repeats_dropped == 2


def test_rows_without_key_or_time_are_counted(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "unique_id": ["a", None, "a", "a"],
            "ds": [*hours(0, 1), None, *hours(2)],
            "y": [1.0, 2.0, 3.0, float("inf")],
        }
    )
    store = stored(tmp_path, frame, id="unique_id", freq="1h")
    report = store.report
    assert (report.rows_read, report.rows_without_key, report.rows_without_time) == (4, 1, 1)
    assert report.non_finite == {"y": 1}
    with pytest.raises(DataError, match="no row with a time and a series"):
        stored(tmp_path, frame[1:3], "none", id="unique_id", freq="1h")


@settings(max_examples=40)  # each writes a store durably
@given(
    rows=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 60)),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=60,
    ),
    order=st.randoms(use_true_random=False),
)
def test_a_shuffled_input_gives_the_same_store(
    rows: dict[tuple[str, int], float | None], order: Any, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("store")
    listed = sorted((key, step, value) for (key, step), value in rows.items() if value is not None)
    listed += [(key, step, None) for (key, step), value in rows.items() if value is None]
    shuffled = list(listed)
    order.shuffle(shuffled)
    settings = {"id": "unique_id", "freq": "1h", "season": 4}
    in_order = panel(*listed).sort("unique_id", "ds")
    one = stored(folder, in_order, "sorted", **settings)
    other = stored(folder, panel(*shuffled), "shuffled", **settings)
    assert_same(one, other)
    assert int(one.observed.sum()) == len(rows)
    for series, first, end in one.segments.tolist():
        assert one.offsets[series] <= first < end <= one.offsets[series + 1]
        assert (np.diff(one.times[first:end]) == 3_600_000_000).all()
    assert one.segments[:, 2].tolist() == [*one.segments[1:, 1].tolist(), len(one.times)]


def test_a_wide_frame_is_one_series_a_column(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(0, 1, 2), "b": [1, 2, 3], "a": [4.0, None, 6.0]})
    store = stored(tmp_path, frame, target=["b", "a"])
    assert store.keys == ["a", "b"]
    assert (store.columns.id, store.columns.target) == ("unique_id", "y")
    assert store.values[3:, 0].tolist() == [1.0, 2.0, 3.0]


def test_one_series_without_id_is_called_by_its_target(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(0, 1), "load": [1.0, 2.0], "heat": [3.0, 4.0]})
    store = stored(tmp_path, frame, target="load", past=["heat"])
    assert store.keys == ["load"]
    assert store.columns.channels == ("load", "heat")
    assert store.values.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    signature = store.signature(3, (0.1, 0.5, 0.9))
    assert (signature.id, signature.channels) == (None, ("load", "heat"))


def test_static_columns_have_one_value_a_series(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 3.0), ("c", 0, 4.0)).with_columns(
        place=pl.Series([None, "north", "south", None])
    )
    store = stored(tmp_path, frame, id="unique_id", static=["place"])
    assert store.static == {"place": ["north", "south", None]}


def test_an_unchanged_input_is_not_prepared_again(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0))
    first = stored(tmp_path, frame, id="unique_id")
    inode = (first.folder / "store.json").stat().st_ino
    data = DataSettings(path="store.parquet", id="unique_id")
    again = prepare(data, tmp_path, tmp_path / "store")
    assert (again.folder / "store.json").stat().st_ino == inode
    assert_same(first, again)


def test_a_changed_input_or_option_is_prepared_again(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0), ("a", 4, 3.0))
    assert len(stored(tmp_path, frame, id="unique_id", freq="1h", season=1).times) == 3
    assert len(stored(tmp_path, frame, id="unique_id", freq="1h", season=2).times) == 5
    assert len(stored(tmp_path, frame[:2], id="unique_id", freq="1h", season=2).times) == 2
    same_size = frame.with_columns(y=pl.Series([7.0, 8.0, 9.0]))
    store = stored(tmp_path, same_size, id="unique_id", freq="1h", season=1)
    os.utime(tmp_path / "store.parquet", ns=(0, 0))
    assert store.values[0, 0] == 7.0
    data = DataSettings(path="store.parquet", id="unique_id", freq="1h", season=1)
    assert prepare(data, tmp_path, tmp_path / "store").fingerprint != store.fingerprint


def test_a_store_never_replaces_other_files(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds other files"):
        stored(tmp_path, panel(("a", 0, 1.0), ("a", 1, 1.0)), id="unique_id")
    assert (tmp_path / "store" / "thesis.txt").read_text() == "precious"


def test_a_newer_or_damaged_store_is_refused_but_prepared_again(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0))
    store = stored(tmp_path, frame, id="unique_id")
    header = store.folder / "store.json"
    content = json.loads(header.read_text())
    header.write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(DataError, match="format 99, newer"):
        open_store(store.folder)
    assert_same(stored(tmp_path, frame, id="unique_id"), store)
    header.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_store(store.folder)
    again = stored(tmp_path, frame, id="unique_id")
    (again.folder / "values.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="damaged"):
        open_store(store.folder)
    with pytest.raises(DataError, match="there is no store"):
        open_store(tmp_path / "nowhere")


def test_a_frequency_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    frame = panel(("a", 0, 1.0), ("a", 1, 2.0))
    with pytest.raises(DataError, match=r"freq = '1' does not fit.*timestamps"):
        stored(tmp_path, frame, id="unique_id", freq="1")
    counted = pl.DataFrame({"ds": [1, 2], "y": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"freq = '1h' does not fit.*counts"):
        stored(tmp_path, counted, "counted", freq="1h")


def test_text_among_the_targets_is_refused_by_name(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ds": hours(0, 1), "a": [1.0, 2.0], "b": ["x", "y"]})
    with pytest.raises(DataError, match="column 'b' holds text"):
        stored(tmp_path, frame, target=["a", "b"])


def test_the_arrays_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    store = stored(tmp_path, panel(("a", 0, 1.0), ("a", 1, 2.0)), id="unique_id")
    assert isinstance(store.values, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.values[0, 0] = 5


def test_the_bundled_data_is_as_its_card_says(project: Path, tmp_path: Path) -> None:
    data = DataSettings(path="nyc_weather.parquet", id="unique_id", target=["temp"], past=["dewp"])
    store = prepare(data, project / "datasets" / "nyc_weather", tmp_path / "store")
    report = store.report
    assert (report.rows_read, report.series, report.holes, report.rows_filled) == (26115, 3, 45, 75)
    assert (report.repeats_dropped, report.rows_sorted_back, report.resets) == (0, 0, 0)
    assert report.nulls == {"temp": 1, "dewp": 1}
    assert np.diff(store.offsets).tolist() == [8730] * 3


def test_untidy_real_data_is_counted(project: Path, tmp_path: Path) -> None:
    folder = project.parent / "shared" / "data"
    if not (folder / "nab_realKnownCause.parquet").is_file():
        pytest.skip("nab_realKnownCause of the shared data is not here")
    data = DataSettings(path="nab_realKnownCause.parquet", id="unique_id", freq="5min", season=288)
    report = prepare(data, folder, tmp_path / "store").report
    assert (report.repeats_dropped, report.rows_sorted_back) == (23, 1)
    assert report.resets > 0
