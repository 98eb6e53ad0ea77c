"""Normalisation of each step on its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from forecastd.network.kinds.contract import IN, Facts, Shape
from forecastd.network.kinds.normal import LayerNormOptions
from forecastd.network.layers.contract import Layer, LayerState


class LayerNormLayer(Layer):
    """(x - mean) / sqrt(variance + epsilon) over the numbers of a step (Ba et al. 2016).

    Then scale and offset by channel. Of a frame, all channels and places are normalised together.
    """

    options: LayerNormOptions

    def __init__(
        self, entering: Mapping[str, Shape], options: LayerNormOptions, facts: Facts
    ) -> None:
        super().__init__(entering, options, facts)
        channels = entering[IN].sizes[0]
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Normalise xs [B, T, C, ...] at each step."""
        sizes = self.entering[IN].sizes
        shape = (-1, *[1] * (len(sizes) - 1))
        normal = functional.layer_norm(xs, sizes, eps=self.options.epsilon)
        return normal * self.scale.view(shape) + self.offset.view(shape), state
