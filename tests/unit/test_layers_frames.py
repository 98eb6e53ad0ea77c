"""Layers on frames: convolution, folding, flattening, and the network for video."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import layer
from torch import Tensor
from torch.nn import functional

from forecastd.errors import SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import OUT, Shape
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Port, wire

BACK = {"in": "relu", "mini_batch_size": "fold/mini_batch_size"}


def video(
    *, folded: bool, hidden: int = 200, classes: int = 10, filters: int = 20
) -> list[LayerSpec]:
    """Return the network for video that the documents write down, without its head."""
    layers = [
        LayerSpec("fold", "folding"),
        LayerSpec("conv", "conv2d", {"size": 5, "filters": filters}),
        LayerSpec("norm", "batch_norm"),
        LayerSpec("relu", "relu"),
        LayerSpec("unfold", "unfolding", {}, BACK),
        LayerSpec("flatten", "flatten"),
        LayerSpec("lstm", "lstm", {"hidden": hidden, "output": "last"}),
        LayerSpec("fc", "fully_connected", {"size": classes}),
        LayerSpec("softmax", "softmax"),
    ]
    return [one for one in layers if folded or one.name not in {"fold", "unfold"}]


def count(shapes: Any) -> int:
    return sum(math.prod(shape) for shape in shapes)


@pytest.mark.shows("S5", "S11", "S12", "S13", "S14", "S15", "S26", "S27", "S28", "S30", "S31")
def test_the_network_for_video_has_the_documented_sizes() -> None:
    wiring = wire(video(folded=True), Shape((1, 28, 28)))
    facts = {node.name: node.facts for node in wiring.nodes}
    assert facts["conv"].outputs[OUT] == Shape((20, 24, 24), folded=True)
    assert facts["flatten"].outputs[OUT] == Shape((11_520,))
    assert count(facts["conv"].weights.values()) == 520
    norm = facts["norm"].weights
    assert count(norm.values()) == 80
    assert count([norm["scale"], norm["offset"]]) == 40
    # one bias is that of the document, the other stays zero
    lstm = dict(facts["lstm"].weights)
    assert count(lstm.values()) - lstm["lstm.bias_hh_l0"][0] == 9_376_800
    assert count(facts["fc"].weights.values()) == 2_010
    assert wiring.output == Shape((10,), time=False)
    assert wiring.needs_future() is None


@pytest.mark.shows("S5", "S11", "S12", "S26", "S27", "S31")
def test_the_network_for_video_gives_the_same_with_and_without_folding() -> None:
    torch.manual_seed(0)
    explicit = LayerGraph(wire(video(folded=True, hidden=3, filters=2), Shape((1, 28, 28))))
    implicit = LayerGraph(wire(video(folded=False, hidden=3, filters=2), Shape((1, 28, 28))))
    implicit.load_state_dict(explicit.state_dict())
    xs = torch.randn(3, 4, 1, 28, 28)
    lengths = torch.tensor([4, 1, 3])
    for graph in (explicit, implicit):
        graph.train()
    ys = [
        graph.unroll(Signal(xs, lengths), graph.initial_state(3))[0].values
        for graph in (explicit, implicit)
    ]
    torch.testing.assert_close(ys[0], ys[1])
    assert ys[0].shape == (3, 1, 10)
    torch.testing.assert_close(ys[0].sum(-1), torch.ones(3, 1))
    for mine, its in zip(explicit.buffers(), implicit.buffers(), strict=True):
        torch.testing.assert_close(mine, its)
    for graph in (explicit, implicit):
        graph.eval()
        with torch.no_grad():
            state = graph.initial_state(3)
            for t in range(4):
                y, state = graph.step(xs[:, t], state)
            whole = graph.unroll(Signal(xs), graph.initial_state(3))[0].values
        torch.testing.assert_close(y[:, None], whole, rtol=1e-5, atol=1e-6)


@pytest.mark.shows("S26", "S27")
@given(
    series=st.integers(1, 4),
    steps=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    padded=st.booleans(),
)
def test_unfolding_is_the_inverse_of_folding(
    series: int, steps: int, sizes: list[int], padded: bool
) -> None:
    layers = [
        LayerSpec("fold", "folding"),
        LayerSpec("unfold", "unfolding", {}, {**BACK, "in": "fold"}),
    ]
    graph = LayerGraph(wire(layers, Shape(tuple(sizes))))
    xs = torch.randn(series, steps, *sizes)
    lengths = torch.randint(0, steps + 1, (series,)) if padded else None
    signals = graph.signals(Signal(xs, lengths), graph.initial_state(series))
    folded = signals[Port("fold")]
    assert torch.equal(folded.values[:, 0], xs.flatten(0, 1))
    ys, after = signals[Port("unfold")]
    assert torch.equal(ys, xs)
    assert after is lengths
    if lengths is not None:
        assert folded.lengths is not None
        assert torch.equal(folded.lengths.view(series, steps).sum(1), lengths)
    assert torch.equal(
        signals[Port("fold", "mini_batch_size")].values[:, 0].unique(), series_of(xs)
    )


def series_of(xs: Tensor) -> Tensor:
    return torch.tensor([len(xs)])


@pytest.mark.shows("S12")
@pytest.mark.parametrize(
    ("layers", "match"),
    [
        (
            [LayerSpec("fold", "folding"), LayerSpec("unfold", "unfolding")],
            r"'mini_batch_size' of layer 'unfold' \(unfolding\) is not connected",
        ),
        ([LayerSpec("fold", "folding")], "'fold'.*still folded.*unfolding"),
        (
            [LayerSpec("fold", "folding"), LayerSpec("lstm", "lstm", {"hidden": 2})],
            "'lstm'.*put an unfolding layer before it",
        ),
        (
            [
                LayerSpec("fold", "folding"),
                LayerSpec("unfold", "unfolding", {}, {"in": "input", "mini_batch_size": "fold"}),
            ],
            "'unfold'.*a folding layer has folded",
        ),
        (
            [
                LayerSpec("fold", "folding"),
                LayerSpec("unfold", "unfolding", {}, {"in": "fold", "mini_batch_size": "fold"}),
            ],
            "'unfold'.*NAME/mini_batch_size",
        ),
        (
            [
                LayerSpec("lstm", "lstm", {"hidden": 2, "output": "last"}),
                LayerSpec("fold", "folding"),
            ],
            "'fold'.*takes a sequence",
        ),
    ],
)
def test_what_is_not_unfolded_is_told(layers: list[LayerSpec], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        wire(layers, Shape((2,)))


@pytest.mark.shows("S13")
@given(
    size=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    stride=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    dilation=st.lists(st.integers(1, 2), min_size=2, max_size=2),
    padding=st.one_of(
        st.integers(0, 2),
        st.lists(st.integers(0, 2), min_size=2, max_size=2),
        st.lists(st.integers(0, 2), min_size=4, max_size=4),
    ),
)
@settings(max_examples=60)
def test_conv2d_is_that_of_torch_frame_by_frame(
    size: list[int], stride: list[int], dilation: list[int], padding: Any
) -> None:
    options = {"size": size, "stride": stride, "dilation": dilation, "padding": padding}
    made = layer("conv2d", (2, 6, 7), filters=3, **options).double()
    xs = torch.randn(2, 3, 2, 6, 7, dtype=torch.float64)
    sides = [padding] * 4 if isinstance(padding, int) else padding
    top, bottom, left, right = sides if len(sides) == 4 else np.repeat(sides, 2).tolist()
    weight, bias = made.parameters()
    with torch.no_grad():
        found, _ = made.unroll(xs, made.initial_state(2))
        for t in range(3):
            wide = functional.pad(xs[:, t], (left, right, top, bottom))
            expected = functional.conv2d(
                wide, weight, bias, stride=tuple(stride), dilation=tuple(dilation)
            )
            torch.testing.assert_close(found[:, t], expected)
    assert found.shape[2:] == made.facts.outputs[OUT].sizes


@pytest.mark.shows("S13")
def test_a_conv2d_keeps_the_size_with_same_padding_and_the_odd_one_at_the_end() -> None:
    made = layer("conv2d", (1, 5, 6), filters=1, size=[2, 4], padding="same")
    assert made.facts.outputs[OUT] == Shape((1, 5, 6))
    xs = torch.randn(1, 1, 1, 5, 6)
    weight, bias = made.parameters()
    expected = functional.conv2d(functional.pad(xs[0], (1, 2, 0, 1)), weight, bias)
    found, _ = made.unroll(xs, made.initial_state(1))
    torch.testing.assert_close(found[0], expected)
    strided = layer("conv2d", (1, 5, 6), filters=1, size=3, stride=4, padding="same")
    assert strided.facts.outputs[OUT] == Shape((1, 2, 2))


@pytest.mark.shows("S28")
@pytest.mark.trap(36)
def test_flattening_lays_channels_first_and_columns_last() -> None:
    xs = torch.randn(2, 3, 4, 5, 6)
    made = layer("flatten", (4, 5, 6))
    ys, _ = made.unroll(xs, made.initial_state(2))
    assert ys.shape == (2, 3, 120)
    assert ys[1, 2, 3 * 30 + 2 * 6 + 4] == xs[1, 2, 3, 2, 4]
