"""Batch and layer normalisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import layer
from torch import Tensor, nn
from torch.nn import functional

from forecastd.errors import SpecError
from forecastd.network.graph import LayerGraph
from forecastd.network.kinds.contract import Shape
from forecastd.network.layers.batch_norm import BatchNormLayer, finalise
from forecastd.network.layers.contract import Signal
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import wire


def batch_norm(sizes: tuple[int, ...], **options: object) -> BatchNormLayer:
    made = layer("batch_norm", sizes, **options)
    assert isinstance(made, BatchNormLayer)
    return made.double()


def real_of(xs: Tensor, lengths: Tensor) -> Tensor:
    return torch.cat([row[:length] for row, length in zip(xs, lengths.tolist(), strict=True)])


@pytest.mark.shows("S14")
@pytest.mark.parametrize("sizes", [(3,), (3, 2), (3, 2, 4)], ids=str)
def test_batch_norm_is_that_of_torch(sizes: tuple[int, ...]) -> None:
    made = batch_norm(sizes, statistics="moving")
    dimensions = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}
    its = dimensions[len(sizes)](3).double()
    with torch.no_grad():
        made.scale.copy_(torch.tensor([1.0, -2.0, 0.5]))
        made.offset.copy_(torch.tensor([0.0, 3.0, 1.0]))
        its.weight.copy_(made.scale)
        its.bias.copy_(made.offset)
    for mode in (True, True, False):
        xs = torch.randn(4, 5, *sizes, dtype=torch.float64) * 3 + 7
        made.train(mode)
        its.train(mode)
        ys, _ = made.unroll(xs, made.initial_state(4))
        torch.testing.assert_close(ys.flatten(0, 1), its(xs.flatten(0, 1)))
    torch.testing.assert_close(made.mean, its.running_mean)
    torch.testing.assert_close(made.variance, its.running_var)


@pytest.mark.shows("S14")
@pytest.mark.trap(18)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_batch_norm_leaves_padding_out(lengths: list[int]) -> None:
    made = batch_norm((2, 3)).train()
    before = made.mean.clone()
    xs = torch.randn(len(lengths), 6, 2, 3, dtype=torch.float64)
    beyond = torch.arange(6)[None] >= torch.tensor(lengths)[:, None]
    xs[beyond] = 1e6
    ys, _ = made.unroll(xs, made.initial_state(len(lengths)), torch.tensor(lengths))
    if sum(lengths) == 0:
        assert torch.equal(made.mean, before)
        return
    real = real_of(ys, torch.tensor(lengths))
    torch.testing.assert_close(real.mean((0, 2)), torch.zeros(2, dtype=torch.float64))
    moved = 0.1 * real_of(xs, torch.tensor(lengths)).mean((0, 2))
    torch.testing.assert_close(made.mean, moved)


@pytest.mark.shows("S14")
@pytest.mark.trap(21)
def test_batch_norm_follows_a_stream_with_what_it_has_stored() -> None:
    made = batch_norm((2,)).eval()
    with torch.no_grad():
        made.mean.copy_(torch.tensor([1.0, -4.0]))
        made.variance.copy_(torch.tensor([4.0, 0.25]))
    before = [made.mean.clone(), made.variance.clone()]
    y, _ = made.step(torch.tensor([[3.0, -4.5]], dtype=torch.float64), made.initial_state(1))
    expected = torch.tensor([[2 / (4 + 1e-5) ** 0.5, -0.5 / (0.25 + 1e-5) ** 0.5]])
    torch.testing.assert_close(y, expected.double())
    assert torch.equal(before[0], made.mean)
    assert torch.equal(before[1], made.variance)


@pytest.mark.shows("S14")
@given(
    cuts=st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_population_statistics_are_those_of_the_whole_training_set(
    cuts: list[list[int]], seed: int
) -> None:
    """Also of a second layer, which sees what the first one gives with its final statistics."""
    torch.manual_seed(seed)
    layers = [
        LayerSpec("one", "batch_norm"),
        LayerSpec("fc", "fully_connected", {"size": 3}),
        LayerSpec("two", "batch_norm"),
        LayerSpec("other", "batch_norm", {"statistics": "moving"}),
    ]
    graph = LayerGraph(wire(layers, Shape((2,)))).double().train()
    parts = [(torch.randn(2, 4, 2, dtype=torch.float64) * 9, torch.tensor(cut)) for cut in cuts]

    def sweep() -> None:
        for xs, lengths in parts:
            graph.unroll(Signal(xs, lengths), graph.initial_state(2))

    finalise(graph, sweep)
    assert graph.training
    one, two, other = (graph.layer(name) for name in ("one", "two", "other"))
    assert isinstance(one, BatchNormLayer)
    assert isinstance(two, BatchNormLayer)
    assert isinstance(other, BatchNormLayer)
    assert not other.mean.any()
    real = torch.cat([real_of(xs, lengths) for xs, lengths in parts])
    if len(real) == 0:
        assert torch.equal(one.variance, torch.ones(2))
        return
    torch.testing.assert_close(one.mean, real.mean(0))
    torch.testing.assert_close(one.variance, real.var(0, correction=0))
    graph.eval()
    with torch.no_grad():
        first, _ = one.unroll(real[None], one.initial_state(1))
        inner, _ = graph.layer("fc").unroll(first, ())
    torch.testing.assert_close(two.mean, inner[0].mean(0))
    torch.testing.assert_close(two.variance, inner[0].var(0, correction=0))


@pytest.mark.parametrize("options", [{"epsilon": 0}, {"decay": 2.0}, {"statistics": "exact"}])
def test_options_of_batch_norm_out_of_range_are_told(options: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=f"'only'.*{next(iter(options))}"):
        batch_norm((2,), **options)


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (2, 3, 4)], ids=str)
def test_layer_norm_is_that_of_torch_on_each_step(sizes: tuple[int, ...]) -> None:
    made = layer("layer_norm", sizes, epsilon=0.01).double()
    scale, offset = made.parameters()
    nn.init.normal_(scale)
    nn.init.normal_(offset)
    xs = torch.randn(2, 3, *sizes, dtype=torch.float64) * 5 + 2
    shape = (sizes[0], *[1] * (len(sizes) - 1))
    expected = functional.layer_norm(
        xs, sizes, scale.view(shape).expand(sizes), offset.view(shape).expand(sizes), 0.01
    )
    ys, _ = made.unroll(xs, made.initial_state(2))
    torch.testing.assert_close(ys, expected)
