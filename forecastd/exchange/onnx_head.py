"""The heads of a network as operations of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from forecastd.errors import UserError
from forecastd.exchange.onnx_graph import Graph, linear
from forecastd.exchange.parts import Array, Arrays
from forecastd.network.outputs import SPREAD_MIN
from forecastd.network.spec import HeadSpec

LAGS = "lags"
"""The input of the highway, where it is one of the graph."""

IN_UNITS = frozenset({"responses", "classes"})
"""Heads whose answers are not scaled."""


class Source(NamedTuple):
    """What a head takes: y [series, H], lags [series, L], and the kind of layer that gave y."""

    y: str
    lags: str
    kind: str


def emit_head(graph: Graph, spec: HeadSpec, weights: Mapping[str, Array], source: Source) -> str:
    """Write a head's operations and return its answer [series, horizon, Q].

    Raises UserError where a head cannot be exported.
    """
    if spec.kind not in _HEADS:
        message = f"the head {spec.kind} cannot be exported to ONNX"
        raise UserError(message, hint=f"these can: {', '.join(_HEADS)}")
    own = {name.removeprefix("head."): array for name, array in weights.items()}
    if spec.kind == "classes" and source.kind == "softmax" and not spec.linear:
        return graph.op("Unsqueeze", source.y, graph.whole(1))
    return _HEADS[spec.kind](graph, spec, own, source)


def _map(graph: Graph, own: Arrays, name: str, y: str) -> str:
    """Write a linear map of the head; what it has not is passed on."""
    arrays = {
        short: own[f"{name}.{short}"] for short in ("weight", "bias") if f"{name}.{short}" in own
    }
    return linear(graph, arrays, y) if arrays else y


def _centre(graph: Graph, own: Arrays, source: Source) -> str:
    centre = _map(graph, own, "centre", source.y)
    if "highway.weight" in own:
        centre = graph.op("Add", centre, _map(graph, own, "highway", source.lags))
    return graph.op("Unsqueeze", centre, graph.whole(2))


def _point(graph: Graph, spec: HeadSpec, own: Arrays, source: Source) -> str:
    return _centre(graph, own, source)


def _quantile(graph: Graph, spec: HeadSpec, own: Arrays, source: Source) -> str:
    """Write the median, and running sums of positive steps away from it on both sides."""
    median = _centre(graph, own, source)
    below = sum(q < 0.5 for q in spec.quantiles)
    above = sum(q > 0.5 for q in spec.quantiles)
    if below + above == 0:
        return median
    steps = graph.op("Softplus", _map(graph, own, "steps", source.y))
    steps = graph.op("Reshape", steps, graph.whole(0, spec.horizon, below + above))
    parts = [median]
    if below:
        down = graph.op("CumSum", _columns(graph, steps, range(below)), _axis(graph))
        lower = graph.op("Sub", median, down)
        parts.insert(0, _columns(graph, lower, range(below - 1, -1, -1)))
    if above:
        up = graph.op("CumSum", _columns(graph, steps, range(below, below + above)), _axis(graph))
        parts.append(graph.op("Add", median, up))
    return graph.op("Concat", *parts, axis=2)


def _columns(graph: Graph, name: str, places: range) -> str:
    return graph.op("Gather", name, graph.whole(*places), axis=2)


def _axis(graph: Graph) -> str:
    return graph.constant(np.array(2, np.int64))


def _gaussian(graph: Graph, spec: HeadSpec, own: Arrays, source: Source) -> str:
    levels = [NormalDist().inv_cdf(quantile) for quantile in spec.quantiles or (0.5,)]
    spread = graph.op("Softplus", _map(graph, own, "scale", source.y))
    spread = graph.op("Add", spread, graph.constant(np.array(SPREAD_MIN)))
    away = graph.op("Unsqueeze", spread, graph.whole(2))
    away = graph.op("Mul", away, graph.constant(np.array(levels)))
    return graph.op("Add", _centre(graph, own, source), away)


def _responses(graph: Graph, spec: HeadSpec, own: Arrays, source: Source) -> str:
    found = graph.op("Mul", _map(graph, own, "responses", source.y), graph.constant(own["spread"]))
    found = graph.op("Add", found, graph.constant(own["location"]))
    return graph.op("Unsqueeze", found, graph.whole(1))


def _classes(graph: Graph, spec: HeadSpec, own: Arrays, source: Source) -> str:
    shares = graph.op("Softmax", _map(graph, own, "scores", source.y), axis=1)
    return graph.op("Unsqueeze", shares, graph.whole(1))


_HEADS: dict[str, Callable[[Graph, HeadSpec, Arrays, Source], str]] = {
    "point": _point,
    "quantile": _quantile,
    "gaussian": _gaussian,
    "responses": _responses,
    "classes": _classes,
}
"""By kind: writes a head for the last layer's output and returns its answer."""
