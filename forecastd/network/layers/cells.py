"""The arithmetic of recurrences: one pass, in a quick kernel of torch or step by step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.recurrent import RecurrentOptions
from forecastd.network.layers.activations import GATE, STATE
from forecastd.network.layers.lengths import run_in_length
from forecastd.network.layers.masks import product


class LstmState(NamedTuple):
    """Hidden and cell state, [B, H] each."""

    hidden: Tensor
    cell: Tensor


class MaskedLstmState(NamedTuple):
    """The same in training, with the masks that last for a sequence; see masks.Masks."""

    hidden: Tensor
    cell: Tensor
    input_mask: Tensor
    state_mask: Tensor


class GruState(NamedTuple):
    """Hidden state [B, H]."""

    hidden: Tensor


class MaskedGruState(NamedTuple):
    """The same in training, with the masks that last for a sequence; see masks.Masks."""

    hidden: Tensor
    input_mask: Tensor
    state_mask: Tensor


CellState = LstmState | MaskedLstmState | GruState | MaskedGruState


class CellWeights(NamedTuple):
    """What a recurrence multiplies with, rows stacked by gate.

    input [G H, F], recurrent [G H, H], and a bias [G H] of each. peephole [rows, H]: of the cell.
    """

    input: Tensor
    recurrent: Tensor
    input_bias: Tensor
    recurrent_bias: Tensor
    peephole: Tensor | None = None

    def stacked(self) -> tuple[Tensor, ...]:
        """Return the weights in the order that torch's kernels take them."""
        return self.input, self.recurrent, self.input_bias, self.recurrent_bias


class Cell:
    """One pass over sequences: `unroll` is `step` repeated.

    training: dropout is on; masks that last for a sequence come with the state.
    """

    def __init__(self, options: RecurrentOptions, weights: CellWeights, *, training: bool) -> None:
        self.options, self.weights, self.training = options, weights, training
        self.gate, self.squash = GATE[options.gate_activation], STATE[options.state_activation]
        self.on_input = options.dropout.on == "input"

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Advance by one: x [B, F] to the hidden state [B, H]."""
        if self.has_kernel() and not self.training:
            after = self.fused_step(x, state)
        else:
            after = self.advance(self._contribution(x, state), state)
        return after.hidden, after

    def unroll(
        self, xs: Tensor, state: CellState, lengths: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """Advance by T: xs [B, T, F] to [B, T, H]; each row to its own end."""
        run = self.fused if self._fused_is_exact() else self._stepwise
        return run_in_length(run, xs, state, lengths)

    def advance(self, contribution: Tensor, state: CellState) -> CellState:
        """Return the next state, for what the inputs contribute to the gates, [B, G H]."""
        raise NotImplementedError

    def fused(self, xs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Advance all rows by T with a kernel of torch."""
        raise NotImplementedError

    def fused_step(self, x: Tensor, state: CellState) -> CellState:
        """Advance by one with a kernel of torch, which takes fewer calls."""
        raise NotImplementedError

    def has_kernel(self) -> bool:
        """Tell whether a kernel of torch computes this recurrence, dropout aside."""
        return self.options.state_activation == "tanh" and self.options.gate_activation == "sigmoid"

    def _fused_is_exact(self) -> bool:
        dropout = self.options.dropout
        by_gate = dropout.variational_input > 0 and (dropout.untied or not self.on_input)
        within = dropout.variational_state > 0 or dropout.state_update > 0 or by_gate
        return self.has_kernel() and not (self.training and within)

    def _stepwise(self, xs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        ys = []
        for contribution in self._contribution(xs, state).unbind(1):
            state = self.advance(contribution, state)
            ys.append(state.hidden)
        return torch.stack(ys, 1), state

    def _contribution(self, xs: Tensor, state: CellState) -> Tensor:
        """Return what inputs [B, ..., F] contribute to the gates, [B, ..., G H]."""
        mask = getattr(state, "input_mask", None)
        made = product(xs, self.weights.input, mask, on_input=self.on_input)
        return made + self.weights.input_bias

    def recalled(self, hidden: Tensor, state: CellState, some: slice = slice(None)) -> Tensor:
        """Return what a hidden state [B, H] contributes to some of the gates."""
        units = self.options.hidden
        first, last, _ = some.indices(len(self.options.gates))
        rows = slice(first * units, last * units)
        mask = getattr(state, "state_mask", None)
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[:, some]
        made = product(hidden, self.weights.recurrent[rows], mask, on_input=self.on_input)
        return made + self.weights.recurrent_bias[rows]

    def added(self, update: Tensor) -> Tensor:
        """Return what is added to the state, some of it dropped in training, anew each step."""
        share = self.options.dropout.state_update
        return functional.dropout(update, share, self.training) if share else update

    def _masked(self, xs: Tensor, state: CellState) -> Tensor:
        """Return inputs under the one mask of all gates, as the kernels take them."""
        mask = getattr(state, "input_mask", None)
        return xs if mask is None or mask.shape[-1] == 0 else xs * mask


class LstmCell(Cell):
    """Gates stacked i, f, g, o: c = f c + i g, h = o tanh(c)."""

    def advance(self, contribution: Tensor, state: CellState) -> CellState:
        """Return the next hidden and cell state."""
        assert isinstance(state, LstmState | MaskedLstmState)
        i, f, g, o = (contribution + self.recalled(state.hidden, state)).chunk(4, -1)
        update = self.added(self.gate(i) * self.squash(g))
        cell = self.gate(f) * state.cell + update
        return state._replace(hidden=self.gate(o) * self.squash(cell), cell=cell)

    def fused(self, xs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Run the kernel of torch.nn.LSTM."""
        assert isinstance(state, LstmState | MaskedLstmState)
        ys, hidden, cell = torch.lstm(
            self._masked(xs, state),
            (state.hidden[None].contiguous(), state.cell[None].contiguous()),
            self.weights.stacked(), True, 1, 0.0, self.training, False, True,
        )  # fmt: skip
        return ys, state._replace(hidden=hidden[0], cell=cell[0])

    def fused_step(self, x: Tensor, state: CellState) -> CellState:
        """Run the kernel of torch.nn.LSTMCell."""
        assert isinstance(state, LstmState | MaskedLstmState)
        before = state.hidden, state.cell
        hidden, cell = torch.lstm_cell(x, before, *self.weights.stacked())
        return state._replace(hidden=hidden, cell=cell)


class GruCell(Cell):
    """Gates stacked r, z, h: h = (1 - z) candidate + z h."""

    def advance(self, contribution: Tensor, state: CellState) -> CellState:
        """Return the next hidden state."""
        assert isinstance(state, GruState | MaskedGruState)
        hidden = state.hidden
        of_r, of_z, of_h = contribution.chunk(3, -1)
        if self.has_kernel_order():
            to_r, to_z, to_h = self.recalled(hidden, state).chunk(3, -1)
            r, z = self.gate(of_r + to_r), self.gate(of_z + to_z)
            candidate = self.squash(of_h + r * to_h)
        else:
            to_r, to_z = self.recalled(hidden, state, slice(0, 2)).chunk(2, -1)
            r, z = self.gate(of_r + to_r), self.gate(of_z + to_z)
            candidate = self.squash(of_h + self.recalled(r * hidden, state, slice(2, 3)))
        return state._replace(hidden=self.added((1 - z) * candidate) + z * hidden)

    def has_kernel_order(self) -> bool:
        """Tell whether the reset gate acts after the product, as in the kernel of torch."""
        return getattr(self.options, "reset", "") != "before-multiplication"

    def has_kernel(self) -> bool:
        """Tell whether the kernel of torch.nn.GRU computes this."""
        return super().has_kernel() and self.has_kernel_order()

    def fused(self, xs: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Run the kernel of torch.nn.GRU."""
        assert isinstance(state, GruState | MaskedGruState)
        ys, hidden = torch.gru(
            self._masked(xs, state), state.hidden[None].contiguous(), self.weights.stacked(),
            True, 1, 0.0, self.training, False, True,
        )  # fmt: skip
        return ys, state._replace(hidden=hidden[0])

    def fused_step(self, x: Tensor, state: CellState) -> CellState:
        """Run the kernel of torch.nn.GRUCell."""
        assert isinstance(state, GruState | MaskedGruState)
        return state._replace(hidden=torch.gru_cell(x, state.hidden, *self.weights.stacked()))


class PeepholeCell(LstmCell):
    """Gates see the cell too: i and f the old one, o the new one (Gers & Schmidhuber 2000).

    Variant "input-node": the candidate sees the old cell, and no gate does.
    """

    def advance(self, contribution: Tensor, state: CellState) -> CellState:
        """Return the next hidden and cell state."""
        assert isinstance(state, LstmState | MaskedLstmState)
        assert self.weights.peephole is not None
        i, f, g, o = (contribution + self.recalled(state.hidden, state)).chunk(4, -1)
        seen = self.weights.peephole
        if len(seen) == 1:
            g = g + seen[0] * state.cell
        else:
            i, f = i + seen[0] * state.cell, f + seen[1] * state.cell
        cell = self.gate(f) * state.cell + self.added(self.gate(i) * self.squash(g))
        if len(seen) > 1:
            o = o + seen[2] * cell
        return state._replace(hidden=self.gate(o) * self.squash(cell), cell=cell)

    def has_kernel(self) -> bool:
        """Tell that there is none."""
        return False
