"""The weights a spec asks for, by name and shape, without making any and without torch.

What reads a model compares its file with them, so nothing is allocated that a file only claims.
`tests/unit/test_network_shapes.py` holds them against the modules. A layer says its own in
`network.kinds`; to add a head: one function here, one line in HEADS, of the same kind as its class.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from forecastd.errors import ArtifactError
from forecastd.features.spec import PARTS, SCALINGS
from forecastd.network.kinds.contract import NUMBER_MAX, Shape, Shapes
from forecastd.network.outputs import DISTRIBUTIONS, SUPERVISED
from forecastd.network.spec import HeadSpec, NetworkSpec
from forecastd.network.wiring import Wiring, wire_network


def wiring_of(spec: NetworkSpec) -> Wiring:
    """Return how the layers of a network are connected. Raises SpecError."""
    return wire_network(spec.layers, Shape(spec.features.sizes))


def weight_shapes(spec: NetworkSpec) -> Shapes:
    """Return the shape of every weight of a network, by its dotted name in the state_dict().

    Raises ArtifactError when a layer or the head is unknown or its options do not fit it.
    """
    shapes = _encoder(spec)
    wiring = wiring_of(spec)
    for node in wiring.nodes:
        own = node.facts.weights
        shapes |= {f"layers.{node.name}.{name}": shape for name, shape in own.items()}
    if spec.head.kind not in HEADS:
        message = f"the head has the unknown kind {spec.head.kind!r}"
        raise ArtifactError(message, hint=f"known: {', '.join(HEADS)}")
    _require_head(spec.head, wiring.output.width)
    head = HEADS[spec.head.kind](wiring.output.width, spec.head)
    return shapes | {f"head.{name}": shape for name, shape in head.items()}


def _encoder(spec: NetworkSpec) -> Shapes:
    features = spec.features
    _whole("channels", features.channels, 1)
    for name in ("lags", "embedding"):
        _whole(name, getattr(features, name), 0)
    positive = _is_number(features.half_life) and features.half_life > 0
    _require(positive, f"half_life is not a number of steps: {features.half_life!r}")
    for size in features.vocabulary:
        _whole("vocabulary", size, 1)
    _whole("min_length", features.min_length, 1)
    _whole("max_length", features.max_length, 0)
    _require(features.scaling in SCALINGS, f"scaling is not known: {features.scaling!r}")
    ordered = [part for part in PARTS if part in features.parts]
    _require(list(features.parts) == ordered != [], f"parts are not known: {features.parts!r}")
    for size in features.frame:
        _whole("frame", size, 1)
    fits = not features.frame or math.prod(features.frame) == features.width
    _require(fits, f"a frame of {features.frame} is not made of {features.width} inputs")
    tables = enumerate(features.vocabulary if features.embedding else ())
    shapes: Shapes = {
        f"encoder.embeddings.{n}.weight": (size, features.embedding) for n, size in tables
    }
    if features.scaling != "running":
        shapes |= {f"encoder.scale.{name}": (features.channels,) for name in ("location", "spread")}
    return shapes


def _require_head(head: HeadSpec, width: int) -> None:
    _whole("horizon", head.horizon, 1)
    _whole("lags", head.lags, 0)
    numbers = all(_is_number(quantile) for quantile in head.quantiles)
    _require(numbers, f"quantiles are not numbers: {head.quantiles!r}")
    if head.kind in DISTRIBUTIONS:
        inside = all(0 < quantile < 1 for quantile in head.quantiles) and head.quantiles
        _require(bool(inside), f"quantiles are not between 0 and 1: {head.quantiles!r}")
    if head.kind in SUPERVISED:
        _whole("outputs", head.outputs, 1 if head.kind == "responses" else 2)
        plain = head.horizon == 1 and not head.quantiles and not head.lags
        _require(plain, f"horizon, quantiles and lags are none of the head {head.kind!r}")
    _require(isinstance(head.linear, bool), f"linear is not true or false: {head.linear!r}")
    if not head.linear:
        wanted = {"point": head.horizon}.get(head.kind, head.outputs)
        mapped = head.kind == "point" or head.kind in SUPERVISED
        _require(mapped, f"linear cannot be false for the head {head.kind!r}")
        fits = f"linear is false, and the last layer gives {width} numbers where {wanted} are taken"
        _require(width == wanted, fits)


def _linear(name: str, rows: int, width: int) -> Shapes:
    return {f"{name}.weight": (rows, width), f"{name}.bias": (rows,)}


def _point(width: int, spec: HeadSpec) -> Shapes:
    shapes = _linear("centre", spec.horizon, width) if spec.linear else {}
    return shapes | ({"highway.weight": (spec.horizon, spec.lags)} if spec.lags else {})


def _quantile(width: int, spec: HeadSpec) -> Shapes:
    rows = spec.horizon * sum(quantile != 0.5 for quantile in spec.quantiles)
    return _point(width, spec) | _linear("steps", rows, width)


def _gaussian(width: int, spec: HeadSpec) -> Shapes:
    return _point(width, spec) | _linear("scale", spec.horizon, width)


def _student(width: int, spec: HeadSpec) -> Shapes:
    return _gaussian(width, spec) | _linear("freedom", spec.horizon, width)


def _counts(width: int, spec: HeadSpec) -> Shapes:
    return _point(width, spec) | _linear("dispersion", spec.horizon, width)


def _responses(width: int, spec: HeadSpec) -> Shapes:
    shapes: Shapes = {name: (spec.outputs,) for name in ("location", "spread")}
    return shapes | (_linear("responses", spec.outputs, width) if spec.linear else {})


def _classes(width: int, spec: HeadSpec) -> Shapes:
    return _linear("scores", spec.outputs, width) if spec.linear else {}


HEADS: dict[str, Callable[[int, HeadSpec], Shapes]] = {
    "point": _point,
    "quantile": _quantile,
    "gaussian": _gaussian,
    "student_t": _student,
    "negative_binomial": _counts,
    "responses": _responses,
    "classes": _classes,
}
"""Kind: the shapes for the width of the last layer."""


def _whole(name: str, value: object, least: int) -> None:
    good = type(value) is int and least <= value <= NUMBER_MAX
    _require(good, f"{name} is not a whole number from {least} to {NUMBER_MAX}: {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(good: bool, problem: str) -> None:
    if not good:
        raise ArtifactError(problem)
