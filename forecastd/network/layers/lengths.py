"""Recurrences over rows of different lengths, each to its own end and no further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

State = TypeVar("State", bound=tuple[Any, ...])


def run_in_length(
    run: Callable[[Tensor, State], tuple[Tensor, State]],
    xs: Tensor,
    state: State,
    lengths: Tensor | None,
) -> tuple[Tensor, State]:
    """Run a recurrence over xs [B, T, F]; the state is that after each row's last real step.

    The steps are cut where rows end, and rows that have ended are left out: every number is what
    the row alone would give, and the quick kernels are used as they are. Beyond the end are zeros.
    """
    steps = xs.shape[1]
    if lengths is None or bool((lengths >= steps).all()):
        return run(xs, state)
    parts, start = [], 0
    for end in sorted({min(end, steps) for end in lengths.tolist() if end > 0}):
        rows = (lengths >= end).nonzero()[:, 0]
        some = _rebuilt(state, [tensor[rows] for tensor in state])
        ys, after = run(xs[rows, start:end], some)
        put = [old.index_copy(0, rows, new) for old, new in zip(state, after, strict=True)]
        state = _rebuilt(state, put)
        parts.append(ys.new_zeros(len(xs), *ys.shape[1:]).index_copy(0, rows, ys))
        start = end
    parts.append(xs.new_zeros(len(xs), steps - start, state[0].shape[-1]))
    return torch.cat(parts, 1), state


def reverse_in_length(xs: Tensor, lengths: Tensor | None) -> Tensor:
    """Return xs [B, T, ...] with the real steps of each row backwards; padding stays at the end."""
    if lengths is None:
        return xs.flip(1)
    steps = torch.arange(xs.shape[1], device=xs.device)
    ends = lengths[:, None]
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    return xs[torch.arange(len(xs), device=xs.device)[:, None], places]


def _rebuilt(state: State, tensors: list[Tensor]) -> State:
    return type(state)(*tensors)
