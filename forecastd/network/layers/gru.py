"""The gated recurrent unit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.recurrent import GruOptions
from forecastd.network.layers.cells import CellWeights, GruCell, GruState, MaskedGruState
from forecastd.network.layers.initial import fill_bias
from forecastd.network.layers.recurrent import RecurrentLayer, fill_direction, weights_in


class GruLayer(RecurrentLayer):
    """Gated recurrent unit (Cho et al. 2014), gate order r, z, h; one state, "hidden".

    h = (1 - z) tanh(candidate) + z h. The candidate is W x + b and, by the option `reset`,
    r (R h), R (r h), or r (R h + b') with a second bias, which is what torch.nn.GRU computes.
    """

    options: GruOptions
    cell_type = GruCell
    plain, masked = GruState, MaskedGruState

    def __init__(self, entering: Mapping[str, Shape], options: GruOptions, facts: Facts) -> None:
        super().__init__(entering, options, facts)
        self.gru = nn.GRU(entering[IN].width, options.hidden, batch_first=True)
        fill_direction(self.gru, options)
        if options.reset == "recurrent-bias-after-multiplication":
            second = weights_in(self.gru).recurrent_bias
            fill_bias(second, options.bias_initializer)
            second.requires_grad_(True)

    def weights(self) -> CellWeights:
        """Return those of torch.nn.GRU."""
        own = weights_in(self.gru)
        return own._replace(recurrent=self._dropped(own.recurrent))
