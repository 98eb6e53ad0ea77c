from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from models import model, stored, waves
from networks import SPECS, inputs, layer, network

from forecastd.data.lanes import Shape, pieces_of, sweep_plan, walk
from forecastd.features.encoder import Inputs
from forecastd.network.heads import QuantileHead
from forecastd.network.model import ForecastNetwork, detach, flatten, unflatten
from forecastd.network.spec import HeadSpec, lstm_chain
from forecastd.network.walker import STEPS_MAX, Walker, steps_at_once


@pytest.mark.shows("S17", "S120")
@pytest.mark.trap(39, 40)
def test_dropout_only_in_training() -> None:
    dropout = layer("dropout", 100, share=0.3)
    xs = torch.ones(10, 20, 100)
    state = dropout.initial_state(10)
    torch.manual_seed(0)
    dropped = dropout.train().unroll(xs, state)[0]
    assert 0.28 < (dropped == 0).float().mean().item() < 0.32
    assert dropped.max().item() == pytest.approx(1 / 0.7)
    assert torch.equal(dropout.eval().unroll(xs, state)[0], xs)
    assert torch.equal(dropout.step(xs[:, 0], state)[0], xs[:, 0])


@pytest.mark.shows("S120")
@pytest.mark.trap(40)
def test_a_network_in_training_varies_and_in_use_does_not() -> None:
    net = network(SPECS["lstm_quantile"], torch.float32)
    x = inputs(2, 10, 0, torch.float32)
    with torch.no_grad():
        one, other = (net.unroll(x, net.initial_state(2))[0].values for _ in range(2))
        assert torch.equal(one, other)
        net.train()
        one, other = (net.unroll(x, net.initial_state(2))[0].values for _ in range(2))
        assert not torch.equal(one, other)


@pytest.mark.shows("S80")
@pytest.mark.trap(2, 3)
def test_lstm_starts_with_open_forget_gates_and_is_torch_s() -> None:
    lstm = layer("lstm", 3, hidden=4)
    biases = lstm.lstm.bias_ih_l0 + lstm.lstm.bias_hh_l0
    assert biases.view(4, 4).tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]
    xs = torch.randn(2, 5, 3)
    assert torch.equal(lstm.unroll(xs, lstm.initial_state(2))[0], lstm.lstm(xs)[0])


def test_the_median_of_a_quantile_head_is_its_centre() -> None:
    head = QuantileHead(4, HeadSpec("quantile", 3, (0.05, 0.25, 0.5, 0.9), 0))
    y = torch.randn(7, 4)
    with torch.no_grad():
        forecast = head(y, None)
        assert torch.equal(forecast[..., 2], head.centre(y))
    assert (forecast.diff(dim=-1) > 0).all()


def test_training_begins_without_the_highway() -> None:
    torch.manual_seed(0)
    net = ForecastNetwork(SPECS["lstm_quantile"])
    assert not net.head.highway.weight.any()


def test_unknown_categories_become_the_mean_of_the_known() -> None:
    net = ForecastNetwork(SPECS["lstm_quantile"])
    table = net.encoder.embeddings[0].weight
    known = table[1:].detach().clone()
    net.encoder.embed_unknown_as_mean()
    assert torch.equal(table[0], known.mean(0))
    assert torch.equal(table[1:], known)


def test_a_vocabulary_of_nothing_keeps_its_only_row() -> None:
    spec = SPECS["lstm_quantile"]
    features = dataclasses.replace(spec.features, vocabulary=(1,))
    net = ForecastNetwork(dataclasses.replace(spec, features=features))
    before = net.encoder.embeddings[0].weight.detach().clone()
    net.encoder.embed_unknown_as_mean()
    assert torch.equal(net.encoder.embeddings[0].weight, before)


def test_the_category_of_a_series_moves_its_forecast() -> None:
    net = network(SPECS["lstm_quantile"], torch.float32)
    x = inputs(1, 10, 0, torch.float32)
    with torch.no_grad():
        one, other = (
            net.unroll(x._replace(codes=torch.tensor([[code]])), net.initial_state(1))[0].values
            for code in (1, 2)
        )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", SPECS)
def test_a_state_survives_flattening(name: str) -> None:
    net = network(SPECS[name], torch.float32)
    names = list(net.layers)
    _, state = net.unroll(inputs(3, 9, 0, torch.float32), net.initial_state(3))
    again = unflatten(flatten(detach(state), names), net.initial_state(1), names)
    pairs = zip(flatten(again, names).items(), flatten(state, names).items(), strict=True)
    for (name_again, found), (name_before, expected) in pairs:
        assert name_again == name_before
        assert torch.equal(found, expected)
        assert not found.requires_grad


def test_memory_bounds_the_steps_at_once() -> None:
    spec = SPECS["lstm_quantile"]
    assert steps_at_once(spec, 64) == STEPS_MAX
    long = dataclasses.replace(spec.head, horizon=4096, quantiles=tuple(np.linspace(0, 1, 99)))
    assert steps_at_once(dataclasses.replace(spec, head=long), 64) == 8
    last = lstm_chain(8, 2, 0.3, "last")
    assert steps_at_once(dataclasses.replace(spec, layers=last), 64) == 1


@pytest.mark.parametrize(("lanes", "sequence"), [(1, 7), (2, 1), (2, 40), (3, 13), (9, 64)])
def test_walking_in_lanes_is_unrolling_each_series(
    lanes: int, sequence: int, tmp_path: Path
) -> None:
    store = stored(tmp_path, waves({"a": 40, "b": 1, "c": 27}))
    trained = model()
    walker = Walker(trained.network, trained.clocks, trained.vocabulary.encode(store.keys))
    ends = store.offsets[1:]
    plan = sweep_plan(pieces_of(store, store.offsets[:-1], ends, ends), lanes)
    found = np.full((len(store.times), 5, 3), np.nan)
    with torch.no_grad():
        for chunk in walk(store, plan, Shape(sequence, 5, 0)):
            values = walker.unroll(chunk).unscaled().numpy()
            for lane, (row, length) in enumerate(zip(chunk.rows, chunk.length, strict=True)):
                found[row : row + length] = values[lane, :length]
        for series in range(store.series_count):
            rows = store.rows_of(series)
            x = Inputs(
                torch.from_numpy(np.array(store.values[rows]))[None],
                torch.from_numpy(trained.clocks(np.array(store.times[rows])))[None],
                torch.tensor([[series + 1]]),
            )
            whole, _ = trained.network.unroll(x, trained.network.initial_state(1))
            np.testing.assert_allclose(
                found[rows], whole.unscaled()[0].numpy(), rtol=1e-5, atol=1e-4
            )
