"""Whole networks with the weights of other systems: parts, frames, and the check of an import."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from models import example, model
from networks import network

from forecastd.artifact import Artifact
from forecastd.exchange.check import compare
from forecastd.exchange.parts import parts_of
from forecastd.exchange.transfer import LAYOUTS, export_weights, import_weights
from forecastd.features.spec import FeatureSpec
from forecastd.network.model import weights_of
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec

FEATURES = FeatureSpec(2, ("hour",), 12.0, 4, 3, (4,))
HEAD = HeadSpec("point", 2, (), 4)
BODIES: dict[str, list[LayerSpec]] = {
    "lstm": [LayerSpec("a", "lstm", {"hidden": 5}), LayerSpec("b", "fully_connected", {"size": 3})],
    "last": [LayerSpec("a", "lstm", {"hidden": 5, "output": "last"})],
    "hard": [LayerSpec("a", "lstm", {"hidden": 5, "gate_activation": "hard-sigmoid"})],
    "bilstm": [LayerSpec("a", "bilstm", {"hidden": 3})],
    "bilstm_last": [LayerSpec("a", "bilstm", {"hidden": 3, "output": "last"})],
    "gru": [LayerSpec("a", "gru", {"hidden": 4})],
    "gru_before": [LayerSpec("a", "gru", {"hidden": 4, "reset": "before-multiplication"})],
    "gru_bias": [
        LayerSpec("a", "gru", {"hidden": 4, "reset": "recurrent-bias-after-multiplication"})
    ],
    "peephole": [LayerSpec("a", "peephole_lstm", {"hidden": 4})],
    "begun": [
        LayerSpec(
            "a", "lstm", {"hidden": 2, "hidden_state": [0.5, -0.5], "cell_state": [1.0, 2.0]}
        ),
    ],
    "mixed": [
        LayerSpec("c", "conv1d", {"size": 3, "filters": 4, "padding": "causal"}),
        LayerSpec("r", "relu"),
        LayerSpec("n", "layer_norm"),
        LayerSpec("g", "gru", {"hidden": 4}),
        LayerSpec("m", "batch_norm"),
    ],
}
CANNOT = {
    "hard": {"pytorch", "wolfram"},
    "gru_before": {"pytorch", "wolfram"},
    "gru_bias": {"wolfram"},
    "peephole": {"pytorch", "keras", "matlab", "wolfram"},
}
PAIRS = [
    (body, layout) for body in BODIES for layout in LAYOUTS if layout not in CANNOT.get(body, set())
]


def made(layers: list[LayerSpec], seed: int, features: FeatureSpec = FEATURES) -> Artifact:
    """Return a model whose weights are all random, but for second biases that are frozen."""
    spec = NetworkSpec(features, tuple(layers), HEAD)
    net = network(spec, torch.float32, seed)
    dice = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=dice) / 2
    trained = model("point_without_lags")
    trained.spec, trained.weights = spec, weights_of(net)
    return trained


@pytest.mark.trap(1, 2)
@pytest.mark.shows("S21", "S20", "S83")
@pytest.mark.parametrize(("body", "layout"), PAIRS)
def test_a_model_takes_the_weights_of_another_by_any_layout(body: str, layout: str) -> None:
    source, target = made(BODIES[body], 1), made(BODIES[body], 2)
    arrays = export_weights(source, layout)
    imported = import_weights(target, arrays, layout)
    parts = [part for part, _ in imported.parts]
    assert [part.name for part in parts] == list(parts_of(source.spec, source.weights))
    for name, array in source.weights.items():
        np.testing.assert_array_equal(imported.artifact.weights[name], array, name)
    compared = compare(imported, example(), layout)
    known = {part.name for part in parts if part.form not in {
        "convolution", "layer_norm", "batch_norm", "embedding", "numbers",
    }}  # fmt: skip
    assert {each.part for each in compared} == {n for n in known if not n.startswith("head.")}
    assert all(each.difference < 1e-12 and each.outputs > 0 for each in compared)


@pytest.mark.trap(36)
@pytest.mark.shows("S5", "S28")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_frame_that_was_flattened_is_found_through_the_layers_between(layout: str) -> None:
    features = FeatureSpec(12, (), 12.0, 4, 0, (4,), "none", ("value",), (2, 3, 2))
    layers = [
        LayerSpec("c", "conv2d", {"size": [2, 2], "filters": 3}),
        LayerSpec("f", "flatten"),
        LayerSpec("r", "relu"),
        LayerSpec("m", "batch_norm"),
        LayerSpec("a", "lstm", {"hidden": 4}),
    ]
    trained = made(layers, 1, features)
    dice = np.random.default_rng(0)
    trained.weights["layers.m.scale"] = dice.normal(size=6).astype(np.float32)
    parts = parts_of(trained.spec, trained.weights)
    assert parts["a"].flattened == parts["m"].flattened == (3, 1, 2)
    assert parts["c"].flattened == parts["head.centre"].flattened == ()
    arrays = export_weights(trained, layout)
    imported = import_weights(made(layers, 2, features), arrays, layout)
    for name, array in trained.weights.items():
        np.testing.assert_array_equal(imported.artifact.weights[name], array, name)
    stretch = example()
    stretch.values = dice.normal(size=(20, 12)).astype(np.float32)
    differences: dict[str, Any] = {
        each.part: each.difference for each in compare(imported, stretch, layout)
    }
    assert differences["a"] < 1e-12


@pytest.mark.trap(1)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_check_notices_weights_that_are_not_those_of_the_file(layout: str) -> None:
    """As an import with two gates swapped would make them."""
    trained = made(BODIES["last"], 1)
    arrays = export_weights(trained, layout)
    imported = import_weights(trained, arrays, layout)
    swapped = dict(imported.artifact.weights)
    i, f, g, o = np.split(swapped["layers.a.lstm.weight_ih_l0"], 4)
    swapped["layers.a.lstm.weight_ih_l0"] = np.concatenate([i, g, f, o])
    wrong = imported._replace(artifact=replace(trained, weights=swapped))
    assert compare(imported, example(), layout)[0].difference < 1e-12
    assert compare(wrong, example(), layout)[0].difference > 1e-3
