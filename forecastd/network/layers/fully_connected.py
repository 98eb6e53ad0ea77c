"""A linear map of each step."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.linear import FullyConnectedOptions
from forecastd.network.layers.contract import LayerState
from forecastd.network.layers.maps import MapLayer


class FullyConnectedLayer(MapLayer):
    """y = W x + b at each step on its own; W [O, I], b [O]."""

    options: FullyConnectedOptions

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Map each step: xs [B, T, I] to [B, T, O]."""
        return functional.linear(xs, self.weight, self.bias), state
