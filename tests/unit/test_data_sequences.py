from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import stored, waves
from numpy.testing import assert_allclose, assert_array_equal

from forecastd.data.lanes import Chunk, Pieces, Shape, pieces_of, sweep_plan, walk
from forecastd.data.sequences import (
    Batching,
    SequencePlan,
    sequence_plan,
    sequence_walk,
    whole_plan,
)
from forecastd.data.store import Store
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.walker import Walker, needs_whole_series, steps_at_once

few = settings(max_examples=40)
SIZES = {"a": 7, "b": 3, "c": 10, "d": 5, "e": 1}
SHAPE = Shape(0, 2, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(tmp_path_factory.mktemp("sequences"), waves(SIZES))


def whole(store: Store) -> Pieces:
    ends = store.offsets[1:]
    return pieces_of(store, store.offsets[:-1], ends, ends)


def chunks_of(store: Store, seed: int = 0, epoch: int = 0, **how: Any) -> list[Chunk]:
    plan = sequence_plan(whole(store), Batching(**how), seed, epoch)
    found = list(sequence_walk(store, plan, SHAPE))
    assert plan.chunks == len(found)
    assert plan.steps == sum(chunk.times.size for chunk in found)
    real = sum(int(_real(chunk).sum()) for chunk in found)
    assert plan.rows == real
    assert plan.padding == pytest.approx(1 - real / plan.steps)
    return found


def _real(chunk: Chunk) -> np.ndarray:
    if chunk.filled is not None:
        return np.isnan(chunk.filled)
    return np.arange(chunk.times.shape[1]) < chunk.length[:, None]


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
    real = [_real(chunk).sum(1).tolist() for chunk in found]
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
        for lane, step in np.argwhere(_real(chunk)).tolist():
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


# What a network makes of mini-batches.


def network(*layers: LayerSpec, lags: int = 3, parts: tuple[str, ...] = ()) -> ForecastNetwork:
    torch.manual_seed(0)
    chosen = {"parts": parts, "scaling": "none"} if parts else {}
    features = FeatureSpec(2, (), 12.0, lags, 0, (), **chosen)
    spec = NetworkSpec(features, layers, HeadSpec("point", 2, (), lags))
    return ForecastNetwork(spec).double().eval()


def walker(made: ForecastNetwork, store: Store) -> Walker:
    def clocks(times: np.ndarray) -> np.ndarray:
        return np.zeros((*times.shape, 0), np.float32)

    return Walker(made, clocks, np.zeros((store.series_count, 0), np.int32))


def said(made: ForecastNetwork, store: Store, plan: SequencePlan) -> dict[int, np.ndarray]:
    """Return what is said of each series at its counted steps, in order."""
    found: dict[int, list[np.ndarray]] = {}
    moving = walker(made, store)
    with torch.inference_mode():
        for chunk in sequence_walk(store, plan, SHAPE):
            at = np.arange(chunk.times.shape[1])
            values = moving.unroll(chunk, at).unscaled().numpy()
            counted = moving.counted(chunk, at)
            for lane, series in enumerate(chunk.series.tolist()):
                found.setdefault(series, []).append(values[lane, counted[lane]])
    return {series: np.concatenate(parts) for series, parts in sorted(found.items())}


LSTM = LayerSpec("lstm", "lstm", {"hidden": 4})
LAST = LayerSpec("last", "lstm", {"hidden": 4, "output": "last"})


@pytest.mark.shows("S43", "S116")
@pytest.mark.trap(9)
@pytest.mark.parametrize("layers", [(LSTM,), (LAST,), (LSTM, LAST)])
@pytest.mark.parametrize("how", [{"length": "longest"}, {"length": 3}])
def test_masked_results_do_not_depend_on_the_batch(
    store: Store, layers: tuple[LayerSpec, ...], how: dict[str, Any]
) -> None:
    made = network(*layers)
    alone = said(made, store, sequence_plan(whole(store), Batching(1)))
    for batch, sort in ((2, "none"), (5, "none"), (3, "ascending")):
        plan = sequence_plan(whole(store), Batching(batch, sort=sort, **how))
        together = said(made, store, plan)
        assert together.keys() == alone.keys()
        for series, values in alone.items():
            assert_allclose(together[series], values, atol=1e-10)


def test_masked_sequences_say_what_lanes_say(store: Store) -> None:
    made = network(LSTM)
    moving, lanes = walker(made, store), {}
    with torch.inference_mode():
        (chunk,) = walk(store, sweep_plan(whole(store), 5), Shape(10, 2, 0))
        values = moving.unroll(chunk).unscaled().numpy()
        for lane, series in enumerate(chunk.series.tolist()):
            lanes[series] = values[lane, : chunk.length[lane]]
    for series, values in said(made, store, sequence_plan(whole(store), Batching(2, 4))).items():
        assert_allclose(values, lanes[series], atol=1e-10)


def fed(made: ForecastNetwork, store: Store, chunk: Chunk) -> np.ndarray:
    """Return what enters the first layer."""
    entered: list[torch.Tensor] = []
    inner = made.layers.unroll

    def spy(signal: Any, *rest: Any) -> Any:
        entered.append(signal.values)
        assert signal.lengths is None
        return inner(signal, *rest)

    made.layers.unroll = spy  # type: ignore[method-assign]
    with torch.inference_mode():
        walker(made, store).unroll(chunk)
    return entered[0].numpy()


@pytest.mark.trap(10, 16)
@pytest.mark.parametrize("direction", ["right", "left"])
def test_an_unmasked_padded_step_is_the_padding_value_after_scaling(
    store: Store, direction: str
) -> None:
    made = network(LSTM)
    how = {"batch": 2, "masked": False, "padding_value": 0.5, "direction": direction}
    chunk = chunks_of(store, **how)[0]
    inputs = fed(made, store, chunk)
    real = _real(chunk)
    assert (inputs[~real] == 0.5).all()
    alone = fed(network(LSTM), store, chunks_of(store, batch=1)[1])[0]
    assert_allclose(inputs[1][real[1]], alone, atol=1e-12)


@pytest.mark.shows("S51", "S52")
def test_unmasked_padding_changes_what_follows_it(store: Store) -> None:
    made, last = network(LSTM), network(LAST)
    with torch.no_grad():
        for name, weights in [*made.named_parameters(), *last.named_parameters()]:
            if "bias" in name:  # zero biases would leave a state of zeros as it is
                weights.normal_()
    alone = said(made, store, sequence_plan(whole(store), Batching(1)))[1]

    def together(which: ForecastNetwork, direction: Any) -> np.ndarray:
        how = Batching(5, masked=False, direction=direction)
        return said(which, store, sequence_plan(whole(store), how))[1]

    assert_allclose(together(made, "right"), alone, atol=1e-10)  # the real steps come first
    assert np.abs(together(made, "left") - alone).max() > 1e-3
    once = said(last, store, sequence_plan(whole(store), Batching(1)))[1]
    for direction in ("right", "left"):  # neither side is harmless to a last step
        assert np.abs(together(last, direction) - once).max() > 1e-3


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("direction", ["right", "left"])
def test_what_is_said_once_is_held_against_the_last_step_of_a_sequence(
    store: Store, masked: bool, direction: Any
) -> None:
    moving = walker(network(LAST), store)
    known: dict[int, np.ndarray] = {}
    how = Batching(5, 4, masked=masked, direction=direction)
    pieces = whole(store)
    pieces.table[:, 2] -= 1  # so that there is a value after the last step
    pieces = pieces.where(pieces.lengths > 0)
    for chunk in sequence_walk(store, sequence_plan(pieces, how), SHAPE):
        targets = moving.targets(chunk, np.arange(4)).numpy()
        assert targets.shape == (len(chunk.rows), 1, SHAPE.horizon)
        for lane in np.flatnonzero(np.isfinite(targets[:, 0, 0])).tolist():
            assert int(chunk.series[lane]) not in known
            known[int(chunk.series[lane])] = targets[lane, 0, 0]
    assert known == {series: row(store, series)[-1, 0] for series in range(4)}


def test_a_network_that_needs_the_future_takes_whole_series() -> None:
    forward, both = network(LSTM).spec, LayerSpec("both", "bilstm", {"hidden": 3})
    assert not needs_whole_series(forward)
    assert steps_at_once(forward, 8) > 1
    assert steps_at_once(network(LAST).spec, 8) == 1
    spec = NetworkSpec(forward.features, (both,), forward.head)
    assert needs_whole_series(spec)


def test_the_store_is_left_alone(store: Store, tmp_path: Path) -> None:
    before = np.array(store.values)
    for chunk in chunks_of(store, batch=3, length=4, masked=False):
        chunk.values[:] = 0
    assert_array_equal(store.values, before)
