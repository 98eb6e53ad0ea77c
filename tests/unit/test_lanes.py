from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import stored, waves

from forecastd.data.lanes import (
    Chunk,
    Piece,
    Pieces,
    Plan,
    Shape,
    extent_of,
    lane_plan,
    partition,
    pieces_of,
    sweep_plan,
    walk,
    window_plan,
)
from forecastd.data.store import Store
from forecastd.errors import DataError

few = settings(max_examples=40)
lengths = st.lists(st.integers(1, 80), min_size=1, max_size=8)
seeds = st.integers(0, 10_000)


def pieces(sizes: list[int]) -> Pieces:
    """Pieces that follow one another with a gap of a row, so that none runs into the next."""
    found, row = [], 0
    for series, size in enumerate(sizes):
        found.append(Piece(series, row, row + size, row, row + size))
        row += size + 1
    return Pieces.of(found)


def rows_of(plan: Plan) -> Counter[int]:
    return Counter(row for lane in plan for piece in lane for row in range(piece.begin, piece.end))


def home(piece: Piece, given: Pieces) -> Piece:
    return next(whole for whole in given if whole.series == piece.series)


@few
@given(sizes=lengths, lanes=st.integers(1, 40), seed=seeds, sequence=st.integers(1, 50))
def test_lanes_cover_each_row_once(sizes: list[int], lanes: int, seed: int, sequence: int) -> None:
    given_pieces = pieces(sizes)
    plan = lane_plan(given_pieces, lanes, np.random.default_rng(seed), sequence)
    rows = rows_of(plan)
    assert set(rows.values()) == {1}
    assert rows.keys() == rows_of(Plan.of([list(given_pieces)])).keys()
    assert len(plan) == min(lanes, max(1, sum(sizes) // sequence))
    for lane in plan:
        for piece in lane:
            whole = home(piece, given_pieces)
            assert whole.begin <= piece.begin < piece.end <= whole.end
            assert (piece.floor, piece.limit) == (whole.floor, whole.limit)


@few
@given(sizes=lengths, lanes=st.integers(1, 12), seed=seeds, sequence=st.integers(1, 50))
def test_lanes_are_of_equal_length(sizes: list[int], lanes: int, seed: int, sequence: int) -> None:
    plan = lane_plan(pieces(sizes), lanes, np.random.default_rng(seed), sequence)
    totals = [sum(piece.end - piece.begin for piece in lane) for lane in plan]
    assert max(totals) - min(totals) <= 1


@pytest.mark.parametrize("planner", [lane_plan, window_plan])
def test_the_seed_decides_the_plan(planner) -> None:
    given_pieces = pieces([50, 7, 80, 33])
    one, same, other = (
        planner(given_pieces, 4, np.random.default_rng(seed), 10) for seed in (1, 1, 2)
    )
    assert list(one) == list(same)
    assert list(one) != list(other)


@few
@given(sizes=lengths, lanes=st.integers(1, 12))
def test_a_sweep_keeps_pieces_whole(sizes: list[int], lanes: int) -> None:
    given_pieces = pieces(sizes)
    plan = sweep_plan(given_pieces, lanes)
    assert sorted(piece for lane in plan for piece in lane) == list(given_pieces)
    assert len(plan) == min(lanes, len(sizes))


@pytest.mark.shows("S85")
@few
@given(sizes=lengths, windows=st.integers(1, 12), seed=seeds, sequence=st.integers(1, 50))
def test_windows_stay_inside_pieces(
    sizes: list[int], windows: int, seed: int, sequence: int
) -> None:
    given_pieces = pieces(sizes)
    plan = window_plan(given_pieces, windows, np.random.default_rng(seed), sequence)
    for lane in plan:
        for piece in lane:
            whole = home(piece, given_pieces)
            assert whole.begin <= piece.begin < piece.end <= whole.end
            assert piece.end - piece.begin == min(sequence, whole.end - whole.begin)
    count = sum(map(len, plan))
    wanted = max(1, round(sum(sizes) / sequence))
    assert wanted <= count < wanted + len(plan)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Series a (60 rows), b (25) with a hole of 10 hours that resets, c (1)."""
    late = waves({"b": 10}, seed=1, first_hour=25)
    frame = waves({"a": 60, "b": 15, "c": 1}).vstack(late)
    made = stored(tmp_path_factory.mktemp("lanes"), frame, max_gap=3)
    assert made.segments.tolist() == [[0, 0, 60], [1, 60, 75], [1, 75, 85], [2, 85, 86]]
    return made


def swept(store: Store, shape: Shape, lanes: int = 2) -> list[Chunk]:
    ends = store.offsets[1:]
    plan = sweep_plan(pieces_of(store, store.offsets[:-1], ends, ends), lanes)
    return list(walk(store, plan, shape))


@pytest.mark.shows("S42")
@few
@given(sequence=st.integers(1, 70), horizon=st.integers(1, 30), lanes=st.integers(1, 5))
def test_chunks_are_rows_of_the_store(
    store: Store, sequence: int, horizon: int, lanes: int
) -> None:
    seen: Counter[int] = Counter()
    for chunk in swept(store, Shape(sequence, horizon, 0), lanes):
        assert chunk.values.shape[1] == sequence
        for lane in np.flatnonzero(chunk.length).tolist():
            row, length = int(chunk.rows[lane]), int(chunk.length[lane])
            seen.update(range(row, row + length))
            part = store.values[row : row + length]
            np.testing.assert_array_equal(chunk.values[lane, :length], part)
            assert np.isnan(chunk.values[lane, length:]).all()
            np.testing.assert_array_equal(
                chunk.times[lane, :length], store.times[row : row + length]
            )
    assert seen == Counter(range(len(store.times)))


@pytest.mark.shows("S85", "S40")
@settings(max_examples=15)
@given(sequence=st.integers(1, 70), horizon=st.integers(1, 30))
def test_targets_are_the_later_rows_of_the_segment(
    store: Store, sequence: int, horizon: int
) -> None:
    for chunk in swept(store, Shape(sequence, horizon, 0)):
        assert chunk.future.shape[1] == sequence + horizon - 1
        for lane in np.flatnonzero(chunk.length).tolist():
            for step in range(int(chunk.length[lane])):
                row = int(chunk.rows[lane]) + step
                end = int(store.segments[np.searchsorted(store.segments[:, 2], row, "right"), 2])
                expected = np.full(horizon, np.nan, np.float32)
                later = store.values[row + 1 : min(row + 1 + horizon, end), 0]
                expected[: len(later)] = later
                np.testing.assert_array_equal(chunk.future[lane, step : step + horizon], expected)


@given(limit=st.integers(1, 60), horizon=st.integers(1, 30))
def test_nothing_beyond_the_limit_is_read(store: Store, limit: int, horizon: int) -> None:
    begin, end = np.array([0, 60, 85]), np.array([limit, 60, 85])
    plan = Plan.of([list(pieces_of(store, begin, end, end))])
    for chunk in walk(store, plan, Shape(7, horizon, 5)):
        row, length = int(chunk.rows[0]), int(chunk.length[0])
        assert row + length <= limit
        known = int(np.isfinite(chunk.future[0]).sum())
        assert known == min(7 + horizon - 1, limit - row - 1)


def test_a_lane_is_fresh_at_each_piece_and_counts_its_age(store: Store) -> None:
    chunks = swept(store, Shape(20, 1, 0), lanes=1)
    found = [(c.rows[0], c.length[0], c.fresh[0], c.age[0]) for c in chunks]
    assert found == [
        (0, 20, True, 0),
        (20, 20, False, 20),
        (40, 20, False, 40),
        (60, 15, True, 0),
        (75, 10, True, 0),
        (85, 1, True, 0),
    ]


def test_an_idle_lane_has_no_series(store: Store) -> None:
    last = swept(store, Shape(60, 1, 0), lanes=2)[-1]
    assert last.length.tolist() == [0, 1]
    assert last.series.tolist() == [-1, 2]
    assert np.isnan(last.values[0]).all()
    assert not last.fresh[0]


def test_lead_rows_stand_before_a_fresh_lane_and_end_at_its_start(store: Store) -> None:
    lanes = [[Piece(0, 30, 40, 0, 60), Piece(1, 63, 70, 60, 75)], [Piece(1, 75, 80, 75, 85)]]
    plan = Plan.of(lanes)
    first, second = walk(store, plan, Shape(10, 1, 5))
    assert first.lead.tolist() == [5, 0]
    np.testing.assert_array_equal(first.lead_values[0], store.values[25:30])
    np.testing.assert_array_equal(first.lead_times[0], store.times[25:30])
    assert second.lead.tolist() == [3, 0]  # the segment starts three rows before
    np.testing.assert_array_equal(second.lead_values[0, -3:], store.values[60:63])


def test_only_a_fresh_lane_has_lead_rows(store: Store) -> None:
    first, second = walk(store, Plan.of([[Piece(0, 30, 40, 0, 60)]]), Shape(5, 1, 4))
    assert (first.lead[0], second.lead[0]) == (4, 0)


def test_pieces_stop_at_resets(store: Store) -> None:
    begin, end = np.array([10, 70, 85]), np.array([50, 80, 85])
    assert list(pieces_of(store, begin, end, end + 2)) == [
        Piece(0, 10, 50, 0, 52),
        Piece(1, 70, 75, 60, 75),
        Piece(1, 75, 80, 75, 82),
    ]


def test_a_lead_shorter_than_the_others_has_nothing_before_it(store: Store) -> None:
    plan = Plan.of([[Piece(0, 30, 40, 0, 60)], [Piece(1, 62, 70, 60, 75)], [Piece(0, 0, 9, 0, 60)]])
    (chunk,) = walk(store, plan, Shape(10, 1, 5))
    assert chunk.lead.tolist() == [5, 2, 0]
    np.testing.assert_array_equal(chunk.lead_values[1, -2:], store.values[60:62])
    np.testing.assert_array_equal(chunk.lead_times[1, -2:], store.times[60:62])
    assert np.isnan(chunk.lead_values[1, :-2]).all()
    assert np.isnan(chunk.lead_values[2]).all()


@few
@given(sizes=lengths, lanes=st.integers(1, 9), seed=seeds, count=st.integers(1, 5))
def test_parts_are_disjoint_and_complete(
    sizes: list[int], lanes: int, seed: int, count: int
) -> None:
    whole = lane_plan(pieces(sizes), lanes, np.random.default_rng(seed), 10)
    parts = [list(partition(whole, count, index)) for index in range(count)]
    assert sorted(lane for part in parts for lane in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("count", "index"), [(2, 2), (2, -1), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(count: int, index: int) -> None:
    plan = sweep_plan(pieces([5, 6]), 2)
    with pytest.raises(DataError, match=f"there is no part {index} of {count}"):
        partition(plan, count, index)


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("planner", [lane_plan, window_plan])
def test_the_extent_is_what_a_walk_hands_out(store: Store, planner, trim: bool) -> None:
    ends = store.offsets[1:]
    found = pieces_of(store, store.offsets[:-1], ends, ends)
    plan, shape = planner(found, 3, np.random.default_rng(0), 12), Shape(12, 2, 4, trim)
    chunks = list(walk(store, plan, shape))
    extent = extent_of(plan, shape)
    assert extent.chunks == len(chunks)
    assert extent.rows == sum(int(chunk.length.sum()) for chunk in chunks)
    assert extent.steps == sum(chunk.times.size for chunk in chunks)
    assert extent.padding == 1 - extent.rows / extent.steps


def test_a_trimmed_chunk_is_as_long_as_its_longest_lane(store: Store) -> None:
    plan = Plan.of([[Piece(1, 60, 64, 60, 75)], [Piece(1, 75, 82, 75, 85)]])
    (chunk,) = walk(store, plan, Shape(10, 3, 0, trim=True))
    assert chunk.values.shape[1] == 7
    assert chunk.future.shape[1] == 7 + 3 - 1
    assert np.isnan(chunk.values[0, 4:]).all()
    np.testing.assert_array_equal(chunk.future[0], store.values[61:70, 0])


@pytest.mark.parametrize("planner", [lane_plan, window_plan])
@pytest.mark.parametrize("done", [0, 1, 3, 100])
def test_a_walk_goes_on_where_another_stopped(store: Store, planner, done: int) -> None:
    ends = store.offsets[1:]
    found = pieces_of(store, store.offsets[:-1], ends, ends)
    plan, shape = planner(found, 3, np.random.default_rng(0), 8), Shape(8, 2, 0)
    for whole, rest in zip(
        list(walk(store, plan, shape))[done:], walk(store, plan, shape, done), strict=True
    ):
        for one, other in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.shows("S44")
def test_windows_of_like_length_go_side_by_side() -> None:
    sizes = np.random.default_rng(3).integers(2, 60, 400).tolist()
    plan = window_plan(pieces(sizes), 16, np.random.default_rng(0), 48)
    lengths_of = np.array([[piece.end - piece.begin for piece in lane] for lane in plan])
    spread = lengths_of.max(axis=0) - lengths_of.min(axis=0)
    assert spread.mean() < 0.2 * (lengths_of.max() - lengths_of.min())
    assert lengths_of.max(axis=0).tolist() != sorted(lengths_of.max(axis=0).tolist())
    shuffled = Pieces(np.random.default_rng(0).permutation(plan.pieces.table))
    mixed = Plan(shuffled, plan.first)
    trimmed = Shape(48, 1, 0, trim=True)
    assert extent_of(plan, trimmed).padding < 0.2 * extent_of(mixed, trimmed).padding


def test_a_plan_of_many_series_is_a_table_of_numbers() -> None:
    given_pieces = pieces([40] * 30_000)
    for plan in (
        lane_plan(given_pieces, 64, np.random.default_rng(0), 20),
        window_plan(given_pieces, 64, np.random.default_rng(0), 20),
        sweep_plan(given_pieces, 64),
    ):
        assert plan.pieces.table.nbytes + plan.first.nbytes <= 40 * (2 * 30_000 + 200)
