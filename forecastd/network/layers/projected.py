"""Long short-term memory with weights of low rank."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from forecastd.network.kinds.contract import Facts, Shape
from forecastd.network.kinds.recurrent import ProjectedOptions
from forecastd.network.layers.cells import CellWeights, LstmCell
from forecastd.network.layers.recurrent import RecurrentLayer, filled


class ProjectedLayer(RecurrentLayer):
    """Long short-term memory whose products are W' Q^T x and R' P^T h, gate order i, f, g, o.

    Q [inputs, input_projector] and P [hidden, output_projector] begin with orthonormal columns. The
    output has all hidden units, unlike that of `proj_size` of torch.nn.LSTM.
    """

    options: ProjectedOptions
    cell_type = LstmCell

    def __init__(
        self, entering: Mapping[str, Shape], options: ProjectedOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        self.weight_ih, self.weight_hh, self.bias = filled(facts, options)
        self.input_projector = nn.Parameter(torch.empty(facts.weights["input_projector"]))
        self.output_projector = nn.Parameter(torch.empty(facts.weights["output_projector"]))
        nn.init.orthogonal_(self.input_projector)
        nn.init.orthogonal_(self.output_projector)

    def weights(self) -> CellWeights:
        """Return the products with the projectors: made once a pass, they fit the quick kernel."""
        of_input = self.weight_ih @ self.input_projector.T
        recurrent = self._dropped(self.weight_hh) @ self.output_projector.T
        return CellWeights(of_input, recurrent, self.bias, torch.zeros_like(self.bias))
