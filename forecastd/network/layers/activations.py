"""Activations of recurrences by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return 0.2 x + 0.5 between 0 and 1; torch's own has another slope, 1/6."""
    return (0.2 * x + 0.5).clamp(0, 1)


STATE: dict[str, Activation] = {
    "tanh": torch.tanh,
    "softsign": functional.softsign,
    "relu": torch.relu,
}
"""Of the candidate, and of the cell on its way out."""

GATE: dict[str, Activation] = {"sigmoid": torch.sigmoid, "hard-sigmoid": hard_sigmoid}
"""Of gates: how much passes, 0 to 1."""
