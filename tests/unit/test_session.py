"""The library's live object: what is predicted, remembered, read, set and forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import HOUR_US, START_US, model
from networks import network

from forecastd.artifact import Artifact
from forecastd.errors import DataError, UserError
from forecastd.features.encoder import Inputs
from forecastd.features.spec import FeatureSpec
from forecastd.network.layers.contract import Signal
from forecastd.network.model import weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.wiring import Port
from forecastd.runtime.session import Session

FEATURES = FeatureSpec(2, (), 12.0, 3, 0, (4,))
CLASSES = ("low", "middle", "high")


def made(*layers: LayerSpec, head: HeadSpec, seed: int = 0) -> Artifact:
    lags = head.lags
    features = replace(FEATURES, lags=lags)
    spec = NetworkSpec(features, layers, head)
    trained = model("point_without_lags")
    trained.spec = spec
    trained.weights = weights_of(network(spec, torch.float32, seed))
    if head.kind in {"classes", "responses"}:
        task: Any = "classification" if head.kind == "classes" else "regression"
        classes = CLASSES if head.kind == "classes" else ()
        trained.signature = replace(
            trained.signature, task=task, classes=classes, past=("y", "x"), target="z", horizon=1
        )
    return trained


def forecaster(**options: Any) -> Artifact:
    lstm = LayerSpec("a", "lstm", {"hidden": 5, **options})
    return made(lstm, head=HeadSpec("quantile", 4, (0.1, 0.5, 0.9), 3))


def classifier(output: str = "sequence") -> Artifact:
    lstm = LayerSpec("a", "lstm", {"hidden": 5, "output": output})
    return made(lstm, head=HeadSpec("classes", 1, outputs=3))


def walk(steps: int, seed: int = 0) -> np.ndarray[Any, Any]:
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(steps, 2)).cumsum(0) + 50
    values[dice.random(values.shape) < 0.1] = np.nan
    return values.astype(np.float32)


@pytest.mark.trap(20, 22)
@pytest.mark.shows("S36", "S37", "S97", "S123")
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 29), max_size=4, unique=True), seed=st.integers(0, 99))
def test_a_sequence_in_chunks_is_the_whole_sequence(cuts: list[int], seed: int) -> None:
    trained = forecaster()
    whole, xs = Session(trained), walk(30, seed)
    wanted = whole.predict(xs)
    session = Session(trained)
    parts = [session.predict_and_update(part) for part in np.split(xs, sorted(cuts)) if len(part)]
    np.testing.assert_allclose(np.concatenate(parts), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.trap(20)
@pytest.mark.shows("S35", "S36")
def test_predict_begins_at_the_state_and_leaves_it() -> None:
    session, xs = Session(forecaster()), walk(12)
    first = session.predict(xs)
    np.testing.assert_array_equal(session.predict(xs), first)
    assert session.series == []
    session.predict_and_update(walk(20, 1))
    before = session.state()
    after_history = session.predict(xs)
    assert np.abs(after_history - first).max() > 1e-3
    for name, array in session.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.shows("S37", "S97", "S123")
def test_the_same_input_twice_gives_different_answers() -> None:
    session, x = Session(forecaster()), walk(3)
    session.predict_and_update(walk(10, 5))
    assert np.any(session.predict_and_update(x) != session.predict_and_update(x))


@pytest.mark.trap(20)
@pytest.mark.shows("S39")
def test_reset_puts_one_series_or_all_back_to_the_start() -> None:
    session, xs = Session(forecaster()), walk(9)
    fresh = session.predict(xs)
    for name in ("a", "b"):
        session.predict_and_update(walk(5, 3), series=name)
    session.reset("a")
    assert session.series == ["b"]
    np.testing.assert_array_equal(session.predict(xs, series="a"), session.predict(xs, series="a"))
    assert np.any(session.state("b")["layers.a.hidden"] != 0)
    assert np.all(session.state("a")["layers.a.hidden"] == 0)
    session.reset()
    assert session.series == []
    np.testing.assert_array_equal(session.predict(xs), fresh)


@pytest.mark.trap(24)
def test_a_model_that_was_used_gives_a_session_that_remembers_nothing() -> None:
    trained, xs = forecaster(), walk(9)
    wanted = Session(trained).predict(xs)
    Session(trained).predict_and_update(walk(50, 8))
    np.testing.assert_array_equal(Session(trained).predict(xs), wanted)


@pytest.mark.shows("S36", "S59", "S94", "S97")
def test_states_are_read_and_set_by_name_and_series() -> None:
    trained, xs = forecaster(), walk(9)
    one = Session(trained)
    one.predict_and_update(walk(30, 4), series="a")
    other = Session(trained)
    other.set_state(one.state("a"), series="b")
    np.testing.assert_array_equal(other.predict(xs, series="b"), one.predict(xs, series="a"))
    assert set(one.states()) == {"a"}
    taken = one.state("a")
    taken["layers.a.cell"][:] = 9
    assert np.all(one.state("a")["layers.a.cell"] != 9)


@pytest.mark.shows("S95", "S97", "S118")
def test_a_start_may_give_some_arrays_and_holds_after_a_reset() -> None:
    trained, xs = forecaster(), walk(4)
    cell = np.linspace(-1, 1, 5)
    session = Session(trained, start={"a": {"layers.a.cell": cell}})
    started = session.predict(xs, series="a")
    assert np.abs(started - session.predict(xs, series="b")).max() > 1e-3
    assert np.all(session.state("a")["layers.a.hidden"] == 0)
    session.predict_and_update(xs, series="a")
    session.reset("a")
    np.testing.assert_array_equal(session.predict(xs, series="a"), started)


@pytest.mark.shows("S119")
def test_the_final_state_is_the_last_output_of_the_layer() -> None:
    trained, xs = forecaster(), walk(7)
    session = Session(trained)
    session.predict_and_update(xs)
    net = trained.network
    x = Inputs(torch.from_numpy(xs[None]), torch.zeros(1, 7, 0), torch.zeros(1, 1).long())
    state = net.initial_state(1)
    with torch.inference_mode():
        encoded, _ = net.encoder.unroll(x, state.encoder)
        ys = net.layers.signals(Signal(encoded.inputs), state.layers)[Port("a")].values
    np.testing.assert_allclose(session.state()["layers.a.hidden"], ys[0, -1], atol=1e-6)


@pytest.mark.shows("S110")
def test_what_comes_back_is_of_the_kind_that_was_given() -> None:
    session, xs = Session(forecaster()), walk(6)
    wanted = session.predict(xs)
    assert isinstance(wanted, np.ndarray)
    assert wanted.dtype == np.float32
    assert wanted.shape == (6, 4, 3)
    tensor = session.predict(torch.from_numpy(xs).double())
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), wanted)
    listed = session.predict(xs.tolist())
    assert isinstance(listed, list)
    np.testing.assert_array_equal(np.array(listed, np.float32), wanted)


@pytest.mark.shows("S116", "S43")
@pytest.mark.parametrize(
    "trained",
    [forecaster(), forecaster(output="last"), classifier(), classifier("last")],
    ids=["sequence", "last", "classes", "classes_last"],
)
def test_a_list_of_sequences_is_the_same_as_one_by_one(trained: Artifact) -> None:
    session = Session(trained)
    sequences = [walk(length, length) for length in (5, 17, 1, 9)]
    together = session.predict(sequences)
    assert isinstance(together, list)
    for own, found in zip(sequences, together, strict=True):
        np.testing.assert_allclose(found, session.predict(own), rtol=1e-5, atol=1e-5)
    equal = np.stack([walk(6, 1), walk(6, 2)])
    stacked = session.predict(equal)
    assert isinstance(stacked, np.ndarray)
    np.testing.assert_allclose(stacked[1], session.predict(equal[1]), rtol=1e-5, atol=1e-5)


@pytest.mark.shows("S116", "S38")
def test_several_series_are_advanced_together_each_to_its_own_end() -> None:
    trained = classifier()
    together, alone = Session(trained), Session(trained)
    sequences = [walk(4, 1), walk(11, 2)]
    labels = together.classify_and_update(sequences, series=["a", "b"])
    assert labels[1] == alone.classify_and_update(sequences[1], series="b")
    for name, array in alone.state("b").items():
        np.testing.assert_allclose(together.state("b")[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.shows("S34", "S38")
def test_labels_are_those_of_the_best_scores() -> None:
    session, xs = Session(classifier()), walk(8)
    scores = session.predict(xs)
    assert scores.shape == (8, 3)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    assert session.classify(xs) == [CLASSES[code] for code in scores.argmax(1)]
    assert session.series == []
    once = Session(classifier("last"))
    assert once.classify(xs) == CLASSES[once.predict(xs).argmax()]
    assert once.classify([xs, xs[:3]]) == [once.classify(xs), once.classify(xs[:3])]


@pytest.mark.trap(20)
def test_a_last_network_fed_in_pieces_answers_as_for_the_whole() -> None:
    trained, xs = classifier("last"), walk(15)
    session = Session(trained)
    session.predict_and_update(xs[:9])
    found = session.predict_and_update(xs[9:])
    np.testing.assert_allclose(found, Session(trained).predict(xs), atol=1e-6)


@pytest.mark.trap(21)
@pytest.mark.shows("S20")
def test_a_network_that_sees_the_future_predicts_and_is_not_advanced() -> None:
    trained = made(
        LayerSpec("back", "bilstm", {"hidden": 3}), head=HeadSpec("classes", 1, (), 0, 3)
    )
    session = Session(trained)
    assert session.predict(walk(5)).shape == (5, 3)
    with pytest.raises(UserError, match="'back'"):
        session.predict_and_update(walk(5))
    assert session.series == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 3)), "3 numbers, and the model reads 2"),
        (np.zeros(4), "1 axes"),
        ([], "no sequences"),
        (np.zeros((0, 2)), "0 steps"),
        ([["a", "b"]], "not an array of numbers"),
    ],
)
def test_values_that_do_not_fit_are_told(values: Any, said: str) -> None:
    session = Session(forecaster())
    with pytest.raises(DataError, match=said):
        session.predict_and_update(values)
    assert session.series == []


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"layers.a.cells": np.zeros(5)}, "no state called 'layers.a.cells'"),
        ({"layers.a.cell": np.zeros(4)}, r"\(4,\), and \(5,\)"),
        ({"layers.a.cell": np.full(5, np.nan)}, "not finite"),
    ],
)
def test_states_that_do_not_fit_are_told(arrays: dict[str, Any], said: str) -> None:
    session = Session(forecaster())
    with pytest.raises(DataError, match=said):
        session.set_state(arrays)
    assert session.series == []


def test_several_sequences_need_names_to_be_remembered() -> None:
    session, xs = Session(forecaster()), walk(3)
    for names in (None, ["a", "a"]):
        with pytest.raises(UserError, match="a series each"):
            session.predict_and_update([xs, xs], series=names)
    with pytest.raises(UserError, match="2 sequences were given, and the names of 1"):
        session.predict([xs, xs], series=["a"])
    with pytest.raises(UserError, match="no classifier"):
        session.classify(xs)


def test_clocks_need_times_and_keys_their_own_embedding() -> None:
    session, xs = Session(model("two_layers")), walk(5)
    with pytest.raises(DataError, match="not a time for each step"):
        session.predict(xs)
    times = START_US + HOUR_US * np.arange(5)
    one = session.predict(xs, times=times, series="a")
    stamps = times.astype("datetime64[us]")
    np.testing.assert_array_equal(session.predict(xs, times=stamps, series="a"), one)
    assert np.any(session.predict(xs, times=times + 5 * HOUR_US, series="a") != one)
    assert np.any(session.predict(xs, times=times, series="b") != one)
    both = session.predict([xs, xs[:2]], series=["a", "b"], times=[times, times[:2]])
    np.testing.assert_allclose(both[0], one, rtol=1e-5, atol=1e-5)
