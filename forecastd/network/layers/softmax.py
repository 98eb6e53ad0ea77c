"""Scores to shares."""

from __future__ import annotations

from torch import Tensor

from forecastd.network.layers.contract import Layer, LayerState


class SoftmaxLayer(Layer):
    """exp(x) over its sum across the channels, at each step and place of a frame."""

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Map xs [B, T, C, ...] to shares that add up to one over C."""
        return xs.softmax(2), state
