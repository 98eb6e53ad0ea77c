"""What a layer is to the network: `unroll` equals `step` repeated, and state goes in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from forecastd.network.kinds.contract import IN, OUT, Facts, Options, Shape

LayerState = tuple[Any, ...]
"""A NamedTuple of tensors whose leading axis is the series."""


Factor = float | Tensor
"""Multiplies a rate: of a whole parameter, or of each entry by a tensor that broadcasts to it."""


class NoState(NamedTuple):
    """The state of a layer that remembers nothing."""


class Signal(NamedTuple):
    """What passes a port: values [B, T, ...]; T is 1 where there is one for the whole sequence.

    lengths [B] int64: steps that are real, the rest is padding at the end; None: all are.
    """

    values: Tensor
    lengths: Tensor | None = None


class Layer(nn.Module):
    """Base of all layers. States are not modified.

    A layer with one input and one output defines `unroll`, and `step` where it can be streamed; one
    with more ports defines `unroll_ports` and `step_ports` instead. The names and shapes of its
    parameters and buffers are those that its Kind says. asks_host: the host waits in a step for
    numbers that the layer found, so a GPU cannot record it.
    """

    asks_host = False

    def __init__(self, entering: Mapping[str, Shape], options: Options, facts: Facts) -> None:
        super().__init__()
        self.entering, self.options, self.facts = dict(entering), options, facts

    @property
    def streamable(self) -> bool:
        """Whether it can be stepped: no step needs the future."""
        return self.facts.needs_future is None

    def initial_state(self, series_count: int) -> LayerState:
        """Return the state of series that were never stepped; in training, with fresh masks."""
        return NoState()

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Advance by one: x [B, ...] to [B, ...]. By default `unroll` by one step."""
        ys, after = self.unroll(x[:, None], state)
        return ys[:, 0], after

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Advance by T: xs [B, T, ...] to [B, T', ...], T' = 1 for one value a sequence.

        lengths [B]: real steps of each row (None: T). What lies beyond them is never seen by a real
        step, and the state is that after the last real one; outputs beyond are of no meaning.
        """
        raise NotImplementedError

    def lengths_after(self, lengths: Tensor | None) -> Tensor | None:
        """Return how many steps of an output are real, for those of the input."""
        return lengths if self.facts.outputs[OUT].time else None

    def recall(self, state: LayerState) -> Tensor | None:
        """Return the output [B, ...] of the step that left this state; None if it does not tell."""
        return None

    def factors(self) -> dict[str, tuple[Factor, Factor]]:
        """Return what multiplies the learning rate and the L2 penalty, by name of the parameter.

        By default weights have 1 and 1; biases, named so or of one axis, are not penalised.
        """
        return {
            name: (1.0, 0.0 if parameter.ndim == 1 or name.endswith("bias") else 1.0)
            for name, parameter in self.named_parameters()
        }

    def step_ports(
        self, inputs: Mapping[str, Tensor], state: LayerState
    ) -> tuple[dict[str, Tensor], LayerState]:
        """Advance by one, by port: [B, ...] each."""
        y, after = self.step(inputs[IN], state)
        return {OUT: y}, after

    def unroll_ports(
        self, inputs: Mapping[str, Signal], state: LayerState
    ) -> tuple[dict[str, Signal], LayerState]:
        """Advance by T, by port."""
        xs, lengths = inputs[IN]
        ys, after = self.unroll(xs, state, lengths)
        return {OUT: Signal(ys, self.lengths_after(lengths))}, after
