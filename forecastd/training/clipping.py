"""Gradients held below a threshold, in the three ways that are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], threshold: float, method: str) -> None:
    """Make gradients smaller, in place, where they pass a threshold. Parameters without are left.

    method: "global-l2norm", all of them together; "l2norm", each parameter by its own norm;
    "absolute-value", each number. threshold: above 0; 0 leaves all as they are.
    """
    if threshold > 0:
        METHODS[method]([p for p in parameters if p.grad is not None], threshold)


def _global_norm(parameters: list[nn.Parameter], threshold: float) -> None:
    nn.utils.clip_grad_norm_(parameters, threshold)


def _norm_of_each(parameters: list[nn.Parameter], threshold: float) -> None:
    for gradient in _gradients(parameters):
        norm = torch.linalg.vector_norm(gradient)
        if norm > threshold:
            gradient.mul_(threshold / norm)


def _absolute_value(parameters: list[nn.Parameter], threshold: float) -> None:
    for gradient in _gradients(parameters):
        gradient.clamp_(-threshold, threshold)


METHODS: dict[str, Callable[[list[nn.Parameter], float], None]] = {
    "global-l2norm": _global_norm,
    "l2norm": _norm_of_each,
    "absolute-value": _absolute_value,
}


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
