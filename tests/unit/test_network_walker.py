from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import labelled, prepared, real_steps, responses, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from models import stored, waves
from numpy.testing import assert_allclose, assert_array_equal

from forecastd.data.lanes import Chunk, Shape, pieces_of, sweep_plan, walk
from forecastd.data.sequences import (
    Batching,
    SequencePlan,
    sequence_plan,
    sequence_walk,
)
from forecastd.data.store import Store
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import ForecastNetwork
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.walker import Walker, needs_whole_series, steps_at_once

SIZES = {"a": 7, "b": 3, "c": 10, "d": 5, "e": 1}
SHAPE = Shape(0, 2, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(tmp_path_factory.mktemp("walker"), waves(SIZES))


def mini_batches(store: Store, **how: Any) -> list[Chunk]:
    return list(sequence_walk(store, sequence_plan(whole(store), Batching(**how)), SHAPE))


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
@pytest.mark.trap(9, 13)
@pytest.mark.parametrize("layers", [(LSTM,), (LAST,), (LSTM, LAST)], ids=["each", "once", "deep"])
@settings(max_examples=12)
@given(
    batch=st.integers(1, 6),
    length=st.sampled_from(["longest", 1, 3, 5, 10]),
    sort=st.sampled_from(["none", "ascending", "descending"]),
    shuffle=st.sampled_from(["never", "every-epoch"]),
    direction=st.sampled_from(["right", "left"]),
)
def test_masked_results_do_not_depend_on_the_batch(
    store: Store, layers: tuple[LayerSpec, ...], batch: int, length: Any, **how: Any
) -> None:
    made = network(*layers)
    alone = said(made, store, sequence_plan(whole(store), Batching(1)))
    plan = sequence_plan(whole(store), Batching(batch, length, **how), epoch=1)
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
    chunk = mini_batches(store, **how)[0]
    inputs = fed(made, store, chunk)
    real = real_steps(chunk)
    assert (inputs[~real] == 0.5).all()
    alone = fed(network(LSTM), store, mini_batches(store, batch=1)[1])[0]
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
    assert known == {series: store.values[store.rows_of(series)][-1, 0] for series in range(4)}


def test_a_network_that_needs_the_future_takes_whole_series() -> None:
    forward, both = network(LSTM).spec, LayerSpec("both", "bilstm", {"hidden": 3})
    assert not needs_whole_series(forward)
    assert steps_at_once(forward, 8) > 1
    assert steps_at_once(network(LAST).spec, 8) == 1
    folded = (
        LayerSpec("fold", "folding"),
        LayerSpec(
            "unfold", "unfolding", {}, {"in": "fold", "mini_batch_size": "fold/mini_batch_size"}
        ),
        LSTM,
    )
    assert steps_at_once(NetworkSpec(forward.features, folded, forward.head), 8) > 1
    spec = NetworkSpec(forward.features, (both,), forward.head)
    assert needs_whole_series(spec)


# What a walk gives to learn from.


def answering(store: Store, output: str = "sequence") -> Walker:
    torch.manual_seed(0)
    layer = LayerSpec("lstm", "lstm", {"hidden": 3, "output": output})
    features = FeatureSpec(2, (), 12.0, 0, 0, ())
    network = ForecastNetwork(NetworkSpec(features, (layer,), HeadSpec("point", 1)))
    network.head.supervised = True  # type: ignore[misc]

    def clocks(times: np.ndarray) -> np.ndarray:
        return np.zeros((*times.shape, 0), np.float32)

    return Walker(network, clocks, np.zeros((store.series_count, 0), np.int32))


def test_targets_are_the_answers_at_the_very_steps(tmp_path: Path) -> None:
    store = responses(tmp_path)
    moving, ends = answering(store), store.offsets[1:]
    pieces = pieces_of(store, store.offsets[:-1], ends, ends)
    (chunk,) = walk(store, sweep_plan(pieces, 3), Shape(4, 1, 0))
    at = np.array([0, 2])
    targets = moving.targets(chunk, at).numpy()
    assert targets.shape == (3, 2, 2)
    assert_array_equal(targets, chunk.values[:, at, :2])
    assert_array_equal(moving.counted(chunk, at), at < chunk.length[:, None])


def test_answers_are_no_inputs(tmp_path: Path) -> None:
    store = responses(tmp_path)
    plan = sequence_plan(whole(store), Batching(3))
    (chunk,) = sequence_walk(store, plan, Shape(0, 1, 0))
    hidden = chunk._replace(values=chunk.values.copy())
    hidden.values[..., :2] = 1e6
    with torch.inference_mode():
        one, other = (answering(store).unroll(each).unscaled() for each in (chunk, hidden))
    assert_array_equal(one[0], other[0])


@pytest.mark.shows("S6")
def test_a_sequence_has_one_label_at_its_true_end(tmp_path: Path) -> None:
    store = prepared(tmp_path, labelled(["dog", "cat", "emu"]))
    moving = answering(store, "last")
    plan = sequence_plan(whole(store), Batching(3, 2))
    first, second = sequence_walk(store, plan, Shape(0, 1, 0))
    at = np.arange(2)
    assert_array_equal(moving.targets(first, at)[:, 0, 0], [np.nan, 0, np.nan])
    assert_array_equal(moving.targets(second, at)[:, 0, 0], [1, np.nan, 2])
    assert moving.counted(first, at).tolist() == [[False], [True], [False]]


def test_a_model_of_a_task_is_compared_with_its_columns(tmp_path: Path) -> None:
    store = responses(tmp_path)
    assert replace(store.columns, task="forecast").inputs == store.columns.channels
    assert store.columns.inputs == ("x1", "x2")
