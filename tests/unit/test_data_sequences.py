from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import real_steps, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from models import stored, waves
from numpy.testing import assert_array_equal

from forecastd.data.lanes import Chunk, Pieces, Shape
from forecastd.data.sequences import (
    Batching,
    sequence_plan,
    sequence_walk,
    whole_plan,
)
from forecastd.data.store import Store

few = settings(max_examples=40)
SIZES = {"a": 7, "b": 3, "c": 10, "d": 5, "e": 1}
SHAPE = Shape(0, 2, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(tmp_path_factory.mktemp("sequences"), waves(SIZES))


def chunks_of(store: Store, seed: int = 0, epoch: int = 0, **how: Any) -> list[Chunk]:
    plan = sequence_plan(whole(store), Batching(**how), seed, epoch)
    found = list(sequence_walk(store, plan, SHAPE))
    assert plan.chunks == len(found)
    assert plan.steps == sum(chunk.times.size for chunk in found)
    real = sum(int(real_steps(chunk).sum()) for chunk in found)
    assert plan.rows == real
    assert plan.padding == pytest.approx(1 - real / plan.steps)
    return found


def row(store: Store, series: int, begin: int = 0, end: int | None = None) -> np.ndarray:
    return np.asarray(store.values[store.rows_of(series)])[begin:end]


@pytest.mark.shows("S42", "S45")
def test_longest_pads_each_batch_to_its_own_longest(store: Store) -> None:
    first, second, third = chunks_of(store, batch=2)
    assert [chunk.values.shape[:2] for chunk in (first, second, third)] == [(2, 7), (2, 10), (1, 1)]
    assert first.length.tolist() == [7, 3]
    assert_array_equal(first.values[1, :3], row(store, 1))
    assert np.isnan(first.values[1, 3:]).all()
    assert first.fresh.all()
    assert first.lead_values.shape[1] == 0


@pytest.mark.shows("S46", "S53")
@pytest.mark.trap(15)
@pytest.mark.parametrize("masked", [True, False])
def test_shortest_keeps_the_beginning_or_left_the_end(store: Store, masked: bool) -> None:
    right = chunks_of(store, batch=5, length="shortest", masked=masked)[0]
    assert right.values.shape[:2] == (5, 1)
    two = chunks_of(store, batch=2, length="shortest", masked=masked)[0]
    assert_array_equal(two.values[0], row(store, 0, 0, 3))
    left = chunks_of(store, batch=2, length="shortest", direction="left", masked=masked)[0]
    assert_array_equal(left.values[0], row(store, 0, 4))
    assert_array_equal(left.values[1], row(store, 1))
    assert left.ends is not None
    assert left.ends.all()


@pytest.mark.shows("S47", "S49")
@pytest.mark.trap(13)
def test_a_batch_is_split_into_pieces_of_the_same_rows(store: Store) -> None:
    found = chunks_of(store, batch=5, length=4)
    assert [chunk.times.shape[1] for chunk in found] == [4, 4, 2]  # masked: the tail is shorter
    assert [chunk.length.tolist() for chunk in found] == [
        [4, 3, 4, 4, 1],
        [3, 0, 4, 1, 0],
        [0, 0, 2, 0, 0],
    ]
    assert [chunk.fresh.all() for chunk in found] == [True, False, False]
    assert not found[1].fresh.any()
    assert all(chunk.series.tolist() == [0, 1, 2, 3, 4] for chunk in found)
    ends = [chunk.ends.tolist() for chunk in found if chunk.ends is not None]
    assert np.array(ends).sum(0).tolist() == [1, 1, 1, 1, 1]  # each sequence ends once
    assert ends[0] == [False, True, False, False, True]
    assert_array_equal(found[2].values[2, :2], row(store, 2, 8))


@pytest.mark.shows("S48", "S55")
def test_pieces_bound_what_is_in_memory_whatever_the_length(tmp_path: Path) -> None:
    store = stored(tmp_path, waves({"a": 3000, "b": 40}))
    plan = sequence_plan(whole(store), Batching(2, 50))
    chunks = list(sequence_walk(store, plan, SHAPE))
    assert len(chunks) == plan.chunks == 60
    assert max(chunk.values.size for chunk in chunks) == 2 * 50 * 2
    assert sum(int(chunk.length.sum()) for chunk in chunks) == 3040


@pytest.mark.trap(14)
@pytest.mark.parametrize("masked", [True, False])
def test_an_exact_multiple_has_no_piece_of_padding(store: Store, masked: bool) -> None:
    assert len(chunks_of(store, batch=5, length=5, masked=masked)) == 2
    assert len(chunks_of(store, batch=5, length=10, masked=masked)) == 1
    assert len(chunks_of(store, batch=5, length=9, masked=masked)) == 2


def test_unmasked_pieces_are_all_of_one_length(store: Store) -> None:
    found = chunks_of(store, batch=5, length=4, masked=False)
    assert [chunk.times.shape[1] for chunk in found] == [4, 4, 4]


@pytest.mark.shows("S50", "S53")
def test_unmasked_padding_is_steps_of_one_number_on_the_side_that_is_wanted(store: Store) -> None:
    how = {"batch": 2, "masked": False, "padding_value": -2.5}
    right, left = (chunks_of(store, direction=side, **how)[0] for side in ("right", "left"))
    nan = np.nan
    assert right.filled is not None
    assert left.filled is not None
    assert_array_equal(right.filled, [[nan] * 7, [nan] * 3 + [-2.5] * 4])
    assert_array_equal(left.filled, [[nan] * 7, [-2.5] * 4 + [nan] * 3])
    assert_array_equal(left.values[1, 4:], row(store, 1))
    assert np.isnan(left.values[1, :4]).all()
    assert left.length.tolist() == right.length.tolist() == [7, 7]


def test_left_padding_comes_before_the_first_piece_of_a_short_sequence(store: Store) -> None:
    found = chunks_of(store, batch=5, length=4, masked=False, direction="left")
    real = [real_steps(chunk).sum(1).tolist() for chunk in found]
    assert real == [[0, 0, 2, 0, 0], [3, 0, 4, 1, 0], [4, 3, 4, 4, 1]]
    assert found[2].ends is not None
    assert found[2].ends.all()


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("length", ["longest", "shortest", 4])
def test_targets_are_the_later_values_of_the_same_sequence(
    store: Store, masked: bool, direction: str, length: Any
) -> None:
    for chunk in chunks_of(store, batch=3, length=length, direction=direction, masked=masked):
        for lane, step in np.argwhere(real_steps(chunk)).tolist():
            series = int(chunk.series[lane])
            here = int(np.searchsorted(store.times[store.rows_of(series)], chunk.times[lane, step]))
            values = np.append(row(store, series)[:, 0], [np.nan] * 2)
            assert_array_equal(chunk.future[lane, step : step + 2], values[here + 1 : here + 3])


@pytest.mark.shows("S44", "S66")
def test_sorting_by_length_saves_padding(store: Store) -> None:
    plans = {
        sort: sequence_plan(whole(store), Batching(2, sort=sort))
        for sort in ("none", "ascending", "descending")
    }
    assert plans["ascending"].pieces.lengths.tolist() == [1, 3, 5, 7, 10]
    assert plans["descending"].pieces.lengths.tolist() == [10, 7, 5, 3, 1]
    assert plans["none"].pieces.series.tolist() == [0, 1, 2, 3, 4]
    assert plans["ascending"].padding < plans["none"].padding
    assert plans["none"].padding == pytest.approx(1 - 26 / 35)


@pytest.mark.trap(17)
def test_an_incomplete_last_batch_is_dropped_but_never_the_only_one(store: Store) -> None:
    def sizes(batch: int) -> list[int]:
        return [len(chunk.rows) for chunk in chunks_of(store, batch=batch, drop_last=True)]

    assert sizes(2) == [2, 2]
    assert sizes(5) == [5]
    assert sizes(128) == [5]


def orders(store: Store, shuffle: Any, sort: Any = "none", seed: int = 0) -> list[list[int]]:
    how = Batching(2, shuffle=shuffle, sort=sort)
    return [sequence_plan(whole(store), how, seed, n).pieces.series.tolist() for n in range(6)]


def test_shuffling_is_never_once_or_before_every_epoch(store: Store) -> None:
    assert orders(store, "never") == [[0, 1, 2, 3, 4]] * 6
    once, every = orders(store, "once"), orders(store, "every-epoch")
    assert once == [once[0]] * 6
    assert len({tuple(order) for order in every}) > 1
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in [*once, *every])
    assert every == orders(store, "every-epoch")
    assert every != orders(store, "every-epoch", seed=1)


def test_sorted_batches_are_shuffled_as_wholes(store: Store) -> None:
    sizes = np.array(list(SIZES.values()))
    found = set()
    for epoch in range(8):
        how = Batching(2, shuffle="every-epoch", sort="ascending")
        plan = sequence_plan(whole(store), how, 0, epoch)
        batches = np.split(sizes[plan.pieces.series], plan.first[1:-1])
        assert sorted(map(tuple, batches)) == [(1, 3), (5, 7), (10,)]
        found.add(tuple(map(tuple, batches)))
    assert len(found) > 1


@few
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=20),
    batch=st.integers(1, 7),
    length=st.sampled_from(["longest", "shortest", 1, 7, 20]),
    shuffle=st.sampled_from(["never", "once", "every-epoch"]),
    sort=st.sampled_from(["none", "ascending", "descending"]),
)
def test_an_epoch_has_every_sequence_once(
    sizes: list[int], batch: int, length: Any, shuffle: Any, sort: Any
) -> None:
    given_pieces = _laid(sizes)
    plan = sequence_plan(given_pieces, Batching(batch, length, shuffle=shuffle, sort=sort), 3, 2)
    assert sorted(plan.pieces) == sorted(given_pieces)
    assert plan.first.tolist()[0] == 0
    assert plan.first[-1] == len(sizes)
    assert (np.diff(plan.first) <= batch).all()
    assert len(plan) == -(-len(sizes) // batch)


def _laid(sizes: list[int]) -> Pieces:
    ends = np.cumsum(sizes)
    starts = ends - sizes
    return Pieces(np.stack([np.arange(len(sizes)), starts, ends, starts, ends], axis=1))


@few
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    lanes=st.integers(1, 7),
    steps_max=st.integers(1, 200),
)
def test_whole_series_are_scored_within_a_bound(
    sizes: list[int], lanes: int, steps_max: int
) -> None:
    plan = whole_plan(_laid(sizes), lanes, steps_max)
    assert sorted(plan.pieces) == sorted(_laid(sizes))
    counts = np.diff(plan.first)
    assert (counts <= lanes).all()
    assert ((counts * plan.reaches <= steps_max) | (counts == 1)).all()


@pytest.mark.parametrize("done", [0, 1, 3, 4, 5, 9])
def test_a_walk_goes_on_where_another_stopped(store: Store, done: int) -> None:
    plan = sequence_plan(whole(store), Batching(3, 4))
    rest = list(sequence_walk(store, plan, SHAPE))[done:]
    for one, other in zip(rest, sequence_walk(store, plan, SHAPE, done), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert_array_equal(mine, theirs)


def test_a_plan_of_many_sequences_is_a_table_of_numbers() -> None:
    plan = sequence_plan(_laid([40] * 30_000), Batching(64, 16, shuffle="once"))
    assert plan.pieces.table.nbytes + plan.first.nbytes <= 48 * 30_000
    assert plan.chunks == 469 * 3


def test_the_store_is_left_alone(store: Store, tmp_path: Path) -> None:
    before = np.array(store.values)
    for chunk in chunks_of(store, batch=3, length=4, masked=False):
        chunk.values[:] = 0
    assert_array_equal(store.values, before)
