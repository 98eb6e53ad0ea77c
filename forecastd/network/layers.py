"""Layers: `step` takes one observation, `unroll` many, and both are one law.

To add a layer: one class here or in a file of its own, one line in LAYERS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class LstmState(NamedTuple):
    """Hidden and cell state, [B, H] each."""

    hidden: Tensor
    cell: Tensor


class LstmWeights(NamedTuple):
    """Parameters of torch.nn.LSTM in its own order; rows stacked i, f, g, o.

    input [4H, F], recurrent [4H, H], and a bias [4H] of each.
    """

    input: Tensor
    recurrent: Tensor
    input_bias: Tensor
    recurrent_bias: Tensor


class NoState(NamedTuple):
    """The state of a layer that remembers nothing."""


LayerState = LstmState | NoState


class Layer(Protocol):
    """A recurrent layer: `unroll(xs, state)` equals `step` repeated. States are not modified."""

    width: int
    """Size of an output."""
    streamable: bool
    """False when a step would need the future."""

    def initial_state(self, series_count: int) -> LayerState:
        """Return the state of series that were never stepped."""
        ...

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Advance by one: x [B, F] to [B, width]."""
        ...

    def unroll(self, xs: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Advance by T: xs [B, T, F] to [B, T, width], or [B, 1, width] for output "last"."""
        ...


class LstmLayer(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), gate order i, f, g, o.

    output "sequence": every step; "last": only the last one. Input weights Glorot, recurrent
    weights orthogonal, forget bias 1 (Jozefowicz et al. 2015), other biases 0.
    """

    streamable = True

    def __init__(self, inputs: int, hidden: int, output: str = "sequence") -> None:
        super().__init__()
        self.width = hidden
        self.output = output
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        weights = self._weights()
        with torch.no_grad():
            nn.init.xavier_uniform_(weights.input)
            nn.init.orthogonal_(weights.recurrent)
            weights.input_bias.zero_()
            weights.recurrent_bias.zero_()
            weights.input_bias[hidden : 2 * hidden] = 1

    def initial_state(self, series_count: int) -> LstmState:
        """Return zeros."""
        zeros = self._weights().recurrent.new_zeros(series_count, self.width)
        return LstmState(zeros, zeros)

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, LstmState]:
        """Advance B series by one observation: c = f c + i g, h = o tanh(c)."""
        assert isinstance(state, LstmState)
        weights = self._weights()
        gates = functional.linear(x, weights.input, weights.input_bias)
        gates = gates + functional.linear(state.hidden, weights.recurrent, weights.recurrent_bias)
        i, f, g, o = gates.chunk(4, 1)
        cell = torch.sigmoid(f) * state.cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden, LstmState(hidden, cell)

    def unroll(self, xs: Tensor, state: LayerState) -> tuple[Tensor, LstmState]:
        """Advance B series by T observations with the fused kernel of torch.nn.LSTM."""
        assert isinstance(state, LstmState)
        ys, (hidden, cell) = self.lstm(xs, (state.hidden[None], state.cell[None]))
        return ys if self.output == "sequence" else ys[:, -1:], LstmState(hidden[0], cell[0])

    def _weights(self) -> LstmWeights:
        return LstmWeights(*(parameter for _, parameter in self.lstm.named_parameters()))


class DropoutLayer(nn.Module):
    """Zeroes a share of its inputs in training, a fresh mask per step; identity otherwise."""

    streamable = True

    def __init__(self, inputs: int, share: float) -> None:
        super().__init__()
        self.width = inputs
        self.share = share

    def initial_state(self, series_count: int) -> NoState:
        """Return nothing: it remembers nothing."""
        return NoState()

    def step(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Drop within one step."""
        return functional.dropout(x, self.share, self.training), state

    def unroll(self, xs: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Drop within each step on its own."""
        return functional.dropout(xs, self.share, self.training), state


LAYERS: dict[str, Callable[..., nn.Module]] = {"lstm": LstmLayer, "dropout": DropoutLayer}
"""Kind: class. The first argument of each is the width of its input."""
