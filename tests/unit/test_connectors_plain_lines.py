"""The compiled codec declines a line or gives, to the bit, what the codec of texts gives."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bad_lines import BAD_LINES
from hypothesis import example, given
from hypothesis import strategies as st
from steppers import SIGNATURE

from forecastd.connectors.codec_ndjson import Decoder, Encoder
from forecastd.connectors.codec_scan import plan_of, scan
from forecastd.connectors.codec_text import TextDecoder, TextEncoder
from forecastd.connectors.contract import LineBatch
from forecastd.connectors.lines import Lines
from forecastd.series import ForecastBatch, Frequency, Keys, Signature

COUNTED = replace(SIGNATURE, frequency=Frequency.parse("1"))
NAMELESS = replace(SIGNATURE, id=None)
POINT = replace(SIGNATURE, quantiles=(), time_zone=True)
GOOD = b'{"unique_id":"a","ds":"2013-12-01T00:00:00","y":1.5,"temp":2}'
PIECES = [b'"', b"\\", b"\x00", b"\xff", b"0", b"9", b"-", b".", b"e", b",", b":", b"{", b"}", b" "]


def assert_same(lines: list[bytes], signature: Signature = SIGNATURE, **options: Any) -> None:
    """Compare the decoder with the one of texts, for all lines and for each one alone."""
    for part in [lines, *([line] for line in lines)]:
        expected = TextDecoder(signature, **options).decode(part)
        found = Decoder(signature, **options).decode(LineBatch("in", part))
        assert found.batch.keys == expected.keys
        assert found.batch.times.tolist() == expected.times.tolist()
        assert found.batch.values.tobytes() == expected.values.tobytes()
        assert found.batch.static == expected.static
        assert found.lines == [part[number] for number in expected.numbers.tolist()]
        reasons = [(each.reason, each.detail) for each in found.rejects]
        assert reasons == [tuple(problem) for _, problem in expected.problems]


def is_plain(line: bytes, signature: Signature = SIGNATURE) -> bool:
    plan, lines = plan_of(signature, None), Lines.of([line])
    assert plan is not None
    return scan(lines.data, lines.starts, lines.ends, plan)[1] == 1


NUMBERS = st.one_of(
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.9g}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["null", "-0", "-0.0", "0", "3.4e38", "3.5e38", "1e-45", "1e-22", "true"]),
)


@given(st.lists(NUMBERS, min_size=1))
@example(["16777217", "16777217.0000000001", "9007199254740993", "0.30000000000000004"])
def test_numbers_are_those_of_a_correct_parser(numbers: list[str]) -> None:
    assert_same([GOOD.replace(b"1.5", number.encode()) for number in numbers])


@given(st.integers(1 << 23, (1 << 24) - 1), st.integers(-40, 40), st.integers(-40, 40))
def test_numbers_near_a_tie_of_float32_are_rounded_once_only(
    mantissa: int, scale: int, distance: int
) -> None:
    """Texts of 17 and 18 digits around the middle of two neighbouring float32."""
    middle = np.ldexp(float(2 * mantissa + 1), scale)
    near = middle + distance * np.spacing(middle) / 4
    texts = [f"{near:.16e}", f"{near:.17e}", repr(float(near))]
    assert_same([GOOD.replace(b"1.5", text.encode()) for text in texts])


STAMPS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.datetimes().map(lambda moment: moment.isoformat(" ", "minutes")),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.dates().map(str),
    st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9]([T t][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,8})?)?"
        r"(Z|z|[+-][0-2][0-9]:[0-6][0-9]|[+-][0-2][0-9])?)?",
        fullmatch=True,
    ),
)


@given(st.lists(STAMPS, min_size=1))
@example(["2000-02-29", "1900-02-29", "0000-01-01", "2013-12-01T24:00", "9999-12-31T23:59-23:59"])
def test_stamps_are_those_of_the_standard_library(stamps: list[str]) -> None:
    lines = [GOOD.replace(b"2013-12-01T00:00:00", stamp.encode()) for stamp in stamps]
    assert_same(lines)
    assert_same(lines, COUNTED)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@given(times=st.lists(st.integers(-(10**19), 10**19), min_size=1))
@example(times=[-62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800])
def test_integer_times_are_the_same(unit: str, times: list[int]) -> None:
    lines = [GOOD.replace(b'"2013-12-01T00:00:00"', b"%d" % time) for time in times]
    assert_same(lines, time_unit=unit)
    assert_same(lines, COUNTED)
    assert_same(lines)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([1])


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["unique_id", "ds", "y", "temp", "region", "z"]), VALUES),
            max_size=6,
        ),
        max_size=4,
    ),
    st.sampled_from([SIGNATURE, NAMELESS, COUNTED, replace(SIGNATURE, static=(), past=())]),
    st.sampled_from(["reject", "ignore"]),
)
def test_any_object_is_the_same(
    objects: list[list[tuple[str, Any]]], signature: Signature, unknown: str
) -> None:
    """Columns in any order, missing and twice."""
    lines = [
        "{" + ", ".join(f"{json.dumps(name)} : {json.dumps(value)}" for name, value in pairs) + "}"
        for pairs in objects
    ]
    assert_same([line.encode() for line in [*lines]], signature, unknown_columns=unknown)


@given(
    st.sampled_from([GOOD, *(line for _, line, _ in BAD_LINES if len(line) < 1000)]),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3), st.sampled_from(PIECES)), max_size=3),
)
def test_a_damaged_line_is_the_same(line: bytes, damages: list[tuple[int, int, bytes]]) -> None:
    for place, removed, added in damages:
        line = line[:place] + added + line[place + removed :]
    assert_same([GOOD, line.replace(b"\n", b" "), GOOD])


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)))
def test_any_bytes_are_the_same(lines: list[bytes]) -> None:
    assert_same([*lines, GOOD])


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_the_beginning_of_a_line_is_not_completed_by_the_next_one(length: int) -> None:
    """The scanner must not read beyond a line's end, where the buffer goes on."""
    lines = Lines(GOOD * 2, np.array([0, length]), np.array([length, length + len(GOOD)]))
    expected = TextDecoder(SIGNATURE).decode(list(lines))
    found = Decoder(SIGNATURE).decode(LineBatch("in", lines))
    assert found.batch.keys == expected.keys
    assert len(found.rejects) == len(expected.problems)


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        b' { "y" : 1e-3 , "ds" : "2013-12-01 00:00" , "unique_id" : 17 }\r',
        GOOD.replace(b"1.5", b"0.30000000000000004"),
        GOOD.replace(b"1.5", b"null"),
        GOOD.replace(b"00:00:00", b"00:00:00.25+02:00"),
    ],
)
def test_plain_lines_take_the_compiled_way(line: bytes) -> None:
    assert is_plain(line)


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace(b'"a"', b'"\\u0061"'),
        GOOD.replace(b'"a"', '"ä"'.encode()),
        GOOD.replace(b'"temp":2', b'"y":2'),
        GOOD.replace(b'"temp":2', b'"region":"west"'),
        b"",
    ],
)
def test_other_lines_are_declined(line: bytes) -> None:
    assert not is_plain(line)


def test_names_that_need_escapes_are_left_to_the_decoder_of_texts() -> None:
    assert plan_of(replace(SIGNATURE, target='say "y"'), None) is None
    assert_same([b'{"unique_id":"a","ds":"2013-12-01","say \\"y\\"":1}'], COUNTED)


FLOATS = st.floats(width=32) | st.floats(-1e7, 1e7, width=32) | st.integers(-99, 99).map(float)
TIMES = st.integers(-(1 << 63), (1 << 63) - 1) | st.datetimes().map(
    lambda moment: int(np.datetime64(moment, "us").astype(np.int64))
)


@given(
    st.lists(st.tuples(st.text(), TIMES, st.lists(FLOATS, min_size=6, max_size=6)), max_size=5),
    st.sampled_from([SIGNATURE, NAMELESS, COUNTED, POINT, replace(SIGNATURE, id='a"b')]),
)
def test_forecasts_are_the_same_bytes(
    rows: list[tuple[str, int, list[float]]], signature: Signature
) -> None:
    quantiles = max(1, len(signature.quantiles))
    batch = ForecastBatch(
        Keys.of([key for key, _, _ in rows]),
        np.array([time for _, time, _ in rows], np.int64),
        np.array([values for _, _, values in rows], np.float32).reshape(
            len(rows), 6 // quantiles, quantiles
        ),
    )
    found = Encoder(signature).encode(batch)
    assert found.lines == TextEncoder(signature).encode(batch)
    assert found.data == b"".join(found.lines)


def test_numbers_of_every_size_print_the_same() -> None:
    """Every power of two and of ten of float32, their neighbours, and whatever else there is."""
    generator = np.random.default_rng(0)
    any_bits = generator.integers(0, 1 << 32, 40_000, np.uint32).view(np.float32)
    any_bits = any_bits[~np.isnan(any_bits)]
    powers = np.array(
        [10.0**power for power in range(-45, 39)] + [2.0**k for k in range(-149, 128)]
    )
    exact = powers.astype(np.float32)
    short = generator.normal(size=20_000) * 10.0 ** generator.integers(-20, 20, 20_000)
    near = [np.nextafter(exact, np.float32(end)) for end in (np.inf, -np.inf)]
    values = np.concatenate([any_bits, exact, *near, short.astype(np.float32), np.round(short)])
    values = values.astype(np.float32)[: len(values) // 2 * 2].reshape(-1, 2, 1)
    batch = ForecastBatch(Keys.repeated("a", len(values)), np.zeros(len(values), np.int64), values)
    assert Encoder(POINT).encode(batch).lines == TextEncoder(POINT).encode(batch)
