"""A network's weights by part, each part a map that other systems have too.

A part is a layer of the wiring, a linear map of the head, or a table of the encoder. Its arrays go
by the last word of their name in the state_dict(): `weight_ih_l0`, `weight`, `bias` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forecastd.errors import UserError
from forecastd.network.kinds.contract import IN, Options
from forecastd.network.shapes import wiring_of
from forecastd.network.spec import NetworkSpec
from forecastd.network.wiring import Node, Wiring

Array = NDArray[Any]
Arrays = dict[str, Array]

Form = Literal[
    "lstm", "bilstm", "gru", "peephole", "projected", "linear", "convolution", "embedding",
    "batch_norm", "layer_norm", "numbers",
]  # fmt: skip
"""What a part computes, whatever system computes it; "numbers" are kept as they are."""

_FORMS: dict[str, Form] = {
    "lstm": "lstm",
    "bilstm": "bilstm",
    "gru": "gru",
    "peephole_lstm": "peephole",
    "projected_lstm": "projected",
    "fully_connected": "linear",
    "conv1d": "convolution",
    "conv2d": "convolution",
    "word_embedding": "embedding",
    "batch_norm": "batch_norm",
    "layer_norm": "layer_norm",
}
_KEEPS_ORDER = {
    "dropout", "relu", "softmax", "batch_norm", "layer_norm", "folding", "unfolding",
    "sequence_last", "max_pooling1d", "average_pooling1d", "global_max_pooling1d",
    "global_average_pooling1d",
}  # fmt: skip
"""Kinds that leave the numbers of a flattened frame in their order."""


@dataclass(frozen=True)
class Part:
    """One map with weights.

    name: of the layer, "head.centre" or "encoder.embeddings.0". kind: of the layer, or the form.
    full: for each array its name in the state_dict() of the network. entering: (C, ...) of what
    enters; empty where that says nothing. flattened: (C, ...) of the frame whose numbers enter one
    by one; empty where there is none.
    """

    name: str
    form: Form
    kind: str
    options: Options | None
    full: Mapping[str, str]
    entering: tuple[int, ...] = ()
    flattened: tuple[int, ...] = ()

    def option(self, name: str, default: Any) -> Any:
        """Return an option of the layer, or `default` where its kind has none of that name."""
        return getattr(self.options, name, default)

    def arrays(self, weights: Mapping[str, Array]) -> Arrays:
        """Return its arrays out of those of the network."""
        return {short: weights[full] for short, full in self.full.items()}


def parts_of(spec: NetworkSpec, weights: Mapping[str, Array]) -> dict[str, Part]:
    """Return the parts of a network by name, in the order of their weights."""
    wiring = wiring_of(spec)
    nodes = {f"layers.{node.name}": node for node in wiring.nodes}
    groups: dict[str, dict[str, str]] = {}
    for full in weights:
        owner, _, short = full.rpartition(".")
        layer = ".".join(full.split(".")[:2])
        groups.setdefault(layer if layer in nodes else owner, {})[short] = full
    return {
        part.name: part
        for part in (_part(owner, full, nodes, wiring) for owner, full in groups.items())
    }


def chosen(parts: Mapping[str, Part], name: str | None) -> list[Part]:
    """Return all parts, or the one called `name`. Raises UserError where there is none."""
    if name is None:
        return list(parts.values())
    if name not in parts:
        message = f"the network has no weights called {name!r}"
        raise UserError(message, hint=f"it has {', '.join(parts)}")
    return [parts[name]]


def _part(owner: str, full: dict[str, str], nodes: Mapping[str, Node], wiring: Wiring) -> Part:
    by_name = {node.name: node for node in wiring.nodes}
    if owner in nodes:
        node = nodes[owner]
        form = _FORMS.get(node.kind)
        if form is None:
            message = f"layer {node.name!r} ({node.kind}) has weights that no other system knows"
            raise UserError(message, hint="use a network of other layers")
        entering = node.entering[IN].sizes if IN in node.entering else ()
        flattened = _flattened(node, by_name) if len(entering) == 1 else ()
        return Part(node.name, form, node.kind, node.options, full, entering, flattened)
    if "weight" not in full:
        return Part(owner, "numbers", "numbers", None, full)
    if owner.startswith("encoder."):
        return Part(owner, "embedding", "embedding", None, full)
    fed = owner != "head.highway" and wiring.last in by_name
    flattened = _frame_before(by_name[wiring.last], by_name) if fed else ()
    return Part(owner, "linear", "linear", None, full, (), flattened)


def _flattened(node: Node, nodes: Mapping[str, Node]) -> tuple[int, ...]:
    """Return the frame whose numbers enter a layer one by one, channels first; () for none."""
    before = nodes.get(node.inputs[IN].layer) if IN in node.inputs else None
    if before is None:
        sizes = node.entering[IN].sizes if IN in node.entering else ()
        return sizes if len(sizes) > 1 else ()
    return _frame_before(before, nodes)


def _frame_before(node: Node, nodes: Mapping[str, Node]) -> tuple[int, ...]:
    if node.kind == "flatten":
        sizes = node.entering[IN].sizes
        return sizes if len(sizes) > 1 else ()
    if len(sizes := next(iter(node.facts.outputs.values())).sizes) > 1:
        return sizes
    if node.kind in _KEEPS_ORDER and len(node.entering[IN].sizes) == 1:
        return _flattened(node, nodes)
    return ()


def places_channels_last(frame: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where each number of a frame is here, in the order of a flatten with channels last."""
    here = np.arange(int(np.prod(frame)), dtype=np.int64).reshape(frame)
    return np.moveaxis(here, 0, -1).reshape(-1)


def places_column_major(frame: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the same for a flatten in column-major order, the first axis of space quickest."""
    here = np.arange(int(np.prod(frame)), dtype=np.int64).reshape(frame)
    return np.moveaxis(here, 0, -1).reshape(-1, order="F")
