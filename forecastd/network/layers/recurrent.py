"""What recurrent layers share: states, ports, masks, and factors by gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from forecastd.network.kinds.contract import IN, OUT, Facts
from forecastd.network.kinds.recurrent import RecurrentOptions, StatefulOptions
from forecastd.network.layers import masks
from forecastd.network.layers.cells import (
    Cell,
    CellState,
    CellWeights,
    LstmState,
    MaskedLstmState,
)
from forecastd.network.layers.contract import Factor, Layer, LayerState, Signal
from forecastd.network.layers.initial import WEIGHTS, fill_bias


class RecurrentLayer(Layer):
    """A recurrence over each series.

    output "sequence": every step; "last": only the last real one. Ports "hidden" and "cell" take
    the first state and give the last, where the options say so; where nothing is connected, the
    first state is that of the options, zeros by default. In training with dropout of inputs or
    states the masks are part of the state, so they last over the pieces of a sequence; dropped
    weights are drawn anew each pass.
    """

    options: StatefulOptions
    cell_type: ClassVar[type[Cell]]
    plain: ClassVar[Any] = LstmState
    masked: ClassVar[Any] = MaskedLstmState

    def weights(self) -> CellWeights:
        """Return the weights of a pass; in training with some of the recurrent ones dropped."""
        raise NotImplementedError

    def initial_state(self, series_count: int) -> CellState:
        """Return what the options say; in training with the masks that last for a sequence."""
        first = first_states(self, self.options, series_count)
        return self._ready(self.plain(*first))

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, CellState]:
        """Advance B series by one observation."""
        return self._cell().step(x, self._ready(state))

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Advance B series by T observations, each to its own end."""
        ys, after = self._cell().unroll(xs, self._ready(state), lengths)
        return ys if self.options.output == "sequence" else after.hidden[:, None], after

    def recall(self, state: LayerState) -> Tensor:
        """Return the hidden state."""
        hidden: Tensor = state[0]
        return hidden

    def step_ports(
        self, inputs: Mapping[str, Tensor], state: LayerState
    ) -> tuple[dict[str, Tensor], CellState]:
        """Advance by one, by port."""
        y, after = self.step(inputs[IN], self._fed(inputs, state))
        return {OUT: y} | {name: getattr(after, name) for name in self._outputs()}, after

    def unroll_ports(
        self, inputs: Mapping[str, Signal], state: LayerState
    ) -> tuple[dict[str, Signal], CellState]:
        """Advance by T, by port; states enter and leave once a sequence, [B, 1, H]."""
        xs, lengths = inputs[IN]
        fed = {port: signal.values[:, 0] for port, signal in inputs.items() if port != IN}
        ys, after = self.unroll(xs, self._fed(fed, state), lengths)
        found = {OUT: Signal(ys, self.lengths_after(lengths))}
        found |= {name: Signal(getattr(after, name)[:, None]) for name in self._outputs()}
        return found, after

    def factors(self) -> dict[str, tuple[Factor, Factor]]:
        """Return the factors that the options give, of each gate."""
        return super().factors() | factors_of(self, self.options)

    def _outputs(self) -> list[str]:
        return [port for port in self.facts.outputs if port != OUT]

    def _fed(self, inputs: Mapping[str, Tensor], state: LayerState) -> CellState:
        """Return the state in which what is connected takes the place of what was remembered."""
        given = {port: values for port, values in inputs.items() if port != IN}
        return self._ready(state)._replace(**given)

    def _cell(self) -> Cell:
        return self.cell_type(self.options, self.weights(), training=self.training)

    def _dropped(self, recurrent: Tensor) -> Tensor:
        share = self.options.dropout.variational_weights
        return masks.dropped(recurrent, share, training=self.training)

    def _ready(self, state: LayerState) -> CellState:
        """Return a state with masks where they are due, newly drawn if it has none yet."""
        made: CellState
        remembered = state[: len(self.plain._fields)]
        if not (self.training and masks.last_for_sequences(self.options)):
            made = self.plain(*remembered)
        elif isinstance(state, self.masked):
            made = state
        else:
            hidden = state[0]
            drawn = masks.draw(self.options, (len(hidden),), self.entering[IN].width, hidden)
            made = self.masked(*remembered, *drawn)
        return made


def first_states(layer: nn.Module, options: RecurrentOptions, series_count: int) -> list[Tensor]:
    """Return what the fields of a state begin with, [B, H] each, or [B, 2 H] of two directions."""
    like, width = next(layer.parameters()), options.hidden * options.directions
    return [
        like.new_tensor(numbers or [0.0]).expand(series_count, width).clone()
        for numbers in options.first_states
    ]


def fill(
    input_weights: Tensor, recurrent_weights: Tensor, bias: Tensor, options: RecurrentOptions
) -> None:
    """Give weights of one direction what they begin with; matrices are filled as a whole."""
    with torch.no_grad():
        WEIGHTS[options.input_initializer](input_weights)
        WEIGHTS[options.recurrent_initializer](recurrent_weights)
        fill_bias(bias, options.bias_initializer)


def filled(
    facts: Facts, options: RecurrentOptions
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Return weight_ih, weight_hh and bias of one direction with what they begin with."""
    names = ("weight_ih", "weight_hh", "bias")
    made = [nn.Parameter(torch.empty(facts.weights[name])) for name in names]
    fill(made[0], made[1], made[2], options)
    return made[0], made[1], made[2]


def fill_direction(module: nn.RNNBase, options: RecurrentOptions, suffix: str = "") -> None:
    """Give one direction of a module of torch what it begins with.

    There is one bias: torch's second one is zero and stays so, or the bias would learn twice.
    """
    weights = weights_in(module, suffix)
    fill(weights.input, weights.recurrent, weights.input_bias, options)
    nn.init.zeros_(weights.recurrent_bias)
    weights.recurrent_bias.requires_grad_(False)


def weights_in(module: nn.RNNBase, suffix: str = "") -> CellWeights:
    """Return the weights of one direction of a module of torch."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return CellWeights(*(getattr(module, name + suffix) for name in names))


def factors_of(layer: nn.Module, options: RecurrentOptions) -> dict[str, tuple[Factor, Factor]]:
    """Return learning-rate and L2 factors by parameter of what is stacked by gate."""
    tables = (options.learn_rate_factors, options.l2_factors)
    found: dict[str, tuple[Factor, Factor]] = {}
    for name, parameter in layer.named_parameters():
        for part, field in (("weight_ih", "input"), ("weight_hh", "recurrent"), ("bias", "bias")):
            if part in name:
                rate, penalty = (
                    _factor(getattr(table, field), name, parameter, options) for table in tables
                )
                found[name] = rate, penalty
    return found


def _factor(
    numbers: list[float], name: str, parameter: Tensor, options: RecurrentOptions
) -> Factor:
    if len(numbers) == 1:
        return numbers[0]
    gates = len(options.gates)
    own = numbers[gates:] if name.endswith("_reverse") else numbers[:gates]
    rows = parameter.new_tensor(own).repeat_interleave(options.hidden)
    return rows.view(-1, *(1,) * (parameter.ndim - 1))
