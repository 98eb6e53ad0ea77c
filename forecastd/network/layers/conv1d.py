"""Convolution along time, or along the one axis of a frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.contract import IN
from forecastd.network.kinds.convolution import Conv1dOptions
from forecastd.network.layers.contract import LayerState, NoState
from forecastd.network.layers.maps import MapLayer
from forecastd.network.layers.padding import cleared, extended, in_steps, lengths_after


class PastState(NamedTuple):
    """past [B, extent, C]: the last inputs that the filters span, oldest first."""

    past: Tensor


class Conv1dLayer(MapLayer):
    """Filters slide along time, dot product and bias; weight [N, C, F] is not flipped.

    filters: N. size: F taps, `dilation` apart. stride: from one output to the next. padding: a
    number of steps at both sides, [left, right], "same" (T / stride outputs, rounded up) or
    "causal" (all at the left). padding_value: a number, "replicate", "symmetric-include-edge" or
    "symmetric-exclude-edge". Where each output depends on the past alone the inputs that the next
    one needs are the state, so it can be stepped. Frames [C, L] are taken each on its own, and
    the filters slide along L.
    """

    options: Conv1dOptions

    def initial_state(self, series_count: int) -> LayerState:
        """Return what is added at the left, if there is a state."""
        if "past" not in self.facts.state:
            return NoState()
        shape = (series_count, *self.facts.state["past"])
        fill = self.options.padding_value
        assert not isinstance(fill, str)
        return PastState(self.bias.new_full(shape, fill))

    def unroll(
        self, xs: Tensor, state: LayerState, lengths: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Slide over xs [B, T, C] or, step by step, over frames [B, T, C, L]."""
        window, fill = self.options.window, self.options.padding_value
        xs = cleared(xs, lengths)
        if len(self.entering[IN].sizes) == 2:
            frames = xs.flatten(0, 1).transpose(1, 2)
            ys = self._slide(extended(frames, window, fill)).transpose(1, 2)
            return cleared(in_steps(ys, xs), lengths), state
        if not isinstance(state, PastState):
            ys = self._slide(extended(xs, window, fill, lengths))
            return cleared(ys, self.lengths_after(lengths)), state
        known = torch.cat([state.past, xs], 1)
        ys = self._slide(known[:, 1:])
        return cleared(ys, lengths), PastState(self._latest(known, lengths))

    def recall(self, state: LayerState) -> Tensor | None:
        """Return what the filters give for the inputs of the state."""
        return self._slide(state.past)[:, 0] if isinstance(state, PastState) else None

    def lengths_after(self, lengths: Tensor | None) -> Tensor | None:
        """Return the outputs of each sequence; frames stay as many as they are."""
        along_time = len(self.entering[IN].sizes) == 1
        return lengths_after(self.options.window, lengths) if along_time else lengths

    def _slide(self, xs: Tensor) -> Tensor:
        """Slide over xs [N, L, C] without padding: [N, L', filters]."""
        options = self.options
        return functional.conv1d(
            xs.transpose(1, 2), self.weight, self.bias, options.stride, 0, options.dilation
        ).transpose(1, 2)

    def _latest(self, known: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the inputs that the filters span at the last real step."""
        extent = self.options.window.extent
        if lengths is None:
            return known[:, known.shape[1] - extent :]
        places = lengths[:, None] + torch.arange(extent, device=known.device)
        return known[torch.arange(len(known), device=known.device)[:, None], places]
