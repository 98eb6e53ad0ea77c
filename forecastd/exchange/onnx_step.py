"""A step of a network as an ONNX model: (x, states) to (y, next states), built from the wiring.

Nothing is traced: each kind of layer that is exported has a function in onnx_layers which writes
the operations of its step from its options and its arrays. A kind without one is told by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx import helper

from forecastd.errors import UserError
from forecastd.exchange.onnx_features import (
    DOUBLE,
    FLOAT,
    Features,
    emit_features,
    feature_inputs,
    feature_states,
)
from forecastd.exchange.onnx_graph import Graph
from forecastd.exchange.onnx_head import IN_UNITS, LAGS, Source, emit_head
from forecastd.exchange.onnx_layers import EMITTERS, Layer
from forecastd.exchange.parts import Array, Part, parts_of
from forecastd.features.spec import FeatureSpec
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.wiring import INPUT, Node, Port, Wiring

OPSET, IR_VERSION = 17, 9
"""Old enough for most runtimes; 17 brings LayerNormalization."""

BATCH = "series"
"""The name of the first axis, which is free."""

ENCODER = "encoder"
"""What stands before the fields that the features remember."""

NEXT = ".next"
"""What is added to the name of a state where it comes out."""


def export_step(
    spec: NetworkSpec,
    weights: Mapping[str, Array],
    about: Mapping[str, str],
    *,
    features: bool = False,
) -> bytes:
    """Return the bytes of an ONNX model that computes one step of the layers and the head.

    Inputs: x [series, ...] as the encoder gives it, lags [series, L] where there is a highway, and
    `LAYER.FIELD` for each field of each layer's state. Outputs: y [series, horizon, Q], scaled (or
    the scores of a classification, the responses of a regression), and `LAYER.FIELD.next`. about:
    texts kept with the model. features: the graph makes x and lags itself, from the inputs values
    [series, C] (NaN where missing), clocks and codes, with states `encoder.FIELD`; y is in the
    units of the data, float64. Raises UserError where a layer or head cannot be exported.
    """
    wiring = wiring_of(spec)
    _require_steps(wiring)
    step = _Step(Graph(), [], [])
    made = step.features(spec.features, weights) if features else None
    if made is None:
        step.inputs.append(_value("x", spec.features.sizes))
    y = step.layers(wiring, parts_of(spec, weights), weights, made.x if made else "x")
    if spec.head.lags and made is None:
        step.inputs.append(_value(LAGS, (spec.head.lags,)))
    last = next((node.kind for node in wiring.nodes if node.name == wiring.last), "")
    own = {name: array for name, array in weights.items() if name.startswith("head.")}
    source = Source(step.graph.op("Flatten", y, axis=1), made.lags if made else LAGS, last)
    answer = emit_head(step.graph, spec.head, own, source)
    if made is not None:
        scaled = spec.head.kind not in IN_UNITS
        answer = step.unscaled(answer, made if scaled else None)
    step.graph.name(answer, "y")
    outputs = [_value("y", (None, None), DOUBLE if features else FLOAT), *step.outputs]
    return _finished(step.graph, step.inputs, outputs, about)


@dataclass
class _Step:
    """A graph as it grows, with what goes in and what comes out."""

    graph: Graph
    inputs: list[Any]
    outputs: list[Any]

    def features(self, spec: FeatureSpec, weights: Mapping[str, Array]) -> Features:
        """Write the encoder."""
        for name, (kind, sizes) in feature_inputs(spec).items():
            self.inputs.append(_value(name, sizes, kind))
        remembered = feature_states(spec)
        own = {field: f"{ENCODER}.{field}" for field in remembered}
        made = emit_features(self.graph, spec, weights, own)
        for field, (kind, sizes) in remembered.items():
            self._remember(own[field], made.after[field], sizes, kind)
        return made

    def layers(
        self,
        wiring: Wiring,
        parts: Mapping[str, Part],
        weights: Mapping[str, Array],
        x: str,
    ) -> str:
        """Write each layer, and return what the last one gives."""
        values = {Port(INPUT): x}
        for node in wiring.nodes:
            part = parts.get(node.name)
            layer = Layer(node, part, part.arrays(weights) if part else {})
            entering = {port: values[at] for port, at in node.inputs.items() if at in values}
            states = {field: state_name(node, field) for field in node.facts.state}
            found, after = EMITTERS[node.kind](self.graph, layer, entering, states)
            values |= {Port(node.name, port): name for port, name in found.items()}
            for field, shape in node.facts.state.items():
                self._remember(states[field], after[field], shape)
        return values[Port(wiring.last)]

    def unscaled(self, y: str, features: Features | None) -> str:
        """Write an answer as float64, in the units of the data where it is scaled."""
        graph = self.graph
        y = graph.op("Cast", y, to=DOUBLE)
        if features is None:
            return y
        spread = graph.op("Unsqueeze", features.spread, graph.whole(2))
        location = graph.op("Unsqueeze", features.location, graph.whole(2))
        return graph.op("Add", graph.op("Mul", y, spread), location)

    def _remember(self, name: str, after: str, sizes: tuple[int, ...], kind: int = FLOAT) -> None:
        """Let a state in and its next value out."""
        self.inputs.append(_value(name, sizes, kind))
        self.outputs.append(_value(name + NEXT, sizes, kind))
        self.graph.name(after, name + NEXT)


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


def _value(name: str, shape: tuple[int | None, ...], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, [BATCH, *shape])


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
