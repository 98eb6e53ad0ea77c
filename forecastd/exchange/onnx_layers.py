"""The step of each kind of layer as operations of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecastd.errors import UserError
from forecastd.exchange import recurrent
from forecastd.exchange.onnx_graph import Graph, linear
from forecastd.exchange.parts import Arrays, Part
from forecastd.network.kinds.contract import IN, OUT
from forecastd.network.kinds.windows import Window
from forecastd.network.wiring import Node

Named = dict[str, str]
"""Values of the graph by port or by field of a state."""


@dataclass(frozen=True)
class Layer:
    """A node with its arrays as the network has them."""

    node: Node
    part: Part | None
    arrays: Arrays

    def onnx_arrays(self) -> Arrays:
        """Return the arrays of a recurrence in the layout of ONNX."""
        assert self.part is not None
        return recurrent.give("onnx", self.part, self.arrays)


Emitted = tuple[Named, Named]
Emitter = Callable[[Graph, Layer, Named, Named], Emitted]


def _activations(layer: Layer, *, gates: int, states: int) -> dict[str, Any]:
    """Return the attributes of ONNX's recurrences for the activations of a layer."""
    options: Any = layer.node.options
    names = {
        "tanh": "Tanh", "softsign": "Softsign", "relu": "Relu",
        "sigmoid": "Sigmoid", "hard-sigmoid": "HardSigmoid",
    }  # fmt: skip
    chosen = [options.gate_activation] * gates + [options.state_activation] * states
    found: dict[str, Any] = {"activations": [names[name] for name in chosen]}
    if options.gate_activation == "hard-sigmoid":  # 0.2 x + 0.5
        found |= {"activation_alpha": [0.2] * gates, "activation_beta": [0.5] * gates}
    return found


def _in_time(graph: Graph, name: str) -> str:
    """Give a value the leading axis that recurrences have, of time or of directions."""
    return graph.op("Unsqueeze", name, graph.whole(0))


def _lstm(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    if layer.node.kind == "projected_lstm":
        arrays = _unprojected(layer.arrays)
    else:
        arrays = layer.onnx_arrays()
    constants = [graph.constant(arrays[name]) for name in ("W", "R", "B")]
    before = [_in_time(graph, states[name]) for name in ("hidden", "cell")]
    peepholes = [graph.constant(arrays["P"])] if "P" in arrays else []
    cell = graph.op(
        "LSTM", _in_time(graph, inputs[IN]), *constants, "", *before, *peepholes,
        outputs=3, hidden_size=arrays["R"].shape[-1], **_activations(layer, gates=1, states=2),
    )  # fmt: skip
    names = {"hidden": f"{cell[:-1]}1", "cell": cell}
    after = {field: graph.op("Squeeze", name, graph.whole(0)) for field, name in names.items()}
    return {OUT: after["hidden"], **after}, after


def _unprojected(arrays: Arrays) -> Arrays:
    """Return the weights of the plain LSTM that one with projectors is."""
    order = [0, 3, 1, 2]  # i, f, g, o to i, o, f, g
    weights = {
        "W": arrays["weight_ih"] @ arrays["input_projector"].T,
        "R": arrays["weight_hh"] @ arrays["output_projector"].T,
        "B": arrays["bias"],
    }
    stacked = {
        name: np.concatenate([np.split(array, 4)[place] for place in order])
        for name, array in weights.items()
    }
    stacked["B"] = np.concatenate([stacked["B"], np.zeros_like(stacked["B"])])
    return {name: array[None] for name, array in stacked.items()}


def _gru(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    arrays, options = layer.onnx_arrays(), layer.node.options
    after_product = getattr(options, "reset", "") != recurrent.BEFORE
    hidden = graph.op(
        "GRU", _in_time(graph, inputs[IN]),
        *(graph.constant(arrays[name]) for name in ("W", "R", "B")),
        "", _in_time(graph, states["hidden"]),
        outputs=2, hidden_size=arrays["R"].shape[-1], linear_before_reset=int(after_product),
        **_activations(layer, gates=1, states=1),
    )  # fmt: skip
    after = {"hidden": graph.op("Squeeze", hidden, graph.whole(0))}
    return {OUT: after["hidden"], **after}, after


def _fully_connected(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: linear(graph, layer.arrays, inputs[IN])}, {}


def _identity(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: inputs[IN]}, {}


def _relu(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: graph.op("Relu", inputs[IN])}, {}


def _softmax(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: graph.op("Softmax", inputs[IN], axis=1)}, {}


def _flatten(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: graph.op("Flatten", inputs[IN], axis=1)}, {}


def _layer_norm(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    sizes, options = layer.node.entering[IN].sizes, layer.node.options
    shape = (-1, *[1] * (len(sizes) - 1))
    spread = [
        graph.constant(np.broadcast_to(layer.arrays[name].reshape(shape), sizes))
        for name in ("scale", "offset")
    ]
    epsilon = getattr(options, "epsilon", 1e-5)
    return {OUT: graph.op("LayerNormalization", inputs[IN], *spread, axis=1, epsilon=epsilon)}, {}


def _batch_norm(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    names = ("scale", "offset", "mean", "variance")
    constants = [graph.constant(layer.arrays[name]) for name in names]
    epsilon = getattr(layer.node.options, "epsilon", 1e-5)
    return {OUT: graph.op("BatchNormalization", inputs[IN], *constants, epsilon=epsilon)}, {}


def _conv1d(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    """The inputs that the filters span are the state: drop the oldest, append x, slide once."""
    if "past" not in states:
        return _frames(graph, layer, inputs, [_own(layer, "window")])
    window: Window = _own(layer, "window")
    newest = graph.op("Unsqueeze", inputs[IN], graph.whole(1))
    bounds = [graph.whole(1), graph.whole(window.extent), graph.whole(1)]
    kept = graph.op("Slice", states["past"], *bounds)
    past = graph.op("Concat", kept, newest, axis=1)
    columns = graph.op("Transpose", past, perm=[0, 2, 1])
    constants = [graph.constant(layer.arrays[name]) for name in ("weight", "bias")]
    y = graph.op("Conv", columns, *constants, dilations=[window.dilation])
    return {OUT: graph.op("Squeeze", y, graph.whole(2))}, {"past": past}


def _conv2d(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return _frames(graph, layer, inputs, list(_own(layer, "windows")))


def _frames(graph: Graph, layer: Layer, inputs: Named, windows: list[Window]) -> Emitted:
    """Slide over the axes of a frame. Raises UserError where it is not padded with zeros."""
    if _own(layer, "padding_value") != 0:
        message = f"layer {layer.node.name!r} pads with other numbers than 0, which ONNX has not"
        raise UserError(message)
    sizes = layer.node.entering[IN].sizes[1:]
    sides = [window.sides(size) for window, size in zip(windows, sizes, strict=True)]
    y = graph.op(
        "Conv", inputs[IN], *(graph.constant(layer.arrays[name]) for name in ("weight", "bias")),
        pads=[side[0] for side in sides] + [side[1] for side in sides],
        strides=[window.stride for window in windows],
        dilations=[window.dilation for window in windows],
    )  # fmt: skip
    return {OUT: y}, {}


def _own(layer: Layer, name: str) -> Any:
    return getattr(layer.node.options, name)


def _addition(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: graph.op("Sum", *inputs.values())}, {}


def _concatenation(graph: Graph, layer: Layer, inputs: Named, states: Named) -> Emitted:
    return {OUT: graph.op("Concat", *inputs.values(), axis=1)}, {}


EMITTERS: dict[str, Emitter] = {
    "lstm": _lstm,
    "peephole_lstm": _lstm,
    "projected_lstm": _lstm,
    "gru": _gru,
    "fully_connected": _fully_connected,
    "dropout": _identity,
    "folding": _identity,
    "unfolding": _identity,
    "sequence_last": _identity,
    "flatten": _flatten,
    "relu": _relu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "addition": _addition,
    "concatenation": _concatenation,
}
"""By kind of layer: writes its step, returns its outputs by port and its next states by field."""
