"""The weights a spec asks for, by name and shape, without making any and without torch.

What reads a model compares its file with them, so nothing is allocated that a file only claims.
`tests/unit/test_network_shapes.py` holds them against the modules. To add a layer or a head: one
function here, one line in LAYERS or HEADS, of the same kind as its class.
"""

from __future__ import annotations

from collections.abc import Callable

from forecastd.errors import ArtifactError
from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec

NUMBER_MAX = 1 << 30
"""No width, count or length of a network is larger."""

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
"""The shape of each array by the dotted name it has in the network's state_dict()."""


def weight_shapes(spec: NetworkSpec) -> Shapes:
    """Return the shape of every weight of a network.

    Raises ArtifactError when a layer or the head is unknown or its options do not fit it.
    """
    shapes = _encoder(spec)
    width = spec.features.width
    names: set[str] = set()
    for layer in spec.layers:
        if layer.name in names:
            message = f"two layers are called {layer.name!r}"
            raise ArtifactError(message)
        names.add(layer.name)
        own, width = _of_layer(layer, width)
        shapes |= {f"layers.{layer.name}.{name}": shape for name, shape in own.items()}
    if spec.head.kind not in HEADS:
        message = f"the head has the unknown kind {spec.head.kind!r}"
        raise ArtifactError(message, hint=f"known: {', '.join(HEADS)}")
    _require_head(spec.head)
    head = HEADS[spec.head.kind](width, spec.head)
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
    tables = enumerate(features.vocabulary if features.embedding else ())
    return {f"encoder.embeddings.{n}.weight": (size, features.embedding) for n, size in tables}


def _of_layer(layer: LayerSpec, inputs: int) -> tuple[Shapes, int]:
    """Return the shapes of a layer, and its width."""
    if layer.kind not in LAYERS:
        message = f"layer {layer.name!r} has the unknown kind {layer.kind!r}"
        raise ArtifactError(message, hint=f"known: {', '.join(LAYERS)}")
    named = isinstance(layer.name, str) and layer.name != "" and "." not in layer.name
    _require(named, f"{layer.name!r} cannot be the name of a layer")
    try:
        return LAYERS[layer.kind](inputs, **layer.options)
    except (TypeError, ArtifactError) as error:
        message = f"layer {layer.name!r} cannot be built from its options: {error}"
        raise ArtifactError(message) from error


def _lstm(inputs: int, hidden: int, output: str = "sequence") -> tuple[Shapes, int]:
    _whole("hidden", hidden, 1)
    _require(output in ("sequence", "last"), f"output is neither sequence nor last: {output!r}")
    rows = 4 * hidden
    shapes: Shapes = {
        "lstm.weight_ih_l0": (rows, inputs),
        "lstm.weight_hh_l0": (rows, hidden),
        "lstm.bias_ih_l0": (rows,),
        "lstm.bias_hh_l0": (rows,),
    }
    return shapes, hidden


def _dropout(inputs: int, share: float) -> tuple[Shapes, int]:
    _require(_is_number(share) and 0 <= share <= 1, f"share is not between 0 and 1: {share!r}")
    return {}, inputs


def _require_head(head: HeadSpec) -> None:
    _whole("horizon", head.horizon, 1)
    _whole("lags", head.lags, 0)
    numbers = all(_is_number(quantile) for quantile in head.quantiles)
    _require(numbers, f"quantiles are not numbers: {head.quantiles!r}")


def _point(width: int, spec: HeadSpec) -> Shapes:
    shapes: Shapes = {"centre.weight": (spec.horizon, width), "centre.bias": (spec.horizon,)}
    return shapes | ({"highway.weight": (spec.horizon, spec.lags)} if spec.lags else {})


def _quantile(width: int, spec: HeadSpec) -> Shapes:
    rows = spec.horizon * sum(quantile != 0.5 for quantile in spec.quantiles)
    return _point(width, spec) | {"steps.weight": (rows, width), "steps.bias": (rows,)}


LAYERS: dict[str, Callable[..., tuple[Shapes, int]]] = {"lstm": _lstm, "dropout": _dropout}
"""Kind: the shapes and the width for a width of inputs and the options of a LayerSpec."""

HEADS: dict[str, Callable[[int, HeadSpec], Shapes]] = {"point": _point, "quantile": _quantile}
"""Kind: the shapes for the width of the last layer."""


def _whole(name: str, value: object, least: int) -> None:
    good = type(value) is int and least <= value <= NUMBER_MAX
    _require(good, f"{name} is not a whole number from {least} to {NUMBER_MAX}: {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(good: bool, problem: str) -> None:
    if not good:
        raise ArtifactError(problem)
