"""Linear maps, fixed functions, dropout, and what joins or picks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import layer
from torch import Tensor

from forecastd.errors import DataError, SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape
from forecastd.network.layers.contract import Layer, Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import wire


def unrolled(made: Layer, xs: Tensor, lengths: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return made.unroll(xs, made.initial_state(len(xs)), lengths)[0]


@pytest.mark.shows("S10", "S30")
def test_a_fully_connected_layer_is_one_linear_map_of_each_step() -> None:
    made = layer("fully_connected", 3, size=2).double()
    weight, bias = (p.detach() for p in made.parameters())
    assert not bias.any()
    bias += 0.25
    xs = torch.randn(2, 4, 3, dtype=torch.float64)
    found = unrolled(made, xs)
    for t in range(4):
        torch.testing.assert_close(found[:, t], xs[:, t] @ weight.T + bias)


@pytest.mark.shows("S30")
@pytest.mark.parametrize(
    ("how", "deviation"),
    [
        ("glorot", math.sqrt(2 / (200 + 300))),
        ("he", math.sqrt(2 / 200)),
        ("narrow-normal", 0.01),
        ("orthogonal", math.sqrt(1 / 300)),
        ("zeros", 0.0),
    ],
)
def test_weights_begin_as_the_option_says(how: str, deviation: float) -> None:
    torch.manual_seed(0)
    made = layer("fully_connected", 200, size=300, weight_initializer=how, bias_initializer="ones")
    weight, bias = (p.detach() for p in made.parameters())
    assert abs(float(weight.std()) - deviation) <= 0.03 * deviation
    assert torch.equal(bias, torch.ones(300))
    if how == "orthogonal":
        torch.testing.assert_close(weight.T @ weight, torch.eye(200), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "options", "sizes"),
    [
        ("fully_connected", {"size": 2}, (2,)),
        ("conv1d", {"size": 2, "filters": 2}, (2,)),
        ("conv2d", {"size": 2, "filters": 2}, (2, 3, 3)),
    ],
)
def test_factors_are_one_and_biases_are_not_penalised_unless_told(
    kind: str, options: dict[str, object], sizes: tuple[int, ...]
) -> None:
    made = layer(kind, sizes, **options)
    assert made.factors() == {"weight": (1.0, 1.0), "bias": (1.0, 0.0)}
    rates = {"learn_rate_factors": {"weight": 0.0}, "l2_factors": {"bias": 2.0}}
    assert layer(kind, sizes, **options, **rates).factors() == {
        "weight": (0.0, 1.0),
        "bias": (1.0, 2.0),
    }


@pytest.mark.shows("S15")
def test_relu_is_the_positive_part() -> None:
    xs = torch.tensor([[[-2.0, 0.0, 3.5]]])
    assert unrolled(layer("relu", 3), xs).tolist() == [[[0, 0, 3.5]]]


@pytest.mark.shows("S31")
def test_softmax_is_over_the_channels_of_each_step() -> None:
    xs = torch.randn(2, 3, 4, 5)
    found = unrolled(layer("softmax", (4, 5)), xs)
    torch.testing.assert_close(found.sum(2), torch.ones(2, 3, 5))
    torch.testing.assert_close(found[:, :, 1] / found[:, :, 3], (xs[:, :, 1] - xs[:, :, 3]).exp())


@pytest.mark.shows("S17")
@pytest.mark.trap(39)
def test_dropout_draws_anew_for_every_number_and_only_in_training() -> None:
    torch.manual_seed(0)
    made, xs = layer("dropout", 40, share=0.25), torch.ones(10, 30, 40)
    found = unrolled(made.train(), xs)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(float((found == 0).float().mean()) - 0.25) < 0.02
    assert not torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(unrolled(made.eval(), xs), xs)
    assert layer("dropout", 2).options.model_dump() == {"share": 0.5}


@pytest.mark.shows("S117")
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_sequence_last_is_the_last_real_step(lengths: list[int]) -> None:
    xs = torch.randn(len(lengths), 6, 3)
    found = unrolled(layer("sequence_last", 3), xs, torch.tensor(lengths))
    assert found.shape == (len(lengths), 1, 3)
    for row, length in enumerate(lengths):
        assert torch.equal(found[row, 0], xs[row, length - 1])
    assert torch.equal(unrolled(layer("sequence_last", 3), xs), xs[:, -1:])


@pytest.mark.shows("S117")
def test_an_lstm_and_sequence_last_are_an_lstm_that_gives_its_last_output() -> None:
    torch.manual_seed(0)
    whole = LayerSpec("lstm", "lstm", {"hidden": 3})
    two = LayerGraph(wire([whole, LayerSpec("last", "sequence_last")], Shape((2,))))
    one = LayerGraph(
        wire([LayerSpec("lstm", "lstm", {"hidden": 3, "output": "last"})], Shape((2,)))
    )
    one.load_state_dict(two.state_dict())
    xs = Signal(torch.randn(3, 5, 2), torch.tensor([5, 1, 3]))
    ys = [graph.unroll(xs, graph.initial_state(3))[0].values for graph in (one, two)]
    assert ys[0].shape == (3, 1, 3)
    torch.testing.assert_close(ys[0], ys[1])


def joined(kind: str, *before: LayerSpec) -> LayerGraph:
    ways = {layer.name: layer.name for layer in before}
    return LayerGraph(wire([*before, LayerSpec("join", kind, {}, {"x": "input", **ways})], FRAME))


FRAME = Shape((2, 3))


@pytest.mark.shows("S12")
def test_inputs_are_added_or_laid_side_by_side_in_the_order_they_are_connected() -> None:
    xs = torch.randn(2, 4, 2, 3)
    added = joined("addition", LayerSpec("relu", "relu"), LayerSpec("other", "relu"))
    ys, _ = added.unroll(Signal(xs), added.initial_state(2))
    torch.testing.assert_close(ys.values, xs + 2 * xs.clamp(min=0).where(xs > 0, 0))
    laid = joined("concatenation", LayerSpec("relu", "relu"))
    assert laid.wiring.output == Shape((4, 3))
    (values, lengths), _ = laid.unroll(Signal(xs, torch.tensor([4, 1])), laid.initial_state(2))
    assert torch.equal(values, torch.cat([xs, xs.clamp(min=0)], 2))
    assert lengths is not None
    assert lengths.tolist() == [4, 1]
    y, _ = laid.step(xs[:, 0], laid.initial_state(2))
    assert torch.equal(y, values[:, 0])


@pytest.mark.parametrize(
    ("kind", "before", "match"),
    [
        ("addition", LayerSpec("flat", "flatten"), "adds what has one shape.*2x3 and 6"),
        ("concatenation", LayerSpec("flat", "flatten"), "2x3 and 6"),
        ("concatenation", LayerSpec("end", "sequence_last"), "once a sequence"),
        ("addition", LayerSpec("conv", "conv1d", {"filters": 2, "size": 2}), "2x3 and 2x2"),
    ],
)
def test_what_cannot_be_joined_is_told(kind: str, before: LayerSpec, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        joined(kind, before)


def test_sequences_of_different_lengths_are_not_joined() -> None:
    layers = [
        LayerSpec("short", "max_pooling1d", {"size": 2}),
        LayerSpec("join", "addition", {}, {"x": "input", "y": "short"}),
    ]
    graph = LayerGraph(wire(layers, Shape((1,))))
    with pytest.raises(DataError, match=r"different numbers of steps.*x: 4, y: 3"):
        graph.unroll(Signal(torch.zeros(1, 4, 1)), graph.initial_state(1))
