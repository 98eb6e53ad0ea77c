"""The networks that the source documents draw: their shapes and parameters, and that they run."""

from __future__ import annotations

import pytest
import torch

from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Port, wire


def graph(width: int | tuple[int, ...], *layers: LayerSpec) -> LayerGraph:
    torch.manual_seed(0)
    sizes = (width,) if isinstance(width, int) else width
    return LayerGraph(wire(layers, Shape(sizes))).eval()


def learned(made: LayerGraph, name: str) -> int:
    return sum(p.numel() for p in made.layer(name).parameters() if p.requires_grad)


def run(made: LayerGraph, xs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        signal, _ = made.unroll(Signal(xs), made.initial_state(len(xs)))
    return signal.values


def labels(output: str) -> LayerGraph:
    return graph(
        12,
        LayerSpec("lstm", "lstm", {"hidden": 100, "output": output}),
        LayerSpec("fc", "fully_connected", {"size": 9}),
        LayerSpec("softmax", "softmax"),
    )


@pytest.mark.shows("S1", "S2", "S3", "S6", "S7", "S10", "S18", "S19", "S30", "S31")
@pytest.mark.parametrize(("output", "steps"), [("last", 1), ("sequence", 23)])
def test_classification_of_sequences_and_of_steps(output: str, steps: int) -> None:
    net = labels(output)
    assert learned(net, "lstm") == 45_200
    assert learned(net, "fc") == 909
    scores = run(net, torch.randn(4, 23, 12))
    assert scores.shape == (4, steps, 9)
    torch.testing.assert_close(scores.sum(-1), torch.ones(4, steps))
    assert run(net, torch.randn(4, 7, 12)).shape == (4, min(steps, 7), 9)  # of any length


@pytest.mark.shows("S1", "S4", "S8", "S9", "S10")
@pytest.mark.parametrize(("output", "steps"), [("last", 1), ("sequence", 23)])
def test_regression_of_sequences_and_of_steps(output: str, steps: int) -> None:
    net = graph(
        12,
        LayerSpec("lstm", "lstm", {"hidden": 125, "output": output}),
        LayerSpec("fc", "fully_connected", {"size": 1}),
    )
    assert learned(net, "lstm") == 69_000
    assert run(net, torch.randn(2, 23, 12)).shape == (2, steps, 1)


@pytest.mark.shows("S16", "S17")
def test_deeper_networks_stack_layers_with_dropout_after_each() -> None:
    net = graph(
        12,
        LayerSpec("one", "lstm", {"hidden": 125}),
        LayerSpec("drop_one", "dropout", {"share": 0.2}),
        LayerSpec("two", "lstm", {"hidden": 100, "output": "last"}),
        LayerSpec("drop_two", "dropout", {"share": 0.2}),
        LayerSpec("fc", "fully_connected", {"size": 9}),
        LayerSpec("softmax", "softmax"),
    )
    assert (learned(net, "one"), learned(net, "two")) == (69_000, 90_400)
    xs = torch.randn(3, 11, 12)
    assert run(net, xs).shape == (3, 1, 9)
    assert torch.equal(run(net, xs), run(net, xs))
    net.train()
    assert not torch.equal(run(net, xs), run(net, xs))


VIDEO = [
    LayerSpec("fold", "folding"),
    LayerSpec("conv", "conv2d", {"size": 5, "filters": 20}, {"in": "fold"}),
    LayerSpec("bn", "batch_norm"),
    LayerSpec("relu", "relu"),
    LayerSpec("unfold", "unfolding", {}, {"in": "relu", "mini_batch_size": "fold/mini_batch_size"}),
    LayerSpec("flatten", "flatten"),
    LayerSpec("lstm", "lstm", {"hidden": 200, "output": "last"}),
    LayerSpec("fc", "fully_connected", {"size": 10}),
    LayerSpec("softmax", "softmax"),
]


@pytest.mark.shows("S5", "S11", "S12", "S13", "S14", "S15", "S26", "S27", "S28")
def test_the_video_network_has_the_parameters_that_are_told() -> None:
    net = graph((1, 28, 28), *VIDEO)
    found = [learned(net, name) for name in ("conv", "bn", "lstm", "fc")]
    assert found == [520, 40, 9_376_800, 2_010]
    assert run(net, torch.randn(2, 3, 1, 28, 28)).shape == (2, 1, 10)


@pytest.mark.shows("S13", "S26", "S27")
def test_folding_changes_nothing_but_the_drawing() -> None:
    """Layers of images take each frame by itself, with folding around them or without."""
    explicit = graph((1, 12, 12), *VIDEO[:6])
    implicit = graph((1, 12, 12), *(LayerSpec(x.name, x.kind, x.options) for x in VIDEO[1:4]))
    implicit.load_state_dict(explicit.state_dict())
    xs = torch.randn(2, 5, 1, 12, 12)
    torch.testing.assert_close(run(explicit, xs), run(implicit, xs).flatten(2))


@pytest.mark.shows("S90", "S91", "S92", "S113", "S114", "S117", "S124")
def test_a_layer_of_three_units_takes_any_width_and_gives_as_many_steps() -> None:
    for width in (2, 5):
        net = graph(width, LayerSpec("lstm", "lstm", {"hidden": 3}))
        assert net.wiring.nodes[0].entering["in"].sizes == (width,)
        assert run(net, torch.randn(1, 6, width)).shape == (1, 6, 3)
    one = graph(2, LayerSpec("lstm", "lstm", {"hidden": 3}), LayerSpec("last", "sequence_last"))
    whole = graph(2, LayerSpec("lstm", "lstm", {"hidden": 3}))
    xs = torch.randn(4, 6, 2)
    assert torch.equal(run(one, xs), run(whole, xs)[:, -1:])


@pytest.mark.shows("S94", "S95", "S96", "S118", "S119")
def test_states_enter_and_leave_by_ports() -> None:
    """The final state of one layer is where the next starts; the last output is the final state."""
    options = {"hidden": 3, "state_outputs": True}
    net = graph(
        2,
        LayerSpec("one", "lstm", options),
        LayerSpec(
            "two",
            "lstm",
            {"hidden": 3, "state_inputs": True, "state_outputs": True},
            {"in": "input", "hidden": "one/hidden", "cell": "one/cell"},
        ),
    )
    two, one = net.layer("two"), net.layer("one")
    two.load_state_dict(one.state_dict())
    xs = torch.randn(2, 6, 2)
    with torch.no_grad():
        found = net.signals(Signal(xs), net.initial_state(2))
        alone = graph(2, LayerSpec("one", "lstm", {"hidden": 3}))
        alone.load_state_dict({f"one.{k}": v for k, v in one.state_dict().items()})
        twice = run(alone, torch.cat([xs, xs], 1))
    torch.testing.assert_close(found[Port("two")].values, twice[:, 6:])
    for name in ("one", "two"):
        hidden = found[Port(name, "hidden")].values.flatten(1)
        torch.testing.assert_close(hidden, found[Port(name)].values[:, -1])
