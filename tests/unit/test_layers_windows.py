"""Convolution and pooling along one axis, against loops that do what the definition says."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import layer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from forecastd.errors import DataError, SpecError
from forecastd.network.kinds.contract import OUT, Shape
from forecastd.network.kinds.windows import Window
from forecastd.network.layers.contract import Layer
from forecastd.network.spec import LayerSpec
from forecastd.network.wiring import Wiring, wire, wire_network

FILLS = {
    "symmetric-include-edge": {"mode": "symmetric"},
    "symmetric-exclude-edge": {"mode": "reflect"},
    "replicate": {"mode": "edge"},
}
"""What numpy calls the ways to fill."""

paddings = st.one_of(
    st.integers(0, 3), st.lists(st.integers(0, 4), min_size=2, max_size=2), st.just("same")
)
fills = st.one_of(st.sampled_from([0.0, -1.5]), st.sampled_from([*FILLS]))


def filled(
    row: NDArray[np.float64], sides: tuple[int, int], fill: float | str
) -> NDArray[np.float64]:
    """Return a row [T, C] with both sides filled, by numpy."""
    how: dict[str, Any] = FILLS[fill] if isinstance(fill, str) else {"constant_values": fill}
    return np.pad(row, (sides, (0, 0)), **how)


def sides_of(window: Window, length: int) -> tuple[int, int]:
    """Return the padding as the documentation words it."""
    if window.padding == "causal":
        return (window.size - 1) * window.dilation, 0
    if window.padding == "same":
        needed = (math.ceil(length / window.stride) - 1) * window.stride + window.extent - length
        return max(needed, 0) // 2, math.ceil(max(needed, 0) / 2)
    pair = window.padding if isinstance(window.padding, list) else [window.padding] * 2
    return int(pair[0]), int(pair[1])


def windows_in(row: NDArray[np.float64], window: Window) -> list[NDArray[np.float64]]:
    """Return the values [F, C] under each place of the window on a filled row."""
    last = len(row) - window.extent
    return [
        row[start : start + window.extent : window.dilation]
        for start in range(0, last + 1, window.stride)
    ]


def wiring(kind: str, sizes: tuple[int, ...], **options: object) -> Wiring:
    return wire([LayerSpec("only", kind, options)], Shape(sizes))


def unrolled(made: Layer, xs: Tensor, lengths: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return made.unroll(xs, made.initial_state(len(xs)), lengths)[0]


@pytest.mark.shows("S22")
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.one_of(paddings, st.just("causal")),
    length=st.integers(1, 12),
)
def test_outputs_are_as_many_as_the_formulas_say(
    size: int, stride: int, dilation: int, padding: Any, length: int
) -> None:
    window = Window(size, stride, dilation, padding)
    sides = sides_of(window, length)
    assert window.sides(length) == sides
    expected = (length + sum(sides) - (size - 1) * dilation - 1) // stride + 1
    assert window.length_after(length) == max(0, expected)
    if isinstance(padding, str):
        assert window.length_after(length) == math.ceil(length / stride)
    assert (window.length_after(length) > 0) == (length >= window.min_length)
    if window.keeps_length and length >= window.min_length:
        assert window.length_after(length) == length


@pytest.mark.shows("S22")
@given(
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=paddings,
    fill=fills,
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
@settings(max_examples=150)
def test_conv1d_is_the_sum_of_the_definition(
    size: int, stride: int, dilation: int, padding: Any, fill: Any, lengths: list[int]
) -> None:
    window = Window(size, stride, dilation, padding)
    options = {"stride": stride, "dilation": dilation, "padding": padding, "padding_value": fill}
    made = layer("conv1d", 2, filters=3, size=size, **options).double()
    weight, bias = (p.detach().numpy() for p in made.parameters())
    bias += 0.5
    xs = torch.randn(len(lengths), max(lengths) + 2, 2, dtype=torch.float64)
    if window.length_after(xs.shape[1]) == 0:
        with pytest.raises(DataError, match=f"needs {window.min_length}"):
            unrolled(made, xs)
        return
    found = unrolled(made, xs, torch.tensor(lengths))
    counts = made.lengths_after(torch.tensor(lengths))
    assert counts is not None
    for row, length in enumerate(lengths):
        ends = filled(xs[row, :length].numpy(), window.sides(length), fill)
        places = windows_in(ends, window) if length >= window.min_length else []
        assert counts[row] == len(places)
        for y, place in zip(found[row], places, strict=False):
            expected = [
                bias[n] + sum(weight[n, c, f] * place[f, c] for c in range(2) for f in range(size))
                for n in range(3)
            ]
            np.testing.assert_allclose(y, expected, atol=1e-12)
        assert not found[row, len(places) :].any()


@pytest.mark.shows("S22")
@pytest.mark.parametrize("dilation", [1, 3])
def test_causal_conv1d_is_that_of_torch_with_zeros_before_it(dilation: int) -> None:
    made = layer("conv1d", 4, filters=5, size=3, padding="causal", dilation=dilation).double()
    xs = torch.randn(2, 9, 4, dtype=torch.float64)
    weight, bias = made.parameters()
    wide = functional.pad(xs.transpose(1, 2), (2 * dilation, 0))
    expected = functional.conv1d(wide, weight, bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(unrolled(made, xs), expected.detach())


@pytest.mark.shows("S22")
@pytest.mark.trap(21)
def test_only_a_causal_conv1d_of_stride_one_follows_a_stream() -> None:
    causal = wiring("conv1d", (2,), filters=1, size=4, dilation=2, padding="causal").nodes[0].facts
    assert causal.needs_future is None
    assert causal.state == {"past": (7, 2)}
    assert wiring("conv1d", (2,), filters=1, size=3, padding=[2, 0]).needs_future() is None
    for options in ({"padding": "same"}, {}, {"padding": "causal", "stride": 2}, {"padding": 2}):
        reason = wiring("conv1d", (2,), filters=1, size=3, **options).needs_future()
        assert reason is not None
        assert reason.startswith("layer 'only' (conv1d)")


@pytest.mark.shows("S22")
def test_a_conv1d_slides_over_the_axis_of_each_frame() -> None:
    made = layer("conv1d", (3, 8), filters=2, size=3, stride=2, padding=[1, 0]).double()
    assert made.streamable
    xs = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    weight, bias = made.parameters()
    wide = functional.pad(xs.flatten(0, 1), (1, 0))
    expected = functional.conv1d(wide, weight, bias, stride=2)
    torch.testing.assert_close(unrolled(made, xs).flatten(0, 1), expected.detach())


@pytest.mark.shows("S23", "S24")
@pytest.mark.parametrize("kind", ["max_pooling1d", "average_pooling1d"])
@given(data=st.data())
@settings(max_examples=60)
def test_pooling_is_what_the_definition_says(kind: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 4))
    padding = data.draw(
        st.one_of(
            st.integers(0, size - 1),
            st.lists(st.integers(0, size - 1), min_size=2, max_size=2),
            st.just("same"),
        )
    )
    window = Window(size, data.draw(st.integers(1, 3)), 1, padding)
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    made = layer(kind, 2, size=size, stride=window.stride, padding=padding).double()
    xs = torch.randn(len(lengths), 9, 2, dtype=torch.float64) - 3
    found = unrolled(made, xs, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        fill = -math.inf if kind == "max_pooling1d" else 0.0
        ends = filled(xs[row, :length].numpy(), window.sides(length), fill)
        places = windows_in(ends, window) if length >= window.min_length else []
        for y, place in zip(found[row], places, strict=False):
            expected = place.max(0) if kind == "max_pooling1d" else place.sum(0) / size
            np.testing.assert_allclose(y, expected, atol=1e-12)
        assert not found[row, len(places) :].any()


@pytest.mark.shows("S23", "S24")
@pytest.mark.trap(34)
def test_pooling_moves_by_one_step_unless_told_otherwise() -> None:
    xs = torch.randn(2, 10, 3)
    wide = xs.transpose(1, 2)
    largest = functional.max_pool1d(wide, 3, 1).transpose(1, 2)
    assert torch.equal(unrolled(layer("max_pooling1d", 3, size=3), xs), largest)
    mean = functional.avg_pool1d(wide, 3, 2, 1).transpose(1, 2)
    found = unrolled(layer("average_pooling1d", 3, size=3, stride=2, padding=1), xs)
    torch.testing.assert_close(found, mean)


@pytest.mark.shows("S25")
@pytest.mark.trap(18)
def test_global_pooling_takes_the_real_steps_and_no_others() -> None:
    xs = torch.randn(4, 6, 3) - 5
    lengths = torch.tensor([6, 2, 1, 0])
    largest = unrolled(layer("global_max_pooling1d", 3), xs, lengths)
    mean = unrolled(layer("global_average_pooling1d", 3), xs, lengths)
    assert largest.shape == mean.shape == (4, 1, 3)
    for row, length in enumerate(lengths[:3]):
        assert torch.equal(largest[row, 0], xs[row, :length].amax(0))
        torch.testing.assert_close(mean[row, 0], xs[row, :length].mean(0))
    assert not largest[3].any()
    assert not mean[3].any()


@pytest.mark.shows("S25")
@pytest.mark.parametrize("kind", ["global_max_pooling1d", "global_average_pooling1d"])
def test_global_pooling_over_an_axis_of_frames_keeps_the_steps(kind: str) -> None:
    made, xs = layer(kind, (3, 5)), torch.randn(2, 4, 3, 5)
    assert made.streamable
    assert made.facts.outputs[OUT] == Shape((3,))
    expected = xs.amax(3) if kind == "global_max_pooling1d" else xs.mean(3)
    torch.testing.assert_close(unrolled(made, xs), expected)


@pytest.mark.trap(21)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("max_pooling1d", {"size": 2}),
        ("average_pooling1d", {"size": 2, "padding": "same"}),
        ("global_max_pooling1d", {}),
        ("global_average_pooling1d", {}),
    ],
)
def test_pooling_over_time_cannot_follow_a_stream(kind: str, options: dict[str, Any]) -> None:
    reason = wiring(kind, (2,), **options).needs_future()
    assert reason is not None
    assert f"'only' ({kind})" in reason


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    strides=st.lists(st.integers(1, 3), min_size=4, max_size=4),
)
def test_the_shortest_sequence_is_the_shortest_that_gives_anything(
    sizes: list[int], strides: list[int]
) -> None:
    layers = [
        LayerSpec(f"pool_{n}", "max_pooling1d", {"size": size, "stride": strides[n]})
        for n, size in enumerate(sizes)
    ]
    found = wire([*layers, LayerSpec("end", "global_max_pooling1d")], Shape((1,))).min_length

    def left(length: int) -> int:
        for size, stride in zip(sizes, strides, strict=False):
            length = Window(size, stride).length_after(length)
        return length

    assert found == next(length for length in itertools.count(1) if left(length) > 0)


@pytest.mark.parametrize(
    ("kind", "sizes", "options", "match"),
    [
        ("conv1d", (2,), {"filters": 1}, "'size' is missing"),
        ("conv1d", (2,), {"filters": 1, "size": 0}, "size"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding": -1}, "padding.*whole number from 0"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding": 1 << 17}, "padding.*to 65536"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "dilation": 1 << 17}, "dilation"),
        ("max_pooling1d", (2,), {"size": 1 << 17}, "size"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding": [1]}, "padding.*list of 2"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding": "valid"}, '"same", "causal"'),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding_value": "edge"}, "replicate"),
        ("conv1d", (2,), {"filters": 1, "size": 2, "padding_value": math.nan}, "padding_value"),
        (
            "conv1d",
            (2,),
            {"filters": 1, "size": 2, "padding": "causal", "padding_value": "replicate"},
            "needs a number as padding_value",
        ),
        ("conv1d", (2, 9), {"filters": 1, "size": 2, "padding": "causal"}, "is for sequences"),
        ("conv1d", (2, 3), {"filters": 1, "size": 4}, "spans 4 places.*2x3"),
        ("conv1d", (2, 3, 4), {"filters": 1, "size": 4}, "use conv2d"),
        ("conv2d", (2, 3), {"filters": 1, "size": 2}, "channels, height and width"),
        ("conv2d", (2, 3, 2), {"filters": 1, "size": 3}, "spans 3 places"),
        ("conv2d", (2, 3, 2), {"filters": 1, "size": [1, 2, 3]}, "size.*list of two"),
        ("conv2d", (2, 3, 2), {"filters": 1, "size": 1, "padding": "causal"}, "padding"),
        ("max_pooling1d", (2,), {"size": 2, "padding": 2}, "add less than it pools"),
        ("max_pooling1d", (2,), {"size": 2, "padding": "causal"}, "padding"),
        ("average_pooling1d", (2, 3, 4), {"size": 2}, "flatten"),
        ("global_max_pooling1d", (2, 3, 4), {}, "flatten"),
    ],
)
def test_what_does_not_fit_is_one_sentence_that_names_the_layer(
    kind: str, sizes: tuple[int, ...], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpecError, match=match) as caught:
        wiring(kind, sizes, **options)
    assert "'only'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kinds", "blamed"),
    [
        (["conv1d"], "conv1d_0"),
        (["relu", "conv1d", "conv1d", "relu"], "conv1d_1"),
        (["conv1d", "sequence_last"], None),
        (["conv1d", "global_max_pooling1d", "relu"], None),
        (["relu", "relu"], None),
    ],
    ids=str,
)
def test_a_network_gives_an_output_for_each_step_or_one_in_all(
    kinds: list[str], blamed: str | None
) -> None:
    options = {"conv1d": {"filters": 2, "size": 2}}
    layers = [LayerSpec(f"{kind}_{n}", kind, options.get(kind, {})) for n, kind in enumerate(kinds)]
    if blamed is None:
        assert wire_network(layers, Shape((2,))) == wire(layers, Shape((2,)))
        return
    with pytest.raises(SpecError, match=f"'{blamed}' .conv1d. gives other steps than enter"):
        wire_network(layers, Shape((2,)))
