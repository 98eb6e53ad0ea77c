"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.recurrent import LstmOptions
from forecastd.network.layers.cells import CellWeights, LstmCell
from forecastd.network.layers.recurrent import RecurrentLayer, fill_direction, weights_in


class LstmLayer(RecurrentLayer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), gate order i, f, g, o.

    i, f, g, o = W x + R h + b by gate; c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o)
    tanh(c), with the activations that the options name. The weights are those of torch.nn.LSTM.
    """

    options: LstmOptions
    cell_type = LstmCell

    def __init__(self, entering: Mapping[str, Shape], options: LstmOptions, facts: Facts) -> None:
        super().__init__(entering, options, facts)
        self.lstm = nn.LSTM(entering[IN].width, options.hidden, batch_first=True)
        fill_direction(self.lstm, options)

    def weights(self) -> CellWeights:
        """Return those of torch.nn.LSTM."""
        own = weights_in(self.lstm)
        return own._replace(recurrent=self._dropped(own.recurrent))
