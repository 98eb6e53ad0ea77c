"""One of several."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from forecastd.errors import DataError
from forecastd.network.kinds.contract import OUT
from forecastd.network.layers.contract import Layer, LayerState, Signal


class JoiningLayer(Layer):
    """Base: takes any number of inputs, at least one, in the order they are connected."""

    def join(self, inputs: list[Tensor], axis: int) -> Tensor:
        """Return one of several; axis: that of the channels."""
        raise NotImplementedError

    def step_ports(
        self, inputs: Mapping[str, Tensor], state: LayerState
    ) -> tuple[dict[str, Tensor], LayerState]:
        """Join one step."""
        return {OUT: self.join(list(inputs.values()), 1)}, state

    def unroll_ports(
        self, inputs: Mapping[str, Signal], state: LayerState
    ) -> tuple[dict[str, Signal], LayerState]:
        """Join step by step. Raises DataError where the inputs have different numbers of steps."""
        steps = {port: signal.values.shape[1] for port, signal in inputs.items()}
        if len(set(steps.values())) > 1:
            found = ", ".join(f"{port}: {count}" for port, count in steps.items())
            message = f"inputs with different numbers of steps cannot be joined ({found})"
            raise DataError(message, hint="give what comes before the same stride and padding")
        lengths = next(signal.lengths for signal in inputs.values())
        values = self.join([signal.values for signal in inputs.values()], 2)
        return {OUT: Signal(values, lengths)}, state


class AdditionLayer(JoiningLayer):
    """The sum of its inputs."""

    def join(self, inputs: list[Tensor], axis: int) -> Tensor:
        """See JoiningLayer."""
        return torch.stack(inputs).sum(0)


class ConcatenationLayer(JoiningLayer):
    """The channels of its inputs, one after the other."""

    def join(self, inputs: list[Tensor], axis: int) -> Tensor:
        """See JoiningLayer."""
        return torch.cat(inputs, axis)
