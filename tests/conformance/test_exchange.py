"""Every kind of layer goes out to other systems and comes back, or is refused by its name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from layer_examples import EXAMPLES, Example

from forecastd.errors import UserError
from forecastd.exchange.onnx_check import difference
from forecastd.exchange.onnx_step import export_step
from forecastd.exchange.parts import Part, parts_of
from forecastd.exchange.recurrent import AFTER, BEFORE, WITH_BIAS
from forecastd.exchange.transfer import LAYOUTS, export_part, import_part
from forecastd.features.spec import FeatureSpec
from forecastd.network.kinds.contract import Shape
from forecastd.network.model import ForecastNetwork, weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.network.wiring import wire

HEADS = {
    "point": HeadSpec("point", 2, (), 3),
    "responses": HeadSpec("responses", 1, outputs=2),
    "classes": HeadSpec("classes", 1, outputs=3),
}
NOT_EXPORTED = {
    "bilstm", "word_embedding", "characters", "max_pooling1d", "average_pooling1d",
    "global_max_pooling1d", "global_average_pooling1d",
}  # fmt: skip
"""Kinds that no ONNX step is made of; the error names the layer."""

named = {
    f"{kind}-{n}": (kind, one) for kind, some in EXAMPLES.items() for n, one in enumerate(some)
}
every = pytest.mark.parametrize(("kind", "example"), named.values(), ids=named)


def network_of(kind: str, example: Example, head: HeadSpec = HEADS["responses"]) -> Any:
    """Return a network around an example, its weights random; what is frozen stays."""
    layers = example.layers or (LayerSpec("only", kind, example.options),)
    sizes = example.sizes
    if wire(layers, Shape(sizes)).output.time:  # or steps might be others than those that enter
        layers = (*layers, LayerSpec("end", "sequence_last"))
    frame = (*sizes[1:], sizes[0]) if len(sizes) > 1 else ()
    features = FeatureSpec(math.prod(sizes), (), 9.0, head.lags, 0, (4,), "none", ("value",), frame)
    torch.manual_seed(0)
    net = ForecastNetwork(NetworkSpec(features, layers, head)).eval()
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=dice) / 2)
    return net


def refused(layout: str, part: Part) -> bool:
    """Whether a system has no layer that computes what this one does."""
    state, gate = (
        part.option("state_activation", "tanh"),
        part.option("gate_activation", "sigmoid"),
    )
    only_plain = layout in {"pytorch", "wolfram"}
    reset = part.option("reset", AFTER)
    return (
        (only_plain and (state, gate) != ("tanh", "sigmoid"))
        or (only_plain and reset == BEFORE)
        or (layout == "wolfram" and reset == WITH_BIAS)
        or (part.form == "peephole" and (layout != "onnx" or part.option("variant", "") != "gers"))
        or (part.form == "projected" and layout != "matlab")
    )


@every
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_every_kind_come_back_or_are_refused(
    kind: str, example: Example, layout: str
) -> None:
    net = network_of(kind, example)
    weights = weights_of(net)
    for part in parts_of(net.spec, weights).values():
        arrays = part.arrays(weights)
        if refused(layout, part):
            with pytest.raises(UserError, match=part.name):
                export_part(layout, part, arrays)
            continue
        theirs = export_part(layout, part, arrays)
        blank = {name: np.zeros_like(array) for name, array in arrays.items()}
        found = import_part(layout, part, theirs, blank)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, f"{part.name} {name}")


@every
def test_every_kind_is_a_step_in_onnx_or_is_named(kind: str, example: Example) -> None:
    net = network_of(kind, example)
    odd = example.options.get("padding_value", 0) != 0 and kind == "conv2d"
    seen = example.options.get("variant") == "input-node"
    if kind in NOT_EXPORTED or net.layers.wiring.needs_future() or odd or seen:
        with pytest.raises(
            UserError, match="|".join(node.name for node in net.layers.wiring.nodes)
        ):
            export_step(net.spec, weights_of(net), {})
    else:
        assert difference(export_step(net.spec, weights_of(net), {}), net) <= 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_heads_go_out_and_come_back(head: str) -> None:
    net = network_of("lstm", EXAMPLES["lstm"][0], HEADS[head])
    weights = weights_of(net)
    parts = parts_of(net.spec, weights)
    assert any(name.startswith("head") for name in parts)
    for layout in LAYOUTS:
        for part in parts.values():
            arrays = part.arrays(weights)
            found = import_part(layout, part, export_part(layout, part, arrays), arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(found[name], array)
