from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.data.reader import keys_of, read_frame, schema_of, times_of, values_of
from forecastd.errors import DataError

FRAME = pl.DataFrame(
    {
        "unique_id": ["a", "a", "b"],
        "ds": [datetime(2013, 1, 1, hour) for hour in (6, 7, 6)],  # noqa: DTZ001  naive on purpose
        "y": [1.5, None, -3.0],
    }
)
WRITERS = {
    "data.parquet": FRAME.write_parquet,
    "data.csv": FRAME.write_csv,
    "data.ndjson": FRAME.write_ndjson,
    "data.jsonl": FRAME.write_ndjson,
    "data.arrow": FRAME.write_ipc,
    "data.feather": FRAME.write_ipc,
    "data.ipc": FRAME.write_ipc,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_columns(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    assert list(schema_of(str(path))) == ["unique_id", "ds", "y"]
    frame = read_frame(str(path))
    assert times_of(frame["ds"]).values.tolist() == times_of(FRAME["ds"]).values.tolist()
    assert np.array_equal(values_of(frame["y"]).values, values_of(FRAME["y"]).values, True)
    assert keys_of(frame["unique_id"]).to_list() == ["a", "a", "b"]
    assert read_frame(str(path), ["y"]).columns == ["y"]


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match="is empty"):
        read_frame(str(tmp_path / name))


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "data.csv"])
def test_a_file_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot read"):
        read_frame(str(path))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_other_bytes_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00\x81,\x00\n" * 50)
    with pytest.raises(DataError, match="cannot read"):
        read_frame(str(tmp_path / name))


def test_folder_and_glob_of_parquet_are_one_data_set(tmp_path: Path) -> None:
    for year in (2013, 2014):
        (tmp_path / f"year={year}").mkdir()
        FRAME.write_parquet(tmp_path / f"year={year}" / "part.parquet")
    assert read_frame(str(tmp_path)).height == 6
    assert read_frame(str(tmp_path))["year"].to_list() == [2013] * 3 + [2014] * 3
    assert read_frame(str(tmp_path / "year=*" / "*.parquet")).height == 6


@pytest.mark.parametrize("name", ["none.parquet", "*.parquet", "folder"])
def test_nothing_there_is_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"there is no file|has no file of a known"):
        read_frame(str(tmp_path / name))


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"no column 'uniqe_id'.*did you mean 'unique_id'"):
        read_frame(str(tmp_path / "data.parquet"), ["uniqe_id"])
    with pytest.raises(DataError, match="it has unique_id, ds, y"):
        read_frame(str(tmp_path / "data.parquet"), ["temperature"])


def test_an_unknown_format_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no known format.*\.parquet"):
        read_frame(str(tmp_path / "data.xlsx"))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_units_and_zones_of_stamps_are_one_moment(unit: str, zone: str | None) -> None:
    moment = datetime(2013, 7, 1, 12, tzinfo=UTC)
    column = pl.Series("ds", [moment]).dt.cast_time_unit(unit)  # type: ignore[arg-type]
    column = column.dt.convert_time_zone(zone) if zone else column.dt.replace_time_zone(None)
    times = times_of(column)
    assert times.values.tolist() == [int(moment.timestamp()) * 1_000_000]
    assert times.time_zone == (zone is not None)
    assert not times.counted


def test_dates_are_midnight_and_integers_are_counts() -> None:
    day = times_of(pl.Series("ds", [date(1749, 1, 1), date(1970, 1, 2)]))
    assert day.values.tolist() == [-80_718 * 86_400_000_000, 86_400_000_000]
    count = times_of(pl.Series("ds", [3, None, 5]))
    assert (count.counted, count.values.tolist()) == (True, [3, 0, 5])
    assert count.known.tolist() == [True, False, True]


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))  # noqa: DTZ001  naive on purpose
def test_iso_text_is_the_same_stamp(moment: datetime) -> None:
    column = pl.Series("ds", [moment.isoformat(timespec="microseconds")])
    assert times_of(column).values.tolist() == times_of(pl.Series([moment])).values.tolist()


def test_iso_text_with_a_zone_becomes_utc() -> None:
    times = times_of(pl.Series("ds", ["2013-01-01T07:00:00+02:00", "2013-01-01T05:00:00Z"]))
    assert times.time_zone
    assert times.values[0] == times.values[1]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("ds", ["yesterday"]),
        pl.Series("ds", [1.5]),
        pl.Series("ds", [True]),
        pl.Series("ds", [[1]]),
    ],
)
def test_what_is_no_time_is_refused(column: pl.Series) -> None:
    with pytest.raises(DataError, match="time column 'ds' holds"):
        times_of(column)


def test_missing_and_non_finite_values_become_nan_and_are_counted() -> None:
    column = pl.Series("y", [1.0, None, float("nan"), float("inf"), 1e300])
    values = values_of(column)
    assert (values.nulls, values.non_finite) == (1, 3)
    assert np.array_equal(values.values, np.array([1, *[np.nan] * 4], np.float32), True)
    assert values.values.dtype == np.float32


@pytest.mark.parametrize(
    "column", [pl.Series([1, 2]), pl.Series([True, False]), pl.Series([None, None])]
)
def test_integers_flags_and_nothing_at_all_are_values(column: pl.Series) -> None:
    assert len(values_of(column).values) == 2


def test_a_target_of_text_is_refused_with_an_example() -> None:
    with pytest.raises(DataError, match=r"column 'y' holds text, such as '39\.02'"):
        values_of(pl.Series("y", ["39.02", "38.1"]))


def test_ids_become_text() -> None:
    assert keys_of(pl.Series("id", [7, None])).to_list() == ["7", None]
    assert keys_of(pl.Series("id", ["a"], pl.Categorical)).to_list() == ["a"]
    with pytest.raises(DataError, match="id column 'id'"):
        keys_of(pl.Series("id", [1.5]))
