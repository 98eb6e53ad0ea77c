"""Frames to vectors."""

from __future__ import annotations

from torch import Tensor

from forecastd.network.layers.contract import Layer, LayerState


class FlattenLayer(Layer):
    """Lays the numbers of a frame in a row, channels first: (c, h, w) is c H W + h W + w.

    Systems that store frames by columns lay them differently; see `forecast weights`.
    """

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Lay out xs [B, T, C, ...] as [B, T, F]."""
        return xs.flatten(2), state
