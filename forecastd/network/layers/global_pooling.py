"""The largest, or the mean, over a whole sequence."""

from __future__ import annotations

import math

from torch import Tensor

from forecastd.network.kinds.contract import IN
from forecastd.network.layers.contract import Layer, LayerState
from forecastd.network.layers.padding import cleared, in_steps, real_steps


class GlobalPoolingLayer(Layer):
    """Base: one vector for the real steps of a sequence, or one for each frame [C, L] over L."""

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Reduce xs [B, T, C] to [B, 1, C], or frames [B, T, C, L] to [B, T, C]."""
        if len(self.entering[IN].sizes) == 2:
            ys = self.pool(xs.flatten(0, 1).transpose(1, 2), None)
            return cleared(in_steps(ys, xs), lengths), state
        return self.pool(xs, lengths)[:, None], state

    def pool(self, xs: Tensor, lengths: Tensor | None) -> Tensor:
        """Reduce the real steps of xs [N, L, C] to [N, C]; 0 where there is none."""
        raise NotImplementedError


class GlobalMaxPoolingLayer(GlobalPoolingLayer):
    """The largest of each channel."""

    def pool(self, xs: Tensor, lengths: Tensor | None) -> Tensor:
        """See GlobalPoolingLayer."""
        if lengths is None:
            return xs.amax(1)
        beyond = ~real_steps(lengths, xs.shape[1])
        largest = xs.masked_fill(beyond[..., None], -math.inf).amax(1)
        return largest.masked_fill((lengths == 0)[:, None], 0)


class GlobalAveragePoolingLayer(GlobalPoolingLayer):
    """The mean of each channel."""

    def pool(self, xs: Tensor, lengths: Tensor | None) -> Tensor:
        """See GlobalPoolingLayer."""
        if lengths is None:
            return xs.mean(1)
        count = lengths.clamp(min=1)[:, None].to(xs.dtype)
        return cleared(xs, lengths).sum(1) / count
