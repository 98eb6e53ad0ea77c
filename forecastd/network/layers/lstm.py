"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.recurrent import LstmOptions
from forecastd.network.layers.contract import Layer, LayerState


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


class LstmLayer(Layer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), gate order i, f, g, o.

    output "sequence": every step; "last": only the last one. Input weights Glorot, recurrent
    weights orthogonal, forget bias 1 (Jozefowicz et al. 2015), other biases 0.
    """

    options: LstmOptions

    def __init__(self, entering: Mapping[str, Shape], options: LstmOptions, facts: Facts) -> None:
        super().__init__(entering, options, facts)
        self.lstm = nn.LSTM(entering[IN].width, options.hidden, batch_first=True)
        weights = self._weights()
        with torch.no_grad():
            nn.init.xavier_uniform_(weights.input)
            nn.init.orthogonal_(weights.recurrent)
            weights.input_bias.zero_()
            weights.recurrent_bias.zero_()
            weights.input_bias[options.hidden : 2 * options.hidden] = 1

    def initial_state(self, series_count: int) -> LstmState:
        """Return zeros."""
        zeros = self._weights().recurrent.new_zeros(series_count, self.options.hidden)
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

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LstmState]:
        """Advance B series by T observations with the fused kernel of torch.nn.LSTM."""
        assert isinstance(state, LstmState)
        ys, (hidden, cell) = self.lstm(xs, (state.hidden[None], state.cell[None]))
        whole = self.options.output == "sequence"
        return ys if whole else ys[:, -1:], LstmState(hidden[0], cell[0])

    def recall(self, state: LayerState) -> Tensor:
        """Return the hidden state."""
        assert isinstance(state, LstmState)
        return state.hidden

    def _weights(self) -> LstmWeights:
        return LstmWeights(*(parameter for _, parameter in self.lstm.named_parameters()))
