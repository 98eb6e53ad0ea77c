from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forecastd.errors import DataError
from forecastd.series import (
    ForecastBatch,
    Frequency,
    Keys,
    ObservationBatch,
    Signature,
    format_time,
    quantiles_of,
)

UNITS = ["us", "ms", "s", "min", "h", "d", "w", "mo", "q", "y"]

frequencies = st.builds(
    Frequency.parse, st.builds("{}{}".format, st.integers(1, 60), st.sampled_from(["", *UNITS]))
)
seconds = st.integers(-(10**9), 3 * 10**9)


def _us(text: str) -> int:
    return int(np.datetime64(text, "us").astype(np.int64))


def _array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(frequencies)
def test_parse_reads_what_str_writes(frequency: Frequency) -> None:
    assert Frequency.parse(str(frequency)) == frequency


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("1h", "duration", 3_600_000_000),
        (" 15 min ", "duration", 900_000_000),
        ("250ms", "duration", 250_000),
        ("1w", "duration", 604_800_000_000),
        ("1q", "month", 3),
        ("2y", "month", 24),
        ("10", "count", 10),
    ],
)
def test_parse(text: str, kind: str, size: int) -> None:
    assert Frequency.parse(text) == Frequency(kind, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "h", "0h", "-1h", "1.5h", "1 fortnight", "1H", "1h 30min"])
def test_parse_refuses_with_the_units_it_knows(text: str) -> None:
    with pytest.raises(DataError, match="is not a frequency") as error:
        Frequency.parse(text)
    assert "min" in (error.value.hint or "")


@given(frequencies, seconds, st.integers(1, 1000))
@example(Frequency.parse("1mo"), _us("2024-01-31") // 10**6, 1)
@example(Frequency.parse("1mo"), _us("2023-01-31T23:59:59") // 10**6, 13)
@example(Frequency.parse("1y"), _us("2024-02-29") // 10**6, 1)
def test_steps_between_undoes_advance(frequency: Frequency, second: int, steps: int) -> None:
    start = _array(second * 10**6)
    later = frequency.advance(start, steps)
    assert frequency.steps_between(start, later).tolist() == [steps]
    assert frequency.steps_between(later, start)[0] <= 0
    assert frequency.steps_between(start, start).tolist() == [0]


@given(st.sampled_from(["1min", "1h", "7d", "10"]), seconds, st.integers(1, 100), st.data())
def test_jitter_below_half_a_step_does_not_count(text: str, start: int, steps: int, data) -> None:
    frequency = Frequency.parse(text)
    most = (frequency.size - 1) // 2
    jitter = data.draw(st.integers(-most, most))
    later = _array(start + steps * frequency.size + jitter)
    assert frequency.steps_between(_array(start), later).tolist() == [steps]


def test_a_later_stamp_is_at_least_one_step() -> None:
    frequency = Frequency.parse("1h")
    assert frequency.steps_between(_array(0), _array(1)).tolist() == [1]


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2024-01-31", 1, "2024-02-29"),
        ("2023-01-31", 1, "2023-02-28"),
        ("2024-01-31", 2, "2024-03-31"),
        ("2024-03-31", -1, "2024-02-29"),
        ("2024-08-31T12:30:00", 1, "2024-09-30T12:30:00"),
        ("1969-12-31T23:00:00", 2, "1970-02-28T23:00:00"),
        ("2024-05-15", 0, "2024-05-15"),
    ],
)
def test_months_keep_the_day_cut_to_the_month(start: str, months: int, end: str) -> None:
    moved = Frequency.parse("1mo").advance(_array(_us(start)), months)
    assert moved.tolist() == [_us(end)]


@given(st.integers(1, 12), st.integers(0, 60))
def test_months_from_one_origin_never_drift(month: int, steps: int) -> None:
    """From January 31 each step names the last day; none is lost by going through February."""
    start = _array(_us(f"2023-{month:02d}-01"))
    frequency = Frequency.parse("1mo")
    moved = datetime.fromtimestamp(int(frequency.advance(start, steps)[0]) / 1e6, UTC)
    assert moved.day == 1
    assert moved.year * 12 + moved.month == 2023 * 12 + month + steps


@given(frequencies, st.lists(seconds, max_size=5), st.integers(-20, 20))
def test_advance_takes_arrays_as_it_takes_rows(frequency, starts, steps) -> None:
    times = np.array(starts, np.int64) * 10**6
    together = frequency.advance(times, steps)
    one_by_one = [frequency.advance(times[i : i + 1], steps)[0] for i in range(len(times))]
    assert together.dtype == np.int64
    assert together.tolist() == one_by_one


def test_advance_broadcasts_steps_over_times() -> None:
    times = _array(0, 100)[:, None]
    steps = np.arange(1, 4)[None, :]
    assert Frequency.parse("10").advance(times, steps).tolist() == [[10, 20, 30], [110, 120, 130]]
    assert Frequency.parse("1mo").advance(times, steps).shape == (2, 3)


def _signature(levels: tuple[int, ...]) -> Signature:
    quantiles = quantiles_of(levels) if levels else ()
    return Signature("id", "ds", "y", ("a",), (), Frequency.parse("1h"), 24, 3, quantiles)


@given(st.sets(st.integers(1, 99), min_size=1, max_size=6))
def test_quantiles_and_levels_are_one_thing(levels: set[int]) -> None:
    signature = _signature(tuple(levels))
    assert list(signature.quantiles) == sorted(set(signature.quantiles))
    assert signature.quantiles[signature.median] == 0.5
    assert signature.levels == tuple(sorted(levels))
    for level in levels:
        lower, upper = signature.interval(level)
        assert lower < signature.median < upper
        assert lower + upper == len(signature.quantiles) - 1


def test_a_point_head_has_no_levels() -> None:
    signature = _signature(())
    assert (signature.levels, signature.median) == ((), 0)


def test_the_target_is_the_first_channel() -> None:
    assert _signature((80,)).channels == ("y", "a")


def test_batches_count_their_rows() -> None:
    assert len(ObservationBatch.empty(3)) == 0
    assert ObservationBatch.empty(3).values.shape == (0, 3)
    batch = ForecastBatch(Keys.of(["a"]), _array(1), np.zeros((1, 2, 1), np.float32))
    assert len(batch) == 1


@pytest.mark.parametrize(
    ("time", "frequency", "zone", "text"),
    [
        (_us("2013-12-01"), "1h", False, "2013-12-01T00:00:00"),
        (_us("2013-12-01"), "1h", True, "2013-12-01T00:00:00Z"),
        (_us("2013-12-01T00:00:00.25"), "1ms", False, "2013-12-01T00:00:00.250000"),
        (42, "1", False, 42),
    ],
)
def test_times_are_written_as_people_read_them(time, frequency, zone, text) -> None:
    assert format_time(time, Frequency.parse(frequency), zone=zone) == text


texts = st.lists(st.text(max_size=6), max_size=8)


@given(texts, texts, st.data())
def test_keys_are_the_sequence_of_their_texts(some: list[str], others: list[str], data) -> None:
    keys, length = Keys.of(some), len(some)
    assert (len(keys), list(keys), keys.tolist()) == (length, some, some)
    assert [keys[place] for place in range(-length, length)] == some + some
    assert (keys == Keys.of(others)) == (some == others)
    assert keys.lengths.tolist() == [len(text.encode()) for text in some]
    rows = data.draw(st.lists(st.integers(0, length - 1), max_size=5) if some else st.just([]))
    assert keys.take(_array(*rows)) == [some[row] for row in rows]
    cut = data.draw(st.slices(length))
    assert keys[cut] == some[cut]
    assert keys[cut] == Keys.of(some[cut])
    assert keys[cut][:1] == some[cut][:1]
    with pytest.raises(IndexError):
        keys[length]


def test_keys_are_told_apart_by_where_they_end() -> None:
    assert Keys.of(["ab", "c"]) != Keys.of(["a", "bc"])
    assert Keys.of([]) == Keys.empty()
    assert Keys.of([""]) != Keys.empty()
    assert Keys.repeated("é", 2) == ["é", "é"]
    assert Keys.of(["a"]) != "a"
    assert "b" in Keys.of("abc")
    assert repr(Keys.of("a")) == "Keys.of(['a'])"
