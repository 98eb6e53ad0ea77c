"""Arrow IPC streams: any chunks, any types and any damage in; out, what Arrow reads."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from connector_harness import surroundings
from hypothesis import given
from hypothesis import strategies as st
from steppers import SIGNATURE, MeanStepper

from forecastd.connectors.codec_arrow import ArrowDecoder, ArrowEncoder
from forecastd.connectors.codec_ndjson import Decoded
from forecastd.connectors.contract import FrameBatch, SourceEnded
from forecastd.connectors.file import FileSink, FileSinkSettings, FileSource, FileSourceSettings
from forecastd.connectors.frames import FrameSplitter, Piece
from forecastd.daemon.local import Conduct, run_stdio
from forecastd.errors import UserError
from forecastd.series import ForecastBatch, Frequency, Keys, Signature

LIMIT = 1 << 20
HOUR_US = 3_600_000_000


def table_of(rows: int, first: int = 0) -> pa.RecordBatch:
    """Return rows of two series, an hour apart."""
    numbers = np.arange(first, first + rows)
    return pa.record_batch(
        {
            "unique_id": pa.array([f"s{number % 2}" for number in numbers], pa.string()),
            "ds": pa.array(numbers * HOUR_US).cast(pa.timestamp("us")),
            "y": pa.array(numbers.astype(np.float64)),
        }
    )


def stream_of(batches: list[pa.RecordBatch], end: bool = True) -> bytes:
    sink = io.BytesIO()
    writer = pa.ipc.new_stream(sink, batches[0].schema)
    for batch in batches:
        writer.write_batch(batch)
    if end:
        writer.close()
    return sink.getvalue()


def pieces_of(data: bytes, rows: int = 1 << 20) -> list[Piece]:
    splitter = FrameSplitter(LIMIT)
    splitter.feed(data)
    taken = splitter.take(rows)
    assert taken.broken is None
    return taken.pieces


def decode(batch: pa.RecordBatch, signature: Signature = SIGNATURE, **options: Any) -> Decoded:
    decoder = ArrowDecoder(signature, **options)
    return decoder.decode(FrameBatch("in", pieces_of(stream_of([batch]))))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 400), st.integers(1, 7))
def test_any_chunking_gives_the_same_rows(sizes: list[int], chunk: int, rows: int) -> None:
    batches = [table_of(size, 10 * number) for number, size in enumerate(sizes)]
    data = stream_of(batches) + stream_of(batches)  # a second stream after the end of the first
    splitter, decoder = FrameSplitter(LIMIT), ArrowDecoder(SIGNATURE)
    values: list[float] = []
    for start in range(0, len(data), chunk):
        splitter.feed(data[start : start + chunk])
        while (taken := splitter.take(rows)).count:
            assert taken.count <= rows
            values += decoder.decode(FrameBatch("in", taken.pieces)).batch.values[:, 0].tolist()
    expected = [value for batch in batches for value in batch.column("y").to_pylist()]
    assert values == expected * 2
    assert splitter.is_empty
    assert splitter.finish().count == 0


@given(st.data())
def test_damaged_bytes_are_rejected_and_nothing_raises(data: st.DataObject) -> None:
    content = bytearray(stream_of([table_of(4), table_of(3, 4)]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    splitter, decoder = FrameSplitter(LIMIT), ArrowDecoder(SIGNATURE)
    splitter.feed(bytes(content))
    while (taken := splitter.take(3)).count:
        assert len(decoder.decode(FrameBatch("in", taken.pieces)).batch) <= 3
    splitter.finish()
    assert splitter.is_empty


@given(st.binary())
def test_any_bytes_are_at_most_one_problem(data: bytes) -> None:
    splitter = FrameSplitter(LIMIT)
    splitter.feed(data)
    assert splitter.take(10).count + splitter.finish().count <= 1


def test_a_frame_that_is_too_large_is_not_waited_for() -> None:
    splitter = FrameSplitter(1000)
    data = stream_of([table_of(1000)])
    splitter.feed(data[:700])
    assert "more than 1000" in (splitter.take(1).broken or "")
    splitter.feed(data[700:])
    assert splitter.take(1).count == 0


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_timestamps_of_every_unit_and_zone_are_the_same_moment(unit: str, zone: str | None) -> None:
    batch = table_of(3)
    times = batch.column("ds").cast(pa.timestamp("us", zone)).cast(pa.timestamp(unit, zone))
    batch = batch.set_column(1, "ds", times)
    assert decode(batch).batch.times.tolist() == [0, HOUR_US, 2 * HOUR_US]


KEY_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("kind", KEY_TYPES, ids=str)
def test_keys_of_every_type_are_the_same(kind: pa.DataType) -> None:
    column = pa.array(["ä", "b", "ä"], pa.string())
    typed = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    batch = table_of(3).set_column(0, "unique_id", typed)
    assert decode(batch).batch.keys == ["ä", "b", "ä"]
    assert decode(batch.slice(1)).batch.keys == ["b", "ä"]


def test_integer_keys_and_counted_times() -> None:
    counted = replace(SIGNATURE, frequency=Frequency.parse("1"))
    batch = table_of(2).set_column(0, "unique_id", pa.array([7, 8], pa.uint16()))
    batch = batch.set_column(1, "ds", pa.array([5, 1 << 60]))
    decoded = decode(batch, counted)
    assert decoded.batch.keys == ["7"]
    assert decoded.batch.times.tolist() == [5]
    assert [each.reason for each in decoded.rejects] == ["bad_time"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**6), ("ms", 1000), ("us", 1)])
def test_integer_times_have_the_configured_unit(unit: str, factor: int) -> None:
    batch = table_of(2).set_column(1, "ds", pa.array([3600, 1 << 62]))
    decoded = decode(batch, time_unit=unit)
    assert decoded.batch.times.tolist() == [3600 * factor]
    assert [each.reason for each in decoded.rejects] == ["bad_time"]
    assert [each.reason for each in decode(batch).rejects] == ["wrong_type"]


NUMBERS = [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.decimal128(12, 2)]


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_numbers_of_every_width(kind: pa.DataType) -> None:
    batch = table_of(3).set_column(2, "y", pa.array([1, None, 3], pa.int32()).cast(kind))
    values = decode(batch).batch.values
    assert values[[0, 2], 0].tolist() == [1.0, 3.0]
    assert np.isnan(values[1]).all()
    assert np.isnan(values[:, 1]).all()  # the covariate that is not there


def test_rows_that_cannot_be_used_are_rejected_alone() -> None:
    batch = pa.record_batch(
        {
            "unique_id": ["a", None, "", "k" * 257, "e", "f"],
            "ds": pa.array([0, 0, 0, 0, None, 0], pa.timestamp("us")),
            "y": [1.0, 1.0, 1.0, 1.0, 1.0, 1e39],
            "region": ["west"] * 6,
        }
    )
    decoded = decode(batch)
    assert decoded.batch.keys == ["a"]
    assert decoded.batch.static == {"region": ["west"]}
    reasons = ["missing_field", "missing_field", "key_too_long", "bad_time", "not_finite"]
    assert [each.reason for each in decoded.rejects] == reasons
    assert decoded.lines[0].startswith(b'{"unique_id": "a"')
    assert b'"f"' in decoded.rejects[-1].line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda batch: batch.drop_columns(["y"]), "missing_field"),
        (lambda batch: batch.append_column("wind", pa.array([1.0, 2.0])), "unknown_column"),
        (lambda batch: batch.append_column("y", pa.array([1.0, 2.0])), "wrong_type"),
        (lambda batch: batch.set_column(2, "y", pa.array(["1", "2"])), "wrong_type"),
        (lambda batch: batch.set_column(0, "unique_id", pa.array([1.5, 2.5])), "wrong_type"),
        (lambda batch: batch.set_column(1, "ds", pa.array(["now", "then"])), "wrong_type"),
    ],
)
def test_a_batch_of_wrong_columns_is_one_reject(change: Any, reason: str) -> None:
    decoded = decode(change(table_of(2)))
    assert len(decoded.batch) == 0
    assert [each.reason for each in decoded.rejects] == [reason]
    assert "2 rows" in decoded.rejects[0].detail


@pytest.mark.parametrize("horizon", [1, 2])
def test_forecasts_are_read_back_by_arrow(horizon: int) -> None:
    signature = replace(SIGNATURE, horizon=horizon, time_zone=True)
    values = np.arange(2 * horizon * 3, dtype=np.float32).reshape(2, horizon, 3)
    values[0, 0, 1] = np.inf
    keys = Keys.of(["x", "ä", "b"])[1:]
    encoder = ArrowEncoder(signature)
    first = encoder.encode(ForecastBatch(keys, np.array([0, HOUR_US]), values))
    none = encoder.encode(ForecastBatch(Keys.empty(), np.empty(0, np.int64), values[:0]))
    table = pa.ipc.open_stream(first.head + first.data + none.data + first.data).read_all()
    assert table.num_rows == 4
    assert table.column("unique_id").to_pylist() == ["ä", "b"] * 2
    assert table.schema.field("cutoff").type == pa.timestamp("us", "UTC")
    kind = pa.float32() if horizon == 1 else pa.list_(pa.float32(), horizon)
    assert table.schema.field("yhat_hi_80").type == kind
    upper = table.column("yhat_hi_80").to_pylist()
    assert upper[1] == (values[1, 0, 2] if horizon == 1 else values[1, :, 2].tolist())
    assert np.isnan(np.ravel(table.column("yhat").to_pylist()[0])[0])


def test_a_file_goes_on_where_it_was_even_within_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    path.write_bytes(stream_of([table_of(5), table_of(5, 5), table_of(5, 10)]))
    settings = FileSourceSettings(type="file", path=path.name, format="arrow", follow=False)
    around = surroundings(tmp_path, batch_rows=4)
    decoder, position, values = ArrowDecoder(SIGNATURE), None, []
    for _ in range(20):
        source = FileSource("in", settings, around, position)
        try:
            values += decoder.decode(source.next_batch()).batch.values[:, 0].tolist()
        except SourceEnded:
            break
        position = source.position()
        source.close()
    assert values == list(range(15))


def test_a_file_sink_writes_its_schema_once(tmp_path: Path) -> None:
    encoder = ArrowEncoder(SIGNATURE)
    batch = ForecastBatch(Keys.of(["a"]), np.array([0]), np.zeros((1, 2, 3), np.float32))
    settings = FileSinkSettings(type="file", path="out.arrow", format="arrow")
    for _ in range(2):
        sink = FileSink("out", settings, surroundings(tmp_path))
        sink.write(encoder.encode(batch))
        sink.write(encoder.encode(batch))
        sink.close()
    assert pa.ipc.open_stream((tmp_path / "out.arrow").read_bytes()).read_all().num_rows == 4
    (tmp_path / "out.arrow").write_bytes(b"something else")
    sink = FileSink("out", settings, surroundings(tmp_path))
    with pytest.raises(UserError, match="does not begin with this model's schema"):
        sink.write(encoder.encode(batch))
    sink.close()


def test_a_stream_from_one_end_to_the_other(tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    path.write_bytes(stream_of([table_of(3), table_of(6, 3)]) + b"rubbish after the end")
    with path.open("rb") as source, (tmp_path / "out.arrow").open("wb") as sink:
        descriptors = (source.fileno(), sink.fileno())
        result = run_stdio(MeanStepper(), None, Conduct(form="arrow"), descriptors=descriptors)
    assert result.counts.observations == 9
    assert dict(result.counts.rejected) == {"bad_frame": 1}
    table = pa.ipc.open_stream((tmp_path / "out.arrow").read_bytes()).read_all()
    assert table.column("unique_id").to_pylist() == [f"s{number % 2}" for number in range(9)]
