"""Long short-term memory whose gates see the cell."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from forecastd.network.kinds.contract import Facts, Shape
from forecastd.network.kinds.recurrent import PeepholeOptions
from forecastd.network.layers.cells import CellWeights, PeepholeCell
from forecastd.network.layers.recurrent import RecurrentLayer, filled


class PeepholeLayer(RecurrentLayer):
    """Long short-term memory with peepholes (Gers & Schmidhuber 2000), gate order i, f, g, o.

    To what enters i and f is added p c of the old cell, to o that of the new one; `peephole` has
    the rows i, f, o. Variant "input-node": only the candidate sees the old cell. Peepholes begin
    with zeros, as a plain LSTM, and their factors are those of weights by default.
    """

    options: PeepholeOptions
    cell_type = PeepholeCell

    def __init__(
        self, entering: Mapping[str, Shape], options: PeepholeOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        self.weight_ih, self.weight_hh, self.bias = filled(facts, options)
        self.peephole = nn.Parameter(torch.zeros(facts.weights["peephole"]))

    def weights(self) -> CellWeights:
        """Return all of them."""
        recurrent, bias = self._dropped(self.weight_hh), self.bias
        none = torch.zeros_like(bias)
        return CellWeights(self.weight_ih, recurrent, bias, none, self.peephole)
