"""The weights of a model, laid out as the kernels read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecastd.network.spec import HeadSpec, LayerSpec, NetworkSpec
from forecastd.runtime.kernels import table as t
from forecastd.runtime.kernels.tiles import PANEL
from forecastd.runtime.kernels.vectors import LANES
from forecastd.series import FloatArray

IGNORED = frozenset({"dropout"})
"""Kinds of layers that do nothing when a model is used."""
ACTIVATIONS = {"relu": t.RELU, "softmax": t.SOFTMAX}
"""Kinds that are computed with the linear layer before them."""
LINEAR = frozenset({"conv1d", "fully_connected"})
"""Kinds of layers that map what enters, or that and past inputs."""


class LiveLayer(NamedTuple):
    """A layer that computes something when a model is used. activation: see table.RELU."""

    spec: LayerSpec
    activation: int

    @property
    def is_linear(self) -> bool:
        """Whether it is a map, with or without past inputs; all others are recurrent."""
        return self.spec.kind in LINEAR


def live_layers(spec: NetworkSpec) -> list[LiveLayer]:
    """Return the layers that compute something when a model is used, each with its activation."""
    found: list[LiveLayer] = []
    for layer in spec.layers:
        if layer.kind in ACTIVATIONS and found:
            found[-1] = LiveLayer(found[-1].spec, ACTIVATIONS[layer.kind])
        elif layer.kind not in IGNORED:
            found.append(LiveLayer(layer, t.NONE))
    return found


class PackedLayer(NamedTuple):
    """A layer's maps by panels; see table.LSTM and its like for its kind.

    weights [panels, recurrent + inputs, PANEL], bias and peepholes [panels, PANEL]; a panel is 4
    gates of LANES units. units: how many outputs. recurrent: how many numbers come before the
    inputs, so that they can be made ahead and the sum stays the same. taps, dilation: the past
    inputs that a linear layer reads. What goes into a sigmoid is halved, which is exact: see
    activations.sigmoid_of_twice.
    """

    kind: int
    weights: FloatArray
    bias: FloatArray
    peepholes: FloatArray
    units: int
    recurrent: int
    taps: int = 0
    dilation: int = 1


class PackedWeights:
    """The weights of a model, packed."""

    def __init__(self, weights: dict[str, FloatArray], spec: NetworkSpec) -> None:
        features = spec.features
        columns = range(len(features.vocabulary) if features.embedding else 0)
        names = [f"encoder.embeddings.{column}.weight" for column in columns]
        self.embeddings = [np.ascontiguousarray(weights[name]) for name in names]
        self.layers = [_packed(weights, layer.spec) for layer in live_layers(spec)]
        own = {n.removeprefix("head."): a for n, a in weights.items() if n.startswith("head.")}
        self.centre = _centre(own, spec.head, self.layers[-1].units)
        self.steps = _map(own, _STEPS.get(spec.head.kind, ""))
        self.scale = _together(weights, "encoder.scale", np.float64)
        self.responses = _together(weights, "head", np.float32)


def _packed(weights: dict[str, FloatArray], layer: LayerSpec) -> PackedLayer:
    prefix = f"layers.{layer.name}."
    own = {n.removeprefix(prefix): a for n, a in weights.items() if n.startswith(prefix)}
    if layer.kind in LINEAR:
        return _packed_linear(own["weight"], own["bias"], layer.options.get("dilation", 1))
    return PACKED[layer.kind](own, layer.options["hidden"])


def _packed_linear(weight: FloatArray, bias: FloatArray, dilation: int) -> PackedLayer:
    """Pack a map [outputs, inputs], or a convolution [outputs, inputs, taps], oldest tap first."""
    taps = weight.shape[2] - 1 if weight.ndim == 3 else 0
    by_tap = weight.swapaxes(1, 2) if weight.ndim == 3 else weight
    flat = by_tap.reshape(len(weight), -1)
    panels = panels_of(flat)
    whole = np.pad(bias, (0, panels.shape[0] * PANEL - len(bias)))
    recurrent = flat.shape[1] // (taps + 1) * taps
    none = np.zeros(0, np.float32)
    return PackedLayer(t.LINEAR, panels, whole, none, len(weight), recurrent, taps, dilation)


def _packed_lstm(own: dict[str, FloatArray], hidden: int) -> PackedLayer:
    maps = np.concatenate([own["lstm.weight_hh_l0"], own["lstm.weight_ih_l0"]], 1)
    bias = own["lstm.bias_ih_l0"].astype(np.float64) + own["lstm.bias_hh_l0"]
    return _of_lstm(t.LSTM, maps, bias, np.zeros((4, hidden)))


def _packed_peephole(own: dict[str, FloatArray], hidden: int) -> PackedLayer:
    """Pack peepholes by gate; weights of one row are those of the variant that only g sees."""
    given = own["peephole"].astype(np.float64)
    seen = np.zeros((4, hidden))
    seen[[0, 1, 3] if len(given) > 1 else [2]] = given
    maps = np.concatenate([own["weight_hh"], own["weight_ih"]], 1)
    return _of_lstm(t.PEEPHOLE_LSTM, maps, own["bias"].astype(np.float64), seen)


def _packed_projected(own: dict[str, FloatArray], hidden: int) -> PackedLayer:
    """Pack a projected LSTM as a plain one, whose maps are the products of its factors."""
    recurrent, inputs = (
        own[weight].astype(np.float64) @ own[projector].T
        for weight, projector in (
            ("weight_hh", "output_projector"),
            ("weight_ih", "input_projector"),
        )
    )
    maps = np.concatenate([recurrent, inputs], 1)
    return _of_lstm(t.LSTM, maps, own["bias"].astype(np.float64), np.zeros((4, hidden)))


def _of_lstm(
    kind: int, maps: NDArray[Any], bias: NDArray[np.float64], peepholes: NDArray[np.float64]
) -> PackedLayer:
    hidden = peepholes.shape[1]
    gates, biases = maps.reshape(4, hidden, -1), bias.reshape(4, hidden)
    return _laid_out(kind, gates, biases, peepholes, (0.5, 0.5, 1, 0.5))


def _packed_gru(own: dict[str, FloatArray], hidden: int) -> PackedLayer:
    """Pack a GRU as four gates: r, z, and both halves of the candidate, which r stands between."""
    recurrent = own["gru.weight_hh_l0"].reshape(3, hidden, hidden)
    inputs = own["gru.weight_ih_l0"].reshape(3, hidden, -1)
    of_inputs = own["gru.bias_ih_l0"].astype(np.float64).reshape(3, hidden)
    of_hidden = own["gru.bias_hh_l0"].astype(np.float64).reshape(3, hidden)
    gates = np.zeros((4, hidden, hidden + inputs.shape[2]), np.float32)
    gates[:2] = np.concatenate([recurrent[:2], inputs[:2]], 2)
    gates[2, :, hidden:], gates[3, :, :hidden] = inputs[2], recurrent[2]
    bias = np.stack([*(of_inputs[:2] + of_hidden[:2]), of_inputs[2], of_hidden[2]])
    return _laid_out(t.GRU, gates, bias, np.zeros((4, hidden)), (0.5, 0.5, 1, 1))


def _laid_out(
    kind: int,
    gates: NDArray[Any],
    bias: NDArray[np.float64],
    peepholes: NDArray[np.float64],
    factors: tuple[float, ...],
) -> PackedLayer:
    """Return [4, hidden, inputs] and [4, hidden] by panels, each gate times its factor."""
    hidden, depth = gates.shape[1:]
    scale = np.array(factors, np.float32)[:, None]
    wide = np.zeros((4, padded(hidden), depth), np.float32)
    wide[:, :hidden] = gates * scale[..., None]
    flat = np.zeros((2, 4, padded(hidden)), np.float32)
    flat[0, :, :hidden], flat[1, :, :hidden] = bias * scale, peepholes * scale
    grouped = wide.reshape(4, -1, LANES, depth).transpose(1, 3, 0, 2)
    biases, seen = (part.reshape(4, -1, LANES).transpose(1, 0, 2) for part in flat)
    contiguous = np.ascontiguousarray
    packed = contiguous(grouped), contiguous(biases), contiguous(seen)
    return PackedLayer(kind, *packed, hidden, hidden)


PACKED: dict[str, Callable[[dict[str, FloatArray], int], PackedLayer]] = {
    "lstm": _packed_lstm,
    "peephole_lstm": _packed_peephole,
    "projected_lstm": _packed_projected,
    "gru": _packed_gru,
}
"""Recurrent kinds: takes the weights of a layer and how many units it has."""


Map = tuple[FloatArray, FloatArray]
"""Weights [outputs, inputs] and bias [outputs]."""

_CENTRES = {"responses": "responses", "classes": "scores"}
_STEPS = {"quantile": "steps", "gaussian": "scale"}


def _centre(own: dict[str, FloatArray], head: HeadSpec, width: int) -> Map | None:
    """Return the map from [output, lags] to the centre; None: it is the last layer's output."""
    made = _map(own, _CENTRES.get(head.kind, "centre")) if head.linear else None
    if not head.lags:
        return made
    if made is None:
        made = np.eye(width, dtype=np.float32), np.zeros(width, np.float32)
    return np.concatenate([made[0], own["highway.weight"]], 1), made[1]


def _map(own: dict[str, FloatArray], name: str) -> Map | None:
    """Return a map of the head; None where it has none, or one to nothing."""
    weight = own.get(f"{name}.weight")
    return None if weight is None or not len(weight) else (weight, own[f"{name}.bias"])


def _together(
    weights: dict[str, FloatArray], owner: str, kind: type[np.floating]
) -> NDArray[Any] | None:
    """Return location and spread [n, 2] that training found, where there are any."""
    both = [weights.get(f"{owner}.{name}") for name in ("location", "spread")]
    return None if both[0] is None else np.stack(both, -1).astype(kind)  # type: ignore[arg-type]


def panels_of(weights: FloatArray) -> FloatArray:
    """Return weights [outputs, inputs] as [panels, inputs, PANEL]."""
    outputs, inputs = weights.shape
    whole = np.zeros((-(-outputs // PANEL) * PANEL, inputs), np.float32)
    whole[:outputs] = weights
    return np.ascontiguousarray(whole.reshape(-1, PANEL, inputs).transpose(0, 2, 1))


def padded(count: int) -> int:
    """Return a count made up to whole vectors."""
    return -(-count // LANES) * LANES
