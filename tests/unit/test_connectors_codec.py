"""Lines to observations and forecasts to lines."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bad_lines import BAD_LINES
from hypothesis import given
from hypothesis import strategies as st
from steppers import SIGNATURE

from forecastd.connectors.codec_ndjson import (
    REASONS,
    Decoded,
    Decoder,
    Encoder,
    UnknownColumns,
)
from forecastd.connectors.codec_text import round_significant
from forecastd.connectors.contract import LineBatch
from forecastd.series import ForecastBatch, Frequency, Keys, Signature, format_time

GOOD = b'{"unique_id":"a","ds":"2013-12-01T00:00:00","y":1.5,"temp":2,"region":"west"}'
# Steppers flush subnormal numbers to zero in their thread, so what they hand over has none.
NORMAL_NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
HOUR_US = int(np.datetime64("2013-12-01T00:00:00", "us").astype(np.int64))


def decode(*lines: bytes, signature: Signature = SIGNATURE, **options: str) -> Decoded:
    return Decoder(signature, **options).decode(LineBatch("in", list(lines)))


def decode_one(line: bytes, signature: Signature = SIGNATURE, **options: str) -> Decoded:
    decoded = decode(line, signature=signature, **options)
    assert decoded.rejects == []
    assert len(decoded.batch) == 1
    return decoded


def test_a_good_line_becomes_an_observation() -> None:
    batch = decode_one(GOOD).batch
    assert batch.keys == ["a"]
    assert batch.times.tolist() == [HOUR_US]
    assert batch.values.dtype == np.float32
    assert batch.values.tolist() == [[1.5, 2.0]]
    assert batch.static == {"region": ["west"]}


@pytest.mark.parametrize(("name", "line", "reason"), BAD_LINES, ids=[each[0] for each in BAD_LINES])
def test_a_bad_line_is_rejected_with_its_reason(name: str, line: bytes, reason: str) -> None:
    decoded = decode(GOOD, line, GOOD)
    assert [each.reason for each in decoded.rejects] == [reason]
    assert decoded.rejects[0].source == "in"
    assert line.startswith(decoded.rejects[0].line)
    assert decoded.rejects[0].detail
    assert decoded.batch.keys == ["a", "a"]
    assert decoded.lines == [GOOD, GOOD]


def test_the_corpus_has_every_reason() -> None:
    assert {reason for _, _, reason in BAD_LINES} == set(REASONS) - {"line_too_long"}


@given(st.lists(st.binary() | st.sampled_from([GOOD, *(line for _, line, _ in BAD_LINES)])))
def test_nothing_a_line_contains_raises(lines: list[bytes]) -> None:
    decoded = decode(*lines)
    blank = sum(not line.strip() for line in lines)
    assert len(decoded.batch) + len(decoded.rejects) + blank == len(lines)
    assert {each.reason for each in decoded.rejects} <= set(REASONS)
    assert np.isfinite(decoded.batch.values[~np.isnan(decoded.batch.values)]).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.fixed_dictionaries(
        {}, optional={name: JSON for name in ("unique_id", "ds", "y", "temp", "region", "z")}
    ),
    st.sampled_from(["reject", "ignore"]),
)
def test_no_object_raises(content: dict, unknown: str) -> None:
    line = json.dumps(content).encode()
    decoded = decode(line, unknown_columns=unknown)
    assert len(decoded.batch) + len(decoded.rejects) == 1


def test_rejects_and_observations_keep_their_order_and_tags() -> None:
    lines = [b"bad 1", GOOD, b"", b"bad 2", GOOD.replace(b'"a"', b'"b"')]
    tags = np.arange(5, dtype=np.int32)
    decoded = Decoder(SIGNATURE).decode(LineBatch("in", lines, tags))
    assert [each.line for each in decoded.rejects] == [b"bad 1", b"bad 2"]
    assert decoded.batch.keys == ["a", "b"]
    assert decoded.batch.tags is not None
    assert decoded.batch.tags.tolist() == [1, 4]


@pytest.mark.parametrize("unknown", ["reject", "ignore"])
def test_requests_are_no_observations_and_no_rejects(unknown: UnknownColumns) -> None:
    ask, ask_number = (
        b'{"unique_id":"b","forecast":true}',
        b'{ "forecast" : true, "unique_id" : 7 }',
    )
    lines = [ask, GOOD, b"bad", GOOD, b"", ask_number, ask]
    tags = np.arange(7, dtype=np.int32)
    decoded = Decoder(SIGNATURE, unknown).decode(LineBatch("in", lines, tags))
    assert len(decoded.batch) == 2
    assert [each.line for each in decoded.rejects] == [b"bad"]
    requests = decoded.requests
    assert requests is not None
    assert requests.keys == ["b", "7", "b"]
    assert requests.before.tolist() == [0, 2, 2]
    assert list(requests.lines) == [ask, ask_number, ask]
    assert requests.tags is not None
    assert requests.tags.tolist() == [0, 5, 6]


@pytest.mark.parametrize(
    "line",
    [
        b'{"unique_id":"b","forecast":false}',
        b'{"unique_id":"b","forecast":1}',
        b'{"unique_id":"b","forecast":true,"ds":"2013-12-01"}',
        b'{"unique_id":null,"forecast":true}',
        b'{"forecast":true}',
        b'{"unique_id":"b","forecast":true',
        b'{"unique_id":"\xff","forecast":true}',
    ],
)
def test_what_is_not_quite_a_request_is_a_reject(line: bytes) -> None:
    decoded = decode(GOOD, line)
    assert decoded.requests is None
    assert [each.line for each in decoded.rejects] == [line]


def test_a_request_without_an_id() -> None:
    single = replace(SIGNATURE, id=None, past=(), static=())
    decoded = Decoder(single).decode(LineBatch("in", [b'{"forecast":true}']))
    assert decoded.requests is not None
    assert decoded.requests.keys == ["y"]
    named = replace(SIGNATURE, id="forecast")
    decoded = Decoder(named).decode(LineBatch("in", [b'{"forecast":true}']))
    assert decoded.requests is None


def test_no_lines_are_no_observations() -> None:
    decoded = decode()
    assert decoded.batch.values.shape == (0, 2)
    assert decoded.rejects == []


def test_null_target_and_absent_covariates_are_missing() -> None:
    line = b'{"unique_id":"a","ds":"2013-12-01","y":null}'
    batch = decode_one(line).batch
    assert np.isnan(batch.values).all()
    assert batch.static == {"region": [None]}


def test_an_integer_key_is_its_text() -> None:
    line = b'{"unique_id":42,"ds":"2013-12-01","y":1,"region":7}'
    batch = decode_one(line).batch
    assert batch.keys == ["42"]
    assert batch.static == {"region": ["7"]}


def test_a_key_of_256_bytes_is_taken() -> None:
    line = b'{"unique_id":"' + "é".encode() * 128 + b'","ds":"2013-12-01","y":1}'
    assert decode_one(line).batch.keys == ["é" * 128]


def test_unknown_columns_may_be_ignored() -> None:
    line = GOOD.replace(b'"y"', b'"wind":3,"y"')
    assert decode_one(line, unknown_columns="ignore").batch.keys == ["a"]


def test_without_an_id_the_series_is_called_by_its_target() -> None:
    single = replace(SIGNATURE, id=None, past=(), static=())
    batch = decode_one(b'{"ds":"2013-12-01","y":1}', single).batch
    assert batch.keys == ["y"]


def test_column_names_need_not_be_python_names() -> None:
    signature = replace(SIGNATURE, id="meter id", target="kW/h", time="class", past=("wind-speed",))
    line = b'{"meter id":"a","class":"2013-12-01","kW/h":1,"wind-speed":2}'
    assert decode_one(line, signature).batch.values.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-12-01T00:00:00", "2013-12-01T00:00:00"),
        ("2013-12-01 00:00", "2013-12-01T00:00:00"),
        ("2013-12-01", "2013-12-01T00:00:00"),
        ("2013-12-01T00:00:00Z", "2013-12-01T00:00:00"),
        ("2013-12-01T02:00:00+02:00", "2013-12-01T00:00:00"),
        ("2013-12-01T00:00:00.25", "2013-12-01T00:00:00.250000"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ],
)
def test_times_as_people_write_them(text: str, expected: str) -> None:
    line = b'{"unique_id":"a","ds":"%s","y":1}' % text.encode()
    assert format_time(decode_one(line).batch.times[0], SIGNATURE.frequency) == expected


@pytest.mark.parametrize(
    ("unit", "stamp"),
    [("s", 1385856000), ("ms", 1385856000_000), ("us", HOUR_US), ("ns", HOUR_US * 1000)],
)
def test_integer_times_have_the_configured_unit(unit: str, stamp: int) -> None:
    line = b'{"unique_id":"a","ds":%d,"y":1}' % stamp
    assert decode_one(line, time_unit=unit).batch.times.tolist() == [HOUR_US]


def test_an_integer_time_beyond_the_calendar_is_rejected() -> None:
    line = b'{"unique_id":"a","ds":99999999999999999999,"y":1}'
    assert [each.reason for each in decode(line, time_unit="s").rejects] == ["bad_time"]


def test_counted_time_is_an_integer() -> None:
    counted = replace(SIGNATURE, frequency=Frequency.parse("1"))
    assert decode_one(b'{"unique_id":"a","ds":17,"y":1}', counted).batch.times.tolist() == [17]
    for stamp in (b'"2013-12-01"', b"99999999999999999999"):
        bad = decode(b'{"unique_id":"a","ds":%s,"y":1}' % stamp, signature=counted)
        assert [each.reason for each in bad.rejects] == ["bad_time"]


def test_a_forecast_is_one_line() -> None:
    values = np.array([[[1, 2, 3], [10.123456789, 0.1, -1e-9]]], np.float32)
    batch = ForecastBatch(Keys.of(["JFK"]), np.array([HOUR_US]), values, np.array([4], np.int32))
    lines = Encoder(SIGNATURE).encode(batch)
    assert lines.lines == [
        b'{"unique_id":"JFK","cutoff":"2013-12-01T00:00:00","yhat":[2.0,0.1],'
        b'"yhat_lo_80":[1.0,10.12346],"yhat_hi_80":[3.0,-1e-9]}\n'
    ]
    assert lines.tags is batch.tags


def test_a_point_forecast_has_no_intervals() -> None:
    point = replace(SIGNATURE, id=None, quantiles=(), frequency=Frequency.parse("1"))
    batch = ForecastBatch(Keys.of(["y"]), np.array([7]), np.array([[[1], [np.nan]]], np.float32))
    expected = b'{"unique_id":"y","cutoff":7,"yhat":[1.0,null]}\n'
    assert Encoder(point).encode(batch).lines == [expected]


@given(st.lists(NORMAL_NUMBERS, min_size=1))
def test_rounding_is_close_and_stable(values: list[float]) -> None:
    exact = np.array(values, np.float32)
    rounded = round_significant(exact)
    assert np.allclose(rounded, exact, rtol=5e-7, atol=0)
    again = round_significant(rounded.astype(np.float32))
    assert np.allclose(again, rounded, rtol=1e-6, atol=0)


@given(st.floats(min_value=2.0**-20, max_value=2.0**20, width=32))
def test_rounded_numbers_print_short(value: float) -> None:
    text = repr(float(round_significant(np.array([value], np.float32))[0]))
    digits = text.split("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 7
