"""Dropout of what passes, step by step."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.regular import DropoutOptions
from forecastd.network.layers.contract import Layer, LayerState


class DropoutLayer(Layer):
    """Zeroes a share of its inputs in training, a fresh mask per step; identity otherwise."""

    options: DropoutOptions

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Drop within each step on its own."""
        return functional.dropout(xs, self.options.share, self.training), state
