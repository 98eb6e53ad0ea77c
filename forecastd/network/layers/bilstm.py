"""Long short-term memory in both directions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.recurrent import BilstmOptions
from forecastd.network.layers import masks
from forecastd.network.layers.cells import (
    CellState,
    LstmCell,
    LstmState,
    MaskedLstmState,
)
from forecastd.network.layers.contract import Factor, Layer, LayerState
from forecastd.network.layers.lengths import reverse_in_length
from forecastd.network.layers.recurrent import factors_of, fill_direction, first_states, weights_in

BACKWARD = "_reverse"


class BilstmLayer(Layer):
    """Two LSTMs, one forwards and one from each row's last real step backwards (Graves 2005).

    Gives [forward, backward], 2 H numbers a step. output "last": what each gave last, that is the
    forward one at the last real step and the backward one at the first. The state is that of the
    forward one; the backward one begins anew in each piece of a sequence.
    """

    options: BilstmOptions

    def __init__(self, entering: Mapping[str, Shape], options: BilstmOptions, facts: Facts) -> None:
        super().__init__(entering, options, facts)
        width = entering[IN].width
        self.lstm = nn.LSTM(width, options.hidden, batch_first=True, bidirectional=True)
        fill_direction(self.lstm, options)
        fill_direction(self.lstm, options, BACKWARD)

    def initial_state(self, series_count: int) -> CellState:
        """Return what the options say; in training with masks [B, 2, gates, n], by direction."""
        first = first_states(self, self.options, series_count)
        return self._ready(LstmState(*(both[:, : self.options.hidden] for both in first)))

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Run over T observations in both directions."""
        before = self._ready(state)
        begun = first_states(self, self.options, len(xs))
        hidden, cell = (both[:, self.options.hidden :] for both in begun)
        forward, backward = _directions(before, LstmState(hidden, cell))
        ys, after = self._cell("").unroll(xs, forward, lengths)
        turned = reverse_in_length(xs, lengths)
        back, end = self._cell(BACKWARD).unroll(turned, backward, lengths)
        assert isinstance(after, LstmState | MaskedLstmState)
        kept = before._replace(hidden=after.hidden, cell=after.cell)
        if self.options.output == "last":
            return torch.cat([after.hidden, end.hidden], -1)[:, None], kept
        return torch.cat([ys, reverse_in_length(back, lengths)], -1), kept

    def factors(self) -> dict[str, tuple[Factor, Factor]]:
        """Return the factors that the options give, of each gate and direction."""
        return super().factors() | factors_of(self, self.options)

    def _cell(self, suffix: str) -> LstmCell:
        weights = weights_in(self.lstm, suffix)
        share = self.options.dropout.variational_weights
        recurrent = masks.dropped(weights.recurrent, share, training=self.training)
        kept = weights._replace(recurrent=recurrent)
        return LstmCell(self.options, kept, training=self.training)

    def _ready(self, state: LayerState) -> LstmState | MaskedLstmState:
        """Return a state with masks where they are due, newly drawn if it has none yet."""
        if not (self.training and masks.last_for_sequences(self.options)):
            return LstmState(*state[:2])
        if isinstance(state, MaskedLstmState):
            return state
        hidden, cell = state[:2]
        width = self.entering[IN].width
        drawn = masks.draw(self.options, (len(hidden), 2), width, hidden)
        return MaskedLstmState(hidden, cell, *drawn)


def _directions(
    state: LstmState | MaskedLstmState, begun: LstmState
) -> tuple[LstmState | MaskedLstmState, LstmState | MaskedLstmState]:
    """Return the states of both directions, the backward one `begun` anew, each with its masks."""
    if isinstance(state, LstmState):
        return state, begun
    first, second = zip(state.input_mask.unbind(1), state.state_mask.unbind(1), strict=True)
    forward = MaskedLstmState(state.hidden, state.cell, first[0], first[1])
    return forward, MaskedLstmState(*begun, second[0], second[1])
