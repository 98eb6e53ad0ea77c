"""The features of a network as operations of an ONNX graph: raw values in, inputs of layers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from forecastd.exchange.onnx_graph import Graph
from forecastd.exchange.parts import Array
from forecastd.features.spec import CHANGE, OBSERVED, SLOW_SHARE, VALUE, FeatureSpec, scale_rates

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64

Sizes = dict[str, tuple[int, tuple[int, ...]]]
"""Element type and sizes of values by name, without the axis of the series."""


class Features(NamedTuple):
    """What the operations give.

    x for the first layer, lags for the highway, both scaled. location, spread [series, 1] of the
    target, float64. after: the next states by field of the encoder.
    """

    x: str
    lags: str
    location: str
    spread: str
    after: dict[str, str]


def feature_inputs(spec: FeatureSpec) -> Sizes:
    """Return what goes in at each step: values, clocks, codes."""
    sizes: Sizes = {"values": (FLOAT, (spec.channels,))}
    if spec.clocks:
        sizes["clocks"] = (FLOAT, (2 * len(spec.clocks),))
    if spec.embedding:
        sizes["codes"] = (INT64, (len(spec.vocabulary),))
    return sizes


def feature_states(spec: FeatureSpec) -> Sizes:
    """Return what the features remember, by field; empty fields are left out."""
    sizes: Sizes = {
        "seen": (DOUBLE, (spec.channels,)),
        "latest": (FLOAT, (spec.channels,)),
    }
    if spec.scaling == "running":
        sizes |= dict.fromkeys(("mean", "variance"), (DOUBLE, (spec.channels, 2)))
    if spec.lags:
        sizes["ring"] = (FLOAT, (spec.lags,))
    return sizes


def emit_features(
    graph: Graph, spec: FeatureSpec, weights: Mapping[str, Array], states: Mapping[str, str]
) -> Features:
    """Write the encoder's step. states: names of the fields; weights: those of the network."""
    odd = graph.op("Or", graph.op("IsNaN", "values"), graph.op("IsInf", "values"))
    observed = graph.op("Not", odd)
    filled = graph.op("Where", odd, states["latest"], "values")
    counted = graph.op("Cast", observed, to=DOUBLE)
    seen = graph.op("Add", states["seen"], counted)
    after = {"seen": seen, "latest": filled}
    if spec.scaling == "running":
        moments = _running(graph, spec, states, observed, seen)
        after |= {"mean": moments[0], "variance": moments[1]}
        location, spread = _scale(graph, *moments, seen)
    else:
        names = ("encoder.scale.location", "encoder.scale.spread")
        zero = graph.op("Mul", seen, graph.exact(0.0))
        location, spread = (
            graph.op("Add", zero, graph.exact(weights[name].astype(np.float64))) for name in names
        )
    value = graph.op("Cast", filled, to=DOUBLE)
    zero = graph.exact(0.0)
    scaled = graph.op("Div", graph.op("Sub", value, location), spread)
    before = graph.op("Cast", states["latest"], to=DOUBLE)
    moved = graph.op("Div", graph.op("Sub", value, before), spread)
    known = graph.op("And", observed, graph.op("Greater", states["seen"], zero))
    given = {
        VALUE: graph.op("Where", observed, scaled, zero),
        CHANGE: graph.op("Where", known, moved, zero),
        OBSERVED: counted,
    }
    parts = [graph.op("Cast", given[part], to=FLOAT) for part in spec.parts]
    x = _joined(graph, spec, weights, parts)
    first = (graph.op("Gather", name, graph.whole(0), axis=1) for name in (location, spread, seen))
    target_location, target_spread, target_seen = first
    lags = ""
    if spec.lags:
        fresh = graph.op("Equal", graph.op("Gather", states["seen"], graph.whole(0), axis=1), zero)
        target = graph.op("Gather", filled, graph.whole(0), axis=1)
        after["ring"] = _ring(graph, spec, states["ring"], target, fresh)
        started = graph.op("Greater", target_seen, zero)
        lags = _lags(graph, after["ring"], (target_location, target_spread), started)
    return Features(x, lags, target_location, target_spread, after)


def _running(
    graph: Graph, spec: FeatureSpec, states: Mapping[str, str], observed: str, seen: str
) -> tuple[str, str]:
    """Write the fast and the slow tracker: the next mean and variance."""
    one, last = graph.exact(1.0), graph.whole(2)
    share = graph.op("Div", one, graph.op("Max", seen, one))
    rates = graph.exact(np.array(scale_rates(spec.half_life)))
    weight = graph.op("Max", rates, graph.op("Unsqueeze", share, last))
    counted = graph.op("Unsqueeze", graph.op("Cast", observed, to=DOUBLE), last)
    weight = graph.op("Mul", weight, counted)
    value = graph.op("Where", observed, graph.op("Cast", "values", to=DOUBLE), graph.exact(0.0))
    difference = graph.op("Sub", graph.op("Unsqueeze", value, last), states["mean"])
    move = graph.op("Mul", weight, difference)
    mean = graph.op("Add", states["mean"], move)
    variance = graph.op("Add", states["variance"], graph.op("Mul", move, difference))
    return mean, graph.op("Mul", variance, graph.op("Sub", one, weight))


def _scale(graph: Graph, mean: str, variance: str, seen: str) -> tuple[str, str]:
    """Write where each channel is and how far it spreads."""
    location = graph.op("Gather", mean, graph.place(0), axis=2)
    deviation = graph.op("Sqrt", variance)
    fast = graph.op("Gather", deviation, graph.place(0), axis=2)
    slow = graph.op("Gather", deviation, graph.place(1), axis=2)
    floor = graph.op("Mul", graph.op("Abs", location), graph.exact(1e-6))
    floor = graph.op("Add", floor, graph.exact(1e-30))
    spread = graph.op("Add", fast, graph.op("Mul", slow, graph.exact(SLOW_SHARE)))
    spread = graph.op("Add", spread, floor)
    known = graph.op("Greater", seen, graph.exact(0.0))
    return location, graph.op("Where", known, spread, graph.exact(1.0))


def _joined(graph: Graph, spec: FeatureSpec, weights: Mapping[str, Array], parts: list[str]) -> str:
    """Write what the first layer takes, made a frame with its channels first where it is one."""
    parts = [*parts, "clocks"] if spec.clocks else parts
    for place in range(len(spec.vocabulary) if spec.embedding else 0):
        table = graph.constant(weights[f"encoder.embeddings.{place}.weight"])
        code = graph.op("Gather", "codes", graph.place(place), axis=1)
        parts = [*parts, graph.op("Gather", table, code, axis=0)]
    x = graph.op("Concat", *parts, axis=1)
    if not spec.frame:
        return x
    frame = graph.op("Reshape", x, graph.whole(0, *spec.frame))
    axes = range(1, len(spec.frame))
    return graph.op("Transpose", frame, perm=[0, len(spec.frame), *axes])


def _ring(graph: Graph, spec: FeatureSpec, ring: str, target: str, fresh: str) -> str:
    """Write the ring after a step; that of a fresh series is filled with its first value."""
    full = graph.op("Expand", target, graph.whole(1, spec.lags))
    if spec.lags == 1:
        return full
    bounds = (graph.whole(1), graph.whole(spec.lags), graph.whole(1))
    moved = graph.op("Concat", graph.op("Slice", ring, *bounds), target, axis=1)
    return graph.op("Where", fresh, full, moved)


def _lags(graph: Graph, ring: str, scale: tuple[str, str], started: str) -> str:
    location, spread = (graph.op("Cast", name, to=FLOAT) for name in scale)
    scaled = graph.op("Div", graph.op("Sub", ring, location), spread)
    return graph.op("Where", started, scaled, graph.constant(np.array(0.0)))
