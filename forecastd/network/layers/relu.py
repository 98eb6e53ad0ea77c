"""The positive part."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from forecastd.network.layers.contract import Layer, LayerState


class ReluLayer(Layer):
    """max(0, x) of each number."""

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Take the positive part of each number."""
        return functional.relu(xs), state
