"""What passes inside a network as it runs: each layer's outputs, and the gates of recurrences.

Nothing is hooked into the layers: signals come from their ports, and gates are computed anew, step
by step, from their weights and the states before each step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from forecastd.features.encoder import Inputs
from forecastd.network.kinds.contract import IN, OUT
from forecastd.network.layers.activations import GATE, STATE
from forecastd.network.layers.bilstm import BACKWARD, BilstmLayer
from forecastd.network.layers.cells import CellWeights
from forecastd.network.layers.contract import Layer, LayerState, Signal
from forecastd.network.layers.gru import GruLayer
from forecastd.network.layers.recurrent import RecurrentLayer, weights_in
from forecastd.network.model import ForecastNetwork, NetworkState
from forecastd.network.wiring import INPUT, Port

CELL = "cell"
"""What the cell state after each step goes by."""


class Seen(NamedTuple):
    """What one layer gave: values [B, T', units], T' = 1 where there is one for all steps.

    what: "out" or another port; of recurrences also the gates i, f, g, o, or r, z, h, and "cell".
    Frames are laid in a row, channels first.
    """

    layer: str
    what: str
    values: Tensor


def look(
    network: ForecastNetwork, x: Inputs, state: NetworkState, layers: Collection[str] | None = None
) -> tuple[list[Seen], NetworkState]:
    """Run B series over T observations; return what passed, and the state after them.

    layers: the names of those looked at, "input" for what the encoder gives; all if None. `state`
    is not changed, and neither is the network.
    """
    encoded, encoder = network.encoder.unroll(x, state.encoder)
    signals = {Port(INPUT): Signal(encoded.inputs)}
    seen = [Seen(INPUT, OUT, encoded.inputs.flatten(2))] if _wanted(INPUT, layers) else []
    after: list[LayerState] = []
    for node, before in zip(network.layers.wiring.nodes, state.layers, strict=True):
        layer = network.layers.layer(node.name)
        entering = {port: signals[source] for port, source in node.inputs.items()}
        found, next_state = layer.unroll_ports(entering, before)
        signals |= {Port(node.name, port): signal for port, signal in found.items()}
        after.append(next_state)
        if not _wanted(node.name, layers):
            continue
        gates = gates_of(layer, entering, before)
        for port, signal in found.items():
            if signal.values.is_floating_point() and port not in gates:
                shape = node.facts.outputs[port]
                seen.append(Seen(node.name, port, _in_steps(signal.values, folded=shape.folded)))
        seen += [Seen(node.name, name, values) for name, values in gates.items()]
    return seen, NetworkState(encoder, tuple(after), state.latest)


def gates_of(layer: Layer, entering: Mapping[str, Signal], state: LayerState) -> dict[str, Tensor]:
    """Return the gates of a recurrence and its cell after each step, [B, T, H]; {} for others.

    A bidirectional layer has those of the backward direction too, as "backward_i", each at the step
    that it belongs to.
    """
    xs = entering[IN].values if IN in entering else None
    if xs is None or not isinstance(layer, RecurrentLayer | BilstmLayer):
        return {}
    fed = [
        entering[name].values[:, 0] if name in entering else getattr(state, name)
        for name in layer.facts.state
    ]
    if isinstance(layer, BilstmLayer):
        forward = _run(layer, weights_in(layer.lstm), xs, fed)
        zeros = [torch.zeros_like(each) for each in fed]
        backward = _run(layer, weights_in(layer.lstm, BACKWARD), xs.flip(1), zeros)
        return forward | {f"backward_{name}": each.flip(1) for name, each in backward.items()}
    return _run(layer, layer.weights(), xs, fed)


def _run(
    layer: RecurrentLayer | BilstmLayer, weights: CellWeights, xs: Tensor, state: list[Tensor]
) -> dict[str, Tensor]:
    steps = _gru(layer, weights, xs, state[0])
    if not isinstance(layer, GruLayer):
        steps = _lstm(layer, weights, xs, state[0], state[1])
    found = list(steps)
    return {name: torch.stack([step[name] for step in found], 1) for name in found[0]}


def _sums(weights: CellWeights, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the input and what the hidden state give to the gates, biases included."""
    of_x = x @ weights.input.T + weights.input_bias
    return of_x, hidden @ weights.recurrent.T + weights.recurrent_bias


def _lstm(
    layer: RecurrentLayer | BilstmLayer,
    weights: CellWeights,
    xs: Tensor,
    hidden: Tensor,
    cell: Tensor,
) -> Iterator[dict[str, Tensor]]:
    gate, squash = GATE[layer.options.gate_activation], STATE[layer.options.state_activation]
    seen = weights.peephole
    for x in xs.unbind(1):
        of_x, of_hidden = _sums(weights, x, hidden)
        i, f, g, o = (of_x + of_hidden).chunk(4, -1)
        if seen is not None and len(seen) == 1:
            g = g + seen[0] * cell
        elif seen is not None:
            i, f = i + seen[0] * cell, f + seen[1] * cell
        i, f, g = gate(i), gate(f), squash(g)
        cell = f * cell + i * g
        o = gate(o if seen is None or len(seen) == 1 else o + seen[2] * cell)
        hidden = o * squash(cell)
        yield {"i": i, "f": f, "g": g, "o": o, CELL: cell}


def _gru(
    layer: RecurrentLayer | BilstmLayer, weights: CellWeights, xs: Tensor, hidden: Tensor
) -> Iterator[dict[str, Tensor]]:
    gate, squash = GATE[layer.options.gate_activation], STATE[layer.options.state_activation]
    before = getattr(layer.options, "reset", "") == "before-multiplication"
    rows = slice(2 * layer.options.hidden, None)
    for x in xs.unbind(1):
        of_x, of_hidden = _sums(weights, x, hidden)
        r, z = gate((of_x + of_hidden)[:, : rows.start]).chunk(2, -1)
        inner = r * of_hidden[:, rows]
        if before:
            inner = (r * hidden) @ weights.recurrent[rows].T + weights.recurrent_bias[rows]
        h = squash(of_x[:, rows] + inner)
        hidden = (1 - z) * h + z * hidden
        yield {"r": r, "z": z, "h": h}


def _in_steps(values: Tensor, *, folded: bool) -> Tensor:
    """Return values [B, T', units]; folded steps of one series in their order."""
    values = values.flatten(2)
    return values.transpose(0, 1) if folded else values


def _wanted(name: str, layers: Collection[str] | None) -> bool:
    return layers is None or name in layers
