"""Imported weights tried on the model's example: our layers beside the other system's formulas."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch

from forecastd.artifact import Example
from forecastd.exchange import reference
from forecastd.exchange.parts import Array, Part, places_channels_last, places_column_major
from forecastd.exchange.recurrent import reset_of
from forecastd.exchange.transfer import Imported, Layout
from forecastd.features.encoder import Inputs
from forecastd.network.kinds.contract import IN, OUT
from forecastd.network.layers.contract import Signal
from forecastd.network.wiring import INPUT, Port


class Compared(NamedTuple):
    """A part, how far its largest output lies from the formulas', and of how many outputs."""

    part: str
    difference: float
    outputs: int


def compare(imported: Imported, example: Example, layout: Layout) -> list[Compared]:
    """Run what was imported on what an example sends through it, in float64, beside the formulas.

    The formulas take the arrays of the file. Recurrent and fully connected layers are compared; for
    the rest there are no formulas here.
    """
    artifact = imported.artifact
    network = deepcopy(artifact.network).double().eval()
    inputs = Inputs(
        torch.from_numpy(example.values[None]).double(),
        torch.from_numpy(artifact.clocks(example.times[None])).double(),
        torch.from_numpy(artifact.vocabulary.encode([example.key])),
    )
    with torch.inference_mode():
        state = network.initial_state(1)
        encoded, _ = network.encoder.unroll(inputs, state.encoder)
        signals = network.layers.signals(Signal(encoded.inputs), state.layers)
    compared = []
    for part, theirs in imported.parts:
        node = next((n for n in network.layers.wiring.nodes if n.name == part.name), None)
        if node is None or node.inputs.keys() != {IN}:
            continue
        source = node.inputs[IN]
        entering = encoded.inputs if source.layer == INPUT else signals[source].values
        single = {name: array.astype(np.float32).astype(float) for name, array in theirs.items()}
        before = state.layers[network.layers.wiring.nodes.index(node)]
        start = tuple(before[place].numpy() for place in range(len(node.facts.state)))
        wanted = run_part(layout, part, single, entering.numpy(), start)
        if wanted is not None:
            found = signals[Port(part.name, OUT)].values.numpy()
            compared.append(_compared(part, found, wanted))
    return compared


def run_part(
    layout: Layout,
    part: Part,
    theirs: Mapping[str, Array],
    xs: Array,
    start: tuple[Array, ...] = (),
) -> Array | None:
    """Return what another system gives for xs [B, T, ...]; None where it is not written down here.

    xs has channels first, as here; where it is a frame it is flattened as that system does. start:
    the state before the first step, of zeros where left out.
    """
    if part.flattened:
        xs = xs.reshape(*xs.shape[:2], -1)[..., _places(layout, part.flattened)]
    acts = (part.option("state_activation", "tanh"), part.option("gate_activation", "sigmoid"))
    if part.form == "linear":
        return reference.run_linear(layout, theirs, xs)
    if part.form in {"lstm", "peephole"}:
        ys = reference.run_lstm(layout, theirs, xs, acts, start)
    elif part.form == "gru":
        ys = reference.run_gru(layout, theirs, xs, (*acts, reset_of(part)), start)
    elif part.form == "bilstm":
        ways = [reference.direction(layout, theirs, number) for number in (0, 1)]
        forward = reference.run_lstm(layout, ways[0], xs, acts, start)
        backward = reference.run_lstm(layout, ways[1], xs[:, ::-1], acts)
        if part.option("output", "sequence") == "last":
            return np.concatenate([forward[:, -1:], backward[:, -1:]], -1)
        return np.concatenate([forward, backward[:, ::-1]], -1)
    else:
        return None
    return ys[:, -1:] if part.option("output", "sequence") == "last" else ys


def _places(layout: Layout, frame: tuple[int, ...]) -> Array:
    if layout == "matlab":
        return places_column_major(frame)
    if layout == "keras":
        return places_channels_last(frame)
    return np.arange(int(np.prod(frame)))


def _compared(part: Part, found: Array, wanted: Array) -> Compared:
    difference = float(np.abs(found - wanted.reshape(found.shape)).max(initial=0.0))
    return Compared(part.name, difference, found.size)
