"""The last step of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from forecastd.network.layers.contract import Layer, LayerState


class SequenceLastLayer(Layer):
    """Gives the last real step; followed along a stream, each step is the last."""

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Take xs [B, T, ...] to [B, 1, ...]."""
        if lengths is None:
            return xs[:, -1:], state
        last = lengths.clamp(min=1) - 1
        return xs[torch.arange(len(xs), device=xs.device), last][:, None], state
