"""Steps of all series laid end to end as a batch of frames, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from forecastd.network.kinds.contract import IN, OUT
from forecastd.network.kinds.shaping import MINI_BATCH_SIZE
from forecastd.network.layers.contract import Layer, LayerState, Signal
from forecastd.network.layers.padding import real_steps


class FoldingLayer(Layer):
    """[B, T, ...] to [B T, 1, ...], series by series.

    A folded step is a row of length one, or zero where it is padding. Layers treat each step on its
    own without it as well, so a network with folding and one without give the same numbers. Port
    "mini_batch_size" tells an unfolding layer B, as [B, 1] int64, and the lengths.
    """

    def step_ports(
        self, inputs: Mapping[str, Tensor], state: LayerState
    ) -> tuple[dict[str, Tensor], LayerState]:
        """Pass one step of B series on as it is."""
        x = inputs[IN]
        return {OUT: x, MINI_BATCH_SIZE: _count(x)}, state

    def unroll_ports(
        self, inputs: Mapping[str, Signal], state: LayerState
    ) -> tuple[dict[str, Signal], LayerState]:
        """Lay the steps of all series end to end."""
        xs, lengths = inputs[IN]
        real = None
        if lengths is not None:
            real = real_steps(lengths, xs.shape[1]).flatten().to(lengths.dtype)
        folded = Signal(xs.flatten(0, 1)[:, None], real)
        return {OUT: folded, MINI_BATCH_SIZE: Signal(_count(xs)[:, None], lengths)}, state


class UnfoldingLayer(Layer):
    """[B T, 1, ...] to [B, T, ...]: the inverse of the folding layer that tells it B."""

    def step_ports(
        self, inputs: Mapping[str, Tensor], state: LayerState
    ) -> tuple[dict[str, Tensor], LayerState]:
        """Pass one step of B series on as it is."""
        return {OUT: inputs[IN]}, state

    def unroll_ports(
        self, inputs: Mapping[str, Signal], state: LayerState
    ) -> tuple[dict[str, Signal], LayerState]:
        """Give each series its steps back."""
        (xs, _), (count, lengths) = inputs[IN], inputs[MINI_BATCH_SIZE]
        steps = len(xs) // len(count)
        return {OUT: Signal(xs.reshape(len(count), steps, *xs.shape[2:]), lengths)}, state


def _count(xs: Tensor) -> Tensor:
    """Return [B], B in each place."""
    return torch.full((len(xs),), len(xs), dtype=torch.int64, device=xs.device)
