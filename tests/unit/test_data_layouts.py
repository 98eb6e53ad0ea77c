from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import fs, ipc, parquet

from forecastd.config import DataSettings
from forecastd.data.batches import Selection, read_batches, schema_of_inputs
from forecastd.data.inputs import inputs_of
from forecastd.data.intake import Intake, Rows
from forecastd.data.layouts import frequency_text
from forecastd.data.roles import infer_roles
from forecastd.data.table import long_batches
from forecastd.data.where import parse
from forecastd.errors import DataError

ROWS = 48
STAMPS = pl.datetime_range(
    pl.datetime(2013, 1, 1), pl.datetime(2013, 1, 2, 23), "1h", eager=True
).alias("ds")
LONG = pl.concat(
    pl.DataFrame({"ds": STAMPS, "y": np.arange(ROWS) + 100.0 * place}).select(
        pl.lit(key).alias("unique_id"), "ds", "y"
    )
    for place, key in enumerate("abc")
)
WRITERS: dict[str, Any] = {
    "parquet": lambda frame, path: frame.write_parquet(path, row_group_size=20),
    "csv": lambda frame, path: frame.write_csv(path),
    "ndjson": lambda frame, path: frame.write_ndjson(path),
    "arrow": lambda frame, path: frame.write_ipc(path, record_batch_size=20),
    "feather": lambda frame, path: frame.write_ipc(path, compression="zstd"),
}


def taken(data: DataSettings) -> tuple[Intake, Rows]:
    """Return the rows of a small data set as they are stored, and what was counted."""
    batches = long_batches(data, Path(), 1_000_000)
    intake = Intake(batches.columns)
    parts = [intake.take(frame) for frame in batches.frames]
    return intake, Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def read(path: Path | str, rows: int = 7, **settings: Any) -> pl.DataFrame:
    given = {"path": str(path), "id": "unique_id", **settings}
    batches = long_batches(DataSettings.model_validate(given), Path(), rows)
    frames = list(batches.frames)
    assert all(frame.height <= rows for frame in frames)
    assert all(frame.schema == batches.schema for frame in frames)
    return pl.concat([pl.DataFrame(schema=batches.schema), *frames])


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("rows", [1, 7, 20, 10_000])
def test_batches_of_any_size_are_the_same_rows(suffix: str, rows: int, tmp_path: Path) -> None:
    path = tmp_path / f"data.{suffix}"
    WRITERS[suffix](LONG, path)
    found = read(path, rows)
    assert found.select("unique_id", pl.col("y").cast(pl.Float64)).equals(LONG.drop("ds"))
    assert found["ds"].cast(pl.Datetime("us")).to_list() == LONG["ds"].to_list()


@pytest.mark.parametrize("suffix", WRITERS)
def test_many_files_are_read_in_the_order_of_their_names(suffix: str, tmp_path: Path) -> None:
    for place, (_, part) in enumerate(LONG.group_by(["unique_id"], maintain_order=True)):
        WRITERS[suffix](part, tmp_path / f"part{place}.{suffix}")
    for path in (
        tmp_path,
        tmp_path / "*",
        tmp_path / f"part[0-2].{suffix}",
        tmp_path / "**" / "p*",
    ):
        assert read(path)["y"].to_list() == LONG["y"].to_list()


def test_other_files_of_a_folder_are_left_alone(tmp_path: Path) -> None:
    LONG.write_parquet(tmp_path / "data.parquet")
    for name in ("_SUCCESS", "README.md", ".hidden.parquet", "_delta.parquet"):
        (tmp_path / name).write_text("x")
    assert read(tmp_path).height == LONG.height
    (tmp_path / "more.csv").write_text("unique_id,ds,y\n")
    with pytest.raises(DataError, match=r"several formats: \.csv, \.parquet"):
        read(tmp_path)


def test_partitions_are_columns_of_any_role(tmp_path: Path) -> None:
    for key, place in (("a", 1), ("b", 2)):
        folder = tmp_path / f"unique_id={key}" / f"region=north%20{place}" / f"year=201{place}"
        folder.mkdir(parents=True)
        LONG.filter(unique_id=key).drop("unique_id").write_parquet(folder / "0.parquet")
    found = read(tmp_path, static=["region"])
    assert found.group_by("unique_id", maintain_order=True).len()["len"].to_list() == [48, 48]
    assert found["region"].unique().sort().to_list() == ["north 1", "north 2"]
    intake, _ = taken(DataSettings(path=str(tmp_path), id="unique_id", static=["region"]))
    assert intake.static_of(intake.by_key()) == {"region": ["north 1", "north 2"]}
    assert read(tmp_path, where="year = 2012")["unique_id"].unique().to_list() == ["b"]


def test_a_partition_that_where_rules_out_is_not_read(tmp_path: Path) -> None:
    for year in (2013, 2014):
        (tmp_path / f"year={year}").mkdir()
        LONG.write_parquet(tmp_path / f"year={year}" / "0.parquet")
    damaged = tmp_path / "year=2014" / "0.parquet"
    whole = damaged.read_bytes()
    inputs = inputs_of(str(tmp_path))
    schema = schema_of_inputs(inputs)
    damaged.write_bytes(whole[:100])
    wanted = Selection(schema, 1000, parse("year < 2014 and y >= 0"))
    assert sum(frame.height for frame in read_batches(inputs, wanted)) == LONG.height


def test_widths_of_numbers_are_unified_over_files(tmp_path: Path) -> None:
    kinds = [pl.Int8, pl.UInt16, pl.Int64]
    for place, kind in enumerate(kinds):
        LONG.with_columns(pl.col("y").cast(pl.Int16).clip(0, 99).cast(kind)).write_parquet(
            tmp_path / f"{place}.parquet"
        )
    assert read(tmp_path)["y"].dtype == pl.Int64
    LONG.cast({"y": pl.Float32}).write_parquet(tmp_path / "3.parquet")
    assert read(tmp_path)["y"].dtype == pl.Float64
    LONG.cast({"unique_id": pl.Categorical, "ds": pl.Datetime("ns")}).write_parquet(
        tmp_path / "4.parquet"
    )
    found = read(tmp_path)
    assert (found["unique_id"].dtype, found["ds"].dtype) == (pl.String, pl.Datetime("us"))
    assert found.height == 5 * LONG.height


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("y", pl.lit("text")),
        ("ds", pl.col("ds").dt.replace_time_zone("UTC")),
        ("ds", pl.col("ds").dt.epoch("s")),
        ("unique_id", pl.lit(3)),
    ],
)
def test_a_changed_type_names_file_and_column(column: str, other: pl.Expr, tmp_path: Path) -> None:
    LONG.write_parquet(tmp_path / "0.parquet")
    LONG.with_columns(other.alias(column)).write_parquet(tmp_path / "1.parquet")
    with pytest.raises(DataError, match=rf"column '{column}' changes its type.*1\.parquet"):
        read(tmp_path)


def test_a_column_that_a_later_file_lacks_is_named(tmp_path: Path) -> None:
    LONG.write_parquet(tmp_path / "0.parquet")
    LONG.drop("y").write_parquet(tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet has no column 'y'"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_vanishes_midway_is_named(suffix: str, tmp_path: Path) -> None:
    for place in (0, 1):
        WRITERS[suffix](LONG, tmp_path / f"{place}.{suffix}")
    data = DataSettings(path=str(tmp_path), id="unique_id")
    batches = long_batches(data, Path(), 1000)
    (tmp_path / f"1.{suffix}").unlink()
    with pytest.raises(DataError, match=rf"1\.{suffix} is gone"):
        list(batches.frames)


def test_a_file_replaced_midway_by_another_schema_is_named(tmp_path: Path) -> None:
    for place in (0, 1):
        LONG.write_parquet(tmp_path / f"{place}.parquet")
    batches = long_batches(DataSettings(path=str(tmp_path), id="unique_id"), Path(), 1000)
    LONG.drop("y").write_parquet(tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet has no column 'y'"):
        list(batches.frames)


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_on_other_file_systems(suffix: str, tmp_path: Path) -> None:
    WRITERS[suffix](LONG, tmp_path / f"data.{suffix}")
    content = (tmp_path / f"data.{suffix}").read_bytes()
    mock = fs.FileSystem.from_uri("mock:///")[0]
    mock.create_dir("bucket/day=3")
    with mock.open_output_stream(f"bucket/day=3/data.{suffix}") as stream:
        stream.write(content)
    tree = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    for filesystem, path in ((mock, "bucket"), (mock, "bucket/*/data.*"), (tree, f"data.{suffix}")):
        inputs = inputs_of(path, filesystem)
        assert not inputs.local
        schema = schema_of_inputs(inputs)
        frames = list(read_batches(inputs, Selection(schema, 50)))
        assert pl.concat(frames)["y"].to_list() == LONG["y"].to_list()
        assert (filesystem is tree) or pl.concat(frames)["day"].to_list() == [3] * LONG.height


def test_uris_of_this_machine_and_of_unknown_systems(tmp_path: Path) -> None:
    LONG.write_parquet(tmp_path / "data.parquet")
    assert read(f"file://{tmp_path}/data.parquet").height == LONG.height
    assert read(f"file://{tmp_path}/*.parquet").height == LONG.height
    with pytest.raises(DataError, match=r"cannot open nowhere://"):
        read("nowhere://bucket/data.parquet")
    with pytest.raises(DataError, match="there is no file mock:///bucket/data"):
        read("mock:///bucket/data.parquet")


def typed(values: pa.Array, folder: Path, column: str = "y") -> Path:
    count = len(values)
    columns = {
        "unique_id": pa.array(["a"] * count),
        "ds": pa.array(range(count)),
        "y": pa.array(np.arange(float(count))),
        column: values,
    }
    path = folder / "typed.parquet"
    parquet.write_table(pa.table(columns), path)
    return path


NUMBERS = [
    *[pa.array([1, 2], kind()) for kind in (pa.int8, pa.int16, pa.int32, pa.int64)],
    *[pa.array([1, 2], kind()) for kind in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)],
    *[pa.array([np.float16(1), np.float16(2)], pa.float16()), pa.array([1, 2], pa.float32())],
    pa.array([1.0, 2.0]),
    pa.array([Decimal("1.00"), Decimal("2.00")], pa.decimal128(12, 2)),
    pa.array([Decimal("1.00"), Decimal("2.00")], pa.decimal256(60, 2)),
    pa.array([1, 2], pa.int8()).dictionary_encode(),
]  # fmt: skip


@pytest.mark.parametrize("values", NUMBERS, ids=lambda values: str(values.type))
def test_every_width_of_number_is_a_value(values: pa.Array, tmp_path: Path) -> None:
    _, rows = taken(DataSettings(path=str(typed(values, tmp_path)), id="unique_id"))
    assert rows.values[:, 0].tolist() == [1.0, 2.0]


MOMENT = datetime(1749, 1, 31, 5, 30, tzinfo=UTC)
TIMES = [
    *[pa.array([MOMENT], pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns")
      for zone in (None, "UTC", "America/New_York", "+02:00")],
    pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us")).dictionary_encode(),
]  # fmt: skip


@pytest.mark.parametrize("values", TIMES, ids=lambda values: str(values.type))
def test_stamps_of_any_unit_and_zone_before_1970(values: pa.Array, tmp_path: Path) -> None:
    path = typed(values, tmp_path, "ds")
    data = DataSettings(path=str(path), id="unique_id")
    _, rows = taken(data)
    assert rows.times.tolist() == [int(MOMENT.timestamp()) * 1_000_000]
    assert not long_batches(data, Path(), 100).counted


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_are_midnight(kind: pa.DataType, tmp_path: Path) -> None:
    path = typed(pa.array([date(1969, 12, 31)], kind), tmp_path, "ds")
    _, rows = taken(DataSettings(path=str(path), id="unique_id"))
    assert rows.times.tolist() == [-86_400_000_000]


def test_frames_and_numbers_as_text_are_refused_in_a_sentence(tmp_path: Path) -> None:
    storage = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    frames = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2,)), storage)
    data = DataSettings(path=str(typed(frames, tmp_path)), id="unique_id")
    with pytest.raises(DataError, match="'y' holds frames, which may only be past"):
        taken(data)
    typed(pa.array(["1.5", "2"]), tmp_path)
    with pytest.raises(DataError, match=r"'y' holds text, such as '1\.5' \(a target or covariate"):
        taken(data)


def test_an_arrow_stream_is_read_as_an_arrow_file_is(tmp_path: Path) -> None:
    with ipc.new_stream(tmp_path / "data.arrow", LONG.to_arrow().schema) as writer:
        writer.write_table(LONG.to_arrow())
    assert read(tmp_path / "data.arrow")["y"].to_list() == LONG["y"].to_list()


def test_wide_frames_are_folded_series_after_series(tmp_path: Path) -> None:
    wide = pl.DataFrame({"ds": STAMPS, "n": np.arange(48), "s": np.arange(48) + 0.5})
    wide.write_parquet(tmp_path / "wide.parquet")
    found = read(tmp_path / "wide.parquet", 10, id=None, target=["n", "s"])
    assert found.columns == ["ds", "unique_id", "y"]
    assert found["unique_id"].to_list() == ["n"] * 48 + ["s"] * 48
    assert found.filter(unique_id="s")["y"].to_list() == wide["s"].to_list()


def test_sentinels_become_missing_and_are_counted(tmp_path: Path) -> None:
    marked = LONG.with_columns(y=pl.when(pl.col("y") < 3).then(-9999).otherwise(pl.col("y")))
    marked.with_columns(x=pl.lit(-200)).write_parquet(tmp_path / "data.parquet")
    data = DataSettings(path=str(tmp_path), id="unique_id", past=["x"], sentinels=[-9999, -200])
    batches = long_batches(data, Path(), 11)
    frame = pl.concat(batches.frames)
    assert batches.sentinels == {"y": 3, "x": LONG.height}
    assert (frame["y"].null_count(), frame["x"].null_count()) == (3, LONG.height)
    assert taken(data)[0].nulls == {"y": 3, "x": LONG.height}


def rolled(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "start": [datetime(2020, 1, day) for day in (31, 1, 1)],  # noqa: DTZ001
            "freq": ["H", "H", "H"],
            "target": [[1.0, None, 3.0], [4.0], []],
            "feat_dynamic_real": [[[10.0, 20.0, 30.0, 40.0]], [[50.0]], [[]]],
            **columns,
        }
    )


@pytest.mark.parametrize("suffix", ["parquet", "ndjson", "arrow"])
def test_a_series_a_row_becomes_a_row_a_value(suffix: str, tmp_path: Path) -> None:
    WRITERS[suffix](rolled(), tmp_path / f"data.{suffix}")
    found = read(
        tmp_path, 2, id="item_id", time="start", target="target", past=["feat_dynamic_real"]
    )
    assert found.columns == ["item_id", "start", "target", "feat_dynamic_real"]
    assert found["item_id"].to_list() == ["a", "a", "a", "b"]
    assert found["target"].to_list() == [1.0, None, 3.0, 4.0]
    assert found["feat_dynamic_real"].to_list() == [10.0, 20.0, 30.0, 50.0]
    first = datetime(2020, 1, 31)  # noqa: DTZ001
    hours = [timedelta(hours=step) for step in range(3)]
    assert found["start"].cast(pl.Datetime("us")).to_list()[:3] == [first + one for one in hours]


def test_the_frequency_of_lists_may_be_set_and_counts_months(tmp_path: Path) -> None:
    rolled().drop("freq").write_parquet(tmp_path / "data.parquet")
    given = {"id": "item_id", "time": "start", "target": "target"}
    with pytest.raises(DataError, match="nothing says how far its values lie"):
        read(tmp_path, **given)
    found = read(tmp_path, **given, freq="1mo")["start"].to_list()
    assert [(one.month, one.day) for one in found[:3]] == [(1, 31), (2, 29), (3, 31)]


def test_lists_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    given = {"id": "item_id", "time": "start", "target": "target", "past": ["feat_dynamic_real"]}
    rolled(feat_dynamic_real=[[1.0], [2.0], []]).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"list in 'feat_dynamic_real' of 'a' is shorter"):
        read(tmp_path, **given)
    rolled(feat_dynamic_real=[[[1.0], [2.0]]] * 3).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="holds several lists in a row"):
        read(tmp_path, **given)
    with pytest.raises(DataError, match="no column names them"):
        read(tmp_path, **{**given, "id": None, "past": []})


def test_roles_of_a_series_a_row(tmp_path: Path) -> None:
    wave = np.sin(np.arange(200) * 2 * np.pi / 24).tolist()
    rolled(target=[wave] * 3, feat_dynamic_real=[[wave]] * 3).write_parquet(tmp_path / "d.parquet")
    proposal = infer_roles(str(tmp_path / "d.parquet"))
    data = proposal.settings
    assert (data.id, data.time, data.target) == ("item_id", "start", ["target"])
    assert (data.past, data.freq, data.season) == (["feat_dynamic_real"], "1h", 24)
    assert (proposal.rows, proposal.series) == (600, 3)


@pytest.mark.parametrize(
    ("text", "ours"),
    [("H", "1h"), ("30T", "30min"), ("W-SUN", "1w"), ("MS", "1mo"), ("QE-DEC", "1q"), ("3", "3")],
)
def test_frequencies_of_pandas(text: str, ours: str) -> None:
    assert frequency_text(text) == ours
