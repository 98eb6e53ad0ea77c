"""The layers of a network as torch runs them: each after those that feed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from forecastd.network.kinds.contract import OUT
from forecastd.network.layers import LAYERS
from forecastd.network.layers.contract import Layer, LayerState, Signal
from forecastd.network.wiring import INPUT, Port, Wiring

States = tuple[LayerState, ...]
"""The state of each layer, in the order of the wiring."""


class LayerGraph(nn.ModuleDict):
    """The layers by name, in the order they run.

    memory: how many of them run up to the last one whose outputs depend on other steps; those after
    it can be computed for single steps alone where the network is a chain.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        for node in wiring.nodes:
            self[node.name] = LAYERS[node.kind](node.entering, node.options, node.facts)
        remembering = [
            n
            for n, node in enumerate(wiring.nodes, 1)
            if node.facts.state or node.facts.needs_future is not None
        ]
        self.memory = max(remembering, default=0)
        through = wiring.is_chain and all(node.facts.outputs[OUT].time for node in wiring.nodes)
        self.cut = self.memory if through else len(wiring.nodes)

    def layer(self, name: str) -> Layer:
        """Return a layer by its name."""
        return cast(Layer, self[name])

    def initial_state(self, series_count: int) -> States:
        """Return the states of series that were never stepped."""
        return tuple(self.layer(name).initial_state(series_count) for name in self)

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """Advance by one observation: x [B, ...] to the last layer's output [B, ...]."""
        values = {Port(INPUT): x}
        after = []
        for node, state in zip(self.wiring.nodes, states, strict=True):
            entering = {port: values[source] for port, source in node.inputs.items()}
            found, next_state = self.layer(node.name).step_ports(entering, state)
            values |= {Port(node.name, port): value for port, value in found.items()}
            after.append(next_state)
        return values[Port(self.wiring.last)], tuple(after)

    def unroll(self, xs: Signal, states: States, at: Tensor | None = None) -> tuple[Signal, States]:
        """Advance by T observations.

        at: the steps [T'] whose outputs are wanted, in order; all if None. What gives one value for
        the whole sequence gives that one whatever `at` says.
        """
        signals, after = self._run(slice(self.cut), {Port(INPUT): xs}, states)
        if at is not None:
            name = self.wiring.nodes[self.cut - 1].name if self.cut else INPUT
            signals[Port(name)] = _chosen(signals[Port(name)], at, xs.values.shape[1])
        more, rest = self._run(slice(self.cut, None), signals, states)
        return more[Port(self.wiring.last)], (*after, *rest)

    def signals(self, xs: Signal, states: States) -> dict[Port, Signal]:
        """Return what passes each port of each layer in T steps; no state is advanced."""
        return self._run(slice(None), {Port(INPUT): xs}, states)[0]

    def recall(self, states: States) -> Tensor | None:
        """Return the last layer's output after the step that left these states, if they tell."""
        if self.memory == 0 or not self.wiring.is_chain:
            return None
        y = self.layer(self.wiring.nodes[self.memory - 1].name).recall(states[self.memory - 1])
        for node, state in list(zip(self.wiring.nodes, states, strict=True))[self.memory :]:
            if y is not None:
                y, _ = self.layer(node.name).step(y, state)
        return y

    def _run(
        self, some: slice, given: Mapping[Port, Signal], states: States
    ) -> tuple[dict[Port, Signal], States]:
        signals, after = dict(given), []
        for node, state in zip(self.wiring.nodes[some], states[some], strict=True):
            entering = {port: signals[source] for port, source in node.inputs.items()}
            found, next_state = self.layer(node.name).unroll_ports(entering, state)
            signals |= {Port(node.name, port): signal for port, signal in found.items()}
            after.append(next_state)
        return signals, tuple(after)


def _chosen(signal: Signal, at: Tensor, steps: int) -> Signal:
    """Return some steps of a signal that still has all of them, in order; padding stays padding."""
    values, lengths = signal
    if values.shape[1] != steps:
        return signal
    real = None if lengths is None else (at < lengths[:, None]).sum(1)
    return Signal(values[:, at], real)
