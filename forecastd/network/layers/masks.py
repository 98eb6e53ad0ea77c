"""Dropout within a recurrence: masks that last for a sequence, and products under them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from forecastd.network.kinds.recurrent import RecurrentOptions


class Masks(NamedTuple):
    """What lasts for a sequence: 0, or 1 / (1 - share), for each series.

    input [B, g, n], state [B, g, n]: g is 1 for one mask of all gates, or the number of gates; n
    what is masked, or 0 for no mask.
    """

    input: Tensor
    state: Tensor


def last_for_sequences(options: RecurrentOptions) -> bool:
    """Tell whether there are masks that last for a sequence."""
    return options.dropout.variational_input > 0 or options.dropout.variational_state > 0


def draw(options: RecurrentOptions, leading: tuple[int, ...], width: int, like: Tensor) -> Masks:
    """Draw masks of shape [*leading, g, n] for inputs of some width; `like` gives the type."""
    dropout = options.dropout
    of_input = width if dropout.on == "input" else options.hidden
    gates = len(options.gates) if dropout.untied else 1

    def drawn(share: float, numbers: int) -> Tensor:
        if share == 0:
            return like.new_empty((*leading, gates, 0))
        return like.new_empty((*leading, gates, numbers)).bernoulli_(1 - share) / (1 - share)

    return Masks(
        drawn(dropout.variational_input, of_input),
        drawn(dropout.variational_state, options.hidden),
    )


def dropped(weight: Tensor, share: float, *, training: bool) -> Tensor:
    """Return weights of which a share is zeroed, so that the gradient reaches those kept."""
    return functional.dropout(weight, share, training=True) if training and share else weight


def product(values: Tensor, weight: Tensor, mask: Tensor | None, *, on_input: bool) -> Tensor:
    """Return what values [B, ..., n] contribute to all gates, [B, ..., gates * H], under a mask.

    weight [gates * H, n]. mask [B, g, n] of the values, or [B, g, H] of their contributions.
    """
    if mask is None or mask.shape[-1] == 0:
        return functional.linear(values, weight)
    mask = mask.view(len(mask), *(1,) * (values.ndim - 2), *mask.shape[1:])
    if not on_input:
        made = functional.linear(values, weight)
        by_gate = made.view(*made.shape[:-1], -1, mask.shape[-1])
        return (by_gate * mask).flatten(-2)
    masked = values.unsqueeze(-2) * mask
    gates = mask.shape[-2]
    if gates == 1:
        return functional.linear(masked.squeeze(-2), weight)
    parts = zip(masked.unbind(-2), weight.chunk(gates), strict=True)
    return torch.cat([functional.linear(part, rows) for part, rows in parts], -1)
