"""The rule for holes, for every kind of frequency: what training and the daemon share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastd.data.grid import default_max_gap, missing_stamps, stamps_between
from forecastd.series import NEVER, Frequency

FREQUENCIES = ["1s", "1min", "15min", "1h", "1d", "1w", "1mo", "1q", "1y", "1", "7"]
HOUR = 3_600_000_000
YEAR_2000 = 946_684_800_000_000


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("text", FREQUENCIES)
@given(
    start=st.integers(-400, 400),
    step=st.integers(1, 40),
    max_gap=st.integers(0, 30),
)
def test_a_whole_number_of_steps_is_filled_exactly(
    text: str, start: int, step: int, max_gap: int
) -> None:
    frequency = Frequency.parse(text)
    last = frequency.advance(ints(YEAR_2000), start)
    now = frequency.advance(last, step)
    holes, reset = missing_stamps(last, now, frequency, max_gap)
    assert reset[0] == (step - 1 > max_gap)
    assert holes[0] == (0 if reset[0] else step - 1)
    filled, after = stamps_between(last, holes, frequency)
    assert after.tolist() == [0] * int(holes[0])
    assert filled.tolist() == [int(frequency.advance(last, n)[0]) for n in range(1, len(after) + 1)]


@pytest.mark.parametrize("text", FREQUENCIES)
@given(last=st.integers(0, 10**15), later=st.integers(1, 10**12))
def test_filled_stamps_lie_strictly_between_their_neighbours(
    text: str, last: int, later: int
) -> None:
    frequency = Frequency.parse(text)
    if later > 5000 * max(1, frequency.size if frequency.kind != "month" else 0):
        later = later % (5000 * frequency.size) + 1 if frequency.kind != "month" else later
    lasts, nows = ints(last), ints(last + later)
    holes, _ = missing_stamps(lasts, nows, frequency, 10_000)
    filled, _ = stamps_between(lasts, holes, frequency)
    line = [last, *filled.tolist(), last + later]
    assert line == sorted(set(line))


@pytest.mark.parametrize("text", FREQUENCIES)
def test_a_new_series_has_neither_hole_nor_reset(text: str) -> None:
    holes, reset = missing_stamps(ints(NEVER), ints(YEAR_2000), Frequency.parse(text), 0)
    assert (holes[0], bool(reset[0])) == (0, False)


@pytest.mark.parametrize("text", FREQUENCIES)
@given(back=st.integers(0, 10**9))
def test_a_stamp_that_is_not_later_has_neither_hole_nor_reset(text: str, back: int) -> None:
    frequency = Frequency.parse(text)
    holes, reset = missing_stamps(ints(YEAR_2000), ints(YEAR_2000 - back), frequency, 0)
    assert (holes[0], bool(reset[0])) == (0, False)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=20),
    max_gap=st.integers(0, 200),
)
def test_many_series_equal_one_by_one(pairs: list[tuple[int, int]], max_gap: int) -> None:
    frequency = Frequency("duration", HOUR)
    last, now = (ints(*column) * HOUR for column in zip(*pairs, strict=True))
    holes, reset = missing_stamps(last, now, frequency, max_gap)
    for row in range(len(pairs)):
        one = slice(row, row + 1)
        alone = missing_stamps(last[one], now[one], frequency, max_gap)
        assert (alone[0][0], alone[1][0]) == (holes[row], reset[row])


def test_jitter_of_less_than_half_a_step_is_no_hole() -> None:
    last, now = ints(0, 0, 0), ints(59, 61, 89) * 1_000_000
    holes, _ = missing_stamps(last, now, Frequency.parse("1min"), 10)
    assert holes.tolist() == [0, 0, 0]


def test_the_longest_hole_is_one_season_and_at_least_one_step() -> None:
    assert [default_max_gap(season) for season in (0, 1, 24)] == [1, 1, 24]
