"""A step of a network as an ONNX model: (x, states) to (y, next states), built from the wiring.

Nothing is traced: each kind of layer that is exported has a function in onnx_layers which writes
the operations of its step from its options and its arrays. A kind without one is told by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import TensorProto, helper

from forecastd.errors import UserError
from forecastd.exchange.onnx_graph import Graph
from forecastd.exchange.onnx_head import LAGS, emit_head
from forecastd.exchange.onnx_layers import EMITTERS, Layer
from forecastd.exchange.parts import Array, parts_of
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.wiring import INPUT, Node, Port, Wiring

OPSET, IR_VERSION = 17, 9
"""Old enough for most runtimes; 17 brings LayerNormalization."""

BATCH = "series"
"""The name of the first axis, which is free."""

NEXT = ".next"
"""What is added to the name of a state where it comes out."""


def export_step(spec: NetworkSpec, weights: Mapping[str, Array], about: Mapping[str, str]) -> bytes:
    """Return the bytes of an ONNX model that computes one step of the layers and the head.

    Inputs: x [series, ...] as the encoder gives it, lags [series, L] where there is a highway, and
    `LAYER.FIELD` for each field of each layer's state. Outputs: y [series, horizon, Q], scaled (or
    the scores of a classification, the responses of a regression), and `LAYER.FIELD.next`. about:
    texts kept with the model. Raises UserError where a layer or head cannot be exported.
    """
    wiring, parts, graph = wiring_of(spec), parts_of(spec, weights), Graph()
    _require_steps(wiring)
    inputs, outputs = [_value("x", spec.features.sizes)], []
    values = {Port(INPUT): "x"}
    for node in wiring.nodes:
        part = parts.get(node.name)
        layer = Layer(node, part, part.arrays(weights) if part else {})
        entering = {
            port: values[source] for port, source in node.inputs.items() if source in values
        }
        states = {field: state_name(node, field) for field in node.facts.state}
        found, after = EMITTERS[node.kind](graph, layer, entering, states)
        values |= {Port(node.name, port): name for port, name in found.items()}
        for field, shape in node.facts.state.items():
            inputs.append(_value(states[field], shape))
            outputs.append(_value(states[field] + NEXT, shape))
            graph.name(after[field], states[field] + NEXT)
    if spec.head.lags:
        inputs.append(_value(LAGS, (spec.head.lags,)))
    last = next((node.kind for node in wiring.nodes if node.name == wiring.last), "")
    own = {name: array for name, array in weights.items() if name.startswith("head.")}
    y = graph.op("Flatten", values[Port(wiring.last)], axis=1)
    graph.name(emit_head(graph, spec.head, own, y, last), "y")
    return _finished(graph, inputs, [_value("y", (None, None)), *outputs], about)


def state_name(node: Node, field: str) -> str:
    """Return what a field of a layer's state is called in the graph."""
    return f"{node.name}.{field}"


def _require_steps(wiring: Wiring) -> None:
    reason = wiring.needs_future()
    if reason is not None:
        message = f"{reason}, so there is no step to export"
        raise UserError(message)
    for node in wiring.nodes:
        if node.kind not in EMITTERS:
            message = f"layer {node.name!r} ({node.kind}) cannot be exported to ONNX"
            raise UserError(message, hint=f"these can: {', '.join(EMITTERS)}")


def _value(name: str, shape: tuple[int | None, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def _finished(
    graph: Graph, inputs: list[Any], outputs: list[Any], about: Mapping[str, str]
) -> bytes:
    made = helper.make_graph(graph.nodes, "step", inputs, outputs, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    model.producer_name = "forecastd"
    helper.set_model_props(model, dict(about))
    content: bytes = model.SerializeToString()
    return content
