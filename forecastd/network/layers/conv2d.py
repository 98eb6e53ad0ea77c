"""Convolution over frames."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.convolution import Conv2dOptions, pair_of
from forecastd.network.layers.contract import LayerState
from forecastd.network.layers.maps import MapLayer
from forecastd.network.layers.padding import cleared, extended, in_steps


class Conv2dLayer(MapLayer):
    """Filters slide over each frame [C, H, W] on its own; weight [N, C, h, w] is not flipped.

    size, stride, dilation: a number, or [height, width]. padding: a number, [height, width], [top,
    bottom, left, right] or "same", whose odd one is at the bottom and at the right. padding_value:
    see Conv1dLayer.
    """

    options: Conv2dOptions

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Slide over each frame: xs [B, T, C, H, W] to [B, T, N, H', W']."""
        options = self.options
        rows, columns = options.windows
        xs = cleared(xs, lengths)
        high = extended(xs.flatten(0, 1).movedim(2, 1), rows, options.padding_value)
        wide = extended(high.movedim(3, 1), columns, options.padding_value)
        ys = functional.conv2d(
            wide.permute(0, 3, 2, 1),
            self.weight,
            self.bias,
            pair_of(options.stride),
            0,
            pair_of(options.dilation),
        )
        return cleared(in_steps(ys, xs), lengths), state
