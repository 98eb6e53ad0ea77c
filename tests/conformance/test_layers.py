"""What every kind of layer holds, checked on the examples of tests/layer_examples.py.

Fold: `unroll` is `step` repeated, for any chunking. Lengths: padding is never seen. Rows do not
touch each other. Shapes: torch has what the kind says without it. A kind without an example fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_examples import EXAMPLES, Example
from torch import Tensor

from forecastd.network.graph import LayerGraph, States
from forecastd.network.kinds import KINDS
from forecastd.network.kinds.contract import Shape
from forecastd.network.layers import LAYERS
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Port, wire

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
GARBAGE = 1e4

named = {f"{kind}-{n}": one for kind, some in EXAMPLES.items() for n, one in enumerate(some)}
every = pytest.mark.parametrize("example", named.values(), ids=named)
dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
cuts = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def kind_of(example: Example) -> str:
    return next(kind for kind, some in EXAMPLES.items() if any(one is example for one in some))


def graph_of(example: Example, dtype: torch.dtype, *, seed: int = 0) -> LayerGraph:
    """Return the example in evaluation mode, its weights moved from where they start."""
    alone = LayerSpec("only", kind_of(example), example.options)
    torch.manual_seed(seed)
    graph = LayerGraph(wire(example.layers or (alone,), Shape(example.sizes)))
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter += 0.1 * torch.randn_like(parameter) * parameter.requires_grad
    return graph.to(dtype).eval()


def values_of(example: Example, rows: int, steps: int, dtype: torch.dtype) -> Tensor:
    shape = (rows, steps, *example.sizes)
    if example.codes:
        return torch.randint(example.codes, shape).to(dtype)
    return torch.randn(shape, dtype=dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Assert equality within the tolerance, relative to the size of the numbers."""
    bound = TOLERANCES[dtype]
    torch.testing.assert_close(found, expected, rtol=bound, atol=bound)


def same_states(found: States, expected: States, dtype: torch.dtype) -> None:
    for one, other in zip(found, expected, strict=True):
        for mine, its in zip(one, other, strict=True):
            close(mine, its, dtype)


def row_of(states: States, row: int) -> States:
    return tuple(type(one)(*(tensor[row : row + 1] for tensor in one)) for one in states)


def parts_of(lengths: list[int]) -> Iterator[slice]:
    for end, length in zip(itertools.accumulate(lengths), lengths, strict=True):
        yield slice(end - length, end)


def streamable(example: Example) -> bool:
    return graph_of(example, torch.float32).wiring.needs_future() is None


def test_every_kind_has_an_example_and_a_module() -> None:
    assert KINDS.keys() == LAYERS.keys() == EXAMPLES.keys()
    assert all(EXAMPLES.values())
    for kind, some in EXAMPLES.items():
        for one in some:
            assert not one.layers or kind in [layer.kind for layer in one.layers]


@every
def test_torch_has_the_shapes_that_the_kind_says(example: Example) -> None:
    graph = graph_of(example, torch.float32)
    rows, steps = 3, 6 + graph.wiring.min_length
    states = graph.initial_state(rows)
    signals = graph.signals(Signal(values_of(example, rows, steps, torch.float32)), states)
    for node, state in zip(graph.wiring.nodes, states, strict=True):
        layer, facts = graph.layer(node.name), node.facts
        found = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
        assert found == dict(facts.weights)
        learned = {name for name, one in layer.named_parameters() if one.requires_grad}
        assert facts.weights.keys() - learned == facts.fixed
        remembered = {name: tuple(t.shape[1:]) for name, t in state._asdict().items()}  # type: ignore[attr-defined]
        assert remembered == dict(facts.state)
        assert all(len(tensor) == rows for tensor in state)
        assert all(tensor.dtype == torch.float32 for tensor in layer.state_dict().values())
        for port, shape in facts.outputs.items():
            values, _ = signals[Port(node.name, port)]
            if shape.sizes:
                assert tuple(values.shape[2:]) == shape.sizes
                assert len(values) == rows * (steps if shape.folded else 1)
                assert shape.time or values.shape[1] == 1
        assert facts.outputs.keys() == {p.port for p in signals if p.layer == node.name}


@pytest.mark.trap(21)
@every
def test_a_kind_says_in_words_why_it_cannot_be_streamed(example: Example) -> None:
    for node in graph_of(example, torch.float32).wiring.nodes:
        reason = node.facts.needs_future
        assert reason is None or (len(reason.split()) > 2 and not reason.endswith("."))


@pytest.mark.shows("S49", "S58", "S91")
@pytest.mark.trap(20, 22)
@dtypes
@every
@given(lengths=cuts, seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_unroll_is_step_repeated(
    example: Example, dtype: torch.dtype, lengths: list[int], seed: int
) -> None:
    graph = graph_of(example, dtype, seed=seed)
    if graph.wiring.needs_future() is not None:
        return
    xs = values_of(example, 3, sum(lengths), dtype)
    with torch.no_grad():
        (whole, _), last = graph.unroll(Signal(xs), graph.initial_state(3))
        states, stepped = graph.initial_state(3), []
        for t in range(xs.shape[1]):
            y, states = graph.step(xs[:, t], states)
            stepped.append(y)
            recalled = graph.recall(states)
            if recalled is not None:
                close(recalled, y, dtype)
        close(torch.stack(stepped, 1)[:, -whole.shape[1] :], whole, dtype)
        same_states(states, last, dtype)
        states, pieces = graph.initial_state(3), []
        for part in parts_of(lengths):
            (ys, _), states = graph.unroll(Signal(xs[:, part]), states)
            pieces.append(ys)
        close(torch.cat(pieces, 1)[:, -whole.shape[1] :], whole, dtype)
        same_states(states, last, dtype)


@pytest.mark.shows("S116")
@pytest.mark.trap(9, 11, 18)
@dtypes
@every
@given(st.data())
@settings(max_examples=5)
def test_padding_is_never_seen(example: Example, dtype: torch.dtype, data: st.DataObject) -> None:
    graph = graph_of(example, dtype)
    least = graph.wiring.min_length
    lengths = data.draw(st.lists(st.integers(least, least + 6), min_size=1, max_size=4))
    steps = max(lengths) + data.draw(st.integers(0, 3))
    xs = values_of(example, len(lengths), steps, dtype)
    padding = torch.arange(steps)[None] >= torch.tensor(lengths)[:, None]
    xs[padding] = 0 if example.codes else GARBAGE
    with torch.no_grad():
        (ys, real), after = graph.unroll(
            Signal(xs, torch.tensor(lengths)), graph.initial_state(len(lengths))
        )
        for row, length in enumerate(lengths):
            alone = Signal(xs[row : row + 1, :length])
            (y, _), state = graph.unroll(alone, graph.initial_state(1))
            if real is not None:
                assert real[row] == y.shape[1]
            assert ys.shape[1] >= y.shape[1]
            close(ys[row : row + 1, : y.shape[1]], y, dtype)
            same_states(row_of(after, row), state, dtype)


@every
def test_rows_do_not_touch_each_other(example: Example) -> None:
    graph = graph_of(example, torch.float64)
    xs = values_of(example, 5, 4 + graph.wiring.min_length, torch.float64)
    with torch.no_grad():
        _, states = graph.unroll(Signal(xs), graph.initial_state(5))
        (ys, _), after = graph.unroll(Signal(xs), states)
        for row in range(5):
            (y, _), state = graph.unroll(Signal(xs[row : row + 1]), row_of(states, row))
            close(ys[row : row + 1], y, torch.float64)
            same_states(row_of(after, row), state, torch.float64)


@every
def test_states_begin_alike_and_are_not_modified(example: Example) -> None:
    graph = graph_of(example, torch.float64)
    states = graph.initial_state(3)
    before = [[tensor.clone() for tensor in state] for state in states]
    for state in states:
        assert all(torch.equal(tensor, tensor[:1].expand_as(tensor)) for tensor in state)
    xs = values_of(example, 3, 3 + graph.wiring.min_length, torch.float64)
    kept = xs.clone()
    with torch.no_grad():
        (one, _), _ = graph.unroll(Signal(xs), states)
        (other, _), _ = graph.unroll(Signal(xs), states)
        if streamable(example):
            graph.step(xs[:, 0], states)
    assert torch.equal(one, other)
    assert torch.equal(xs, kept)
    for found, expected in zip(states, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every
def test_gradients_reach_every_weight_that_is_trained(example: Example) -> None:
    graph = graph_of(example, torch.float64).train()
    least = graph.wiring.min_length
    xs = values_of(example, 4, 6 + least, torch.float64).requires_grad_()
    lengths = torch.tensor([xs.shape[1], xs.shape[1] - 2, least, least + 1])
    _, states = graph.unroll(Signal(xs, lengths), graph.initial_state(4))
    (ys, real), _ = graph.unroll(Signal(xs, lengths), states)
    if real is not None:
        ys = ys[torch.arange(ys.shape[1])[None] < real[:, None]]
    if example.codes and not list(graph.parameters()):
        return
    if not ys.requires_grad:  # of whole numbers, and without weights
        assert example.codes
        assert not any(parameter.requires_grad for parameter in graph.parameters())
        return
    (ys * torch.randn_like(ys)).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in graph.named_parameters():
        given_one = parameter.grad is not None and bool(parameter.grad.any())
        assert given_one == parameter.requires_grad, name
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
    if not example.codes:
        assert xs.grad is not None
        assert xs.grad.isfinite().all()
        assert xs.grad.any()
        padding = torch.arange(xs.shape[1])[None] >= lengths[:, None]
        assert not xs.grad[padding].any()


@every
def test_gradients_are_those_of_differences(example: Example) -> None:
    if example.codes:
        return
    graph = graph_of(example, torch.float64)
    xs = values_of(example, 2, 2 + graph.wiring.min_length, torch.float64).requires_grad_()
    before = graph.initial_state(2)

    def run(values: Tensor) -> Tensor:
        return graph.unroll(Signal(values), before)[0].values

    assert torch.autograd.gradcheck(run, (xs,), atol=1e-6, fast_mode=True)


@every
def test_factors_are_given_for_every_parameter(example: Example) -> None:
    graph = graph_of(example, torch.float32)
    for node in graph.wiring.nodes:
        layer = graph.layer(node.name)
        factors = layer.factors()
        for name, parameter in layer.named_parameters():
            for factor in factors.pop(name):
                assert torch.broadcast_shapes(torch.as_tensor(factor).shape, parameter.shape) == (
                    parameter.shape
                )
        assert not factors
