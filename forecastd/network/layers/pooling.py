"""The largest, or the mean, of the steps in a window."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.contract import IN
from forecastd.network.kinds.pooling import PoolingOptions
from forecastd.network.layers.contract import Layer, LayerState
from forecastd.network.layers.padding import cleared, extended, in_steps, lengths_after


class PoolingLayer(Layer):
    """Base: a window of `size` steps, moved by `stride`, which is 1 unless said otherwise.

    padding: a number of steps at both sides, [left, right] or "same"; less than `size`, so that
    there is something in each window. Frames [C, L] are taken each on its own, along L.
    """

    options: PoolingOptions
    fill: float
    """What is added at the sides."""

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Pool xs [B, T, C] along time, or frames [B, T, C, L] along L."""
        if len(self.entering[IN].sizes) == 2:
            frames = xs.flatten(0, 1).transpose(1, 2)
            ys = self._slide(extended(frames, self.options.window, self.fill))
            return cleared(in_steps(ys.transpose(1, 2), xs), lengths), state
        wide = extended(xs, self.options.window, self.fill, lengths)
        return cleared(self._slide(wide), self.lengths_after(lengths)), state

    def lengths_after(self, lengths: Tensor | None) -> Tensor | None:
        """Return the outputs of each sequence; frames stay as many as they are."""
        along_time = len(self.entering[IN].sizes) == 1
        return lengths_after(self.options.window, lengths) if along_time else lengths

    def _slide(self, xs: Tensor) -> Tensor:
        """Pool xs [N, L, C] without padding: [N, L', C]."""
        return self.pool(xs.transpose(1, 2)).transpose(1, 2)

    def pool(self, xs: Tensor) -> Tensor:
        """Pool xs [N, C, L] without padding: [N, C, L']."""
        raise NotImplementedError


class MaxPoolingLayer(PoolingLayer):
    """The largest of each window; what is added at the sides never is."""

    fill = -math.inf

    def pool(self, xs: Tensor) -> Tensor:
        """See PoolingLayer."""
        return functional.max_pool1d(xs, self.options.size, self.options.stride)


class AveragePoolingLayer(PoolingLayer):
    """The sum of each window over its size; what is added at the sides is zero and counts."""

    fill = 0.0

    def pool(self, xs: Tensor) -> Tensor:
        """See PoolingLayer."""
        return functional.avg_pool1d(xs, self.options.size, self.options.stride)
